"""The command ``offsky report``: pages of products that exist."""

from pathlib import Path

import click

from offsky.command.shared import NEW_PATH, PATH, one_line_errors
from offsky.command.streams import Printer
from offsky.errors import one_line


@click.command()
@click.argument("products", type=PATH, nargs=-1, required=True)
@click.option(
    "--target-dir",
    "target_dirs",
    type=PATH,
    multiple=True,
    metavar="DIR",
    help="Where targets, backgrounds and averages may be, beside the products' folders.",
)
@click.option(
    "-o",
    "--output",
    type=NEW_PATH,
    help="The page (.html), or a folder for the pages. [default: beside each product]",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are no reports.")
def report(
    products: tuple[Path, ...], target_dirs: tuple[Path, ...], output: str | None, overwrite: bool
) -> None:
    """Write a page on each of PRODUCTS: what was subtracted, and what is doubtful.

    Target, average and backgrounds are found by their names; what is not found is left
    out, and the page says so. Of several products there is an index.

    \b
    Examples:
      offsky report target_bsub.fits
      offsky report products/*_bsub.fits --target-dir exposures/ -o pages/
    """
    from offsky.errors import ParameterError
    from offsky.reporting.existing import report_products
    from offsky.reporting.indexing import write_index
    from offsky.reporting.place import place_of

    say = Printer()
    with one_line_errors():
        place = place_of(output, overwrite=overwrite, thumbnails=len(products) > 1)
        if place.path is not None and len(products) > 1:
            raise ParameterError(
                f"{output}: one page cannot show {len(products)} products; name a folder"
            )
        entries = report_products(products, place, target_dirs)
        for entry, product in zip(entries, products, strict=True):
            worst = entry["worst"]
            say(one_line(f"{place.of(product)}: {worst['state']} ({worst['title']})"))
        if len(products) > 1:
            say(one_line(str(write_index(place.folder or products[0].parent, entries))))
    say.end()
