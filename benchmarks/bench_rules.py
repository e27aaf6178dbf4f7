"""What do the rules cost that choose backgrounds, headers read already, as programmes grow?"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace

from measure import Goal, Row, main

from offsky.selection.examined import Examined
from offsky.selection.pairing import Pairing
from offsky.selection.placing import Placement
from offsky.selection.rules import choose_dedicated, choose_others
from offsky.selection.suitability import Candidate, Policy
from offsky.values.metadata import Metadata

# Exposures of a pattern, and dedicated backgrounds of each field.
N_PATTERN, N_DEDICATED = 100, 20

IMAGE = Metadata(
    instrument="MIRI",
    detector="MIRIMAGE",
    filter="F770W",
    exp_type="MIR_IMAGE",
    subarray="FULL",
    visit="001",
    visit_group="02",
    sequence="1",
    activity="01",
    proposed_target="STAR",
    xstart=1,
    ystart=1,
    xsize=1032,
    ysize=1024,
    unit="DN/s",
)
NIRSPEC = replace(
    IMAGE, instrument="NIRSPEC", detector="NRS1", filter="F290LP", grating="G395H", n_positions=4
)
NODS = {
    "fixed slits": replace(NIRSPEC, exp_type="NRS_FIXEDSLIT", fixed_slit="S200A1", n_subpixel=1),
    "shutters": replace(NIRSPEC, exp_type="NRS_MSASPEC", msa_file="msa.fits"),
    "IFU": replace(NIRSPEC, exp_type="NRS_IFU", pattern_type="4-POINT-NOD"),
    "LRS": replace(IMAGE, exp_type="MIR_LRS-FIXEDSLIT", pattern_type="ALONG-SLIT-NOD"),
}
CASES = {
    **{f"nods, {mode}": (base, {"source": "nods"}) for mode, base in NODS.items()},
    "dithers": (IMAGE, {"source": "dithers"}),
    "dithers, nearest 5": (IMAGE, {"source": "dithers", "nearest": 5}),
    "dithers, max days": (IMAGE, {"source": "dithers", "max_days": 0.03}),
    "dithers, min separation": (IMAGE, {"source": "dithers", "min_separation": "5fwhm"}),
    "dithers, readout": (IMAGE, {"source": "dithers", "match_readout": True}),
    "dedicated": (IMAGE, {"source": "dedicated"}),
    "dedicated, none marked": (IMAGE, {"source": "dedicated"}),
}


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for the time of each rule, and one for its growth."""
    many = 2_000 if options.quick else 20_000
    pairs = options.pairs or (1 if options.quick else 3)
    for name in CASES:
        yield Row(
            f"{many} exposures, {name}",
            f"of {many // 4}",
            Goal(at_most=5.0),
            lambda name=name: growth(name, many, pairs),
        )
        yield Row(
            f"{many} exposures, {name}",
            "",
            Goal(at_most=5.0),
            lambda name=name: alone(name, many, pairs),
        )


def growth(name: str, n: int, pairs: int) -> tuple[list[float], list[float], str]:
    """Compare a programme with one of a quarter of its size, in turns."""
    long, short = [], []
    for _ in range(pairs):
        long.append(seconds(name, n))
        short.append(seconds(name, n // 4))
    return long, short, f"patterns of {N_PATTERN}; time of the processor"


def alone(name: str, n: int, pairs: int) -> tuple[list[float], list[float], str]:
    """Time a rule."""
    return [seconds(name, n) for _ in range(pairs)], [], "as above"


def seconds(name: str, n: int) -> float:
    """Return the processor's time for choosing the backgrounds of n exposures."""
    base, options = CASES[name]
    given = [exposure(base, i, marked=name == "dedicated") for i in range(n)]
    pairing = Pairing(**options)
    rule = choose_dedicated if pairing.source == "dedicated" else choose_others
    begin = time.process_time()
    found = rule(given, pairing, Policy())
    spent = time.process_time() - begin
    assert len(found) == sum(not each.metadata.bkgdtarg for each in given)
    return spent


def exposure(base: Metadata, i: int, *, marked: bool) -> Examined:
    """Return the i-th exposure of fields that are a pattern each.

    Dedicated backgrounds are told by a filter of their field, as by a configuration.
    """
    number, place = divmod(i, N_PATTERN)
    programme, observation = divmod(number, 900)
    metadata = replace(
        base,
        program=f"{programme + 1:05d}",
        observation=f"{observation + 1:03d}",
        exposure=str(place),
        pattern_number=1 + place % 4,
        ra_ref=150.0 + number / 100,
        dec_ref=2.0 + place / 3600,
        mid_time=60000.0 + i / 1000,
        readpatt=("FASTR1", "SLOWR1")[place % 2],
        filter=f"F{number:04d}W" if marked else base.filter,
        bkgdtarg=marked and place < N_DEDICATED,
    )
    placement = Placement(str(i), (1024, 1032), metadata)
    return Examined(f"/data/{i:06d}_rate.fits", Candidate(placement, i))


if __name__ == "__main__":
    assert __doc__
    main("rules", __doc__, rows)
