"""Time two things in turn, judge their ratio, print and save the results."""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = ("offsky", "numpy", "astropy", "stdatamodels", "jwst", "reducers")


class Missing(Exception):
    """A peer that is not installed."""


@dataclass(frozen=True)
class Goal:
    """A bound: `at_least` so many times faster, or `at_most` so much of the peer's figure.

    Without a peer, `at_most` bounds our own figure. Neither: a row for comparison only.
    """

    at_least: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        """Return the bound as the table shows it."""
        if self.at_least is not None:
            return f"peer / offsky ≥ {self.at_least:g}"
        return "none" if self.at_most is None else f"offsky / peer ≤ {self.at_most:g}"

    def ratio(self, ours: float, peer: float) -> float:
        """Return how many times faster we are, or our share of the peer's figure."""
        return ours / peer if self.at_least is None else peer / ours

    def reached(self, figure: float) -> bool | None:
        """Tell whether a ratio is within the bound; None without a bound."""
        if self.at_least is not None:
            return figure >= self.at_least
        return None if self.at_most is None else figure <= self.at_most


@dataclass
class Row:
    """A named case: what is compared with what, and in the end all figures, in pairs.

    `measure` checks that both sides agree, then returns our figures, the peer's (none
    where there is only a bound) and one line on how well they agreed.
    """

    name: str
    peer_name: str
    goal: Goal
    measure: Callable[[], tuple[list[float], list[float], str]] = field(repr=False)
    unit: str = "s"
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    note: str = ""
    skipped: bool = False

    def fill(self) -> None:
        """Measure, or note what is missing."""
        try:
            self.ours, self.peer, self.note = self.measure()
        except Missing as why:
            self.skipped, self.note = True, f"skipped: {why}"

    @property
    def ratios(self) -> list[float]:
        """Return one ratio a pair."""
        return [self.goal.ratio(*pair) for pair in zip(self.ours, self.peer, strict=False)]

    @property
    def reached(self) -> bool | None:
        """Tell whether the median is within the goal."""
        figures = self.ratios or self.ours
        return self.goal.reached(statistics.median(figures)) if figures else None

    def cells(self) -> list[str]:
        """Return the cells of the printed table."""
        goal = str(self.goal)
        if not self.skipped and not self.peer:
            goal = f"≤ {self.goal.at_most:g} {self.unit}"
        return [
            self.name,
            self.peer_name,
            _spread(self.ours, f" {self.unit}"),
            _spread(self.peer, f" {self.unit}"),
            _spread(self.ratios),
            goal,
            {True: "yes", False: "**NO**", None: "–"}[self.reached],
            self.note,
        ]

    def as_dict(self) -> dict[str, object]:
        """Return everything, ready for JSON."""
        known = {key: value for key, value in vars(self).items() if key != "measure"}
        return {**known, "goal": asdict(self.goal), "ratios": self.ratios, "reached": self.reached}


HEADINGS = [
    "offsky",
    "peer",
    "offsky's",
    "peer's",
    "ratio, pair by pair",
    "goal",
    "reached",
    "check",
]


def table(rows: Sequence[Row]) -> str:
    """Return the results as a markdown table; figures are medians (lowest–highest)."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _spread(figures: Sequence[float], unit: str = "") -> str:
    if not figures:
        return "–"
    return f"{statistics.median(figures):.3g}{unit} ({min(figures):.3g}–{max(figures):.3g})"


def alternate(
    ours: Callable[[], float], peer: Callable[[], float], pairs: int
) -> tuple[list[float], list[float]]:
    """Measure A B A B ..., so that a busy minute of the machine meets both sides."""
    figures = [(ours(), peer()) for _ in range(pairs)]
    return [a for a, _ in figures], [b for _, b in figures]


def timed(function: Callable[..., object], *args: object, **options: object) -> float:
    """Return the seconds that a call takes; freeing its result is not counted."""
    start = time.perf_counter()
    kept = function(*args, **options)
    elapsed = time.perf_counter() - start
    del kept
    return elapsed


@dataclass(frozen=True)
class Run:
    """What a process took from its start to its end."""

    wall_s: float
    peak_mb: float


def run(command: Sequence[object], *, cwd: Path, env: Mapping[str, str] | None = None) -> Run:
    """Run a cold process to its end; raise, with what it said, if it fails.

    Bytecode may be kept, as it is for installed packages, else every run compiles offsky.
    """
    env = {**os.environ, **(env or {})}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.NamedTemporaryFile("r") as log:
        words = [sys.executable, "-I", "-S", HERE / "child.py", log.name, *command]
        told = subprocess.run(
            [str(word) for word in words],
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            check=True,
        )
        report = json.loads(told.stdout)
        if report["exit_code"]:
            raise RuntimeError(f"exit code {report['exit_code']}: {words}\n{log.read()[-3000:]}")
    return Run(report["wall_s"], report["peak_mb"])


def settle(*outputs: Path) -> None:
    """Remove outputs and wait for the disk: no run pays for the writes of another."""
    for path in outputs:
        path.unlink(missing_ok=True)
    os.sync()


def main(name: str, question: str, rows_of: Callable[[argparse.Namespace], Iterator[Row]]) -> None:
    """Measure the rows asked for on the command line, print and save them."""
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--quick", action="store_true", help="small arrays, few repetitions")
    parser.add_argument("--only", default="", metavar="WORD", help="rows that mention WORD")
    parser.add_argument("--pairs", type=int, metavar="N", help="repetitions of every row")
    parser.add_argument("--save", action="store_true", help=f"write results/{name}.json and .md")
    parser.add_argument("--dir", type=Path, help="where temporary files go")
    options = parser.parse_args()

    about = environment(options.quick)
    print(_describe(about), flush=True)
    done = []
    with closing(rows_of(options)) as rows:
        for row in rows:
            if options.only.lower() not in f"{row.name} {row.peer_name}".lower():
                continue
            print(f"... {row.name} | {row.peer_name}", file=sys.stderr, flush=True)
            row.fill()
            done.append(row)
    about["load_average_after"] = os.getloadavg()
    print(f"\n{table(done)}")
    lost = [row for row in done if row.reached is False]
    print(f"\n{len(lost)} of {len(done)} rows miss their goal.")
    if options.save:
        _save(name + ("-quick" if options.quick else ""), question, about, done)


def _save(name: str, question: str, about: dict[str, object], rows: Sequence[Row]) -> None:
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    everything = {"question": question, **about, "rows": [row.as_dict() for row in rows]}
    text = json.dumps(everything, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n")
    legend = "Figures are medians (lowest–highest)."
    (folder / f"{name}.md").write_text(
        f"# {question}\n\n{_describe(about)}\n\n{legend}\n\n{table(rows)}\n"
    )


def environment(quick: bool) -> dict[str, object]:
    """Return what the figures depend on: machine, system, compiler, versions, date."""
    return {
        "quick": quick,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": n_cores(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "kernel_compiler": _compiler(),
        "versions": {package: _version(package) for package in PACKAGES} | {"siril": _siril()},
        "load_average_before": os.getloadavg(),
    }


def n_cores() -> int:
    """Return the cores that we may run on: the threads that offsky takes."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _describe(about: dict[str, object]) -> str:
    versions = about["versions"]
    assert isinstance(versions, dict)
    loads = [
        about[f"load_average_{when}"]
        for when in ("before", "after")
        if f"load_average_{when}" in about
    ]
    lines = [
        f"date: {about['date']}",
        f"machine: {about['cpu']}, {about['cores']} cores, {about['memory_gb']} GB",
        f"system: {about['system']}, Python {about['python']}",
        f"kernel compiled by: {about['kernel_compiler']}; threads: {about['cores']}",
        "versions: " + ", ".join(f"{name} {number}" for name, number in versions.items()),
        "load average (1, 5, 15 min): "
        + "; ".join(" ".join(f"{load:.2f}" for load in each) for each in loads),
    ]
    if max(loads[0][:2]) > 0.5:
        lines.append("**The machine was busy when this began: trust no figure, repeat it.**")
    if about["quick"]:
        lines.append("**Quick run on small arrays: the goals are meant for the full sizes.**")
    return "\n".join(f"- {line}" for line in lines)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.*)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _compiler() -> str:
    """Return the compiler that signed offsky's kernel."""
    try:
        from offsky.kernel import _c
    except ImportError:
        return "none (the NumPy twin is measured)"
    binary = Path(_c.__file__).read_bytes()
    signs = re.findall(rb"(?:GCC: \(|clang version )[^\0\n]*", binary)
    return ", ".join(sorted({sign.decode() for sign in signs})) or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _siril() -> str:
    try:
        told = subprocess.run(["siril-cli", "--version"], capture_output=True, text=True)
    except OSError:
        return "not installed"
    return told.stdout.strip().removeprefix("siril ")
