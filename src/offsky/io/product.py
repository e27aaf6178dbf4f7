"""A subtracted exposure as a file: which writer writes it, and its primary header."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from offsky.errors import OutputError
from offsky.io.cards import IMPRINT_KEYWORD, STATUS_KEYWORD, Provenance, now
from offsky.io.fits import FitsExposure
from offsky.io.fits_average import filename_card
from offsky.io.fits_copy import FitsCopy, can_copy
from offsky.io.fits_verbatim import CHECKSUMS, NewHeader
from offsky.io.imprinted import ImprintedExposure, bare
from offsky.io.model_product import ModelFileWriter
from offsky.io.names import is_asdf, product_name
from offsky.io.output import Part, check_output, writing_told
from offsky.io.writer import Writer
from offsky.outcome import COMPLETE, SKIPPED
from offsky.subtraction import Subtracted, Subtraction
from offsky.values.average import ClippedMean
from offsky.values.exposure import Exposure, Rows

if TYPE_CHECKING:
    from offsky.io.fits_rewrite import FitsRewrite


class Form(Protocol):
    """One way to write a subtracted exposure to a file.

    Attributes
    ----------
    endings : tuple of str
        Of targets whose products are named as they are, such as ".asdf"; all others are named
        as FITS.
    """

    endings: tuple[str, ...]

    def suits(self, target: Exposure, path: Path, how: Subtraction) -> bool:
        """Tell whether this target can be written so."""

    def held_bytes(self, target: Exposure, how: Subtraction) -> int:
        """Return the memory that it takes until it is published."""

    def begin(
        self, target: Exposure, part: Part, how: Subtraction, provenance: Provenance | None
    ) -> Writer:
        """Begin to fill a file; as of `offsky.io.writer.Product`."""


class FileProduct:
    """A subtracted exposure that becomes a file.

    Parameters
    ----------
    path : Path or None
        The file; None to name it by `name_of`.
    overwrite : bool
        Whether it may replace one that exists.
    name_of : callable or None
        Returns the file for an open target, where the name depends on its shape.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        overwrite: bool = False,
        name_of: Callable[[Exposure], Path] | None = None,
    ) -> None:
        self._path = path
        self._overwrite = overwrite
        self._name_of = name_of
        self._inputs: tuple[Path, ...] = ()

    def check(self, inputs: Sequence[Path]) -> None:
        """Raise OutputError unless the file may be written."""
        self._inputs = tuple(inputs)
        if self._path is not None:
            check_output(self._path, inputs=self._inputs, overwrite=self._overwrite)

    def held_bytes(self, target: Exposure, how: Subtraction) -> int:
        """Return the memory that it takes until it is published."""
        return self._form(target, how).held_bytes(bare(target), how)

    def begin(self, target: Exposure, how: Subtraction, provenance: Provenance | None) -> Writer:
        """Begin the file, as of `offsky.io.writer.Product`."""
        path, form = self._place(target), self._form(target, how)
        if self._path is None:
            check_output(path, inputs=self._inputs, overwrite=self._overwrite)
        part = Part(path, overwrite=self._overwrite)
        try:
            with writing_told(path):
                return form.begin(target, part, how, provenance)
        except BaseException:
            part.abandon()
            raise

    def _place(self, target: Exposure) -> Path:
        if self._path is not None:
            return self._path
        if self._name_of is None:
            raise OutputError("a product without a name; give a path")
        return self._name_of(target)

    def _form(self, target: Exposure, how: Subtraction) -> Form:
        path = self._place(target)
        return next(form for form in FORMS if form.suits(bare(target), path, how))


def named_by_shape(folder: Path, root: str, target: Path) -> Callable[[Exposure], Path]:
    """Return what names the product of a target in `folder` as the JWST pipeline does."""
    ending = product_ending(target)
    return lambda opened: folder / product_name(root, opened.shape, ending)


def product_ending(target: str | os.PathLike[str]) -> str:
    """Return the ending of the name of a target's product."""
    ending = Path(target).suffix.lower()
    return ending if any(ending in form.endings for form in FORMS) else ".fits"


class _FitsWriter:
    """A FITS file that is filled: its header, its body, and the file it will be."""

    def __init__(self, part: Part, header: NewHeader, body: "FitsCopy | FitsRewrite") -> None:
        self._part = part
        self._header = header
        self._body = body

    def copy_rest(self) -> None:
        """Copy everything that the subtraction does not change."""
        with writing_told(self._part.path):
            self._body.copy_rest()

    def subtract(
        self, first: int, last: int, average: ClippedMean, rows: Rows | None
    ) -> Subtracted:
        """Subtract rows [first, last), as of `offsky.io.writer.Writer`."""
        with writing_told(self._part.path):
            return self._body.subtract(first, last, average, rows)

    def finish(self, provenance: Provenance | None) -> None:
        """Complete the file."""
        if provenance is not None:
            set_facts(self._header, provenance)
        with writing_told(self._part.path):
            self._body.finish()
        self._part.seal()

    def publish(self) -> Path:
        """Give the file its name."""
        self._body.close()
        return self._part.publish()

    def abandon(self) -> None:
        """Remove it."""
        self._body.close()
        self._part.abandon()


class _CopyForm:
    """The target's own bytes with new pixels: plain arrays."""

    endings: tuple[str, ...] = ()

    def suits(self, target: Exposure, path: Path, how: Subtraction) -> bool:
        return isinstance(target, FitsExposure) and not is_asdf(path) and can_copy(target, how)

    def held_bytes(self, target: Exposure, how: Subtraction) -> int:
        return 0

    def begin(
        self, target: Exposure, part: Part, how: Subtraction, provenance: Provenance | None
    ) -> Writer:
        own = _fits(target)
        header = new_header(own, part.path, provenance)
        changes = None if provenance is None else how
        return _FitsWriter(part, header, FitsCopy(own, part.file, header, changes))


class _RewriteForm:
    """The target as astropy writes it: compressed and unusual arrays."""

    endings: tuple[str, ...] = ()

    def suits(self, target: Exposure, path: Path, how: Subtraction) -> bool:
        return isinstance(target, FitsExposure) and not is_asdf(path)

    def held_bytes(self, target: Exposure, how: Subtraction) -> int:
        # The images, and as much again while they are written.
        images = _fits(target).images(with_errors=how.changes_errors)
        return 2 * sum(reader.n_bytes for reader in images.values())

    def begin(
        self, target: Exposure, part: Part, how: Subtraction, provenance: Provenance | None
    ) -> Writer:
        own = _fits(target)
        header = new_header(own, part.path, provenance)
        if provenance is None:
            return _FitsWriter(part, header, FitsCopy(own, part.file, header, None))
        # What only some files need is imported there: a cold run waits for less.
        from offsky.io.fits_rewrite import FitsRewrite

        from_rows = isinstance(target, ImprintedExposure)
        return _FitsWriter(
            part, header, FitsRewrite(own, part.file, header, how, from_rows=from_rows)
        )


class _ModelForm:
    """The target through `stdatamodels`: from ASDF, or to it."""

    endings: tuple[str, ...] = (".asdf",)

    def suits(self, target: Exposure, path: Path, how: Subtraction) -> bool:
        return True

    def held_bytes(self, target: Exposure, how: Subtraction) -> int:
        return ModelFileWriter.held_bytes(target)

    def begin(
        self, target: Exposure, part: Part, how: Subtraction, provenance: Provenance | None
    ) -> Writer:
        return ModelFileWriter(target, part, how)


FORMS: list[Form] = [_CopyForm(), _RewriteForm(), _ModelForm()]
"""The ways to write a file; the first that suits is taken."""


def _fits(target: Exposure) -> FitsExposure:
    """Return a target that a form suits as what it is."""
    own = bare(target)
    if not isinstance(own, FitsExposure):
        raise TypeError(f"{target.name}: not from a FITS file")
    return own


def new_header(target: FitsExposure, output: Path, provenance: Provenance | None) -> NewHeader:
    """Return the target's primary header as the output will have it.

    Parameters
    ----------
    target : FitsExposure
        The target.
    output : Path
        The name the file will have.
    provenance : Provenance or None
        What is subtracted; None where there is nothing to subtract.
    """
    header = NewHeader(target.raw_header(0))
    header.remove(*CHECKSUMS)
    header["FILENAME"] = filename_card(output.name, header.comment("FILENAME"))
    header["DATE"] = now(), None
    status = SKIPPED if provenance is None else COMPLETE
    header[STATUS_KEYWORD] = status, "Background subtraction"
    if provenance is not None:
        if provenance.had_imprint:
            header[IMPRINT_KEYWORD] = COMPLETE, "NIRSpec MSA Imprint Subtraction"
        set_facts(header, provenance)
        for line in provenance.history():
            header.add_history(line)
    return header


def set_facts(header: NewHeader, provenance: Provenance) -> None:
    """Write the facts of a product's making."""
    for key, value, comment in provenance.cards():
        header[key] = value, comment
