"""How often the checks of a product cry wolf, and how often they find a fault of known size.

Scenes are simulated (`tests/judged.py`): a target and four backgrounds, dedicated ones or
dithers, averaged and subtracted by offsky. A table and the same as JSON go into `results/`.
"""

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from judged import NOISE, ghost, judged_scene  # noqa: E402  the path is set above

from offsky.measure.checks import CODES  # noqa: E402

SCENES, FAULTY = 300, 100
KINDS = {"dedicated": False, "dithers": True}


def false_alarms(n: int) -> Iterator[dict[str, Any]]:
    """Count alarms and unknown answers of each check on clean scenes."""
    for kind, dithers in KINDS.items():
        states = [
            {code: found.state for code, found in judged_scene(seed, dithers=dithers).items()}
            for seed in range(n)
        ]
        for code in CODES:
            alarms = sum(each[code] in ("failed", "doubtful") for each in states)
            unknown = sum(each[code] == "unknown" for each in states)
            yield {
                "scenes": kind,
                "check": code,
                "n": n,
                "false_alarms": alarms,
                "false_alarms_percent": 100 * alarms / n,
                "unknown": unknown,
            }


def _scaled(factor: float) -> Any:
    return lambda product, *_: product * factor


def _stripes(along: str, size: float, seed: int) -> Any:
    pattern = size * NOISE * np.random.default_rng(seed).standard_normal(256)
    lines = pattern[:, np.newaxis] if along == "rows" else pattern
    return lambda product, *_: product + lines


def found_faults(n: int) -> Iterator[dict[str, Any]]:
    """Count the scenes in which a fault of a known size is found."""
    # The error of the average of four is part of ERR in these.
    whole = {"errors": "propagate"}
    right = 1 / np.sqrt(1.25)
    cases: list[tuple[str, str, Any, dict[str, Any]]] = [
        ("ghost of 5 %", "OFF102", lambda _: ghost(0.05), {"dithers": True}),
        ("ghost of 10 %", "OFF102", lambda _: ghost(0.10), {"dithers": True}),
        ("ERR too large by 1.25", "OFF104", lambda _: _scaled(0.8 * right), {"facts": whole}),
        ("ERR too small by 1.25", "OFF104", lambda _: _scaled(1.25 * right), {"facts": whole}),
        (
            "level of 0.5 ERR",
            "OFF105",
            lambda _: lambda product, *_: product + np.float32(0.5 * NOISE),
            {},
        ),
        ("stripes of 0.3 sigma, rows", "OFF106", lambda s: _stripes("rows", 0.3, s), {}),
        ("stripes of 0.3 sigma, columns", "OFF106", lambda s: _stripes("columns", 0.3, s), {}),
    ]
    for fault, code, make, how in cases:
        found = sum(
            judged_scene(seed, fault=make(seed), **how)[code].state in ("failed", "doubtful")
            for seed in range(n)
        )
        yield {"fault": fault, "check": code, "n": n, "found": found}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few scenes: to see that it runs")
    parser.add_argument("--dir", type=Path, default=HERE / "results", help="where results go")
    chosen = parser.parse_args()
    alarms = list(false_alarms(4 if chosen.quick else SCENES))
    faults = list(found_faults(3 if chosen.quick else FAULTY))
    lines = [
        "| check | false alarms, dedicated | false alarms, dithers | unknown | unknown |",
        "|---|---|---|---|---|",
    ]
    for code in CODES:
        a, b = (next(r for r in alarms if (r["check"], r["scenes"]) == (code, k)) for k in KINDS)
        lines.append(
            f"| {code} | {a['false_alarms']} of {a['n']} | {b['false_alarms']} of {b['n']} "
            f"| {a['unknown']} | {b['unknown']} |"
        )
    lines += ["", "| fault | check | found |", "|---|---|---|"]
    lines += [f"| {r['fault']} | {r['check']} | {r['found']} of {r['n']} |" for r in faults]
    text = "\n".join(lines)
    print(text)
    told = {
        "question": "How often do the checks cry wolf, and how often do they find a fault?",
        "quick": chosen.quick,
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("offsky", "numpy")},
        "false_alarms": alarms,
        "faults": faults,
    }
    chosen.dir.mkdir(parents=True, exist_ok=True)
    (chosen.dir / "checks.json").write_text(json.dumps(told, indent=1) + "\n")
    quick = "\n\n**A quick run: the figures mean nothing.**" if chosen.quick else ""
    (chosen.dir / "checks.md").write_text(
        f"# {told['question']}\n\n`benchmarks/checks.py`{quick}\n\n{text}\n"
    )


if __name__ == "__main__":
    main()
