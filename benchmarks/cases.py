"""Inputs of the benchmarks: named real sizes, fixed seeds, data as a detector gives them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

JUMP_DET, DO_NOT_USE = 4, 1


@dataclass(frozen=True)
class Case:
    """`n` exposures of `shape` (ny, nx); equal seeds give equal pixels."""

    n: int
    shape: tuple[int, int]
    seed: int

    def __str__(self) -> str:
        """Return what the tables call it."""
        ny, nx = self.shape
        return f"N = {self.n}, {ny} x {nx}"

    def quick(self) -> "Case":
        """Return the same case on a quarter of the rows and of the columns."""
        ny, nx = self.shape
        return replace(self, shape=(ny // 4, nx // 4))


FULL_FRAME = (2048, 2048)
STACKS = {
    "n4": Case(4, FULL_FRAME, seed=4),
    "n10": Case(10, FULL_FRAME, seed=10),
    "n32": Case(32, FULL_FRAME, seed=32),
    "n100": Case(100, (512, 512), seed=100),
}
FILES = Case(40, FULL_FRAME, seed=2048)


class Stack(NamedTuple):
    """Samples of some exposures: float32, float32 and uint32, each (n, ny, nx)."""

    sci: np.ndarray
    err: np.ndarray
    dq: np.ndarray

    def as_stored(self) -> "Stack":
        """Return the same samples big-endian, as a FITS file holds them."""
        return Stack(*(array.astype(array.dtype.newbyteorder(">")) for array in self))


def make_stack(case: Case) -> Stack:
    """Return the exposures of a case in memory, in the machine's own byte order."""
    shape = (case.n, *case.shape)
    stack = Stack(np.empty(shape, "f4"), np.empty(shape, "f4"), np.empty(shape, "u4"))
    for i in range(case.n):
        stack.sci[i], stack.err[i], stack.dq[i] = make_exposure(case, i)
    return stack


def make_exposure(case: Case, index: int) -> Stack:
    """Return one exposure (ny, nx): sky with noise, cosmic rays, bad pixels.

    The sky is about 1 with 5 % of noise. Tracks of five pixels strike 0.5 % of the
    pixels, half of them flagged. 0.2 % of the pixels are NaN in every exposure, another
    0.1 % in this one alone; their ERR is NaN too.
    """
    ny, nx = case.shape
    noise = np.float32(0.05)
    rng = np.random.default_rng((case.seed, index))
    gradient = np.linspace(0.98, 1.02, nx, dtype="f4")
    sci = gradient + noise * rng.standard_normal((ny, nx), dtype="f4")
    err = noise * (1 + np.float32(0.1) * rng.random((ny, nx), dtype="f4"))
    dq = np.zeros((ny, nx), "u4")

    n_tracks = round(0.001 * ny * nx)
    start = rng.integers(0, ny * nx, n_tracks)
    step = rng.choice([1, nx - 1, nx, nx + 1], n_tracks)
    track = (start + np.arange(5)[:, np.newaxis] * step) % (ny * nx)
    sci.flat[track] += rng.exponential(2.0, track.shape)
    dq.flat[track[:, ::2]] |= JUMP_DET

    dead = np.random.default_rng(case.seed).random((ny, nx)) < 0.002
    bad = dead | (rng.random((ny, nx)) < 0.001)
    sci[bad] = err[bad] = np.nan
    dq[bad] |= DO_NOT_USE
    return Stack(sci, err, dq)


def write_exposure_file(case: Case, index: int, path: Path) -> None:
    """Write one exposure as the pipeline does, VAR arrays included."""
    from offsky.testing import write_exposure

    sci, err, dq = make_exposure(case, index)
    number = {"meta.observation.exposure_number": str(index + 1)}
    write_exposure(path, sci=sci, err=err, dq=dq, variances=True, metadata=number)
