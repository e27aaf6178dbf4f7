"""Whether exposures go together: everything that needs no pixels."""

import logging
from collections.abc import Sequence

from offsky.combine import MOST_EXPOSURES
from offsky.errors import ExposureError, ExposureMismatchError
from offsky.exposure import Exposure

log = logging.getLogger(__name__)


def check_target(target: Exposure) -> None:
    """Raise ExposureError unless the target has a DQ to combine flags into."""
    if "DQ" in target.missing:
        raise ExposureError(
            f"{target.name}: no DQ image, so that there is no place for the backgrounds' "
            "flags; expected a calibrated exposure such as _rate.fits"
        )


def check_backgrounds(backgrounds: Sequence[Exposure], target: Exposure | None = None) -> None:
    """Raise unless backgrounds can be averaged with each other, and fit the target.

    Parameters
    ----------
    backgrounds : sequence of Exposure
        The exposures to average.
    target : Exposure or None
        What their average will be subtracted from.

    Raises
    ------
    ExposureMismatchError
        If one has other rows and columns.
    """
    if not backgrounds:
        return
    if len(backgrounds) > MOST_EXPOSURES:
        raise ExposureMismatchError(
            f"{len(backgrounds)} backgrounds; the most is {MOST_EXPOSURES}: average them in groups"
        )
    reference = backgrounds[0] if target is None else target
    role = "first background's" if target is None else "target's"
    for background in backgrounds:
        if background.shape[-2:] != reference.shape[-2:]:
            raise ExposureMismatchError(
                f"{background.name}: {_rows_columns(background)} where the {role} are "
                f"{_rows_columns(reference)} ({reference.name}); use exposures of one subarray"
            )
        for extension, effect in (("ERR", "its errors count as unknown"), ("DQ", "it adds no flags")):
            if extension in background.missing:
                log.warning("%s: no %s image: %s", background.name, extension, effect)


def _rows_columns(exposure: Exposure) -> str:
    n_rows, n_columns = exposure.shape[-2:]
    return f"{n_rows} rows by {n_columns} columns"
