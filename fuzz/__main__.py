"""``python -m fuzz``: try damaged files, and keep what fails."""

import argparse
import io
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stderr
from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fuzz import calls, documents, fits_cases
from fuzz.attempt import attempt
from fuzz.case import Case, load, save
from fuzz.watch import Key, Tried, tried

KINDS = {"fits": fits_cases.make, "json": documents.make, "calls": calls.odd_call}
FOUND = Path(__file__).parent / "found"


def make(key: Key) -> Case:
    """Make the case of a kind, a seed and a number; always the same."""
    kind, seed, number = key
    return KINDS[kind](Random(f"{kind} {seed} {number}"))


def main() -> int:
    """Run the command; the exit status is 1 if a case failed."""
    given = _arguments()
    if given.repeat is not None:
        return _repeat(given.repeat)
    kinds = list(KINDS) if given.kind == "all" else [given.kind]
    # Most of the faults are to be found in FITS files.
    shares = {"fits": 6, "json": 3, "calls": 1}
    total = sum(shares[kind] for kind in kinds)
    keys = [
        (kind, given.seed, number)
        for kind in kinds
        for number in range(given.first, given.first + given.cases * shares[kind] // total)
    ]
    _import_all(kinds)
    counts: Counter[tuple[str, str]] = Counter()
    failures: list[Path] = []
    started = time.perf_counter()
    with _bar() as bar:
        task = bar.add_task("cases", total=len(keys))
        for each in tried(keys, make, given.workers):
            counts[each.key[0], each.verdict.status] += 1
            if each.verdict.failure is not None:
                failures.append(_kept(each, given.output))
                bar.console.print(f"{failures[-1]}: {each.verdict.failure}", markup=False)
            bar.advance(task)
    _print(counts, time.perf_counter() - started, given.seed)
    return 1 if failures else 0


def _import_all(kinds: list[str]) -> None:
    """Try a few cases here, so that what they import is there in every worker that is forked."""
    with tempfile.TemporaryDirectory() as name, redirect_stderr(io.StringIO()):
        for kind in kinds:
            for number in range(40):
                attempt(make((kind, 0, number)), Path(name))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=2000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="which: the same ones again")
    parser.add_argument("--first", type=int, default=0, help="number of the first of a kind")
    parser.add_argument("--kind", choices=["all", *KINDS], default="all")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, default=FOUND, help="folder of failed cases")
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="try a kept case again")
    return parser.parse_args()


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))


def _kept(each: Tried, folder: Path) -> Path:
    kind, seed, number = each.key
    return save(make(each.key), folder / f"{kind}-{seed}-{number}.json", str(each.verdict.failure))


def _repeat(path: Path) -> int:
    case = load(path)
    print(case.made)
    with tempfile.TemporaryDirectory() as name:
        verdict = attempt(case, Path(name))
    print(verdict.status, verdict.failure or "")
    return 0 if verdict.failure is None else 1


def _print(counts: Counter[tuple[str, str]], seconds: float, seed: int) -> None:
    statuses = ("complete", "unread", "skipped", "refused", "failed")
    table = Table("kind", "cases", *statuses, title=f"seed {seed}, {seconds:.0f} s")
    for kind in dict.fromkeys(kind for kind, _ in counts):
        row = [counts[kind, status] for status in statuses]
        table.add_row(kind, *(f"{n:,}" for n in (sum(row), *row)))
    Console().print(table)
    n_failed = sum(n for (_, status), n in counts.items() if status == "failed")
    print(f"{counts.total() - n_failed} passed, {n_failed} failed")


if __name__ == "__main__":
    sys.exit(main())
