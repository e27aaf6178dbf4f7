"""The command ``offsky inspect``: what files are, and what they have been through."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offsky.command.shared import PATH, one_line_errors
from offsky.command.streams import Printer, complain
from offsky.errors import one_line

if TYPE_CHECKING:
    from offsky.io.inspected import Inspected
    from offsky.values.finding import Finding

# What files of one kind have in common; one that differs from the others is odd.
_COMPARED = (
    ("subtraction", "background subtraction"),
    ("status", "S_BKDSUB"),
    ("imprint", "S_IMPRNT"),
    ("readout", "readout"),
    ("instrument", "instrument"),
    ("detector", "detector"),
    ("filter", "filter"),
    ("grating", "grating"),
    ("unit", "unit"),
    ("shape", "size"),
)


@click.command()
@click.argument("files", type=PATH, nargs=-1, required=True, metavar="FILE|FOLDER...")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, an object for a file.")
@click.option("--no-checks", is_flag=True, help="Read headers only.")
def inspect(files: tuple[Path, ...], as_json: bool, no_checks: bool) -> None:
    """Tell what FILES are and what they have been through, by offsky or by the pipeline.

    Of one file everything; of several files or a folder a table, in which odd ones are marked.

    \b
    Examples:
      offsky inspect target_bsub.fits
      offsky inspect products/
      offsky inspect *_cal.fits --json
    """
    from offsky.errors import MissingFileError
    from offsky.io.inspected import inspect_file

    say = Printer()
    with one_line_errors():
        paths = _paths(files)
        if not paths:
            raise MissingFileError(f"{files[0]}: no exposure in this folder; name files")
        found = [inspect_file(path) for path in paths]
        judged = [
            () if no_checks or each.error or (len(paths) > 1 and not as_json) else _judged(path)
            for path, each in zip(paths, found, strict=True)
        ]
        if as_json:
            say(_as_json(found, judged))
        elif len(found) == 1:
            for line in _told(found[0], judged[0]):
                say(one_line(line))
        else:
            _tabulate(found, say)
    broken = [each.error for each in found if each.error]
    if as_json or len(found) == 1:
        for error in broken:
            complain(error)
    say.end(int(bool(broken)))


def _as_json(found: "Sequence[Inspected]", judged: "Sequence[tuple[Finding, ...]]") -> str:
    odd = dict(_odd(found))
    told = [
        {
            **each.as_dict(),
            "odd": odd.get(i, []),
            "checks": [finding.as_dict() for finding in findings],
        }
        for i, (each, findings) in enumerate(zip(found, judged, strict=True))
    ]
    return json.dumps(told, indent=1, allow_nan=False)


def _paths(files: Sequence[Path]) -> list[Path]:
    """Return files as they are, and the exposures of folders."""
    found: list[Path] = []
    for each in files:
        if each.is_dir():
            names = [p for p in each.iterdir() if p.name.lower().endswith(_ENDINGS)]
            found += sorted(p for p in names if not p.name.startswith("."))
        else:
            found.append(each)
    return found


_ENDINGS = (".fits", ".fits.gz", ".fit", ".asdf")


def _judged(path: Path) -> "tuple[Finding, ...]":
    from offsky.errors import OffskyError
    from offsky.reporting.found import judge_file

    try:
        return judge_file(path)
    except OffskyError as error:
        complain(str(error))
        return ()


def _odd(found: "Sequence[Inspected]") -> list[tuple[int, list[str]]]:
    """Return the places of files that differ from most others of their kind, and how."""
    usable = [i for i, each in enumerate(found) if not each.error]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i in usable:
        groups.setdefault((found[i].kind == "averaged background",), []).append(i)
    reasons: dict[int, list[str]] = {}
    for places in groups.values():
        if len(places) < 3:
            continue
        for name, words in _COMPARED:
            values = Counter(getattr(found[i], name) for i in places)
            usual, n = values.most_common(1)[0]
            if 2 * n <= len(places):
                continue
            for i in places:
                value = getattr(found[i], name)
                if value != usual:
                    text = f"{words} is {_shown(value)} ({n} of {len(places)}: {_shown(usual)})"
                    reasons.setdefault(i, []).append(text)
    for i, each in enumerate(found):
        if each.error:
            reasons[i] = [each.error]
        elif each.times_subtracted > 1:
            reasons.setdefault(i, []).append("a background was subtracted more than once")
    return sorted(reasons.items())


def _shown(value: Any) -> str:
    if value is None:
        return "not there"
    if isinstance(value, tuple):
        return " x ".join(str(n) for n in reversed(value))
    return str(value)


def _tabulate(found: "Sequence[Inspected]", say: Printer) -> None:
    from offsky.command.printing import Table

    odd = dict(_odd(found))
    table = Table(
        "",
        "file",
        "kind",
        "instrument",
        "filter",
        "readout",
        "size",
        "S_BKDSUB",
        "S_IMPRNT",
        "background",
    )
    for i, each in enumerate(found):
        cells = (
            "!" if i in odd else "",
            Path(each.file).name,
            "cannot be read" if each.error else each.kind,
            each.instrument or "",
            "/".join(word for word in (each.filter, each.grating) if word),
            each.readout or "",
            _shown(each.shape) if each.shape else "",
            each.status or "",
            each.imprint or "",
            "" if each.error else each.subtraction,
        )
        table.add_row(*cells, style="yellow" if i in odd else None)
    say.run(table.print)
    say(f"{len(found)} files, {f'{len(odd)} odd:' if odd else 'none odd'}")
    for i, reasons in odd.items():
        say(one_line(f"! {Path(found[i].file).name}: {'; '.join(reasons)}"))


def _told(each: "Inspected", findings: "tuple[Finding, ...]") -> list[str]:
    """Return the lines that tell all that is known of one file."""
    if each.error:
        return []
    pairs = (
        ("instrument", " ".join(w for w in (each.instrument, each.detector) if w)),
        ("mode", each.mode),
        ("filter", "/".join(word for word in (each.filter, each.grating) if word)),
        ("window", f"{each.window or 'not told'} ({each.subarray or 'no name'})"),
        ("size", _shown(each.shape)),
        ("exposure", each.exposure_number),
        ("target", each.target),
        ("date", each.date),
        ("readout", each.readout),
        ("unit", each.unit),
        ("pipeline", each.pipeline),
        ("background", each.subtraction_words),
    )
    lines = [f"{each.file}: {each.kind}"]
    lines += [f"  {label + ':':<12} {text}" for label, text in pairs if text]
    if each.steps:
        lines += ["", "Steps:", *(f"  {key:9} {words}" for key, _, words in each.steps)]
    if each.keywords:
        lines += ["", "Keywords of offsky:"]
        lines += [f"  {key:9} {value!s:20} {comment}" for key, value, comment in each.keywords]
    if each.backgrounds:
        lines += ["", "Backgrounds:", *(f"  {name}" for name in each.backgrounds)]
    if each.inputs:
        lines += ["", "Inputs of the average:", *map(_input, each.inputs)]
    if findings:
        lines += ["", "Checks, as far as this file alone allows:"]
    for finding in findings:
        lines.append(f"  {finding.code} {finding.state:8} {finding.title}: {finding.finding}")
        if finding.action and finding.state in ("failed", "doubtful"):
            lines.append(f"  {'':15} what to do: {finding.action}")
    return lines


def _input(row: dict[str, Any]) -> str:
    told = (f"{key.lower()} {_short(value)}" for key, value in row.items() if key != "NAME")
    return f"  {row.get('NAME', '')}: {', '.join(told)}"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value) or "none"
