"""Where pages go, and which files they may replace."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from offsky.errors import OutputError, OutputExistsError, ParameterError, reason_of
from offsky.io.names import as_file, as_path
from offsky.io.output import check_output
from offsky.io.regular import open_regular


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the page of a product goes.

    Attributes
    ----------
    path : Path or None
        The page; None for the product's name with another ending.
    folder : Path or None
        Where it goes then; None for the product's own folder.
    overwrite : bool
        Whether it may replace a file that is no report.
    thumbnails : bool
        Whether small pictures for an index go beside it.
    """

    path: Path | None = None
    folder: Path | None = None
    overwrite: bool = False
    thumbnails: bool = False

    def of(self, product: Path) -> Path:
        """Return the page of a product."""
        if self.path is not None:
            return self.path
        return (self.folder or product.parent) / page_name(product)

    def check(self, product: Path | None) -> None:
        """Raise OutputError unless the page may be written.

        Parameters
        ----------
        product : Path or None
            The product; None where its name is not known yet.
        """
        if product is None and self.path is None:
            folder = self.folder or Path()
            if self.folder is not None and not folder.is_dir():
                raise OutputError(f"{folder}: there is no such directory; make it first")
            return
        path = self.of(product or Path())
        for each in (path, path.with_suffix(".json")):
            check_output(each, inputs=(), overwrite=True)
            if each.exists() and not self.overwrite and not is_report(each):
                raise OutputExistsError(
                    f"{each}: exists already and is no report; choose another name or allow it "
                    "with overwrite (--overwrite)"
                )


def place_of(
    given: str | os.PathLike[str] | None, *, overwrite: bool = False, thumbnails: bool = False
) -> Place:
    """Return where a report goes.

    Parameters
    ----------
    given : path-like or None
        A page (``.html``), a folder, or None for beside the product.
    overwrite, thumbnails : bool
        As of `Place`.

    Raises
    ------
    ParameterError
        For a name that is neither.
    OutputError
        For a page's name with a slash behind it, or a folder that cannot be made.
    """
    if given is None:
        return Place(overwrite=overwrite, thumbnails=thumbnails)
    path = as_path(given, "report")
    if path.suffix.lower() in (".html", ".htm"):
        page = as_file(given, "report")
        return Place(path=page, overwrite=overwrite, thumbnails=thumbnails)
    if path.is_dir() or not path.suffix:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path}: cannot be made ({reason_of(error)})") from error
        return Place(folder=path, overwrite=overwrite, thumbnails=thumbnails)
    raise ParameterError(
        f"{given}: a report is a page (.html) or goes into a folder; put --report last, or write "
        "--report=PAGE.html"
    )


def page_name(product: Path) -> str:
    """Return the name of the page of a product.

    Examples
    --------
    >>> page_name(Path("jw01_bsub.fits.gz"))
    'jw01_bsub.html'
    """
    name = product.name
    for ending in (".gz", ".fits", ".fit", ".asdf"):
        name = name.removesuffix(ending)
    return f"{name}.html"


def is_report(path: Path) -> bool:
    """Tell whether a file is a page or JSON of an earlier report, which may be replaced."""
    try:
        with open_regular(path) as file:
            begin = file.read(4096)
    except OSError:
        return False
    return b'content="default-src &#x27;none&#x27;; script-src' in begin or (
        b'"format": "offsky-' in begin[:200]
    )


def written_at() -> str:
    """Return the time, or that of SOURCE_DATE_EPOCH where it is set (UTC)."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdecimal() else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
