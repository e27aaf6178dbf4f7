"""The command ``offsky``: arguments in, exit status out.

Nothing heavy is imported before a command needs it: ``offsky --help`` is to start as
fast as Python allows.
"""

import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offsky.command.options import pixel_options, take_options
from offsky.command.programmes import add_commands

if TYPE_CHECKING:
    from offsky.combine.blocks import Progress
    from offsky.outcome import Outcome

_PATH = click.Path(path_type=Path)
_WORKERS = {"concurrent.futures.process", "distributed"}


class _Commands(click.Group):
    """Commands in the order of their importance, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="offsky", message="%(prog)s %(version)s")
def cli() -> None:
    """Background subtraction for JWST exposures.

    Average background exposures pixel by pixel, clipping stars and cosmic rays, and
    subtract the average from a target exposure.

    \b
    Try it without any data:
      offsky demo
    """


def _averaging_options(
    command: Callable[..., Any], *, subtracts: bool = True
) -> Callable[..., Any]:
    """Add the options that every averaging command has."""
    options = [
        click.option("--overwrite", is_flag=True, help="Replace output files that exist."),
        click.option(
            "--force",
            is_flag=True,
            help="Only warn of backgrounds of another configuration, given twice, or a target "
            "subtracted before.",
        ),
        click.option(
            "--threads", type=int, default=None, metavar="N", help="[default: one a core]"
        ),
        click.option(
            "--json", "as_json", is_flag=True, help="Print the summary as one JSON object."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return pixel_options(command, subtracts=subtracts)


_mask_option = click.option(
    "--mask",
    "masks",
    type=_PATH,
    multiple=True,
    metavar="FILE",
    callback=lambda ctx, param, masks: [None if str(m) == "none" else m for m in masks],
    help="FITS image that is not zero where a background is to be left out. Once for each "
    "background, in their order; none for no mask.",
)


@cli.command()
@click.argument("target", type=_PATH, metavar="TARGET|ASN.json")
@click.argument("backgrounds", type=_PATH, nargs=-1)
@click.option(
    "-o",
    "--output",
    type=_PATH,
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
@_mask_option
@_averaging_options
def subtract(
    target: Path,
    backgrounds: tuple[Path, ...],
    output: Path | None,
    save_combined: bool,
    allow_outside: bool,
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
        if how.pop("masks"):
            raise click.UsageError("--mask is for backgrounds named on the command line")
        _subtract_association(target, output or Path(), as_json, save_combined, allow_outside, how)
        return
    if allow_outside:
        raise click.UsageError("--allow-outside is for associations")

    def work(progress: "Progress") -> "Outcome":
        from offsky.files import subtract_file
        from offsky.io.names import combined_name, output_name, product_root

        written = output if output is not None else output_name(target)
        combined = written.with_name(combined_name(product_root(target)))
        return subtract_file(
            target,
            backgrounds,
            written,
            combined_path=combined if save_combined else None,
            progress=progress,
            options=take_options(how),
            **how,
        )

    _run(work, as_json)


def _subtract_association(
    association: Path,
    folder: Path,
    as_json: bool,
    save_combined: bool,
    allow_outside: bool,
    how: dict[str, Any],
) -> None:
    """Make all products, print a summary of each, and fail at the end if one failed."""
    from offsky.command.summary import render_json_list
    from offsky.errors import OffskyError
    from offsky.files import subtract_association

    outcomes = []
    with _one_line_errors(), _progress_bar() as progress:
        for outcome in subtract_association(
            association,
            folder,
            save_combined=save_combined,
            allow_outside=allow_outside,
            progress=progress,
            options=take_options(how),
            **how,
        ):
            outcomes.append(outcome)
            if isinstance(outcome, OffskyError):
                click.echo(f"offsky: {outcome}", err=True)
            elif not as_json:
                click.echo(f"{outcome}\n")
    if as_json:
        click.echo(render_json_list(outcomes))
    if any(isinstance(outcome, OffskyError) for outcome in outcomes):
        sys.exit(1)


@cli.command()
@click.argument("backgrounds", type=_PATH, nargs=-1, required=True)
@click.option("-o", "--output", type=_PATH, required=True, help="File to write.")
@_mask_option
@partial(_averaging_options, subtracts=False)
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


@cli.command()
@click.argument("directory", type=_PATH, default="offsky-demo")
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier demo.")
def demo(directory: Path, overwrite: bool) -> None:
    """Simulate a few exposures in DIRECTORY and subtract their background.

    \b
    Example:
      offsky demo my-demo
    """
    from offsky.command.demo import run_demo

    with _one_line_errors():
        run_demo(directory, overwrite=overwrite, echo=click.echo)


def _run(work: "Callable[[Progress], Outcome]", as_json: bool) -> None:
    """Do the work with a progress bar, print its summary."""
    from offsky.command.summary import render_json

    with _one_line_errors(), _progress_bar() as progress:
        outcome = work(progress)
    click.echo(render_json(outcome) if as_json else str(outcome))


class _one_line_errors(AbstractContextManager[None]):
    """Turn an error into one line on standard error and exit status 1."""

    def __enter__(self) -> None:
        logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
        # A job that a batch system ends tidies up as after Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from offsky.errors import OffskyError

        if isinstance(error, OffskyError):
            click.echo(f"offsky: {error}", err=True)
            sys.exit(1)
        if isinstance(error, KeyboardInterrupt):
            click.echo("offsky: stopped; nothing was left behind", err=True)
            sys.exit(1)
        if isinstance(error, MemoryError):
            click.echo("offsky: out of memory; nothing was left behind", err=True)
            sys.exit(1)


class _progress_bar(AbstractContextManager["Progress"]):
    """A bar on a terminal for what takes over a second, nothing elsewhere."""

    def __enter__(self) -> "Progress":
        if not sys.stderr.isatty():
            return lambda n_done, n_total: None
        from tqdm import tqdm

        bar = self._bar = tqdm(unit="row", delay=1.0, leave=False)

        def show(n_done: int, n_total: int) -> None:
            bar.total = n_total
            bar.update(n_done)

        return show

    def __exit__(self, *error: object) -> None:
        if hasattr(self, "_bar"):
            self._bar.close()


add_commands(cli, _averaging_options, _one_line_errors)


def main() -> None:
    """Run the command; the exit status is 0 done, 1 failed, 2 wrong usage."""
    # Imports make a hundred thousand objects, none of them garbage: looking for it among
    # them took a tenth of a cold run.
    gc.set_threshold(200_000)
    try:
        cli(prog_name="offsky")
    except SystemExit as end:
        if not _WORKERS.isdisjoint(sys.modules):
            raise  # which end with the interpreter
        # So did taking everything down again, with nothing left to do.
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(end.code if isinstance(end.code, int) else 0)
