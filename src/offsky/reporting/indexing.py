"""The index of a run: one page over the pages of all products, and JSON beside it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offsky.io.json_text import parse_json
from offsky.io.output import write_text
from offsky.io.regular import read_text
from offsky.outcome import FAILED
from offsky.product_outcome import ProductOutcome
from offsky.report.index import render_index
from offsky.reporting.place import page_name, written_at

INDEX = "index.html"


def write_index(folder: Path, entries: Sequence[dict[str, Any]], *, title: str = "") -> Path:
    """Write the index of products whose pages lie in a folder; return its path."""
    name = title or folder.resolve().name
    told = {
        "format": "offsky-index",
        "version": 1,
        "title": name,
        "date": written_at(),
        "products": list(entries),
    }
    write_text(folder / INDEX, render_index(told))
    path = (folder / INDEX).with_suffix(".json")
    write_text(path, json.dumps(told, indent=1, allow_nan=False) + "\n")
    return folder / INDEX


def entry_of(product: str, folder: Path) -> dict[str, Any] | None:
    """Return what the JSON beside a product's page tells an index; None without any."""
    path = (folder / page_name(Path(product))).with_suffix(".json")
    try:
        told = parse_json(read_text(path))
        entry = told["index"]
        return entry if entry["name"] == product else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_index_of_run(folder: Path, outcomes: Sequence[ProductOutcome], title: str) -> Path:
    """Write the index of a run, of the pages that its workers wrote; return its path.

    Parameters
    ----------
    folder : Path
        Where the pages lie.
    outcomes : sequence of ProductOutcome
        Of all products.
    title : str
        What the index is called.
    """
    entries = []
    for each in outcomes:
        entry = None
        if each.status == FAILED:
            entry = failed_entry(each.output, each.reason or "not told")
        elif each.details is None:
            entry = skipped_entry(each.output, each.reason or "not told")
        entries.append(entry or entry_of(each.output, folder) or bare_entry(each.output, folder))
    return write_index(folder, entries, title=title)


def failed_entry(name: str, reason: str) -> dict[str, Any]:
    """Return what an index tells of a product that was not made, or has no page."""
    return _bare_entry(name, "failed", "Not made", reason, None)


def skipped_entry(name: str, reason: str) -> dict[str, Any]:
    """Return what an index tells of a product that was skipped."""
    return _bare_entry(name, "doubtful", "Skipped", reason, None)


def bare_entry(name: str, folder: Path) -> dict[str, Any]:
    """Return what an index tells of a product whose checks are not known."""
    page = page_name(Path(name))
    known = page if (folder / page).exists() else None
    return _bare_entry(name, "ok", "Not judged", "no page was written", known)


def _bare_entry(
    name: str, state: str, title: str, reason: str, page: str | None
) -> dict[str, Any]:
    numbers = ("mjd", "rejected", "level", "level_in_err", "noise", "structure", "stripes")
    return {
        "name": name,
        "page": page,
        "state": state,
        "worst": {"code": "", "title": title, "state": state, "finding": reason},
        "checks": {},
        "filter": "",
        "detector": "",
        "date": None,
        "n_backgrounds": 0,
        "err_ratio": None,
        "unit": None,
        "pictures": {},
        **dict.fromkeys(numbers),
    }
