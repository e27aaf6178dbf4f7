"""What watches a product being made, where a page of it is wanted."""

import os
from pathlib import Path

from offsky.engine.order import Observer


def observers_of(
    report: str | os.PathLike[str] | bool | None,
    product: Path | None = None,
    *,
    overwrite: bool = False,
    thumbnails: bool = False,
) -> tuple[Observer, ...]:
    """Return what writes the page of a product; nothing where none is wanted.

    Parameters
    ----------
    report : path-like, bool or None
        As of `offsky.subtract_file`; None is False.
    product : Path or None
        The product; None where its name is not known yet.
    overwrite, thumbnails : bool
        As of `offsky.reporting.place.Place`.

    Raises
    ------
    ParameterError
        If one page is named for several products.
    OutputError
        If the page cannot be written there.
    """
    if report is None or report is False:
        return ()
    # What only an option needs is imported there: a cold run waits for less.
    from offsky.reporting.observed import page_observer

    path = None if report is True else report
    return (page_observer(path, product, overwrite=overwrite, thumbnails=thumbnails),)
