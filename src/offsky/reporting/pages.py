"""Write the page of a product and its JSON, and tell an index about it."""

import json
from pathlib import Path
from typing import Any

from offsky.arrays import Array
from offsky.io.output import write_bytes, write_text
from offsky.report.page import render
from offsky.report.png import grey, png, shrunk
from offsky.report.summary import Summary
from offsky.values.finding import STATES

_THUMBNAIL = 96
THUMBNAILS = ("after", "before", "average")
"""The kinds of small pictures of an index."""


def write_report(
    summary: Summary, page: Path, product: Path, *, thumbnails: bool = False
) -> dict[str, Any]:
    """Write a page and its JSON; return the product's entry in an index."""
    write_text(page, render(summary))
    told = summary.as_dict()
    pictures = {}
    if thumbnails:
        for kind in THUMBNAILS:
            image: Array | None = getattr(summary.gathered, kind)
            if image is None:
                continue
            small = shrunk(image, _THUMBNAIL)
            side = max(1.0, image.shape[0] / small.shape[0])
            path = page.with_name(f"{page.stem}.{kind}.png")
            write_bytes(path, png(grey(small, summary.after.noise / side)))
            pictures[kind] = path.name
    entry = index_entry(told, page.name, product.name, pictures, summary)
    told["index"] = entry
    write_text(page.with_suffix(".json"), _as_json(told))
    return entry


def _as_json(told: dict[str, Any]) -> str:
    """Return JSON with a line for each figure: json indents eight times slower."""
    lines = (f"{json.dumps(key)}: {json.dumps(told[key], allow_nan=False)}" for key in told)
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def index_entry(
    told: dict[str, Any], page: str, product: str, pictures: dict[str, str], summary: Summary
) -> dict[str, Any]:
    """Return what an index tells of a product."""
    worst = min(told["checks"], key=lambda each: STATES.index(each["state"]))
    description = told["description"]
    numbers = {each["code"]: each["numbers"] for each in told["checks"]}
    return {
        "name": product,
        "page": page,
        "state": told["state"] if told["state"] in ("failed", "doubtful") else "ok",
        "worst": {key: worst[key] for key in ("code", "title", "state", "finding")},
        "checks": {each["code"]: each["state"] for each in told["checks"]},
        "filter": description.get("filter", ""),
        "detector": description.get("detector", ""),
        "date": summary.facts.target.date,
        "mjd": summary.facts.target.mjd,
        "n_backgrounds": len(summary.facts.used),
        "rejected": numbers["OFF107"].get("rejected"),
        "level": told["after"]["level"],
        "level_in_err": numbers["OFF105"].get("in_err"),
        "noise": told["after"]["noise"],
        "structure": told["after"]["blotches"],
        "stripes": told["after"]["stripes"],
        "err_ratio": told["err_ratio"],
        "unit": told["unit"],
        "pictures": pictures,
    }
