"""Watch a product being made, and write its page."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from offsky.declared import in_words
from offsky.engine.order import Observer, Watched
from offsky.errors import ExposureError, ParameterError
from offsky.io.facts import exposure_facts, pointing_of
from offsky.io.inspected import inspected
from offsky.measure.gather import Background, Gathering, Plane
from offsky.measure.members import Members
from offsky.options import Options
from offsky.outcome import Outcome
from offsky.report.summary import Summary
from offsky.reporting.facts import background_facts, common_facts, expected_rejection
from offsky.reporting.pages import write_report
from offsky.reporting.place import Place, place_of
from offsky.reporting.summarize import describe, parameters_of, summarize
from offsky.subtraction import TargetRows
from offsky.values.average import ClippedMean
from offsky.values.exposure import Rows
from offsky.values.facts import ExposureFacts, Facts
from offsky.values.gathered import Gathered


def page_observer(
    report: str | os.PathLike[str] | None,
    product: Path | None,
    *,
    overwrite: bool,
    thumbnails: bool,
) -> "PageObserver":
    """Return what writes the page of a product; of None beside the product."""
    place = place_of(report, overwrite=overwrite, thumbnails=thumbnails)
    if thumbnails and place.path is not None:
        raise ParameterError(f"{report}: one page cannot show several products; name a folder")
    place.check(product)
    return PageObserver(place)


class PageObserver(Observer):
    """Watches a product being made, and writes its page.

    Parameters
    ----------
    place : Place
        Where the page goes.
    checksums : sequence of (str, str)
        Inputs whose checksum is known.
    """

    def __init__(self, place: Place, checksums: Sequence[tuple[str, str]] = ()) -> None:
        self.place = place
        self.page: Path | None = None
        self.entry: dict[str, Any] | None = None
        self._checksums = tuple(checksums)
        self._gathering: Gathering | None = None
        self._watched: Watched | None = None

    @property
    def held_bytes(self) -> int:
        """Memory that it takes while a product is made."""
        return 40 * 2**20

    def begin(self, watched: Watched) -> None:
        """Begin to gather, as of `Observer`."""
        self._watched = watched
        self._gathering = Gathering(watched.target.shape)

    def see(
        self, first: int, last: int, target: Rows, average: ClippedMean, product: TargetRows
    ) -> None:
        """Gather rows, as of `Observer`."""
        gathering = self._gathering
        if gathering is None:
            return
        err = target.err if product.err is None else product.err
        gathering.see(
            first,
            last,
            Plane(product.sci, err, product.dq, product.dq_flip),
            Plane(target.sci, None, target.dq, target.dq_flip),
            Background(average.sci, average.n_kept, average.err, average.dq),
        )

    def finish(self, outcome: Outcome, product: Path, members: Members | None) -> None:
        """Write the page, as of `Observer`."""
        watched, gathering = self._watched, self._gathering
        self._watched = self._gathering = None
        if watched is None or gathering is None:
            return
        if not outcome.backgrounds:
            if outcome.output is None:
                raise ExposureError("nothing was subtracted, and a model is no file to read")
            # Nothing went by: the product is a copy. What reads products is imported for it alone.
            from offsky.reporting.existing import summary_of

            summary = summary_of(product, [Path(str(watched.given_target)).parent])
        else:
            summary = _summary_of_run(watched, gathering.result(members), outcome, product)
        summary = replace(summary, checksums=self._checksums)
        self.page = self.place.of(product)
        self.entry = write_report(summary, self.page, product, thumbnails=self.place.thumbnails)


def _summary_of_run(
    watched: Watched, gathered: Gathered, outcome: Outcome, product: Path
) -> Summary:
    """Return the summary of a product that was just made."""
    target = watched.target
    told = inspected(target, target.name)
    numbers = iter(zip(outcome.n_rejected, outcome.n_masked, strict=True))
    pointing = pointing_of(target)
    facts = []
    for exposure, verdict in zip(watched.backgrounds, watched.verdicts, strict=True):
        used = verdict.fate == "used"
        n_rejected, n_masked = next(numbers) if used else (None, None)
        facts.append(
            background_facts(target, pointing, exposure, verdict.fate, "; ".join(verdict.remarks))
        )
        facts[-1] = replace(
            facts[-1],
            exposure=_with_imprint(facts[-1].exposure, outcome),
            n_rejected=n_rejected,
            n_masked=n_masked,
        )
    options = outcome.options
    about = Facts(
        target=_with_imprint(exposure_facts(target), outcome),
        status=outcome.status,
        subtraction="offsky",
        backgrounds=tuple(facts),
        n_samples=outcome.n_samples,
        expected_rejected=expected_rejection(options, len(outcome.backgrounds)),
        n_uncovered=outcome.n_uncovered,
        n_no_value=outcome.n_no_value,
        **common_facts(target, pointing, options),
    )
    counts = [
        (
            "samples rejected",
            f"{sum(outcome.n_rejected):,} of {outcome.n_samples:,} "
            f"({sum(outcome.n_rejected) / max(1, outcome.n_samples):.2%})",
        ),
        ("pixels without background", f"{outcome.n_uncovered:,}"),
        ("median of the average", _with_unit(outcome.median_level, outcome.unit)),
    ]
    if outcome.imprints:
        n = len(outcome.imprints)
        counts.append(("imprint subtracted from", f"{n} exposure{'s' if n > 1 else ''}"))
    if sum(outcome.n_masked):
        counts.append(("samples masked", f"{sum(outcome.n_masked):,}"))
    if options.target_scale != 1.0:
        counts.append(("factor on the average", f"{outcome.target_scale:.6g}"))
    if options.target_offset != 0.0:
        counts.append(("constant subtracted with it", f"{outcome.target_offset:.6g}"))
    return summarize(
        gathered,
        about,
        name=product.name,
        description=describe(told),
        parameters=parameters_of(options, watched.run),
        command=_command(watched, options, product),
        counts=tuple(counts),
    )


def _with_imprint(facts: ExposureFacts, outcome: Outcome) -> ExposureFacts:
    """Return facts of an exposure, with the imprint that was subtracted from it first."""
    had = any(name == facts.name for name, _ in outcome.imprints)
    return replace(facts, imprint="COMPLETE") if had else facts


def _with_unit(value: float | None, unit: str | None) -> str:
    return "none" if value is None else f"{value:.6g} {unit or ''}".rstrip()


def _command(watched: Watched, options: Options, product: Path) -> str:
    """Return the command that makes a product again."""
    if not isinstance(watched.given_target, str | os.PathLike):
        return ""
    words = ["offsky", "subtract", str(watched.given_target)]
    words += [str(each) for each in watched.given_backgrounds]
    words += ["-o", str(product)]
    if any(mask is not None for mask in watched.given_masks):
        words += [f"--mask={'none' if mask is None else mask}" for mask in watched.given_masks]
    words += [f"--imprint={each}" for each in watched.given_imprints]
    words += [f"--profile={options.profile}"] if options.profile != "jwst" else []
    for name, value in options.beyond_profile().items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words.append(f"--{flag}={in_words(value)}")
    return " ".join(shlex.quote(word) for word in words)
