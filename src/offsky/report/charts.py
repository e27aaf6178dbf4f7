"""Charts as SVG without scripts: lines, bars and points."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from offsky.arrays import Array
from offsky.report.markup import Safe, joined, tag

_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 14, 14, 44


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Points of one line; `kind` is a class of the style sheet."""

    x: Array
    y: Array
    kind: str
    label: str
    as_steps: bool = False
    as_points: bool = False


def nice(value: float) -> str:
    """Return a number in four digits at most.

    Examples
    --------
    >>> nice(0.123456), nice(20000.0), nice(float("nan"))
    ('0.1235', '20000', 'unknown')
    """
    if not isfinite(value):
        return "unknown"
    text = f"{value:.4g}"
    return f"{value:.0f}" if "e" in text and 1e4 <= abs(value) < 1e7 else text


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Return round numbers from `low` to `high`."""
    if not (isfinite(low) and isfinite(high)) or high <= low:
        return []
    raw = (high - low) / n
    size = 10.0 ** np.floor(np.log10(raw))
    step = next(size * k for k in (1, 2, 5, 10) if size * k >= raw)
    first = np.ceil(low / step - 1e-9)
    last = np.floor(high / step + 1e-9)
    # Not -0, which Python and NumPy know.
    return [float(f"{i * step:.10g}") + 0.0 for i in np.arange(first, last + 1)]


def chart(
    lines: Sequence[Line], *, x_label: str, y_label: str, title: str, log: bool = False
) -> Safe:
    """Return a chart of lines; empty where none has a finite point.

    Parameters
    ----------
    lines : sequence of Line
        From back to front.
    x_label, y_label, title : str
        In words; the title is read to those who do not see it.
    log : bool
        Whether y is a logarithm.
    """
    shown = []
    for line in lines:
        with np.errstate(divide="ignore", invalid="ignore"):
            y = np.log10(line.y) if log else np.asarray(line.y, dtype=np.float64)
        good = np.isfinite(y) & np.isfinite(line.x)
        if good.any():
            shown.append((line, np.asarray(line.x, dtype=np.float64), y, good))
    if not shown:
        return tag("p", f"{title}: nothing to show.", class_="note")
    x_all = np.concatenate([x[good] for _, x, _, good in shown])
    y_all = np.concatenate([y[good] for _, _, y, good in shown])
    x_range, y_range = _range(x_all), _range(y_all, margin=0.06)
    if log:
        y_range = max(y_range[0], -0.2), y_range[1]

    def px(x: Array) -> Array:
        return _LEFT + (x - x_range[0]) / (x_range[1] - x_range[0]) * (_WIDTH - _LEFT - _RIGHT)

    def py(y: Array) -> Array:
        y = np.clip(y, *y_range)
        share = (y - y_range[0]) / (y_range[1] - y_range[0])
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [tag("title", title)]
    for tick in ticks(*x_range):
        at = float(px(np.array(tick)))
        parts.append(_segment(at, _HEIGHT - _BOTTOM, at, _TOP))
        parts.append(_text(at, _HEIGHT - _BOTTOM + 16, nice(tick), "middle"))
    for tick in ticks(*y_range, n=4):
        at = float(py(np.array(tick)))
        parts.append(_segment(_LEFT, at, _WIDTH - _RIGHT, at))
        label = nice(10**tick) if log else nice(tick)
        parts.append(_text(_LEFT - 6, at + 4, label, "end"))
    for line, x, y, good in shown:
        parts += _drawn(line, px(x), py(y), good)
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, x_label, "middle"))
    parts.append(_text(12, (_TOP + _HEIGHT - _BOTTOM) / 2, y_label, "middle", turned=True))
    legend = tag(
        "ul",
        *(tag("li", tag("span", "", class_=f"key {line.kind}"), line.label) for line, *_ in shown),
        class_="legend",
    )
    picture = tag(
        "svg",
        *parts,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=title,
        class_="chart",
    )
    return joined([picture, legend])


def _drawn(line: Line, x: Array, y: Array, good: Array) -> list[Safe]:
    if line.as_points:
        return [
            tag("circle", cx=f"{x[i]:.1f}", cy=f"{y[i]:.1f}", r="3", class_=f"points {line.kind}")
            for i in np.flatnonzero(good)
        ]
    words = []
    was = False
    for i in range(len(x)):
        if good[i]:
            if line.as_steps and was:
                words.append(f"H{x[i]:.1f}V{y[i]:.1f}")
            else:
                words.append(f"{'L' if was else 'M'}{x[i]:.1f} {y[i]:.1f}")
        was = bool(good[i])
    return [tag("path", d="".join(words), class_=f"line {line.kind}")]


def _range(values: Array, margin: float = 0.0) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if low == high:
        apart = abs(low) * 0.1 or 1.0
        return low - apart, high + apart
    more = margin * (high - low)
    return low - more, high + more


def _segment(x1: float, y1: float, x2: float, y2: float) -> Safe:
    return tag(
        "line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_="grid"
    )


def _text(x: float, y: float, text: str, anchor: str, *, turned: bool = False) -> Safe:
    return tag(
        "text",
        text,
        x=f"{x:.1f}",
        y=f"{y:.1f}",
        text_anchor=anchor,
        transform=f"rotate(-90 {x:.1f} {y:.1f})" if turned else None,
    )


def thinned(values: Array, most: int = 640) -> tuple[Array, Array]:
    """Return at most `most` places and values: means of neighbours where there are more."""
    n = len(values)
    side = max(1, -(-n // most))
    padded = np.pad(np.asarray(values, dtype=np.float64), (0, -n % side), constant_values=np.nan)
    groups = padded.reshape(-1, side)
    known = np.isfinite(groups)
    count = known.sum(axis=1)
    total = np.where(known, groups, 0).sum(axis=1)
    means = np.full(len(groups), np.nan)
    np.divide(total, count, out=means, where=count > 0)
    return np.arange(len(groups)) * side + (side - 1) / 2, means
