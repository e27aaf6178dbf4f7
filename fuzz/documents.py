"""Cases of damaged JSON: associations, plans, and the records of a run."""

import json
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from fuzz import calls
from fuzz.case import Case
from fuzz.exposures import exposure
from fuzz.fits_cases import association

RECORD = f"{calls.PRODUCTS}/.offsky/e0_bsub.fits.json"
NAMES = [f"e{i}_rate.fits" for i in range(3)]

TWO_LINES = "a\nb"
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, 2**64, -(2**64), 10**30, 10**400),
    *(0.5, 1.5, -0.0, 1e308, float("inf"), float("nan"), "", "x", "-", ".", "..", "/", "../x"),
    *("/etc/hostname", "inf", "-inf", "nan", "1", "a\0b", "\ud800", "\x1b[31m", TWO_LINES),
    *("e0_rate.fits", "e1_rate.fits", "e9_rate.fits", "a.json", "out", "science", "background"),
    *("SCIENCE", "wcs", "shared", "leave-one-out", "COMPLETE", "FAILED", "begun", "finished"),
    *("x" * 300, [], {}, [[]]),
    *([{}], [None], ["x"], [1, 2], {"x": 1}, {"": {}}, [1] * 2000),
]  # fmt: skip
TEXTS = [
    *(b"", b"0", b"null", b"[]", b"{}", b'""', b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe"),
    *(b"\0" * 99, b"[" * 50_000 + b"]" * 50_000, b"9" * 5000, b"1e999", b"-", b"NaN", b"{"),
    *(b'{"products": ' + b"[" * 99_999, b"\xef\xbb\xbf", b" " * 100_000, b'"\\ud800"'),
    *(b'{"format": "offsky-plan", "version": 1}', b'{"products": []}', b",]" * 50_000),
]  # fmt: skip
PIECES = [b"\0", b",", b"}", b"]", b'"', b"\\", b"\\u0000", b"\\ud800", b"1e999", b"NaN", b"{}",
          b"[]", b"null", b"9" * 400, b"-Infinity", b"\xff", b"//", b"'", b"..", b",,",
          b":"]  # fmt: skip


@cache
def made_before() -> tuple[bytes, dict[str, bytes]]:
    """Return a plan whose files lie in "/folder", and the folder of products that it makes."""
    import contextlib
    import io

    from offsky.command.main import cli

    with TemporaryDirectory() as name:
        here = Path(name).resolve()
        for i, each in enumerate(NAMES):
            (here / each).write_bytes(exposure(i, "plain"))
        (here / calls.DOCUMENT).write_bytes(association(NAMES))
        for arguments in (
            ["plan", here / calls.DOCUMENT, "-o", here / "plan.json"],
            ["run", here / calls.DOCUMENT, "-o", here / calls.PRODUCTS],
        ):
            with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
                cli.main([str(argument) for argument in arguments], prog_name="offsky")
        plan = (here / "plan.json").read_bytes().replace(str(here).encode(), b"/folder")
        out = here / calls.PRODUCTS
        made = [path for path in out.rglob("*") if path.is_file() and path.name != "lock"]
        return plan, {
            f"{calls.PRODUCTS}/{path.relative_to(out)}": path.read_bytes() for path in made
        }


def make(chance: Random) -> Case:
    """Make a case of one of the three documents."""
    files = {name: exposure(i, "plain") for i, name in enumerate(NAMES)}
    call: dict[str, Any] = {"target": NAMES[0], "backgrounds": NAMES[1:], "options": {}}
    kind = chance.choices(("association", "plan", "record"), (4, 3, 2))[0]
    if kind == "association":
        files[calls.DOCUMENT], done = spoilt(chance, association(NAMES))
        door = "programme" if chance.random() < 0.2 else "association"
        call["any_output"] = True
        return Case(door, files, call, f"association: {done}")
    plan, products = made_before()
    if kind == "plan":
        files[calls.DOCUMENT], done = spoilt(chance, plan)
        call["any_output"] = True
        return Case("programme", files, call, f"plan: {done}")
    files[calls.DOCUMENT] = association(NAMES)
    files |= products
    files[RECORD], done = spoilt(chance, products[RECORD])
    if chance.random() < 0.3:
        del files[f"{calls.PRODUCTS}/e0_bsub.fits"]
    return Case("programme", files, call, f"record: {done}")


def spoilt(chance: Random, content: bytes) -> tuple[bytes, str]:
    """Spoil a document, mostly so that it still is JSON."""
    how = chance.random()
    if how < 0.05:
        return chance.choice(TEXTS), "another text"
    if how < 0.25:
        text = bytearray(content)
        for _ in range(chance.choice((1, 1, 3))):
            place = chance.randrange(len(text))
            if chance.random() < 0.5:
                text[place] ^= 1 << chance.randrange(8)
            else:
                text[place : place + chance.choice((0, 1, 5))] = chance.choice(PIECES)
        if chance.random() < 0.2:
            del text[chance.randrange(len(text)) :]
        return bytes(text), "letters"
    tree = json.loads(content)
    done = [_change(chance, tree) for _ in range(chance.choice((1, 1, 1, 2, 4)))]
    try:
        return json.dumps(tree).encode(), ", ".join(done)
    except RecursionError:
        return b"[" * 2000 + b"]" * 2000, "nested"


def _change(chance: Random, tree: Any) -> str:
    """Change a node of JSON, in place."""
    nodes = list(_nodes(tree))
    if not nodes:
        return "nothing"
    holder, key = chance.choice(nodes)
    how = chance.randrange(8)
    if how < 4:
        holder[key] = _copy(chance.choice(VALUES))
        return f"{key!r} another value"
    if how == 4:
        other, there = chance.choice(nodes)
        holder[key] = _copy(other[there])
        return f"{key!r} as {there!r}"
    if how == 5:
        deep: Any = []
        for _ in range(chance.choice((1, 20, 300))):
            deep = [deep]
        holder[key] = deep
        return f"{key!r} nested"
    if isinstance(holder, list):
        if how == 6:
            del holder[key]
            return "one less"
        holder += [_copy(holder[key]) for _ in range(chance.choice((1, 2, 300)))]
        return "one again"
    kept = holder.pop(key)
    if how == 7:
        holder[f"{key}x" if chance.random() < 0.5 else str(chance.choice(VALUES))] = kept
        return f"{key!r} renamed"
    return f"no {key!r}"


def _copy(part: Any) -> Any:
    """Copy JSON by its text; what is too deep for that is left out."""
    try:
        return json.loads(json.dumps(part))
    except RecursionError:
        return None


def _nodes(part: Any) -> Any:
    """Yield every place in JSON: what holds it, and its key."""
    pairs = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in list(pairs):
        yield part, key
        if isinstance(value, dict | list):
            yield from _nodes(value)
