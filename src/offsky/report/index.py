"""The index of a run: a table of all products, a contact sheet, and trends over time."""

from collections.abc import Sequence
from math import isfinite
from typing import Any
from urllib.parse import quote

import numpy as np

from offsky.report.charts import Line, chart, nice
from offsky.report.markup import Safe, as_script, joined, page, tag
from offsky.report.page import SHAPES

_RANK = {"failed": 0, "doubtful": 1, "ok": 2}

_COLUMNS = (
    ("name", "product", "text"),
    ("filter", "filter", "text"),
    ("backgrounds", "backgrounds", "number"),
    ("rejected", "rejected", "number"),
    ("level", "level / ERR", "number"),
    ("structure", "8 x 8 scatter", "number"),
    ("worst", "worst check", "rank"),
)
_TRENDS = (
    ("level_in_err", "Residual level", "level / ERR"),
    ("noise", "Scatter", "scatter of a block"),
    ("err_ratio", "Scatter over ERR", "scatter / ERR"),
)
_KINDS = (("after", "After"), ("before", "Before"), ("average", "Average"))


def render_index(told: dict[str, Any]) -> str:
    """Return the index of a run.

    Parameters
    ----------
    told : dict
        ``title``, ``date`` and ``products``: what its JSON has.
    """
    products = sorted(told["products"], key=lambda each: (_RANK[each["state"]], each["name"]))
    counts = {state: sum(each["state"] == state for each in products) for state in _RANK}
    return page(
        "index.html",
        style="page.css",
        script="index.js",
        images="'self'",
        title=f"{told['title']}: index of products",
        name=told["title"],
        verdict=joined(
            tag(
                "span",
                tag("span", SHAPES[state], class_=f"sign {state}", aria_hidden="true"),
                f"{counts[state]} {state}",
                class_=f"count {state}",
            )
            for state in _RANK
        ),
        head=tag(
            "tr",
            *(
                tag(
                    "th",
                    tag("button", label, type="button", data_sort=key, data_kind=kind),
                    scope="col",
                    aria_sort="none",
                )
                for key, label, kind in _COLUMNS
            ),
            tag("th", "picture", scope="col"),
            tag("th", "your verdict", scope="col"),
            tag("th", "note", scope="col"),
        ),
        rows=joined(_row(each) for each in products),
        total=len(products),
        kinds=joined(tag("option", label, value=kind) for kind, label in _KINDS),
        trends=joined(_trend(products, *each) for each in _TRENDS),
        date=told["date"],
        data=tag(
            "script",
            as_script({each["name"]: each["pictures"] for each in products if each["pictures"]}),
            type="application/json",
            id="offsky-pictures",
        ),
    )


def _row(product: dict[str, Any]) -> Safe:
    state, worst, name = product["state"], product["worst"], product["name"]
    link: object = name
    if product["page"]:
        link = tag("a", name, href=_address(product["page"]))
    picture = None
    if "after" in product["pictures"]:
        picture = tag(
            "img",
            src=_address(product["pictures"]["after"]),
            alt="",
            width="64",
            height="64",
            loading="lazy",
        )
    rejected = product["rejected"]
    return tag(
        "tr",
        tag("td", link, data_key=name),
        tag("td", product["filter"]),
        tag("td", product["n_backgrounds"], data_key=product["n_backgrounds"]),
        tag("td", "" if rejected is None else f"{rejected:.2%}", data_key=_key(rejected)),
        _number(product["level_in_err"]),
        _number(product["structure"]),
        tag(
            "td",
            tag(
                "span", SHAPES[worst["state"]], class_=f"sign {worst['state']}", aria_hidden="true"
            ),
            f"{worst['state']}: {worst['title']} ",
            tag("small", worst["code"]),
            title=worst["finding"],
            data_key=f"{_RANK[state]}",
        ),
        tag("td", picture),
        tag(
            "td",
            tag(
                "select",
                tag("option", "not yet", value=""),
                tag("option", "accept", value="accept"),
                tag("option", "flag", value="flag"),
                aria_label=f"verdict on {name}",
                data_verdict=True,
            ),
        ),
        tag("td", tag("input", type="text", aria_label=f"note on {name}", data_note=True)),
        data_offsky="row",
        data_state=state,
        data_name=name,
    )


def _address(name: str) -> str:
    # A name may begin like a scheme, such as javascript:.
    return "./" + quote(name)


def _key(value: float | None) -> str:
    return "" if value is None or not isfinite(value) else repr(float(value))


def _number(value: float | None) -> Safe:
    known = value is not None and isfinite(value)
    return tag("td", nice(float(value or 0)) if known else "", data_key=_key(value))


def _trend(products: Sequence[dict[str, Any]], name: str, title: str, label: str) -> Safe:
    """Return one number of all products over time, a line of points for each detector."""
    by_detector: dict[str, list[tuple[float, float]]] = {}
    for each in products:
        if each["mjd"] is not None and each[name] is not None:
            key = each["detector"] or "detector not told"
            by_detector.setdefault(key, []).append((each["mjd"], each[name]))
    lines = []
    begin = min((pair[0] for pairs in by_detector.values() for pair in pairs), default=0.0) // 1
    for i, (detector, pairs) in enumerate(sorted(by_detector.items())):
        points = np.array(sorted(pairs))
        lines.append(
            Line(points[:, 0] - begin, points[:, 1], f"group{i % 6}", detector, as_points=True)
        )
    drawn = chart(
        lines, x_label=f"days after MJD {begin:.0f}", y_label=label, title=f"{title} over time"
    )
    return tag(
        "figure",
        tag("h3", title),
        drawn,
        tag(
            "figcaption",
            "Good: even. Bad: one product far from the others, or a trend: look at it, and at "
            "its backgrounds' dates.",
        ),
    )
