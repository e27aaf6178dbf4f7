"""What rejection leaves in real exposures, each minus the average of the others of its set.

Nobody knows the truth of these. But where there is sky alone, nothing should be left but noise:
scatter tells how much there is, holes are what the backgrounds have too much.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from rejection import HERE, Table, write_results
from simulations import robust_scatter

import offsky
from offsky.options import PROFILES, Options

Row = dict[str, Any]

SETS = {
    "NIRSpec PRISM, 3 nods": "nirspec_nod/jw01345062001_03101_*.fits",
    "MIRI F1140C, 5 dithers": "miri_4qpm/jw01194015001_04101_*.fits",
    "MIRI F1140C, dedicated backgrounds of two epochs": "miri_4qpm/jw0*_02101_*.fits",
}
_PROFILE = PROFILES["offsky"]
WAYS: dict[str, Options] = {
    "profile jwst": Options(),
    "reject none": _PROFILE.changed(reject="none"),
    "error, without growing": _PROFILE.changed(grow=None),
    "profile offsky": _PROFILE,
}


def null_rows(data: Path) -> Iterator[Row]:
    """Subtract each exposure of a set from the others."""
    for name, pattern in SETS.items():
        paths = sorted(data.glob(pattern))
        for way, options in WAYS.items():
            figures = []
            for target in paths:
                others = [path for path in paths if path != target]
                # NIRSpec: the detector is dark beside a slit, and tells no level.
                level = "none" if "NIRSpec" in name else options.level
                figures.append(_left(target, others, options.changed(level=level)))
            mean = np.mean(figures, axis=0)
            yield {
                "set": name, "n": len(paths) - 1, "way": way, "scatter": float(mean[0]),
                "wide": float(mean[1]), "holes": float(mean[2]), "rejected": float(mean[3]),
            }  # fmt: skip


def _left(target: Path, others: list[Path], options: Options) -> tuple[float, ...]:
    """Return scatter and standard deviation over the noise of the target, holes, rejected."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "product.fits"
        outcome = offsky.subtract_file(target, others, path, options=options, force=True)
        with fits.open(path) as hdus:
            left = np.asarray(hdus["SCI"].data, dtype=np.float64)
        with fits.open(target) as hdus:
            own = np.asarray(hdus["SCI"].data, dtype=np.float64)
            err = np.asarray(hdus["ERR"].data, dtype=np.float64)
    known = np.isfinite(left) & np.isfinite(own) & (err > 0)
    # Of a target that is not measured, the scatter is compared with what its ERR says.
    z = (left[known] - np.median(left[known])) / err[known]
    scatter = robust_scatter(z)
    rejected = sum(outcome.n_rejected) / outcome.n_samples
    # Wide: of all but the target's own sources and hits, which are high.
    return (
        scatter,
        float(np.sqrt(np.mean(z[z < 0] ** 2))),
        1e6 * float(np.mean(z < -5 * scatter)),
        rejected,
    )


TABLE = Table(
    "What is left of real exposures minus the others of their set?",
    lambda quick: iter(()),
    {"set": "", "n": "d", "way": "", "scatter": ".3f", "wide": ".3f", "holes": ".0f",
     "rejected": ".2%"},
    legend="Each exposure minus the average of the n others, its median taken off, in units of "
    "its own ERR; means over the exposures of a set. scatter: 1.4826 MAD. wide: root mean square "
    "of the half below zero, which the target's own sources do not reach. holes: pixels lower "
    "than 5 times the scatter, per million. rejected: of the samples of the others.",
)  # fmt: skip


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder with miri_4qpm and nirspec_nod")
    parser.add_argument("--dir", type=Path, default=HERE / "results", help="where results go")
    chosen = parser.parse_args()
    table = Table(TABLE.question, lambda quick: null_rows(chosen.data), TABLE.columns,
                  legend=TABLE.legend)  # fmt: skip
    command = "benchmarks/null_tests.py DATA"
    write_results("null_tests", table, command, quick=False, folder=chosen.dir)


if __name__ == "__main__":
    main()
