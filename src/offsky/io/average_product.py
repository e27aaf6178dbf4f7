"""An average as a file: FITS or ASDF, by its name."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offsky.io.fits import FitsExposure
from offsky.io.fits_average import write_average
from offsky.io.model_product import average_model, save_model
from offsky.io.models import open_model
from offsky.io.names import is_asdf
from offsky.io.output import Part, check_output, writing_told
from offsky.io.parts import left_by_killed_run
from offsky.io.writer import Publication, SavedAverage


class FileAverage:
    """An average that becomes a file.

    Parameters
    ----------
    path : Path
        The file; ``.asdf`` for ASDF, everything else for FITS.
    overwrite : bool
        Whether it may replace one that exists.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        self._overwrite = overwrite

    def check(self, inputs: Sequence[Path]) -> None:
        """Raise OutputError unless the file may be written."""
        if not self._overwrite and left_by_killed_run(self.path):
            self._overwrite = True
        check_output(self.path, inputs=inputs, overwrite=self._overwrite)

    def begin(self, saved: SavedAverage) -> Publication:
        """Fill the file, still under another name."""
        part = Part(self.path, overwrite=self._overwrite)
        try:
            with writing_told(self.path):
                if is_asdf(self.path):
                    _save_asdf(saved, part)
                else:
                    like = saved.like if isinstance(saved.like, FitsExposure) else None
                    write_average(part.file, self.path.name, saved, like=like)
            part.seal()
        except BaseException:
            part.abandon()
            raise
        return part


def _save_asdf(saved: SavedAverage, part: Part) -> None:
    is_path = isinstance(saved.template, str | os.PathLike)
    template: Any = open_model(saved.template) if is_path else saved.template
    try:
        model = average_model(saved, template)
        try:
            save_model(model, part)
        finally:
            model.close()
    finally:
        if is_path:
            template.close()
