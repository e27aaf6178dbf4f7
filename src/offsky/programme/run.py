"""Run a whole programme: every product of a plan, by an executor."""

import json
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from offsky.engine.forecast import megabytes
from offsky.errors import OffskyError, OutputError, ParameterError, reason_of
from offsky.io.output import write_text
from offsky.outcome import COMPLETE, FAILED, SKIPPED, counted, without_value
from offsky.product_outcome import ProductOutcome
from offsky.programme.job import GroupJob, failed, on_disk
from offsky.programme.journal import Journal
from offsky.programme.plan import Plan, balance
from offsky.programme.planning import changed_since
from offsky.programme.sizing import predict
from offsky.stopping import Stopped

log = logging.getLogger(__name__)

# Lines about single files.
_MOST_TOLD = 20

SUMMARY = "summary.json"


class Executor(Protocol):
    """Something that makes groups of products, here or elsewhere."""

    @property
    def n_workers(self) -> int:
        """Groups worked on at a time."""

    @property
    def threads(self) -> int:
        """Threads for each group."""

    @property
    def is_here(self) -> bool:
        """Whether the workers' memory is this machine's."""

    def run(self, jobs: Sequence[GroupJob]) -> Iterator[ProductOutcome]:
        """Make all groups; yield outcomes in any order, raise nothing but for Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a programme.

    Attributes
    ----------
    products : tuple of ProductOutcome
        In the plan's order.
    elapsed_s : float
        Wall time.
    """

    products: tuple[ProductOutcome, ...]
    elapsed_s: float

    def count(self, status: str) -> int:
        """Return how many products ended so."""
        return sum(product.status == status for product in self.products)

    def as_dict(self) -> dict[str, Any]:
        """Return everything by name, ready for JSON."""
        return {
            "format": "offsky-summary",
            "version": 1,
            "offsky": version("offsky"),
            "elapsed_s": self.elapsed_s,
            "n_complete": self.count(COMPLETE),
            "n_skipped": self.count(SKIPPED),
            "n_failed": self.count(FAILED),
            "n_made": sum(product.made for product in self.products if product.details),
            "products": [product.as_dict() for product in self.products],
        }


def run_programme(
    plan: Plan,
    folder: Path,
    *,
    executor: Executor,
    memory_bytes: int | None = None,
    overwrite: bool = False,
    checksum: bool = False,
    save_combined: bool = False,
    report: Path | None = None,
    on_outcome: Callable[[ProductOutcome], None] | None = None,
) -> Summary:
    """Make the products of a plan that are missing or whose inputs have changed.

    Parameters
    ----------
    plan : Plan
        The programme.
    folder : Path
        Where the products go; it is made if it is not there. One run at a time.
    executor : Executor
        What the work is done by. The results do not depend on it.
    memory_bytes : int or None
        Limit for all workers together (of a cluster: for each); None for no limit.
    overwrite : bool
        Whether files that no earlier run made may be replaced.
    checksum : bool
        Tell by content, not by size and time, whether inputs have changed.
    save_combined : bool
        Also write the average of each product, as ``<root>_combinedbackground.fits``.
    report : Path or None
        Folder for a page on each product and an index of them; None for no pages.
    on_outcome : callable or None
        Called with every outcome as it comes.

    Returns
    -------
    Summary
        Also written to ``summary.json`` in the folder.

    Raises
    ------
    ParameterError
        If the memory does not suffice.
    OutputError
        If the folder cannot be used, or another run is using it.
    """
    started = time.perf_counter()
    jobs = group_jobs(
        plan,
        folder,
        executor,
        memory_bytes=limit_of_worker(memory_bytes, executor),
        overwrite=overwrite,
        checksum=checksum,
        save_combined=save_combined,
        report=report,
    )
    journal = Journal(folder)
    outcomes: dict[str, ProductOutcome] = {}

    def note(outcome: ProductOutcome) -> None:
        outcomes[outcome.output] = outcome
        if on_outcome is not None:
            on_outcome(outcome)

    summary, stop = None, None
    try:
        with journal.locked():
            if report is not None:
                _make_folder(report)
            try:
                journal.sweep(product.output for product in plan.products)
                _tell_changed(changed_since(plan))
                for outcome in _skipped(plan):
                    note(outcome)
                _refuse_inputs(plan, folder)
                for outcome in executor.run(jobs):
                    note(outcome)
                for product in plan.products:
                    if product.output not in outcomes:
                        lost = "it was lost: no worker told what came of it; run again"
                        note(failed(product, lost))
                summary = _finished(plan, folder, journal, outcomes, started, report)
            except KeyboardInterrupt as error:
                stop = error
                with suppress(OffskyError):
                    journal.sweep(product.output for product in plan.products)
                summary = _stopped(plan, jobs, outcomes, time.perf_counter() - started)
                with suppress(OffskyError):
                    _write_summary(summary, folder)
    except KeyboardInterrupt as error:
        # While the lock is taken, or once all is made and it is given back.
        if summary is None:
            raise
        stop = error
    if stop is not None:
        raise stopped_with(summary, stop) from None
    return summary


def _finished(
    plan: Plan,
    folder: Path,
    journal: Journal,
    outcomes: dict[str, ProductOutcome],
    started: float,
    report: Path | None,
) -> Summary:
    """Tell and write what came of all products."""
    # Of workers that died in this run.
    journal.sweep(product.output for product in plan.products)
    products = tuple(outcomes[product.output] for product in plan.products)
    for warning in gaps_of(products):
        log.warning("%s", warning)
    summary = Summary(products, time.perf_counter() - started)
    try:
        _write_summary(summary, folder)
    except OutputError as error:
        if not summary.count(FAILED):
            raise
        # There is something else to tell.
        log.warning("%s", error)
    if report is not None:
        from offsky.reporting.indexing import write_index_of_run

        write_index_of_run(report, products, folder.resolve().name)
    return summary


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made ({reason_of(error)}); choose another folder"
        ) from error


def _tell_changed(paths: Sequence[str]) -> None:
    """Tell which inputs are not what they were; of thousands only how many."""
    follow = "its products follow the file as it is now"
    for path in paths[:_MOST_TOLD]:
        log.warning("%s: not what it was when the plan was made; %s", path, follow)
    if len(paths) > _MOST_TOLD:
        n_more = len(paths) - _MOST_TOLD
        log.warning("%d more files are not what they were when the plan was made", n_more)


def _write_summary(summary: Summary, folder: Path) -> None:
    text = json.dumps(summary.as_dict(), indent=1, allow_nan=False)
    write_text(folder / SUMMARY, text + "\n")


def _skipped(plan: Plan) -> list[ProductOutcome]:
    """Return what is said of products that the plan leaves out."""
    return [
        ProductOutcome(product.output, product.target, SKIPPED, product.skipped)
        for product in plan.products
        if product.skipped is not None
    ]


def _stopped(
    plan: Plan, jobs: Sequence[GroupJob], known: dict[str, ProductOutcome], elapsed_s: float
) -> Summary:
    """Return what came of a programme that was stopped: what is on disk counts."""
    outcomes = {outcome.output: outcome for outcome in _skipped(plan)} | known
    for job in jobs:
        for product in job.products:
            if product.output not in outcomes:
                # A worker may have made it, and had no time to tell.
                outcomes[product.output] = on_disk(job, product) or failed(
                    product, f"{product.output}: stopped before it was made; run again to go on"
                )
    return Summary(tuple(outcomes[product.output] for product in plan.products), elapsed_s)


def stopped_with(summary: Summary, stop: KeyboardInterrupt) -> Stopped:
    """Return what tells how much a programme has made."""
    wanted = [each for each in summary.products if each.status != SKIPPED or each.details]
    n_made = sum(each.status != FAILED for each in wanted)
    signum = int(getattr(stop, "signum", signal.SIGINT))
    return Stopped(
        f"stopped; {n_made} of {counted(len(wanted), 'product is', 'products are')} made; run "
        "the same command again to go on",
        signum,
    )


def limit_of_worker(memory_bytes: int | None, executor: Executor) -> int | None:
    """Return the memory of one worker: a share of this machine's, or all of a cluster's."""
    if memory_bytes is None or not executor.is_here:
        return memory_bytes
    return memory_bytes // executor.n_workers


def group_jobs(
    plan: Plan,
    folder: Path,
    executor: Executor,
    *,
    memory_bytes: int | None,
    overwrite: bool = False,
    checksum: bool = False,
    save_combined: bool = False,
    report: Path | None = None,
) -> list[GroupJob]:
    """Return what there is to do, group by group, the largest first.

    Parameters
    ----------
    memory_bytes : int or None
        Limit for one worker.
    plan, folder, executor, overwrite, checksum, save_combined, report
        As for `run_programme`.

    Raises
    ------
    ParameterError
        If a group cannot be made within the limit.
    """
    jobs = []
    for group in balance(plan, executor.n_workers):
        expected = predict(
            plan, group, memory_bytes, executor.threads, save_combined=save_combined
        )
        if (
            memory_bytes is not None
            and expected is not None
            and expected.peak_bytes > memory_bytes
        ):
            first = plan.products[group.products[0]]
            raise ParameterError(
                f"{first.output}: its group of "
                f"{counted(len(group.products), 'product', 'products')} needs "
                f"{megabytes(expected.peak_bytes)} of memory at least, where "
                f"{megabytes(memory_bytes)} are allowed for each of {executor.n_workers} "
                "workers; allow more (--memory), or use fewer workers or threads"
            )
        jobs.append(
            GroupJob(
                products=tuple(plan.products[i] for i in group.products),
                folder=str(folder.absolute()),
                threads=executor.threads,
                memory_bytes=memory_bytes,
                overwrite=overwrite,
                checksum=checksum,
                save_combined=save_combined,
                report=None if report is None else str(report.absolute()),
            )
        )
    return jobs


def gaps_of(products: Sequence[ProductOutcome]) -> list[str]:
    """Return one warning for each kind of gap that the products made now have."""
    kinds = (
        ("n_uncovered", "without a background sample"),
        ("n_err_estimated", "with a sample whose ERR was estimated from the others'"),
        ("n_err_unknown", "whose average has no known error; the target's errors stay there"),
    )
    made = [product.details for product in products if product.made and product.details]
    warnings = []
    for name, words in kinds:
        numbers = [n for details in made if (n := details.get(name) or 0)]
        if numbers:
            n_products = counted(len(numbers), "product", "products")
            n_pixels = counted(sum(numbers), "pixel", "pixels")
            more = ""
            if name == "n_uncovered":
                more = without_value(sum(details.get("n_no_value") or 0 for details in made))
            warnings.append(f"{n_products} of {len(made)}: {n_pixels} {words}{more}")
    return warnings


def _refuse_inputs(plan: Plan, folder: Path) -> None:
    """Raise if an output is a file that some product is made from."""
    inputs = set()
    for file in plan.files:
        try:
            status = Path(file.path).stat()
        except OSError:
            continue
        inputs.add((status.st_dev, status.st_ino))
    for product in plan.products:
        try:
            status = (folder / product.output).stat()
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in inputs:
            raise OutputError(
                f"{folder / product.output}: the output is also an input of the programme; inputs "
                "are never changed, choose another folder"
            )
