from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from typing_extensions import Buffer

from offsky.kernel.contract import Averages, Planes, Rule

def clip_mean(
    sci: Sequence[Buffer],
    err: Sequence[Buffer | None] | None,
    dq: Sequence[Buffer | None] | None,
    dq_flip: Buffer | None,
    sigma: float,
    maxiters: int,
    first: int,
    last: int,
    out_sci: Buffer,
    out_err: Buffer | None,
    out_dq: Buffer | None,
    out_n_kept: Buffer,
    n_rejected: Buffer,
    /,
) -> int: ...
def average(
    planes: Planes,
    dq_flip: Buffer | None,
    weights: Buffer | None,
    median_factors: Buffer | None,
    rule: Rule,
    first: int,
    last: int,
    out: Averages,
    /,
) -> int: ...
def subtract(
    sci: NDArray[Any],
    dq: NDArray[Any],
    dq_flip: int,
    level: NDArray[Any],
    n_kept: NDArray[Any],
    flags: NDArray[Any] | None,
    scale: float,
    /,
) -> None: ...
