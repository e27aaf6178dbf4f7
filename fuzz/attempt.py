"""One case is tried: offsky is called, and what came of it is judged."""

import io
import json
import logging
import re
import shutil
import warnings
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import offsky
from fuzz import calls, documents, judge
from fuzz.case import Case

COMPLETE, REFUSED, SKIPPED, UNREAD = "complete", "refused", "skipped", "unread"
PRODUCT = "p.fits"


# What a damaged document may call them.
_PRODUCT = re.compile(
    rf"(?s)(?:{calls.PRODUCTS}/)?(?:\.offsky/)?[^/]+(?:\.fits|\.asdf|\.gz)(?:\.json)?"
    rf"|{calls.PRODUCTS}/\.offsky/.*\.json"
)


@dataclass(frozen=True)
class Verdict:
    """What came of a case.

    Attributes
    ----------
    status : str
        "complete": a product, found right; "unread": one whose inputs astropy cannot read;
        "skipped": a copy of the target; "refused".
    failure : str or None
        What is wrong; None if nothing is.
    """

    status: str
    failure: str | None = None


class _Wrong(Exception):
    """offsky did what it may never do."""


def attempt(case: Case, folder: Path) -> Verdict:
    """Try a case in an empty folder, which is empty again afterwards."""
    case.write(folder)
    try:
        with warnings.catch_warnings(), _Unexpected() as unexpected:
            warnings.simplefilter("ignore")
            status = _DOORS[case.door](case, folder)
            if unexpected.said:
                raise _Wrong(unexpected.said[0])
        _check_folder(case, folder, made=status != REFUSED)
    except _Wrong as wrong:
        return Verdict("failed", str(wrong))
    except Exception as error:
        return Verdict("failed", f"the judge stumbled: {_described(error)}")
    finally:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return Verdict(status)


class _Unexpected(logging.Handler):
    """Collects errors of other kinds that offsky logs with their traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.name.startswith("offsky"):
            self.said.append(f"foreign exception: {record.getMessage()}")

    def __enter__(self) -> "_Unexpected":
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger().removeHandler(self)


def _call(function: Callable[[], Any]) -> Any:
    """Call offsky; return what it returns, or its error."""
    try:
        return function()
    except offsky.OffskyError as error:
        _check_line(str(error))
        return error
    except Exception as error:
        raise _Wrong(f"foreign exception: {_described(error)}") from error


def _described(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" ({trace.tb_frame.f_code.co_qualname}, {trace.tb_lineno})"
    return f"{type(error).__name__}: {error}"[:300] + where


def _check_line(text: str) -> None:
    # A name may hold anything; what a terminal makes of it is the command's business.
    if not text or "\n" in text.replace(documents.TWO_LINES, ""):
        raise _Wrong(f"a message that is not one line: {text!r}")
    if len(text) > 20_000:
        raise _Wrong(f"a message of {len(text)} characters: {text[:200]!r}")


def _check_folder(case: Case, folder: Path, *, made: bool) -> None:
    """Raise where an input has changed, or something is left over."""
    there = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    outputs = calls.outputs(case)
    for name, content in case.files.items():
        if name in outputs:
            continue
        if name not in there or there[name].read_bytes() != content:
            raise _Wrong(f"the input {name} has changed")
    more = {name for name in there if name not in case.files and name not in outputs}
    if case.door == "call" and made:
        more = {name for name in more if name.startswith(".")}  # the name was an odd value
    if case.call.get("any_output"):
        more = {name for name in more if _PRODUCT.fullmatch(name) is None}
    if more:
        raise _Wrong(f"left over: {', '.join(sorted(more))}")
    if not made and PRODUCT in there:
        raise _Wrong("a product of a run that was refused")


def _file(case: Case, folder: Path) -> str:
    call, product = case.call, folder / PRODUCT
    combined = call.get("combined")
    outcome = _call(
        lambda: offsky.subtract_file(
            folder / call["target"],
            [folder / name for name in call["backgrounds"]],
            product,
            combined_path=None if combined is None else folder / combined,
            masks=[folder / call["mask"]] if "mask" in call else [],
            threads=1,
            **call["options"],
        )
    )
    return _judged(case, folder, outcome)


def _judged(case: Case, folder: Path, outcome: Any) -> str:
    if isinstance(outcome, offsky.OffskyError):
        return REFUSED
    product = Path(outcome.output)
    if not product.exists():
        raise _Wrong(f"status {outcome.status}, and no product")
    if outcome.status == "SKIPPED":
        return SKIPPED
    # By their names: where an exposure stood in the call is known by them.
    used = [Path(name).name for name in outcome.backgrounds]
    mask = folder / case.call["mask"] if "mask" in case.call else None
    if mask is not None and used[:1] != case.call["backgrounds"][:1]:
        mask = None
    backgrounds = [folder / name for name in used]
    try:
        wrong = judge.wrong_product(
            product, folder / Path(outcome.target).name, backgrounds, mask,
            errors_change=bool(case.call.get("options")),
        )  # fmt: skip
        if wrong is None and outcome.combined is not None:
            target = folder / Path(outcome.target).name
            wrong = judge.wrong_average(Path(outcome.combined), backgrounds, mask, target)
    except judge.UnreadError:
        return UNREAD
    if wrong is not None:
        raise _Wrong(f"wrong product: {wrong}")
    return COMPLETE


def _average(case: Case, folder: Path) -> str:
    backgrounds = [folder / name for name in case.call["backgrounds"]]
    mask = folder / case.call["mask"] if "mask" in case.call else None
    outcome = _call(
        lambda: offsky.average_file(
            backgrounds, folder / PRODUCT, masks=[] if mask is None else [mask], threads=1
        )
    )
    if isinstance(outcome, offsky.OffskyError):
        return REFUSED
    used = [folder / Path(name).name for name in outcome.backgrounds]
    try:
        wrong = judge.wrong_average(
            folder / PRODUCT, used, mask if used[:1] == backgrounds[:1] else None
        )
    except judge.UnreadError:
        return UNREAD
    if wrong is not None:
        raise _Wrong(f"wrong average: {wrong}")
    return COMPLETE


def _association(case: Case, folder: Path) -> str:
    made = _call(
        lambda: list(
            offsky.subtract_association(
                folder / calls.DOCUMENT, folder, threads=1, **case.call["options"]
            )
        )
    )
    if isinstance(made, offsky.OffskyError):
        return REFUSED
    for each in made:
        if isinstance(each, offsky.OffskyError):
            _check_line(str(each))
    return _first(_judged(case, folder, each) for each in made)


def _first(statuses: Any) -> str:
    """Return a status that stands for all: the best of them."""
    found = set(statuses)
    return next((each for each in (COMPLETE, UNREAD, SKIPPED) if each in found), REFUSED)


def _programme(case: Case, folder: Path) -> str:
    """Run a programme by its command, in this process."""
    from offsky.command.main import cli

    document = case.call.get("document", calls.DOCUMENT)
    arguments = ["run", folder / document, "-o", folder / calls.PRODUCTS, "--json"]
    arguments += ["--threads", 1, *calls.as_arguments(case.call["options"])]
    printed, said = io.StringIO(), io.StringIO()

    def run() -> int:
        with redirect_stdout(printed), redirect_stderr(said):
            try:
                cli.main([str(each) for each in arguments], prog_name="offsky")
            except SystemExit as end:
                return int(end.code or 0)
        return 0

    status = _call(run)
    if "Traceback" in said.getvalue() or "Error: '" in said.getvalue():
        raise _Wrong(f"foreign exception: {said.getvalue()[-300:]}")
    if not printed.getvalue().strip():
        if status == 0 or not said.getvalue().strip():
            raise _Wrong(f"exit status {status}, and nothing said")
        return REFUSED
    products = json.loads(printed.getvalue())["products"]
    if (status == 0) != all(each["status"] != "FAILED" for each in products):
        raise _Wrong(f"exit status {status} does not tell the products'")
    return _first([_told(case, folder, each) for each in products])


def _told(case: Case, folder: Path, product: dict[str, Any]) -> str:
    """Judge a product of a programme by what the summary tells."""
    if product["status"] == "FAILED":
        _check_line(product["reason"])
        return REFUSED
    path = folder / calls.PRODUCTS / product["output"]
    if product["status"] != "COMPLETE":
        return SKIPPED
    if not path.exists():
        raise _Wrong(f"status {product['status']}, and no product")
    try:
        used = [folder / Path(name).name for name in product["details"]["backgrounds"]]
        wrong = judge.wrong_product(
            path, folder / Path(product["target"]).name, used, None,
            errors_change=bool(case.call.get("options")),
        )  # fmt: skip
    except judge.UnreadError:
        return UNREAD
    if wrong is not None:
        raise _Wrong(f"wrong product: {wrong}")
    return COMPLETE


def _options(case: Case, folder: Path) -> str:
    """Call a public function with odd values."""
    with chdir(folder):
        made = _call(lambda: calls.call(case.call, folder))
    return REFUSED if isinstance(made, offsky.OffskyError) else SKIPPED


_DOORS: dict[str, Callable[[Case, Path], str]] = {
    "file": _file,
    "average": _average,
    "association": _association,
    "programme": _programme,
    "call": _options,
}
