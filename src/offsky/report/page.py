"""The page of one product: a summary as one HTML file that needs nothing else."""

from base64 import b64encode
from math import isfinite
from typing import Any

import numpy as np

from offsky.arrays import Array
from offsky.report.captions import CAPTIONS, Caption
from offsky.report.charts import Line, chart, nice, thinned
from offsky.report.codes import paragraphs
from offsky.report.markup import Safe, as_script, joined, page, tag
from offsky.report.methods import bibtex, latex, plain
from offsky.report.summary import BackgroundRow, Summary, histogram_edges, known
from offsky.values.finding import STATES, Finding

SHAPES = {"failed": "✕", "doubtful": "▲", "unknown": "?", "ok": "●"}
"""A sign for each state, beside its colour."""


def render(summary: Summary) -> str:
    """Return the page of a product.

    Parameters
    ----------
    summary : Summary
        What it tells. Equal summaries give equal pages.
    """
    return page(
        "page.html",
        style="page.css",
        script="page.js",
        images="data:",
        title=f"{summary.name}: background subtraction",
        name=summary.name,
        verdict=_verdict(summary),
        description=_pairs(summary.description),
        warnings=_warnings(summary.findings),
        fine=_fine(summary.findings),
        static=_static(summary),
        captions=joined(_caption(each, summary) for each in CAPTIONS),
        histogram=_histogram(summary),
        rows=_medians(summary, "rows"),
        columns=_medians(summary, "columns"),
        integrations=_integrations(summary),
        backgrounds=_backgrounds(summary),
        counts=_pairs(summary.counts),
        parameters=_parameters(summary),
        command=summary.command or "not known",
        versions=_pairs(summary.versions),
        checksums=_checksums(summary),
        plain=plain(summary),
        latex=latex(summary),
        bibtex=bibtex(),
        codes=_codes(),
        left_out=_left_out(summary),
        date=summary.date,
        planes=_planes(summary),
    )


def _verdict(summary: Summary) -> Safe:
    n = {state: sum(each.state == state for each in summary.findings) for state in STATES}
    said = [f"{n[state]} {state}" for state in STATES if n[state]]
    words = {
        "failed": "Something has gone wrong",
        "doubtful": "Something is doubtful",
        "ok": "Nothing is doubtful",
        "unknown": "The checks cannot tell",
    }
    return tag(
        "p",
        _sign(summary.state),
        tag("strong", words[summary.state]),
        f": {', '.join(said)}, of {len(summary.findings)} checks",
        class_=f"verdict {summary.state}",
    )


def _sign(state: str) -> Safe:
    return tag("span", SHAPES[state], class_=f"sign {state}", aria_hidden="true")


def _pairs(pairs: tuple[tuple[str, str], ...]) -> Safe:
    return tag(
        "dl",
        *(tag("div", tag("dt", key), tag("dd", value)) for key, value in pairs),
        class_="facts",
    )


def _finding(finding: Finding) -> Safe:
    action = tag("p", tag("strong", "What to do: "), finding.action) if finding.action else None
    return tag(
        "li",
        tag(
            "h3",
            _sign(finding.state),
            f"{finding.title}: {finding.state} ",
            tag("a", finding.code, href=f"#{finding.code}", class_="code"),
        ),
        tag("p", finding.finding),
        tag("p", tag("strong", "Normal: "), finding.normal),
        action,
        class_=f"finding {finding.state}",
        data_code=finding.code,
        data_state=finding.state,
    )


def _warnings(findings: tuple[Finding, ...]) -> Safe:
    ranked = sorted(findings, key=lambda each: STATES.index(each.state))
    loud = [each for each in ranked if each.state in ("failed", "doubtful")]
    if not loud:
        return tag("p", "Nothing is doubtful, as far as the checks can tell.")
    return tag("ul", *map(_finding, loud), class_="findings")


def _fine(findings: tuple[Finding, ...]) -> Safe | None:
    rest = [each for state in ("unknown", "ok") for each in findings if each.state == state]
    if not rest:
        return None
    which = "All" if len(rest) == len(findings) else "The other"
    checks = "check" if len(rest) == 1 else f"{len(rest)} checks"
    return tag(
        "details",
        tag("summary", f"{which} {checks}: ok, or unknown"),
        tag("ul", *map(_finding, rest), class_="findings"),
    )


def _static(summary: Summary) -> Safe:
    """Return pictures of before and after for readers without scripts."""
    return joined(
        tag(
            "figure",
            tag(
                "img",
                src="data:image/png;base64," + b64encode(content).decode("ascii"),
                alt=f"{label}, in shades of grey about its median",
            ),
            tag("figcaption", label),
        )
        for label, content in summary.pictures.static
    )


def _caption(caption: Caption, summary: Summary) -> Safe:
    legend = None
    if caption.name == "flags":
        legend = tag(
            "ul",
            tag("li", tag("span", "", class_="key target"), "target"),
            tag("li", tag("span", "", class_="key background"), "backgrounds"),
            tag("li", tag("span", "", class_="key both"), "both"),
            tag("li", tag("span", "", class_="key uncovered"), "no background sample"),
            tag("li", "bright: DO_NOT_USE; dim: another flag"),
            class_="legend",
        )
    missing = None
    if caption.name in ("before", "average", "kept") and _values(summary, caption.name) is None:
        missing = tag("p", "Not shown: it was not found.", class_="note")
    return tag(
        "div",
        tag("p", tag("strong", f"{caption.label}. "), "Good: ", caption.good),
        tag("p", "Bad: ", caption.bad, " ", caption.action),
        legend,
        missing,
        data_caption=caption.name,
    )


def _values(summary: Summary, name: str) -> Array | None:
    found: Array | None = getattr(summary.gathered, name)
    return found


def _histogram(summary: Summary) -> Safe:
    edges, counts = histogram_edges(), summary.histogram
    total = counts.sum()
    # Of the means of blocks, whose noise is less than a pixel's.
    width = summary.expected_ratio / summary.gathered.bin
    middle = (edges[:-1] + edges[1:]) / 2
    step = edges[1] - edges[0]
    expected = total * step / (width * np.sqrt(2 * np.pi)) * np.exp(-0.5 * (middle / width) ** 2)
    expected[expected < 0.5] = np.nan
    steps = np.append(counts, counts[-1:])
    return chart(
        [
            Line(middle, expected, "expected", "expected of ERR"),
            Line(edges, steps, "after", "blocks without sources", as_steps=True),
        ],
        x_label="distance from their level, in ERR of a pixel",
        y_label="blocks",
        title="Histogram of the residuals without sources",
        log=True,
    )


def _medians(summary: Summary, along: str) -> Safe:
    side = summary.gathered.bin
    lines = []
    for left, kind, label in (
        (summary.before, "before", "before, less its median"),
        (summary.after, "after", "after"),
    ):
        if left is None:
            continue
        values = left.rows if along == "rows" else left.columns
        known = values[np.isfinite(values)]
        level = float(np.median(known)) if kind == "before" and known.size else 0.0
        places, means = thinned(values - level)
        lines.append(Line(places * side + 1, means, kind, label))
    return chart(
        lines,
        x_label="row (y)" if along == "rows" else "column (x)",
        y_label=summary.facts.unit or "value",
        title=f"Medians of {along}, before and after",
    )


def _integrations(summary: Summary) -> Safe | None:
    levels = summary.gathered.integration_levels
    if len(levels) < 2:
        return None
    number = np.arange(1, len(levels) + 1)
    drawn = chart(
        [Line(number, levels, "after", "median of each integration", as_points=len(levels) < 40)],
        x_label="integration",
        y_label=summary.facts.unit or "value",
        title="Level of each integration, after",
    )
    return tag(
        "figure",
        tag("h3", "Integrations"),
        drawn,
        tag(
            "figcaption",
            "Good: even within the noise. Bad: a slope or a jump, by settling or persistence. "
            "Leave out the first integrations, or treat them apart.",
        ),
    )


def _table(head: tuple[str, ...], rows: list[list[Any]], *, label: str) -> Safe:
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", *(tag("th", each, scope="col") for each in head))),
            tag("tbody", *(tag("tr", *(tag("td", each) for each in row)) for row in rows)),
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=label,
    )


def _backgrounds(summary: Summary) -> Safe:
    if not summary.backgrounds:
        return tag("p", "None is known.")
    unit = summary.facts.unit or "unit of SCI"
    head = (
        "name",
        "date",
        "separation (arcsec)",
        f"level ({unit})",
        "scatter / ERR",
        "kept",
        "fate",
        "why",
    )
    rows = [
        [
            row.name,
            row.date[:19].replace("T", " ") if row.date else "not known",
            _number(row.separation),
            _number(row.level),
            "not read" if _is_unread(row) else _number(row.err_ratio),
            "not known" if row.rejected is None else f"{1 - row.rejected:.2%}",
            row.fate,
            row.remarks,
        ]
        for row in summary.backgrounds
    ]
    table = _table(head, rows, label="Backgrounds")
    if not any(_is_unread(row) for row in summary.backgrounds):
        return table
    note = (
        "Scatter / ERR, not read: these options need no ERR of the backgrounds, or a file has "
        "none. With --profile=offsky or --errors=propagate it is read, and stands here; 1 is "
        "expected."
    )
    return joined((table, tag("p", note, class_="note")))


def _is_unread(row: BackgroundRow) -> bool:
    """Tell whether rows of a background were seen, and its ERR was not."""
    return row.err_ratio is not None and not isfinite(row.err_ratio)


def _number(value: float | None, otherwise: str = "not known") -> str:
    return otherwise if value is None or not isfinite(value) else nice(value)


def _parameters(summary: Summary) -> Safe:
    if not summary.parameters:
        return tag("p", "None is recorded.")
    rows = [list(each) for each in summary.parameters]
    return _table(("option", "value", "remark"), rows, label="Parameters")


def _checksums(summary: Summary) -> Safe:
    if summary.checksums:
        return _pairs(summary.checksums)
    return tag("p", "Not known: the inputs' checksums were not computed (offsky run --checksum).")


def _codes() -> Safe:
    return joined(
        tag("div", tag("h3", f"{code}: {title}"), tag("p", text), id=code)
        for code, title, text in paragraphs()
    )


def _left_out(summary: Summary) -> Safe | None:
    if not summary.left_out:
        return None
    return tag("p", "Not shown: ", "; ".join(summary.left_out), ".", class_="note")


def _planes(summary: Summary) -> Safe:
    """Return all planes as data for the script."""
    gathered = summary.gathered
    texts: list[Safe] = []
    described: dict[str, dict[str, Any]] = {}
    for each in summary.pictures.planes:
        for part, text in (("low", each.encoded.low), ("high", each.encoded.high)):
            texts.append(tag("script", Safe(text), type="text/plain", id=f"{each.name}-{part}"))
        described[each.name] = {
            "scale": each.encoded.scale.as_dict(),
            "filter": each.encoded.how,
            "unit": {"kept": "samples", "flags": "share of pixels flagged"}.get(
                each.name, summary.facts.unit or ""
            ),
            "noise": None if each.name in ("kept", "flags") else known(summary.after.noise),
            "causes": each.name == "flags",
            "plus": list(each.plus),
        }
    data = {
        "planes": described,
        "shape": list(gathered.shape),
        "blocks": list(gathered.after.shape),
        "bin": gathered.bin,
        "labels": {each.name: each.label for each in CAPTIONS},
    }
    texts.append(tag("script", as_script(data), type="application/json", id="offsky-data"))
    return joined(texts)
