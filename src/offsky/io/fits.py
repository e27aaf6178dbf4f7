"""Read JWST exposures from FITS files, by rows.

`astropy.io.fits` tells where each extension's pixels begin and what they are; they
are then read straight into the memory that the average works on. Compressed and
unusual arrays are read through astropy itself.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
from astropy.io import fits

from offsky.arrays import Array
from offsky.errors import ExposureError, first_line
from offsky.io.fits_arrays import ArrayReader, RawArray, SectionArray
from offsky.io.fits_header import Cards
from offsky.io.fits_layout import DAMAGE, Extent, read_layout
from offsky.io.source import Source, Span, open_source
from offsky.values.exposure import Rows, Scratch, Wanted
from offsky.values.metadata import KEYWORDS, OF_SCI, UNREADABLE, Metadata, metadata_of

# FITS has no unsigned integers: DQ is stored with 2**31 subtracted, which is the
# same as its top bit inverted.
TOP_BIT = 0x80000000

VARIANCES = ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")

_ABSENT = object()


class FitsExposure:
    """A JWST exposure in a FITS file.

    Parameters
    ----------
    path : path-like
        ``.fits``, also gzipped or tile-compressed.

    Attributes
    ----------
    name : str
        The file's name.
    path : Path
        The file.
    shape : tuple of int
        (ny, nx), or (nints, ny, nx).
    held_bytes : int
        0: it is read by rows.
    metadata : Metadata
        What the headers say.
    source : Source
        The file's bytes.
    same_as : tuple
        Device and number of the file.
    extents : list of Extent
        The file's header-data units.
    missing : list of str
        Those of ERR and DQ that the file does not have.
    variances : dict
        Readers of VAR_POISSON, VAR_RNOISE and VAR_FLAT by name, those that it has.

    Raises
    ------
    MissingFileError
        If there is no such file.
    ExposureError
        If it is not FITS, not whole, or has no image to work on.
    """

    held_bytes = 0

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.source: Source = open_source(self.path)
        # Opened where an array is to be decompressed, scaled or converted.
        self._units: dict[int, fits.HDUList] = {}
        self._lock = Lock()
        try:
            with _damage_told(self.path):
                self._examine()
        except BaseException:
            self.close()
            raise

    def _examine(self) -> None:
        self.extents = read_layout(self.source)
        sci = self._find("SCI")
        if sci is None:
            names = ", ".join(extent.name for extent in self.extents)
            raise ExposureError(
                f"{self.path}: no SCI image among its extensions ({names}); "
                "expected a calibrated exposure such as _rate.fits"
            )
        if self.extents[0].cards.get("GROUPS", False) is True:
            raise ExposureError(
                f"{self.path}: random groups (GROUPS = T), an old form of FITS; expected a "
                "calibrated exposure such as _rate.fits"
            )
        if _is_empty(sci):
            raise ExposureError(
                f"{self.path}: SCI is empty (no pixels); expected (rows, columns) or "
                "(integrations, rows, columns): was the file written completely?"
            )
        self.sci = self._reader(sci)
        self.shape = self.sci.shape
        if len(self.shape) not in (2, 3) or 0 in self.shape:
            raise ExposureError(
                f"{self.path}: SCI has the shape {self.shape}; expected (rows, columns) or "
                "(integrations, rows, columns): run the ramp fit (calwebb_detector1) first"
            )
        self.metadata = _metadata(self.extents[0].cards, sci.cards)
        self.err = self._companion("ERR")
        self.dq = self._companion("DQ")
        readers = {"SCI": self.sci, "ERR": self.err, "DQ": self.dq}
        self.missing = [name for name, reader in readers.items() if reader is None]

    def _find(self, name: str) -> Extent | None:
        found = [extent for extent in self.extents if extent.name == name]
        if len(found) > 1:
            raise ExposureError(
                f"{self.path}: {len(found)} {name} extensions; expected one (a file of many "
                "slits is to be split first)"
            )
        if found and name != "SCI":
            self._check_image(found[0])
        return found[0] if found and found[0].is_image else None

    def _check_image(self, extent: Extent) -> None:
        """Raise ExposureError for what has the name of an image and is none: it is damaged."""
        if not extent.is_image:
            raise ExposureError(
                f"{self.path}: {extent.name} is {extent.cards.get('XTENSION')!r}, no image; fetch "
                "the file again"
            )

    def _companion(self, name: str) -> "ArrayReader | None":
        extent = self._find(name)
        # One without data is as good as none: some tools write them.
        if extent is None or _is_empty(extent):
            return None
        reader = self._reader(extent)
        if reader.shape != self.shape:
            raise ExposureError(
                f"{self.path}: {name} has the shape {reader.shape}, SCI {self.shape}; "
                "expected the same"
            )
        return reader

    def _variance(self, name: str) -> "ArrayReader | None":
        """Find a variance; one that is empty, or of another shape, counts as not there."""
        named = [extent for extent in self.extents if extent.name == name]
        for extent in named:
            self._check_image(extent)
        found = [extent for extent in named if not _is_empty(extent)]
        reader = self._reader(found[0]) if len(found) == 1 else None
        return reader if reader is not None and reader.shape == self.shape else None

    def _reader(self, extent: Extent) -> "ArrayReader":
        cards, dq = extent.cards, extent.name == "DQ"
        zero = cards.get("BZERO", 0)
        stored = {(-32, 0): ">f4", (-64, 0): ">f8"}
        if dq:
            stored = {(32, 0): ">u4", (32, TOP_BIT): ">u4"}
        dtype = stored.get((cards["BITPIX"], zero))
        if dtype is None or cards.get("BSCALE", 1) != 1 or extent.is_compressed:
            hdu = self.unit(extent)
            return SectionArray(hdu, str(self.path), self._lock, dq)
        shape = tuple(int(cards[f"NAXIS{axis}"]) for axis in range(cards["NAXIS"], 0, -1))
        return RawArray(self.source, extent.data_start, shape, dtype, int(zero))

    def unit(self, extent: Extent) -> Any:
        """Return astropy's object for an array that takes more than reading bytes.

        Raises
        ------
        ExposureError
            If it cannot be read.
        """
        try:
            if extent.header_start not in self._units:
                # What only some files need is imported there: a cold run waits for less.
                from offsky.io.fits_unit import open_unit

                self._units[extent.header_start] = open_unit(self.source, extent)
            return self._units[extent.header_start][-1]
        except ExposureError:
            raise
        except DAMAGE as error:
            raise ExposureError(
                f"{self.path}: {extent.name} cannot be read ({first_line(error)}); "
                "fetch the file again"
            ) from error

    def row_bytes(self, wanted: Wanted) -> int:
        """Return the memory that reading one row takes."""
        return sum(reader.row_bytes for reader in self._readers(wanted) if reader is not None)

    def read_rows(self, first: int, last: int, scratch: Scratch, wanted: Wanted) -> Rows:
        """Read rows [first, last); valid until `scratch` is cleared."""
        sci, err, dq, poisson, rnoise = self._read(self._readers(wanted), first, last, scratch)
        if sci is None:
            raise RuntimeError("an exposure without SCI")
        return Rows(sci, err, dq, 0 if self.dq is None else self.dq.flip, poisson, rnoise)

    def pick_rows(self, rows: Sequence[int], scratch: Scratch, wanted: Wanted) -> Rows:
        """Read some rows; valid until `scratch` is cleared."""
        spans: list[Span] = []
        found: list[Array | None] = []
        for reader in self._readers(wanted):
            if isinstance(reader, RawArray):
                more, picked = reader.spans_of_rows(rows, scratch)
                spans += more
                found.append(picked)
            elif reader is None:
                found.append(None)
            else:
                each = [reader.read_rows(row, row + 1, scratch) for row in rows]
                found.append(np.concatenate(each, axis=-2))
        self.source.read(spans)
        sci, err, dq, poisson, rnoise = found
        if sci is None:
            raise RuntimeError("an exposure without SCI")
        return Rows(sci, err, dq, 0 if self.dq is None else self.dq.flip, poisson, rnoise)

    def _readers(self, wanted: Wanted) -> "Sequence[ArrayReader | None]":
        """Return readers of SCI, ERR, DQ, VAR_POISSON, VAR_RNOISE; None for unwanted ones."""
        poisson = rnoise = None
        if wanted.variances and self.has_variances:
            poisson, rnoise = self.variances["VAR_POISSON"], self.variances["VAR_RNOISE"]
        return self.sci, self.err if wanted.err else None, self.dq, poisson, rnoise

    def read_arrays(
        self, arrays: "Mapping[str, ArrayReader]", first: int, last: int, scratch: Scratch
    ) -> dict[str, Array]:
        """Read rows [first, last) of several of its arrays, valid as of `read_rows`."""
        found = self._read(list(arrays.values()), first, last, scratch)
        return {name: rows for name, rows in zip(arrays, found, strict=True) if rows is not None}

    def _read(
        self, readers: "Sequence[ArrayReader | None]", first: int, last: int, scratch: Scratch
    ) -> list[Array | None]:
        """Read rows of several arrays; those that are plain bytes in one go."""
        spans: list[Span] = []
        found: list[Array | None] = []
        for reader in readers:
            if isinstance(reader, RawArray):
                more, rows = reader.spans(first, last, scratch)
                spans += more
                found.append(rows)
            else:
                found.append(None if reader is None else reader.read_rows(first, last, scratch))
        self.source.read(spans)
        return found

    def raw_header(self, number: int) -> bytes:
        """Return the blocks of a unit's header as they are in the file."""
        extent = self.extents[number]
        return self.source.peek(extent.header_start, extent.data_start - extent.header_start)

    @property
    def header(self) -> fits.Header:
        """The primary header."""
        return self.extents[0].header

    @property
    def same_as(self) -> tuple[int, int]:
        """Device and number of the file."""
        return self.source.stamp[:2]

    @cached_property
    def variances(self) -> "dict[str, ArrayReader]":
        """Readers of those of `VARIANCES` that it has; looked for when they are wanted."""
        with _damage_told(self.path):
            found = {name: self._variance(name) for name in VARIANCES}
        return {name: reader for name, reader in found.items() if reader is not None}

    @property
    def has_variances(self) -> bool:
        """Whether it has VAR_POISSON and VAR_RNOISE."""
        return {"VAR_POISSON", "VAR_RNOISE"} <= set(self.variances)

    def images(self, *, with_errors: bool) -> "dict[str, ArrayReader]":
        """Return the readers of what a subtraction changes, by the extensions' names.

        Parameters
        ----------
        with_errors : bool
            ERR and VAR_* too, those that there are.
        """
        readers = {"SCI": self.sci, "DQ": self.dq}
        if with_errors:
            readers |= {"ERR": self.err, **self.variances}
        return {name: reader for name, reader in readers.items() if reader is not None}

    def check_unchanged(self) -> None:
        """Raise ExposureError if the file is no longer what was opened."""
        self.source.check_unchanged()

    def close(self) -> None:
        """Close the file."""
        for unit in self._units.values():
            unit.close()
        self.source.close()

    def __enter__(self) -> Self:
        """Return the exposure, to be closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


def _is_empty(extent: Extent) -> bool:
    """Tell whether an image has no axes, or an axis without a pixel."""
    cards = extent.cards
    if extent.is_compressed:
        return bool(cards.get("ZNAXIS") == 0)
    n_axes = int(cards.get("NAXIS", 0))
    return n_axes == 0 or 0 in [cards.get(f"NAXIS{axis}") for axis in range(1, n_axes + 1)]


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Turn what astropy raises for damage into one line."""
    try:
        yield
    except ExposureError:
        raise
    except DAMAGE as error:
        raise ExposureError(
            f"{path}: not a FITS file that can be read ({first_line(error)}); fetch it again"
        ) from error


def _metadata(primary: Cards, sci: Cards) -> Metadata:
    """Read the keywords that offsky looks at, each from the header that it belongs to first."""

    def read(name: str) -> Any:
        keyword = KEYWORDS[name]
        for cards in (sci, primary) if name in OF_SCI else (primary, sci):
            try:
                value = cards.get(keyword, _ABSENT)
            except DAMAGE:
                # Of one card, such as a number nan. What needs it says so.
                return UNREADABLE
            if value is not _ABSENT:
                return None if isinstance(value, fits.card.Undefined) else value
        return None

    return metadata_of(read)
