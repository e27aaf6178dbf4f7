"""The options that say how products are made of exposures."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from offsky.command.shared import imprint_use


class _Separation(click.ParamType[Any] if TYPE_CHECKING else click.ParamType):  # type: ignore[misc]
    """An angle in arcsec, or as in 1.5fwhm."""

    name = "separation"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return float(value)
        except ValueError:
            # What is no such text is told by the pairing.
            return str(value)


def rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how products are made of exposures."""
    options = [
        click.option(
            "--from",
            "source",
            type=click.Choice(["associations", "dedicated", "nods", "dithers", "table"]),
            default="associations",
            show_default=True,
            help="Products as associations give them; or of exposures: dedicated backgrounds "
            "(BKGDTARG) for all others, or for each the other nods of its pattern, or all others "
            "of its dither pattern; or as a table says.",
        ),
        click.option(
            "--backgrounds",
            multiple=True,
            metavar="WHAT",
            help="These are the backgrounds, whatever their BKGDTARG says: obs:2, target:NAME, a "
            "folder, a file or a pattern of names. Implies --from dedicated.",
        ),
        click.option(
            "--table",
            metavar="FILE.csv",
            help="Table with the columns target and background (and product, mask), a row each. "
            "Implies --from table.",
        ),
        click.option(
            "--any-programme",
            is_flag=True,
            help="Take dedicated backgrounds of other programmes too.",
        ),
        click.option(
            "--add-dedicated",
            is_flag=True,
            help="Add the dedicated backgrounds to those of nods or dithers.",
        ),
        click.option(
            "--max-days",
            type=float,
            metavar="D",
            help="Leave out backgrounds taken more than D days before or after the target.",
        ),
        click.option(
            "--nearest", type=int, metavar="K", help="Use only the K backgrounds nearest in time."
        ),
        click.option(
            "--min-backgrounds",
            type=int,
            metavar="K",
            help="Skip products with fewer. [default: 1; 0 in associations]",
        ),
        click.option(
            "--min-separation",
            type=_Separation(),
            metavar="ARCSEC|Xfwhm",
            help="Leave out backgrounds pointed closer to the target than this: arcsec, or as in "
            "1.5fwhm widths of a point source in its filter.",
        ),
        click.option(
            "--group-by",
            metavar="[+]KEY,...",
            help="Keywords that the exposures of a nod or dither pattern have in common, in place "
            "of programme, observation and visit group; beside them with a plus sign.",
        ),
        click.option(
            "--pair",
            is_flag=True,
            help="One background for each target: the k-th in time at one of two positions with "
            "the k-th at the other, or the k-th target with the k-th dedicated background.",
        ),
        click.option(
            "--match-readout",
            is_flag=True,
            help="Leave out backgrounds of another READPATT, NGROUPS or EFFINTTM.",
        ),
        click.option(
            "--suffix",
            metavar="SUFFIX",
            help="Of folders take only exposures whose names end so, such as rate.",
        ),
        click.option(
            "--allow-outside",
            is_flag=True,
            help="Let members of associations lie outside their folder.",
        ),
        imprint_use,
    ]
    for option in reversed(options):
        command = option(command)
    return command
