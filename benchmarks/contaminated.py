"""What rejection leaves of stars and cosmic rays that have skirts, beside one that knows them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from hits import Floats, image_stack

import offsky
from offsky.options import PROFILES, Options

Row = dict[str, Any]

# Rejection alone: no levels to tell, no flags.
_PROFILE = PROFILES["offsky"].changed(errors="none", uncovered="keep", level="none")
WAYS: dict[str, Options | None] = {
    "profile jwst": Options(),
    "error 3.5 / 4.5": _PROFILE.changed(grow=None),
    "profile offsky": _PROFILE,
    "who knows which are hit": None,
}
# A sample is hit where this is added, in units of its noise.
_SEEN = 1.0
# Outliers of the scenes of unequal depth and of a wrong ERR, in units of their own noise.
_HIT = 10.0
_NOTHING = float("nan")


def contaminated_rows(quick: bool) -> Iterator[Row]:
    """Measure averages whose truth is 0."""
    shape = (128, 256) if quick else (1024, 1024)
    for n in (2, 3, 4, 6):
        stack = image_stack(n, shape, seed=41)
        for way, options in WAYS.items():
            average, lost = _averaged(stack.sci, stack.err, options, stack.added > _SEEN)
            row = _row("2 % of the samples hit", n, way)
            row["total"] = float((1 + np.mean(average**2)) / (1 + 1 / n))
            row["holes"] = float(1e6 * np.mean(average > 5 / np.sqrt(n)))
            yield {**row, "lost": lost}
    for n in (3, 4, 10):
        stack = image_stack(n, shape, seed=42, share=0)
        for way in ("error 3.5 / 4.5", "profile offsky"):
            average, lost = _averaged(stack.sci, stack.err, WAYS[way], stack.added > _SEEN)
            noise = float(np.std(average) / np.std(stack.sci.mean(axis=0)))
            yield {**_row("clean", n, way), "noise": noise, "lost": lost}
    for sigmas in ((1.0, 1.0, 1.0, 3.0), (1.0, 3.0, 3.0, 3.0)):
        yield from _struck_rows(f"noise {', '.join(f'{s:g}' for s in sigmas)}", sigmas, 1.0, shape)
    yield from _struck_rows("ERR times 2", (1.0, 1.0), 2.0, shape)


def _struck_rows(
    name: str, sigmas: tuple[float, ...], err_factor: float, shape: tuple[int, int]
) -> Iterator[Row]:
    """Measure hits of single samples in the first exposure, which has the least noise."""
    n = len(sigmas)
    stack = image_stack(n, shape, seed=43, share=0, sigmas=sigmas, err_factor=err_factor)
    hit = np.random.default_rng(44).random(shape) < 0.01
    plain = stack.sci.mean(axis=0)
    sci = stack.sci.copy()
    sci[0][hit] += _HIT * sigmas[0]
    own = np.zeros(sci.shape, dtype=np.bool_)
    own[0] = hit
    for way in ("error 3.5 / 4.5", "profile offsky"):
        average, lost = _averaged(sci, stack.err, WAYS[way], own)
        # Where the hit is kept, the average is that much too high.
        kept = np.abs(average - plain - _HIT * sigmas[0] / n) < 1e-3
        yield {
            **_row(f"{name}: {_HIT:g} sigma hits in the first", n, way),
            "noise": float(np.std(average[~hit]) / np.std(plain[~hit])),
            "found": float(1 - np.mean(kept[hit])),
            "bias": float(np.mean(average[hit]) / np.std(plain)),
            "lost": lost,
        }


def _row(scene: str, n: int, way: str) -> Row:
    figures = dict.fromkeys(("total", "holes", "noise", "found", "bias"), _NOTHING)
    return {"scene": scene, "n": n, "way": way, **figures}


def _averaged(sci: Floats, err: Floats, options: Options | None, hit: Any) -> tuple[Floats, float]:
    """Return an average, and the share of the good samples that are not in it."""
    if options is None:
        # Where all are hit, nobody knows better than the lowest.
        kept = ~hit
        nothing = ~kept.any(axis=0)
        kept[np.argmin(sci, axis=0), *np.indices(sci.shape[1:])] |= nothing
        return np.sum(np.where(kept, sci, 0), axis=0) / kept.sum(axis=0), 0.0
    n = len(sci)
    flags = np.broadcast_to((np.uint32(2) << np.arange(n, dtype="u4"))[:, None, None], sci.shape)
    made = offsky.clipped_mean(
        sci.astype("f4"), err.astype("f4"), flags, options=options.changed(dq="kept", bad_bits=1)
    )
    assert made.dq is not None
    gone = (made.dq & flags) == 0
    return made.sci.astype(np.float64), float(np.mean(gone[~hit]))
