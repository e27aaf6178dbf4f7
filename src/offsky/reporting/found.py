"""Products that exist: what belongs to them, read by rows and judged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from offsky.arrays import Array
from offsky.errors import OffskyError
from offsky.io.facts import Keywords, exposure_facts, pointing_of
from offsky.io.files import open_exposure
from offsky.io.fits import FitsExposure
from offsky.io.fits_average import kept_of
from offsky.io.inspected import Inspected, inspected, options_of
from offsky.io.names import combined_name, product_root
from offsky.measure.checks import check
from offsky.measure.gather import Background, Gathering, Plane
from offsky.measure.judged import Judged
from offsky.options import Options
from offsky.reporting.facts import background_facts, common_facts, expected_rejection
from offsky.values.exposure import Exposure, Scratch, Wanted
from offsky.values.facts import BackgroundFacts, ExposureFacts, Facts
from offsky.values.finding import Finding
from offsky.values.gathered import Gathered

_ROWS = 128
# Backgrounds whose headers are read; the others are known by their names.
_MOST_OPEN = 64


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FoundProduct:
    """A product that exists, read.

    Attributes
    ----------
    told : Inspected
        What its header says.
    gathered : Gathered
        What was kept of its rows, and of those of the target and the average.
    facts : Facts
        What is known beside pixels.
    options : Options or None
        Those that offsky made it by; None where it did not.
    missing : tuple of str
        What belongs to it and was not found.
    """

    told: Inspected
    gathered: Gathered
    facts: Facts
    options: Options | None
    missing: tuple[str, ...]


def read_product(
    product: Path, *, folders: Sequence[Path] = (), alone: bool = False
) -> FoundProduct:
    """Read a product, and what belongs to it.

    Parameters
    ----------
    product : Path
        The file.
    folders : sequence of Path
        Where its target, average and backgrounds may be, beside its own folder.
    alone : bool
        Whether nothing else is looked for.

    Raises
    ------
    ExposureError
        If it cannot be read.
    """
    exposure = open_exposure(product)
    found = _Found(product, [] if alone else [product.parent, *folders])
    try:
        told = inspected(exposure, product.name)
        target = found.target(exposure)
        average = found.average(exposure) if told.subtraction == "offsky" else None
        n_kept = kept_of(average) if isinstance(average, FitsExposure) else None
        derive = told.subtraction != "none"
        gathered = _gathered(exposure, target, average, n_kept, derive=derive)
        recorded = () if average is None else inspected(average, average.name).inputs
        names = [str(row["NAME"]) for row in recorded] or told.backgrounds
        own = {key: value for key, value, _ in told.keywords}
        options = options_of(own) if told.subtraction == "offsky" else None
        facts = _facts(exposure, told, target, found.backgrounds(names), options or Options())
        facts = replace(facts, n_no_value=gathered.n_no_value)
        if options is not None and n_kept is not None:
            facts = _with_records(facts, recorded, int(n_kept.sum()), options)
        return FoundProduct(
            told=told,
            gathered=gathered,
            facts=facts,
            options=options,
            missing=tuple(found.missing),
        )
    finally:
        exposure.close()
        found.close()


def _with_records(
    facts: Facts, recorded: Sequence[dict[str, Any]], n_kept: int, options: Options
) -> Facts:
    """Return facts with what the table of a saved average records of each background."""
    backgrounds = [
        replace(
            each,
            fate=row.get("FATE", each.fate),
            remarks=row.get("REMARKS", ""),
            n_rejected=row.get("N_REJECTED"),
            n_masked=row.get("N_MASKED"),
        )
        for each, row in zip(facts.backgrounds, recorded, strict=False)
    ]
    n_used = sum(each.fate == "used" for each in backgrounds)
    return replace(
        facts,
        backgrounds=tuple(backgrounds),
        n_samples=n_kept + sum(each.n_rejected or 0 for each in backgrounds),
        expected_rejected=expected_rejection(options, n_used),
    )


def judge_file(path: Path) -> tuple[Finding, ...]:
    """Return what the checks say of one file alone.

    Raises
    ------
    ExposureError
        If it cannot be read.
    """
    known = read_product(path, alone=True)
    return check(Judged(known.gathered, known.facts))


def _facts(
    product: Exposure,
    told: Inspected,
    target: Exposure | None,
    backgrounds: Sequence[tuple[str, Exposure | None]],
    options: Options,
) -> Facts:
    """Return what is known of a product beside its pixels."""
    like = product if target is None else target
    pointing = pointing_of(like)
    facts = [
        BackgroundFacts(exposure=ExposureFacts(name=name))
        if known is None
        else background_facts(like, pointing, known, "used", "")
        for name, known in backgrounds
    ]
    n_uncovered: Any = {key: value for key, value, _ in told.keywords}.get("OFFNUNCV")
    common = common_facts(like, pointing, options)
    if not common["why_no_offsets"] and all(each.offset is None for each in facts):
        common["why_no_offsets"] = "the backgrounds were not found"
    mine = exposure_facts(like)
    if target is None:
        # The product's own status is that of this subtraction.
        mine = replace(mine, background=None)
    return Facts(
        target=mine,
        status=told.status,
        subtraction=told.subtraction,
        times_subtracted=told.times_subtracted,
        backgrounds=tuple(facts),
        n_uncovered=n_uncovered if isinstance(n_uncovered, int) else 0,
        **common,
    )


class _Found:
    """Files that belong to a product, by their names; what is not found is noted."""

    def __init__(self, product: Path, folders: Sequence[Path]) -> None:
        self._product = product
        self._folders = list(dict.fromkeys(folders))
        self._open: list[Exposure] = []
        self.missing: list[str] = []

    def _find(self, names: Sequence[str]) -> Path | None:
        for folder in self._folders:
            for name in names:
                path = folder / name
                if path.is_file() and path.resolve() != self._product.resolve():
                    return path
        return None

    def _opened(self, path: Path | None) -> Exposure | None:
        if path is None:
            return None
        try:
            self._open.append(open_exposure(path))
        except OffskyError as error:
            self.missing.append(str(error))
            return None
        return self._open[-1]

    def target(self, product: Exposure) -> Exposure | None:
        """Return the target: the same root with the ending of an input."""
        if not self._folders:
            return None
        root = product_root(self._product)
        kinds = ("rate", "cal") if len(product.shape) == 2 else ("rateints", "calints")
        names = [f"{root}_{kind}{ending}" for kind in kinds for ending in (".fits", ".fits.gz")]
        names += [f"{root}.fits"]
        found = self._opened(self._find(names))
        if found is None:
            self.missing.append(f"the target (looked for {names[0]} and the like)")
        elif found.shape != product.shape:
            self.missing.append(f"the target ({found.name} has another shape)")
            return None
        return found

    def average(self, product: Exposure) -> Exposure | None:
        """Return the average that was saved beside the product."""
        if not self._folders:
            return None
        found = self._opened(self._find([combined_name(product_root(self._product))]))
        if found is None or found.shape != product.shape[-2:]:
            self.missing.append("the saved average and its number of samples kept")
            return None
        runs = [Keywords(each).text("OFFRUN") for each in (product, found)]
        if None not in runs and runs[0] != runs[1]:
            self.missing.append(f"the average ({found.name} was saved by another run)")
            return None
        return found

    def backgrounds(self, names: Sequence[str]) -> list[tuple[str, Exposure | None]]:
        """Return backgrounds by their names, open where they were found."""
        pairs: list[tuple[str, Exposure | None]] = []
        for i, name in enumerate(names):
            looked_for = self._folders and i < _MOST_OPEN
            known = self._opened(self._find([Path(name).name])) if looked_for else None
            pairs.append((name, known))
        if self._folders and pairs and not any(known for _, known in pairs):
            self.missing.append("the backgrounds")
        return pairs

    def close(self) -> None:
        """Close all of them."""
        for each in self._open:
            each.close()


def _gathered(
    product: Exposure,
    target: Exposure | None,
    average: Exposure | None,
    n_kept: Array | None,
    *,
    derive: bool,
) -> Gathered:
    """Read a product, and what there is beside it, by rows."""
    has_average = average is not None or (derive and target is not None)
    gathering = Gathering(product.shape, has_before=target is not None, has_average=has_average)
    ny = product.shape[-2]
    scratch, wanted = Scratch(), Wanted(err=True)
    for first in range(0, ny, _ROWS):
        last = min(first + _ROWS, ny)
        scratch.clear()
        rows = product.read_rows(first, last, scratch, wanted)
        before = None if target is None else target.read_rows(first, last, scratch, wanted)
        background: Background | None = None
        if average is not None:
            own = average.read_rows(first, last, scratch, wanted)
            sci = np.asarray(own.sci, dtype=np.float32)
            kept = np.full(sci.shape, np.nan, dtype=np.float32)
            if n_kept is not None:
                kept = n_kept[first:last]
            err = None if own.err is None else np.asarray(own.err, dtype=np.float32)
            dq = None if own.dq is None else own.dq.astype(np.uint32) ^ np.uint32(own.dq_flip)
            background = Background(sci, kept, err, dq)
        elif before is not None and derive:
            one = (0,) if before.sci.ndim == 3 else ()
            with np.errstate(invalid="ignore"):
                sci = np.asarray(before.sci[one] - rows.sci[one], dtype=np.float32)
            background = Background(sci, np.full(sci.shape, np.nan, dtype=np.float32))
        gathering.see(
            first,
            last,
            Plane(rows.sci, rows.err, rows.dq, rows.dq_flip),
            None if before is None else Plane(before.sci, None, before.dq, before.dq_flip),
            background,
        )
    gathered = gathering.result()
    return gathered if n_kept is not None else replace(gathered, kept=None)
