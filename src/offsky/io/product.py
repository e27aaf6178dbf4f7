"""Begin a subtracted exposure's file: its primary header, and the way it is written."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from offsky.io.cards import STATUS_KEYWORD, Provenance, now
from offsky.io.fits import FitsExposure
from offsky.io.fits_average import set_cards, set_filename
from offsky.io.fits_copy import FitsCopy, can_copy
from offsky.io.fits_folded import FoldedHeader
from offsky.io.fits_layout import header_damage_told
from offsky.io.fits_rewrite import FitsRewrite
from offsky.outcome import COMPLETE, SKIPPED
from offsky.subtraction import Subtraction
from offsky.values.average import ClippedMean

# Rows of a target that are subtracted from at a time.
_SUBTRACT_ROWS = 64


def new_header(target: FitsExposure, output: Path, provenance: Provenance | None) -> fits.Header:
    """Return the target's primary header as the output will have it.

    Only what products change can be set or looked up in it (`FoldedHeader`).

    Parameters
    ----------
    target : FitsExposure
        The target.
    output : Path
        The name the file will have.
    provenance : Provenance or None
        What is subtracted; None where there is nothing to subtract.

    Raises
    ------
    ExposureError
        If the target's header is damaged so that it cannot be written again.
    """
    with header_damage_told(target.path):
        header = FoldedHeader.of(target.extents[0].cards, _is_changed)
        _changed(header, output, provenance)
        header.tostring()
    return header


_CHECKSUMS = ("CHECKSUM", "DATASUM")


def _is_changed(keyword: str) -> bool:
    """Tell whether a keyword of the target's may be another in its product."""
    return keyword.startswith("OFF") or keyword in (
        *_CHECKSUMS,
        "FILENAME",
        "DATE",
        STATUS_KEYWORD,
    )


def _changed(header: fits.Header, output: Path, provenance: Provenance | None) -> None:
    for key in _CHECKSUMS:
        header.remove(key, ignore_missing=True)
    set_filename(header, output.name)
    header["DATE"] = now()
    header[STATUS_KEYWORD] = (
        SKIPPED if provenance is None else COMPLETE,
        "Background subtraction",
    )
    if provenance is not None:
        set_cards(header, provenance)
        for line in provenance.history():
            header.add_history(line)


def start_copy(
    target: FitsExposure, part: Path, header: fits.Header, how: Subtraction
) -> FitsCopy | FitsRewrite:
    """Begin a copy of the target's bytes, or a new file where that cannot be done."""
    if can_copy(target, how):
        return FitsCopy(target, part, header, how)
    return FitsRewrite(target, part, header, how)


def subtract_whole(copy: FitsCopy | FitsRewrite, n_rows: int, average: ClippedMean) -> None:
    """Subtract an average that is in memory, piece by piece."""
    for first in range(0, n_rows, _SUBTRACT_ROWS):
        last = min(first + _SUBTRACT_ROWS, n_rows)
        copy.subtract(first, last, _rows_of(average, first, last))


def _rows_of(average: ClippedMean, first: int, last: int) -> ClippedMean:
    """Return rows [first, last) of an average's images."""
    shape = average.sci.shape
    images: dict[str, Any] = {
        each.name: value[first:last]
        for each in fields(average)
        if isinstance(value := getattr(average, each.name), np.ndarray) and value.shape == shape
    }
    return replace(average, **images)
