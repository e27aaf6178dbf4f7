"""Judge a product, and put everything together that its page tells."""

import platform
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from offsky.arrays import Array
from offsky.declared import declarations, in_words
from offsky.effect import Run
from offsky.io.inspected import Inspected
from offsky.measure.checks import check
from offsky.measure.judged import Judged
from offsky.measure.structure import Structure
from offsky.options import Options, idle_options
from offsky.report.pictures import Pictures, count_planes, static_pictures, value_planes
from offsky.report.summary import BackgroundRow, Left, Summary, histogram_edges
from offsky.reporting.place import written_at
from offsky.values.facts import Facts
from offsky.values.gathered import Gathered

# Rows that are worked on at a time.
_ROWS = 128


def summarize(gathered: Gathered, facts: Facts, **more: Any) -> Summary:
    """Judge a product, and put everything together."""
    judged = Judged(gathered, facts)
    noise = judged.noise
    with ThreadPoolExecutor(1) as pool:
        # Pictures and checks take about as long; neither needs the other.
        pictures = pool.submit(_pictures, gathered, noise)
        findings = check(judged)
        before = judged.before
        histogram = _histogram(judged)
    return Summary(
        findings=findings,
        facts=facts,
        gathered=gathered,
        after=_left(judged.after),
        before=None if before is None else _left(before),
        err=judged.err,
        err_ratio=judged.err_ratio,
        expected_ratio=judged.err_without_average,
        histogram=histogram,
        pictures=pictures.result(),
        backgrounds=_rows(gathered, facts),
        versions=_versions(),
        date=written_at(),
        **more,
    )


def _pictures(gathered: Gathered, noise: float) -> Pictures:
    planes = *value_planes(gathered, noise), *count_planes(gathered)
    return Pictures(planes, static_pictures(gathered, noise))


def _left(structure: Structure) -> Left:
    return Left(
        level=structure.level,
        noise=structure.noise,
        stripes=structure.stripes,
        blotches=structure.blotches,
        rows=structure.rows,
        columns=structure.columns,
    )


def _histogram(judged: Judged) -> Array:
    after = judged.after
    err = judged.err if np.isfinite(judged.err) else after.noise * judged.gathered.bin
    edges = histogram_edges()
    if not err > 0:
        return np.zeros(len(edges) - 1)
    n_bins = len(edges) - 1
    counts = np.zeros(n_bins, dtype=np.int64)
    # By rows, for the memory; much faster than NumPy's histogram.
    for first in range(0, len(after.free), _ROWS):
        part = slice(first, first + _ROWS)
        values = (judged.gathered.after[part][after.free[part]] - after.level) / err
        place = np.floor((values - edges[0]) * np.float32(n_bins / (edges[-1] - edges[0])))
        place = place[(place >= 0) & (place < n_bins)].astype(np.intp)
        counts += np.bincount(place, minlength=n_bins)
    return counts


def _rows(gathered: Gathered, facts: Facts) -> tuple[BackgroundRow, ...]:
    members = iter(gathered.members)
    n_used = len(facts.used)
    rows = []
    for each in facts.backgrounds:
        sampled = next(members, None) if each.fate == "used" else None
        rejected = None
        if each.n_rejected is not None and facts.n_samples and n_used:
            rejected = min(1.0, each.n_rejected / (facts.n_samples / n_used))
        rows.append(
            BackgroundRow(
                name=each.exposure.name,
                date=each.exposure.date,
                separation=each.separation,
                level=None if sampled is None else sampled.level,
                err_ratio=None if sampled is None else sampled.err_ratio,
                rejected=rejected,
                fate=each.fate,
                remarks=each.remarks,
            )
        )
    return tuple(rows)


def describe(told: Inspected) -> tuple[tuple[str, str], ...]:
    """Return what a file is, in pairs of a word and a value."""
    pairs = (
        ("target", told.target),
        ("instrument", told.instrument),
        ("detector", told.detector),
        ("filter", told.filter),
        ("grating", told.grating),
        ("mode", told.mode),
        ("subarray", told.subarray),
        ("window", told.window),
        ("size", " x ".join(str(n) for n in reversed(told.shape))),
        ("date", told.date),
        ("readout", told.readout),
        ("exposure", told.exposure_number),
        ("unit", told.unit),
        ("pipeline", told.pipeline),
    )
    return tuple((key, str(value)) for key, value in pairs if value)


def parameters_of(options: Options, run: Run | None) -> tuple[tuple[str, str, str], ...]:
    """Return all options, with what is to be said of each."""
    changed = options.beyond_profile()
    idle = {} if run is None else idle_options(options, run)
    found: list[tuple[str, str, str]] = []
    found.append(("profile", options.profile, "the set of options to begin with"))
    for each in declarations(type(options)):
        remark = ""
        if each.name in idle:
            remark = f"no effect: {idle[each.name]}"
        elif each.name in changed:
            remark = "not the profile's"
        found.append((each.name, in_words(getattr(options, each.name)), remark))
    return tuple(found)


def _versions() -> tuple[tuple[str, str], ...]:
    found = [("offsky", version("offsky"))]
    for package in ("numpy", "astropy"):
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return (*found, ("Python", platform.python_version()))
