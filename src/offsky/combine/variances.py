"""Exposures whose variances are read too, where errors are propagated."""

from typing import Any

from offsky.values.exposure import Exposure, Rows, Scratch


class WithVariances:
    """An exposure that reads VAR_POISSON and VAR_RNOISE along with its other rows.

    Equal to every other such view of the same exposure.

    Parameters
    ----------
    exposure : Exposure
        With ``has_variances``.
    """

    def __init__(self, exposure: Exposure) -> None:
        self._exposure = exposure
        self.row_bytes = exposure.row_bytes + exposure.variance_row_bytes

    def __getattr__(self, name: str) -> Any:
        """Be the exposure itself in everything else."""
        return getattr(self._exposure, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WithVariances) and other._exposure is self._exposure

    def __hash__(self) -> int:
        return hash((WithVariances, id(self._exposure)))

    def read_rows(self, first: int, last: int, scratch: Scratch, *, errors: bool = True) -> Rows:
        """Return rows [first, last), variances among them."""
        rows = self._exposure.read_rows(first, last, scratch, errors=errors)
        poisson, rnoise = self._exposure.read_variances(first, last, scratch)
        return rows._replace(var_poisson=poisson, var_rnoise=rnoise)
