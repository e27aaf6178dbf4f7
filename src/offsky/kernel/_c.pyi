from typing_extensions import Buffer

from offsky.kernel.contract import AverageRows, Averages, Planes, Rule, TargetRows

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
def subtract(
    target: TargetRows,
    average: AverageRows,
    propagate: bool,
    blank: bool,
    out: TargetRows,
    /,
) -> tuple[int, int]: ...
