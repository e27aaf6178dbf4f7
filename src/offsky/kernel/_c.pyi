from typing_extensions import Buffer

from offsky.kernel.contract import AverageRows, Averages, Marks, Planes, Rule, TargetRows

def amend(
    planes: Planes,
    dq_flip: Buffer | None,
    offsets: Buffer | None,
    scales: Buffer | None,
    weights: Buffer | None,
    depths: Buffer | None,
    median_factors: Buffer | None,
    rule: Rule,
    first: int,
    last: int,
    out: Averages,
    /,
) -> int: ...
def average(
    planes: Planes,
    dq_flip: Buffer | None,
    offsets: Buffer | None,
    scales: Buffer | None,
    weights: Buffer | None,
    depths: Buffer | None,
    median_factors: Buffer | None,
    rule: Rule,
    first: int,
    last: int,
    out: Averages,
    /,
) -> tuple[int, int]: ...
def grow(
    planes: Planes,
    dq_flip: Buffer | None,
    offsets: Buffer | None,
    scales: Buffer | None,
    depths: Buffer | None,
    rule: Rule,
    above: float,
    pass_: int,
    first: int,
    last: int,
    marks: Marks,
    /,
) -> None: ...
def subtract(
    target: TargetRows,
    average: AverageRows,
    propagate: bool,
    blank: bool,
    out: TargetRows,
    /,
) -> tuple[int, int]: ...
