"""The commands for single targets and averages: ``offsky subtract`` and ``offsky average``."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offsky.command.options import take_options
from offsky.command.shared import (
    NEW_FILE,
    NEW_PATH,
    PATH,
    averaging_options,
    by_name_only,
    imprint_files,
    imprint_use,
    one_line_errors,
    progress_bar,
    report_option,
    report_place,
)
from offsky.command.streams import Printer, complain

if TYPE_CHECKING:
    from offsky.engine.order import Progress
    from offsky.outcome import Outcome


@click.command()
@click.argument("target", type=PATH, metavar="TARGET|ASN.json")
@click.argument("backgrounds", type=PATH, nargs=-1)
@click.option(
    "-o",
    "--output",
    type=NEW_PATH,
    help="File to write (for an association: folder). [default: here, the target's name "
    "with _bsub or _bsubints]",
)
@click.option(
    "--save-combined",
    is_flag=True,
    help="Also write the average, as <root>_combinedbackground.fits beside the output.",
)
@click.option(
    "--allow-outside",
    is_flag=True,
    help="Let members of the association lie outside its folder.",
)
@report_option
@imprint_files
@imprint_use
@averaging_options
def subtract(
    target: Path,
    backgrounds: tuple[Path, ...],
    output: str | None,
    save_combined: bool,
    allow_outside: bool,
    report: str | None,
    imprints: tuple[Path, ...],
    imprint_use: str,
    as_json: bool,
    **how: Any,
) -> None:
    """Subtract the average of BACKGROUNDS from TARGET.

    Images and cubes (integrations) go together in any mixture. Inputs are never
    changed. Without backgrounds the output is a copy, marked SKIPPED.

    Given a level-2 association, make all its products.

    \b
    Examples:
      offsky subtract jw01_00001_rate.fits off1_rate.fits off2_rate.fits off3_rate.fits
      offsky subtract jw01_image2_asn.json
    """
    if target.suffix.lower() == ".json":
        if backgrounds:
            raise click.UsageError("an association names its backgrounds itself")
        if imprints:
            raise click.UsageError("an association names its imprints itself")
        how["masks"] = by_name_only(how["masks"])
        how |= {"report": report_place(report), "save_combined": save_combined}
        how["imprints"] = imprint_use
        _subtract_association(target, Path(output or "."), as_json, allow_outside, how)
        return
    if allow_outside:
        raise click.UsageError("--allow-outside is for associations")
    if imprint_use != "use":
        raise click.UsageError("--imprints is for associations; without --imprint none is used")

    def work(progress: "Progress") -> "Outcome":
        from offsky.files import subtract_file
        from offsky.io.names import combined_name, is_asdf, product_root

        folder = Path(output or ".").parent
        combined = folder / combined_name(product_root(target), asdf=is_asdf(target))
        return subtract_file(
            target,
            backgrounds,
            output,
            combined_path=combined if save_combined else None,
            report=report_place(report),
            imprints=imprints,
            progress=progress,
            options=take_options(how),
            **how,
        )

    _run(work, as_json)


def _subtract_association(
    association: Path,
    folder: Path,
    as_json: bool,
    allow_outside: bool,
    how: dict[str, Any],
) -> None:
    """Make all products, say what came of each, fail at the end if one did."""
    from offsky.command.summary import render_json_list
    from offsky.errors import OffskyError
    from offsky.files import subtract_association

    outcomes = []
    say = Printer()
    with one_line_errors(), progress_bar() as progress:
        for outcome in subtract_association(
            association,
            folder,
            allow_outside=allow_outside,
            progress=progress,
            options=take_options(how),
            **how,
        ):
            outcomes.append(outcome)
            if isinstance(outcome, OffskyError):
                complain(str(outcome))
            elif not as_json:
                say(f"{outcome}\n")
    if as_json:
        say(render_json_list(outcomes))
    say.end(int(any(isinstance(outcome, OffskyError) for outcome in outcomes)))


@click.command()
@click.argument("backgrounds", type=PATH, nargs=-1, required=True)
@click.option("-o", "--output", type=NEW_FILE, required=True, help="File to write.")
@imprint_files
@partial(averaging_options, subtracts=False)
def average(backgrounds: tuple[Path, ...], output: Path, as_json: bool, **how: Any) -> None:
    """Average BACKGROUNDS into one file, to look at or to use as a background.

    \b
    Example:
      offsky average off1_rate.fits off2_rate.fits off3_rate.fits -o off_average.fits
    """
    from offsky.files import average_file

    def work(progress: "Progress") -> "Outcome":
        options = take_options(how, subtracts=False)
        return average_file(backgrounds, output, progress=progress, options=options, **how)

    _run(work, as_json)


def _run(work: "Callable[[Progress], Outcome]", as_json: bool) -> None:
    """Do the work with a progress bar, print its summary."""
    from offsky.command.summary import render_json

    with one_line_errors(), progress_bar() as progress:
        outcome = work(progress)
    say = Printer()
    say(render_json(outcome) if as_json else str(outcome))
    say.end()
