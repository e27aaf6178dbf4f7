"""Stacks of samples for hypothesis: what exposures hold, and what they never should."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

KINDS = (
    "noise", "noise and outliers", "ties", "constants", "gaps", "infinities", "denormals",
    "huge", "any magnitude", "nearly constant", "all NaN",
)  # fmt: skip
FLOATS = ("<f4", ">f4", "<f8", ">f8")
DTYPES = (*FLOATS, "<f2", ">f2", "i1", "u1", "<i2", ">i2", ">u2", "<i4", ">i4", "<i8", ">u4")

sigmas = st.floats(0.5, 10.0) | st.sampled_from([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 5.0, 10.0])
maxiters = st.sampled_from([None, 0, 1, 2, 5])


def samples_of_kind(kind: str, n: int, n_pixels: int, seed: int, dtype: str) -> np.ndarray:
    """Return (n, n_pixels) of one kind and dtype; values that do not fit become the nearest."""
    rng = np.random.default_rng(seed)
    shape = (n, n_pixels)
    x = rng.normal(0.0, 1.0, shape)
    if kind == "noise and outliers":
        x += 100.0
        x[rng.random(shape) < 0.15] += 50.0
    elif kind == "ties":
        x = rng.integers(0, 4, shape).astype(float)
    elif kind == "constants":
        x = np.broadcast_to(rng.choice([0.0, -0.0, 0.1, 3.0, 1e30], n_pixels), shape).copy()
    elif kind == "nearly constant":
        x = 1000.0 + 0.1 * (rng.random(shape) < 0.2)
    elif kind == "gaps":
        x[rng.random(shape) < rng.random(n_pixels)] = np.nan
    elif kind == "infinities":
        x[rng.random(shape) < 0.2] = np.inf
        x[rng.random(shape) < 0.2] = -np.inf
    elif kind == "denormals":
        x *= np.finfo(np.dtype(dtype)).tiny / 64 if np.dtype(dtype).kind == "f" else 1.0
    elif kind == "huge":
        x *= 1e30 if np.dtype(dtype).itemsize == 4 else 1e300
    elif kind == "any magnitude":
        x *= 10.0 ** rng.uniform(-300, 300, shape)
    elif kind == "all NaN":
        x[:] = np.nan
        x[0, ::3] = 1.0
    target = np.dtype(dtype)
    with np.errstate(all="ignore"):
        if target.kind == "f":
            return x.astype(target)
        limits = np.iinfo(target)
        return np.nan_to_num(np.clip(np.rint(x), limits.min, limits.max)).astype(target)


@st.composite
def stacks(draw: Any, dtypes: tuple[str, ...] = FLOATS, max_n: int = 60) -> np.ndarray:
    """Draw (n, n_pixels) of some kind, or a small one of any numbers at all."""
    dtype = draw(st.sampled_from(dtypes))
    if np.dtype(dtype).kind == "f" and draw(st.integers(0, 3)) == 0:
        shape = (draw(st.integers(1, min(max_n, 9))), draw(st.integers(1, 3)))
        width = 8 * np.dtype(dtype).itemsize
        return draw(hnp.arrays(np.dtype(dtype), shape, elements=st.floats(width=width)))
    n = draw(st.integers(1, max_n))
    n_pixels = draw(st.integers(1, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    return samples_of_kind(draw(st.sampled_from(KINDS)), n, n_pixels, seed, dtype)


@st.composite
def stacks_with_errors(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw SCI, ERR (in a dtype of its own, partly not finite) and DQ."""
    sci = draw(stacks())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    err = rng.uniform(0.0, 2.0, sci.shape)
    err[rng.random(sci.shape) < draw(st.sampled_from([0.0, 0.1, 0.6, 1.0]))] = np.nan
    err[rng.random(sci.shape) < 0.02] = np.inf
    dq = rng.integers(0, 2**32, sci.shape, dtype=np.uint32)
    return (
        sci,
        err.astype(draw(st.sampled_from(FLOATS))),
        dq.astype(draw(st.sampled_from(["<u4", ">u4"]))),
    )
