"""Which options find outliers, give honest errors and leave no structure: known truth tells.

Everything is measured through offsky's public functions on simulated exposures
(`simulations.py`), and written into `results/` as a table and as JSON:

- `rejection`: outliers found, good samples lost, bias and noise, for 2 to 12 exposures;
- `errors`: the scatter of result minus truth in units of ERR;
- `contaminated`: what is left of stars and cosmic rays that have skirts;
- `structure`: what is left of a drifting sky and of dithered stars, option by option.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from contaminated import contaminated_rows
from simulations import (
    HitStack,
    binned,
    drifting_observation,
    noisy_observation,
    robust_scatter,
    stacks,
)

import offsky
from offsky.options import PROFILES, Options

HERE = Path(__file__).parent
PACKAGES = ("offsky", "numpy", "astropy", "stdatamodels", "sep")

Row = dict[str, Any]

_WITHOUT = Options(reject="none")
METHODS: dict[str, Options] = {
    "none": _WITHOUT,
    "sigma 3": Options(reject="sigma", sigma=3.0),
    "sigma 2": Options(reject="sigma", sigma=2.0),
    "sigma 1.5": Options(reject="sigma", sigma=1.5),
    "mad 3": Options(reject="mad", sigma=3.0, min_keep=1),
    "mad 5": Options(reject="mad", sigma=5.0, min_keep=1),
    "minmax 1": Options(reject="minmax", n_extremes=1),
    "error 3": Options(reject="error", sigma=3.0, min_keep=1),
    "error 3.5": Options(reject="error", sigma=3.5, min_keep=1),
    "error 4": Options(reject="error", sigma=4.0, min_keep=1),
    "error 5": Options(reject="error", sigma=5.0, min_keep=1),
    "error 3.5, keep 2": Options(reject="error", sigma=3.5, min_keep=2),
    "error 3.5 / 4.5": Options(reject="error", sigma=3.5, sigma_lower=4.5, min_keep=1),
    "profile offsky": PROFILES["offsky"].changed(errors="none", uncovered="keep", level="none"),
}


def rejection_rows(quick: bool) -> Iterator[Row]:
    """Measure every method on the same stacks, ERR of hit samples as counted and inflated."""
    for inflate in (1.0, 3.0):
        for n, amplitude, stack in stacks(20_000 if quick else 200_000, inflate=inflate):
            if inflate > 1 and amplitude != 10:
                continue
            plain = _average(stack, _WITHOUT)[0]
            for name, options in METHODS.items():
                yield {
                    "method": name,
                    "n": n,
                    "amplitude": amplitude,
                    "inflated": inflate,
                    **_judge(stack, plain, *_average(stack, options)),
                }


def _average(stack: HitStack, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Return the average and which samples are in it: each carries a flag of its own."""
    flags = np.uint32(2) << np.arange(len(stack.sci), dtype=np.uint32)
    average = offsky.clipped_mean(
        stack.sci,
        stack.err,
        np.broadcast_to(flags[:, np.newaxis], stack.sci.shape),
        options=options.changed(dq="kept", bad_bits=1),
    )
    assert average.dq is not None
    return average.sci.astype(np.float64), (average.dq & flags[:, np.newaxis]) != 0


def _judge(stack: HitStack, plain: np.ndarray, sci: np.ndarray, kept: np.ndarray) -> Row:
    """Compare one average with the truth; means in units of the error of the plain mean."""
    hit, n = stack.hit, len(stack.hit)
    clean = ~hit.any(axis=0)
    # Where most samples of a pixel are hit, agreement speaks for the outliers.
    few = hit & (2 * hit.sum(axis=0) < n)
    covered = np.isfinite(sci)
    clean_and_covered = clean & covered
    struck = ~clean & covered
    moved = (sci - plain)[clean_and_covered] * np.sqrt(n)
    return {
        "found": _share(hit & ~kept, hit),
        "found_in_minority": _share(few & ~kept, few),
        "lost": _share(~hit & ~kept, ~hit),
        "empty": float(1 - covered.mean()),
        "noise": float(np.std(sci[clean_and_covered]) / np.std(plain[clean])),
        "clean_bias": float(moved.mean()),
        "hit_bias": float(sci[struck].mean() * np.sqrt(n)),
    }


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    n_whole = np.count_nonzero(whole)
    return float(np.count_nonzero(part) / n_whole) if n_whole else float("nan")


def error_rows(quick: bool) -> Iterator[Row]:
    """Measure (result - truth) / ERR on files, with and without propagation."""
    shape = (64, 128) if quick else (512, 512)
    for nints in (None, 4):
        for n in (1, 2, 4, 10):
            with tempfile.TemporaryDirectory() as name:
                seen = noisy_observation(Path(name), n, nints=nints, shape=shape, seed=9)
                for errors in ("none", "propagate"):
                    result = Path(name) / f"{errors}_bsub.fits"
                    options = PROFILES["offsky"].changed(errors=errors)
                    offsky.subtract_file(seen.target, seen.backgrounds, result, options=options)
                    sci, err = _images(result, "SCI", "ERR")
                    ratio = (sci - seen.truth) / err
                    expected = 1.0 if errors == "propagate" else _ignored(n, nints)
                    yield {
                        "kind": "image" if nints is None else f"cube of {nints}",
                        "n": n,
                        "errors": errors,
                        "scatter": float(np.nanstd(ratio)),
                        "expected": expected,
                        "mean": float(np.nanmean(ratio)),
                    }


def _ignored(n: int, nints: int | None) -> float:
    """Return what the scatter is where the background's noise is not in ERR."""
    return float(np.sqrt(1 + 1 / (n * (nints or 1))))


def _images(path: Path, *names: str) -> list[np.ndarray]:
    from astropy.io import fits

    with fits.open(path, memmap=False) as hdus:
        return [np.asarray(hdus[name].data, np.float64) for name in names]


STRUCTURE = {
    "none (profile jwst)": Options(),
    "reject error": Options(reject="error", sigma=PROFILES["offsky"].sigma, min_keep=1),
    "level offset": Options(level="offset"),
    "level scale": Options(level="scale"),
    "mask sources": Options(mask_sources=True),
    "target scale fit": Options(target_scale="fit"),
    "profile offsky": PROFILES["offsky"],
    "all": PROFILES["offsky"].changed(level="scale", mask_sources=True, target_scale="fit"),
}


def structure_rows(quick: bool) -> Iterator[Row]:
    """Measure what is left in the result of a drifting sky and dithered stars."""
    shape = (192, 192) if quick else (768, 768)
    for n in (3, 4, 8):
        with tempfile.TemporaryDirectory() as name:
            seen = drifting_observation(Path(name), n, shape=shape, step=0.005, seed=21)
            for label, options in STRUCTURE.items():
                result = Path(name) / "result_bsub.fits"
                offsky.subtract_file(
                    seen.target, seen.backgrounds, result, options=options, overwrite=True
                )
                left = (_images(result, "SCI")[0] - seen.truth) / seen.noise
                left[~seen.usable] = np.nan
                known = np.isfinite(left)
                quiet = np.where(seen.starry, np.nan, left)
                # Over 8 x 8 pixels noise is 8 times less: structure shows.
                wide = binned(left, 8) * 8
                deep = (left < -5) & known
                yield {
                    "options": label,
                    "n": n,
                    "level": float(np.nanmedian(left)),
                    "scatter": robust_scatter(left),
                    "scatter_quiet": robust_scatter(quiet),
                    "scatter_starry": robust_scatter(np.where(seen.starry, left, np.nan)),
                    "scatter_8x8": robust_scatter(wide),
                    "deep_per_million": float(1e6 * deep.sum() / known.sum()),
                    "covered": float(known.sum() / seen.usable.sum()),
                }


@dataclass(frozen=True)
class Table:
    """One question: how its rows are measured, and which columns are printed."""

    question: str
    rows: Callable[[bool], Iterator[Row]]
    columns: dict[str, str]  # name: format
    shown: Callable[[Row], bool] = lambda row: True
    legend: str = ""


TABLES = {
    "rejection": Table(
        "Which rejection finds outliers, and what does it cost?",
        rejection_rows,
        {
            "method": "", "n": "d", "amplitude": "g", "found": ".3%", "found_in_minority": ".3%",
            "lost": ".3%", "empty": ".4%", "noise": ".4f", "clean_bias": "+.4f",
            "hit_bias": "+.3f",
        },
        shown=lambda row: row["inflated"] == 1,
        legend="Outliers of `amplitude` sigma in 0.5 % of all samples, drawn sample by sample. "
        "found: share of them rejected; found_in_minority: at pixels where most samples are "
        "good. lost: good samples rejected. empty: pixels with no sample left. noise: of the "
        "average at pixels without outlier, relative to the mean of all. clean_bias, hit_bias: "
        "of the average at pixels without and with outliers, in units of the error of the mean "
        "of all. The JSON also has outliers whose own ERR is three times too large.",
    ),
    "contaminated": Table(
        "What is left of stars and cosmic rays that have skirts?",
        contaminated_rows,
        {
            "scene": "", "n": "d", "way": "", "total": ".4f", "holes": ".0f", "noise": ".4f",
            "found": ".1%", "bias": "+.3f", "lost": ".3%",
        },
        legend="total: variance of target minus average over the ideal 1 + 1/n. holes: pixels of "
        "the average more than 5 of its sigma high, per million. noise: of the average at pixels "
        "that are not hit, over that of the mean of all. found, bias: hits rejected, and the "
        "average there in units of its noise. lost: good samples rejected; an ideal rejection at "
        "3.5 and 4.5 sigma loses 0.02 %. A sample is hit where more than its noise is added.",
    ),
    "errors": Table(
        "Is ERR the scatter about the truth?",
        error_rows,
        {"kind": "", "n": "d", "errors": "", "scatter": ".4f", "expected": ".4f", "mean": "+.4f"},
        legend="Target with Poisson and read noise minus the average of n backgrounds: scatter "
        "and mean of (result - truth) / ERR, and the scatter to be expected. Cubes: targets and "
        "backgrounds of as many integrations.",
    ),
    "structure": Table(
        "What is left of a drifting sky and of dithered stars?",
        structure_rows,
        {
            "options": "", "n": "d", "level": "+.3f", "scatter": ".4f", "scatter_quiet": ".4f",
            "scatter_starry": ".4f", "scatter_8x8": ".3f", "deep_per_million": ".0f",
            "covered": ".4%",
        },
        legend="Result minus truth in units of the noise that target and mean of all backgrounds "
        "are expected to have. The sky is 0.5 % brighter in each background than in the one "
        "before, the target's the mean. level: median. scatter: robust; quiet and starry: where "
        "no background has a source, and where one has. scatter_8x8: of means over 8 x 8 pixels, "
        "1 for noise alone. deep_per_million: pixels 5 sigma too low.",
    ),
}  # fmt: skip


def _rounded(row: Row) -> Row:
    """Return a row with the figures that mean something; NaN is null in JSON."""
    return {
        key: (None if np.isnan(value) else round(value, 6)) if isinstance(value, float) else value
        for key, value in row.items()
    }


def markdown(table: Table, rows: list[Row]) -> str:
    """Return the rows as a markdown table."""
    lines = [list(table.columns), ["---"] * len(table.columns)]
    lines += [
        [format(row[name], how) for name, how in table.columns.items()]
        for row in rows
        if table.shown(row)
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_results(name: str, table: Table, command: str, *, quick: bool, folder: Path) -> None:
    """Measure a table, print it, and write it as markdown and as JSON."""
    about = {
        "quick": quick,
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
    }
    folder.mkdir(parents=True, exist_ok=True)
    print(f"... {name}", file=sys.stderr, flush=True)
    rows = list(table.rows(quick))
    text = f"{table.legend}\n\n{markdown(table, rows)}\n"
    print(text)
    # A row a line.
    head = json.dumps({"question": table.question, **about}, indent=1)[:-2]
    lines = ",\n".join(f"  {json.dumps(_rounded(row))}" for row in rows)
    (folder / f"{name}.json").write_text(f'{head},\n "rows": [\n{lines}\n ]\n}}\n')
    versions = ", ".join(f"{key} {value}" for key, value in about["versions"].items())
    warning = "\n\n**A quick run: the figures mean nothing.**" if quick else ""
    (folder / f"{name}.md").write_text(
        f"# {table.question}\n\n`{command}`, {versions}{warning}\n\n{text}"
    )


def main() -> None:
    """Measure the tables asked for, print and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--quick", action="store_true", help="few pixels: to see that it runs")
    parser.add_argument("--dir", type=Path, default=HERE / "results", help="where results go")
    chosen = parser.parse_args()
    unknown = set(chosen.tables) - set(TABLES)
    if unknown:
        parser.error(f"no table {', '.join(sorted(unknown))}; there are {', '.join(TABLES)}")
    for name in chosen.tables or TABLES:
        command = f"benchmarks/rejection.py {name}"
        write_results(name, TABLES[name], command, quick=chosen.quick, folder=chosen.dir)


if __name__ == "__main__":
    main()
