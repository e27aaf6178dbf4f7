"""How to average and subtract: the options, in one frozen object."""

from dataclasses import dataclass
from math import isnan

from offsky.errors import ParameterError


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The choices that decide the pixels of a result.

    Attributes
    ----------
    sigma : float
        Clipping threshold in standard deviations, above zero.
    maxiters : int or None
        Most clipping passes; None repeats until nothing is rejected, 0 clips
        nothing.

    Raises
    ------
    ParameterError
        For a value out of range.
    """

    sigma: float = 3.0
    maxiters: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if isnan(self.sigma) or self.sigma <= 0:
            raise ParameterError(
                f"sigma is {self.sigma:g}: the clipping threshold is a number of standard "
                "deviations above zero, such as 3"
            )
        if self.maxiters is not None and self.maxiters < 0:
            raise ParameterError(
                f"maxiters is {self.maxiters}: give 0 or more passes, or none at all "
                "to clip until nothing is rejected"
            )
