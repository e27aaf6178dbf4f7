"""The commands for whole programmes: ``offsky plan`` and ``offsky run``."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offsky.command.options import take_options
from offsky.command.pairing import rule_options
from offsky.command.shared import (
    NEW_FILE,
    NEW_FOLDER,
    PATH,
    averaging_options,
    by_name_only,
    one_line_errors,
    report_option,
    report_place,
)
from offsky.command.streams import Printer, complain
from offsky.errors import one_line

if TYPE_CHECKING:
    from offsky.product_outcome import ProductOutcome
    from offsky.programme.plan import Plan
    from offsky.programme.run import Executor


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say who does the work."""
    options = [
        click.option(
            "--workers",
            type=int,
            metavar="N",
            help="Work on N groups at a time, in processes of their own.",
        ),
        click.option(
            "--dask",
            metavar="ADDRESS",
            help="Send the groups to the workers of a running Dask cluster.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("inputs", type=PATH, nargs=-1)
@click.option("-o", "--output", type=NEW_FILE, help="Write the plan to this file (JSON).")
@click.option(
    "--details",
    is_flag=True,
    help="Name the backgrounds of each product, with date, separation and why one was dropped; "
    "with --json as one JSON object.",
)
@click.option(
    "--write-associations",
    "associations",
    type=NEW_FOLDER,
    metavar="DIR",
    help="Write a level-2 association for each product, for the JWST pipeline.",
)
@rule_options
@worker_options
@averaging_options
def plan(
    inputs: tuple[Path, ...],
    output: Path | None,
    details: bool,
    associations: Path | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Plan the products of INPUTS: associations, folders, exposures, or a plan.

    Says what will be made of what, what is left out and why, and what it will take.
    Nothing but headers is read.

    \b
    Examples:
      offsky plan jw01_*_image2_asn.json -o plan.json
      offsky plan exposures/ --from dedicated --max-days 2 -o plan.json
      offsky plan exposures/ --from nods --min-separation 0.3 --details
      offsky plan exposures/ --backgrounds obs:2 --write-associations asn/
    """
    from offsky.io.output import atomic_output, check_output
    from offsky.programme.plan_json import render_plan

    with one_line_errors():
        if output is not None:
            check_output(output, inputs=inputs, overwrite=how["overwrite"])
        made = _plan_of(inputs, how)
        text = render_plan(made, _version())
        if output is not None:
            with atomic_output(output, overwrite=how["overwrite"]) as file:
                file.write_text(text, encoding="utf-8")
        if associations is not None:
            from offsky.programme.associations import write_associations

            write_associations(made, associations, _version(), overwrite=how["overwrite"])
        say = Printer()
        fits: bool | None = bool(made.groups)
        if as_json and details:
            from offsky.programme.details import as_dict

            say(json.dumps(as_dict(made), allow_nan=False))
        elif as_json:
            say(text, nl=False)
        else:
            with _executor(how) as executor:
                from offsky.command.tables import print_plan

                fits = say.run(lambda: print_plan(made, executor, _memory(how), details=details))
    say.end(int(fits is False))


@click.command()
@click.argument("inputs", type=PATH, nargs=-1, metavar="PLAN.json|INPUTS...")
@click.option(
    "-o",
    "--output",
    type=NEW_FOLDER,
    default=Path(),
    help="Folder for the products. [default: .]",
)
@click.option(
    "--checksum",
    is_flag=True,
    help="Tell by content, not by size and time, whether inputs have changed.",
)
@click.option(
    "--save-combined",
    is_flag=True,
    help="Also write the average of each product, as <root>_combinedbackground.fits.",
)
@report_option
@rule_options
@worker_options
@averaging_options
def run(
    inputs: tuple[Path, ...],
    output: Path,
    checksum: bool,
    save_combined: bool,
    report: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Make all products of a plan, or of what could be planned.

    Each average that products share is made once, each file of a nod or dither
    pattern read once. Run it again after a stop: only what is missing, or whose
    inputs have changed, is made.

    \b
    Examples:
      offsky run plan.json -o products/
      offsky run exposures/ --from dithers -o products/ --workers 8
      offsky run plan.json -o products/ --dask tcp://10.0.0.1:8786
    """
    from offsky.outcome import FAILED
    from offsky.programme.run import run_programme, stopped_with

    with one_line_errors():
        made = _plan_of(inputs, how)
        summary = None
        try:
            with _executor(how) as executor, _bar(len(made.products)) as tell:
                summary = run_programme(
                    made,
                    output,
                    executor=executor,
                    memory_bytes=_memory(how),
                    overwrite=how["overwrite"],
                    checksum=checksum,
                    save_combined=save_combined,
                    report=_report_folder(report, output),
                    on_outcome=tell,
                )
            say = Printer()
            if as_json:
                say(json.dumps(summary.as_dict(), allow_nan=False))
            else:
                from offsky.command.tables import print_summary

                say.run(lambda: print_summary(summary, output))
                if report is not None:
                    say(f"report: {(_report_folder(report, output) or output) / 'index.html'}")
        except KeyboardInterrupt as stop:
            if summary is None:
                raise
            # All of it is made: "nothing was left behind" would not be true.
            raise stopped_with(summary, stop) from None
    say.end(int(summary.count(FAILED) > 0))


def _report_folder(report: str | None, output: Path) -> Path | None:
    """Return the folder of the pages; None for no pages."""
    place = report_place(report)
    if place is False:
        return None
    folder = output if place is True else Path(place)
    if folder.suffix.lower() in (".html", ".htm"):
        raise click.UsageError(f"{folder}: one page cannot show several products; name a folder")
    return folder


def _version() -> str:
    from importlib.metadata import version

    return version("offsky")


def _plan_of(inputs: Sequence[Path], how: dict[str, Any]) -> "Plan":
    """Return the plan that was given, or one made of the inputs."""
    from offsky.programme.planning import make_plan, read_plan
    from offsky.selection.pairing import Pairing

    given = [plan for path in inputs if (plan := read_plan(path)) is not None]
    if given:
        if len(inputs) > 1:
            raise click.UsageError("a plan stands alone; give one plan, or inputs to plan")
        _refuse_planning_options(how)
        return given[0]
    if not inputs and how["table"] is None:
        raise click.UsageError("name the inputs: associations, folders or exposures")
    _refuse_other_source(how)
    pairing = Pairing(**{each.name: how[each.name] for each in fields(Pairing)})
    return make_plan(
        inputs,
        pairing=pairing,
        options=take_options(how),
        force=how["force"],
        suffix=how["suffix"],
        allow_outside=how["allow_outside"],
        masks=by_name_only(how["masks"]),
        mask_dir=how["mask_dir"],
        imprints=how["imprint_use"],
    )


def _refuse_other_source(how: dict[str, Any]) -> None:
    """Raise where --from says otherwise than an option that implies it."""
    ctx = click.get_current_context()
    said = ctx.get_parameter_source("source") == click.core.ParameterSource.COMMANDLINE
    for name, source in (("backgrounds", "dedicated"), ("table", "table")):
        if how[name] and said and how["source"] != source:
            raise click.UsageError(f"--{name} is for --from {source}, not {how['source']}")


def _refuse_planning_options(how: dict[str, Any]) -> None:
    """Raise where an option was given that the plan has settled already."""
    at_run = {"overwrite", "threads", "workers", "dask", "memory", "checksum", "output"}
    at_run |= {"as_json", "save_combined", "report"}
    ctx = click.get_current_context()
    source = click.core.ParameterSource.COMMANDLINE
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name in how and name not in at_run and ctx.get_parameter_source(name) == source:
            raise click.UsageError(
                f"{parameter.opts[-1]} is settled in the plan; give it to 'offsky plan'"
            )


def _memory(how: dict[str, Any]) -> int | None:
    """Return the limit: what was asked for, or half of what is free here."""
    if how["memory"] is not None or how["dask"] is not None:
        return how["memory"]  # type: ignore[no-any-return]
    from offsky.programme.system import available_bytes

    available = available_bytes()
    return None if available is None else available // 2


@contextmanager
def _executor(how: dict[str, Any]) -> "Iterator[Executor]":
    if how["dask"] is not None and how["workers"] is not None:
        raise click.UsageError("either --workers of this machine, or --dask")
    from offsky.programme.executors import DaskExecutor, ProcessExecutor, SerialExecutor

    if how["dask"] is not None:
        executor = DaskExecutor(how["dask"], how["threads"])
        try:
            yield executor
        finally:
            executor.close()
    elif how["workers"] is not None and how["workers"] != 1:
        yield ProcessExecutor(how["workers"], how["threads"])
    else:
        yield SerialExecutor(how["threads"])


@contextmanager
def _bar(n_products: int) -> "Iterator[Callable[[ProductOutcome], None]]":
    """Show a bar over all products on a terminal; elsewhere name failures only."""
    from offsky.outcome import FAILED
    from offsky.programme.job import NO_ROOM

    n_without_room = 0

    def failure(outcome: "ProductOutcome") -> str | None:
        """Return what is to be told of a product; of many that were not tried nothing yet."""
        nonlocal n_without_room
        if outcome.status != FAILED:
            return None
        if NO_ROOM in (outcome.reason or ""):
            n_without_room += 1
            return None
        return outcome.reason

    def tell(outcome: "ProductOutcome") -> None:
        reason = failure(outcome)
        if reason is not None:
            complain(reason)

    try:
        if not sys.stderr.isatty():
            yield tell
            return
        from tqdm import tqdm

        with tqdm(total=n_products, unit="product", delay=1.0, leave=False) as bar:

            def tell_above(outcome: "ProductOutcome") -> None:
                reason = failure(outcome)
                if reason is not None:
                    bar.write(f"offsky: {one_line(reason)}", file=sys.stderr)
                bar.update()

            yield tell_above
    finally:
        if n_without_room:
            from offsky.outcome import counted

            complain(f"{counted(n_without_room, 'product was', 'products were')} {NO_ROOM}")
