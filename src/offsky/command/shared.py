"""What several commands share: options, one line for an error, a progress bar."""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offsky.command.options import pixel_options
from offsky.command.streams import complain
from offsky.errors import one_line
from offsky.stopping import Stopped, repeat_lost_stops, status_of, stop_by_signals

if TYPE_CHECKING:
    from offsky.engine.order import Progress

PATH = click.Path(path_type=Path)


class _Output(click.Path):
    """A place to write to, that is named: not nothing, and not standard output."""

    def __init__(self, kind: str, path_type: type = Path) -> None:
        super().__init__(path_type=path_type)
        self._kind = kind

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the path; fail where its text names none."""
        text = os.fsdecode(value)
        if not text:
            self.fail(f"the name is empty; name a {self._kind}", param, ctx)
        if text == "-":
            self.fail(f"standard output is no place for it; name a {self._kind}", param, ctx)
        if text.endswith("/") and self._kind == "file":
            self.fail(f"{one_line(text)} is a folder; name a file in it", param, ctx)
        return super().convert(value, param, ctx)


NEW_FILE, NEW_FOLDER = _Output("file"), _Output("folder")
# A text: a path would forget the slash that tells a folder from a file.
NEW_PATH = _Output("file or a folder", str)

# Where `--report` has no path.
_BESIDE = ""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


imprint_files = click.option(
    "--imprint",
    "imprints",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="NIRSpec imprint (leakcal) to subtract from the exposures first: a single one from all; "
    "of several the one that fits an exposure by BKGDTARG, OBSERVTN and PATT_NUM.",
)

imprint_use = click.option(
    "--imprints",
    "imprint_use",
    type=click.Choice(["use", "ignore"]),
    default="use",
    show_default=True,
    help="Subtract the imprints that associations name, or that lie among the exposures of a "
    "programme; or ignore them.",
)


class _Bytes(click.ParamType[int] if TYPE_CHECKING else click.ParamType):  # type: ignore[misc]
    """A number of bytes such as 4G."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        from offsky.errors import ParameterError
        from offsky.sizes import as_bytes

        try:
            return as_bytes(value)
        except ParameterError:
            self.fail(f"{value!r} is no number of bytes, such as 512M or 4G", param, ctx)
            raise


def averaging_options(
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
            "--mask",
            "masks",
            multiple=True,
            metavar="FILE|BACKGROUND=FILE",
            callback=_masks,
            help="FITS image that is not zero where samples of a background are left out: once "
            "for each background in their order, none for no mask; or by the background's name.",
        ),
        click.option(
            "--mask-dir",
            type=PATH,
            metavar="DIR",
            help="Take <root>_mask.fits of this folder as the mask of <root>_rate.fits.",
        ),
        click.option(
            "--memory",
            type=_Bytes(),
            metavar="SIZE",
            help="Most memory to take, such as 4G. [default: no limit; for plan and run half of "
            "what is free, with --dask none]",
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


def report_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--report [PATH]``."""
    return click.option(
        "--report",
        is_flag=False,
        flag_value=_BESIDE,
        metavar="[PATH]",
        callback=_report,
        help="Also write a page that shows the product and tells what is doubtful: PATH.html, a "
        "folder, or beside the product.",
    )(command)


def _report(ctx: Any, param: Any, given: str | None) -> str | None:
    """Refuse a path that is an exposure: it was meant for an argument."""
    if given is not None and given.lower().endswith((".fits", ".fits.gz", ".asdf", ".json")):
        raise click.BadParameter(
            f"{given!r} is no page and no folder; put --report last, or write --report=PAGE.html",
            ctx,
            param,
        )
    return given


def report_place(given: str | None) -> str | bool:
    """Return where a report goes; True for beside the product, False for nowhere."""
    if given is None:
        return False
    return True if given == _BESIDE else given


def _masks(ctx: Any, param: Any, given: Sequence[str]) -> list[Path | None] | dict[str, Path]:
    """Return masks as a list, or by the names of their backgrounds."""
    by_name = {}
    in_turn: list[Path | None] = []
    for text in given:
        name, sign, file = text.partition("=")
        if sign and name and not Path(text).exists():
            if name in by_name:
                raise click.BadParameter(f"{name} is given twice", ctx, param)
            by_name[name] = Path(file)
        else:
            in_turn.append(None if text == "none" else Path(text))
    if by_name and in_turn:
        raise click.BadParameter(
            "masks by position and masks by name do not mix; give all of them one way", ctx, param
        )
    return by_name or in_turn


def by_name_only(masks: Sequence[Any] | Mapping[str, Path]) -> Mapping[str, Path]:
    """Return masks by name; refuse a list, where there is no one list of backgrounds."""
    if isinstance(masks, Mapping):
        return masks
    if masks:
        raise click.UsageError(
            "masks by position are for backgrounds named on the command line; give "
            "--mask BACKGROUND=FILE"
        )
    return {}


class _SaidOnce(logging.Filter):
    """Lets the same words pass once in a command: many products have the same to say."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record says something new."""
        message = record.getMessage()
        is_new = message not in self._said
        self._said.add(message)
        return is_new


class _OneLineHandler(logging.StreamHandler[Any]):
    """Writes a record as one line that a terminal does not obey."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows as it is."""
        first, line_break, trace = super().format(record).partition("\nTraceback")
        return f"{record.levelname}: {one_line(first)}{line_break}{trace}"


class one_line_errors(AbstractContextManager[None]):
    """Turn what went wrong into one line on standard error and exit status 1.

    A warning is shown once, however many products have it.
    """

    def __init__(self) -> None:
        self._filters: list[tuple[logging.Handler, logging.Filter]] = []
        self._restore: Callable[[], None] = lambda: None

    def __enter__(self) -> None:
        logging.basicConfig(format="%(message)s", handlers=[_OneLineHandler(sys.stderr)])
        # Each handler has a filter of its own, or the first would silence the others.
        self._filters = [(handler, _SaidOnce()) for handler in logging.getLogger().handlers]
        for handler, once in self._filters:
            handler.addFilter(once)
        # A job that a batch system ends, or whose terminal closes, tidies up as after Ctrl-C.
        stop_by_signals()
        self._restore = repeat_lost_stops()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from offsky.errors import OffskyError

        self._restore()
        for handler, once in self._filters:
            handler.removeFilter(once)
        if isinstance(error, OffskyError):
            complain(str(error))
            sys.exit(1)
        if isinstance(error, KeyboardInterrupt):
            complain(str(error) or str(Stopped()))
            sys.exit(status_of(error))
        if isinstance(error, MemoryError):
            complain("out of memory; nothing was left behind")
            sys.exit(1)


class progress_bar(AbstractContextManager["Progress"]):
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
