"""Pages of products that exist."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offsky.errors import ExposureError
from offsky.report.summary import Summary
from offsky.reporting.found import read_product
from offsky.reporting.pages import write_report
from offsky.reporting.place import Place
from offsky.reporting.summarize import describe, parameters_of, summarize

# Keywords of a product that a page tells, and their words.
_COUNTS = (
    ("OFFNREJ", "samples rejected"),
    ("OFFNUNCV", "pixels without background"),
    ("OFFLEVEL", "median of the average"),
)


def summary_of(product: Path, folders: Sequence[Path] = ()) -> Summary:
    """Return the summary of a product that exists.

    Parameters
    ----------
    product : Path
        The file.
    folders : sequence of Path
        Where its target, average and backgrounds may be, beside its own folder.

    Raises
    ------
    ExposureError
        If it cannot be read.
    """
    known = read_product(product, folders=folders)
    own = {key: value for key, value, _ in known.told.keywords}
    return summarize(
        known.gathered,
        known.facts,
        name=product.name,
        description=describe(known.told),
        parameters=() if known.options is None else parameters_of(known.options, None),
        counts=tuple((word, str(own[key])) for key, word in _COUNTS if key in own),
        left_out=known.missing,
    )


def report_products(
    products: Sequence[Path], place: Place, folders: Sequence[Path] = ()
) -> list[dict[str, Any]]:
    """Write the pages of products that exist; return their entries for an index."""
    entries = []
    for product in products:
        place.check(product)
        page = place.of(product)
        if page.resolve() == product.resolve():
            raise ExposureError(f"{product}: is a page itself; name the product")
        summary = summary_of(product, folders)
        entries.append(write_report(summary, page, product, thumbnails=place.thumbnails))
    return entries
