"""Run a whole programme: every product of a plan, by an executor."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from offsky.engine.forecast import Forecast, Workload, forecast
from offsky.engine.prepare import fits_scale, prepares
from offsky.errors import OutputError, ParameterError
from offsky.outcome import COMPLETE, FAILED, SKIPPED, ProductOutcome
from offsky.programme.job import GroupJob, failed
from offsky.programme.journal import Journal, write_text
from offsky.programme.plan import Group, Plan, balance
from offsky.programme.planning import changed_since

log = logging.getLogger(__name__)

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
    limit = memory_bytes
    if memory_bytes is not None and executor.is_here:
        limit = memory_bytes // executor.n_workers
    jobs = group_jobs(
        plan, folder, executor, memory_bytes=limit, overwrite=overwrite, checksum=checksum
    )
    journal = Journal(folder)
    outcomes: dict[str, ProductOutcome] = {}

    def note(outcome: ProductOutcome) -> None:
        outcomes[outcome.output] = outcome
        if on_outcome is not None:
            on_outcome(outcome)

    with journal.locked():
        journal.sweep(product.output for product in plan.products)
        for path in changed_since(plan):
            log.warning(
                "%s: not what it was when the plan was made; its products follow the file as it "
                "is now",
                path,
            )
        for product in plan.products:
            if product.skipped is not None:
                note(ProductOutcome(product.output, product.target, SKIPPED, product.skipped))
        _refuse_inputs(plan, folder)
        for outcome in executor.run(jobs):
            note(outcome)
        for product in plan.products:
            if product.output not in outcomes:
                note(failed(product, "it was lost: no worker told what came of it; run again"))
        # Of workers that died in this run.
        journal.sweep(product.output for product in plan.products)
        products = tuple(outcomes[product.output] for product in plan.products)
        summary = Summary(products, time.perf_counter() - started)
        write_text(folder / SUMMARY, json.dumps(summary.as_dict(), indent=1) + "\n")
    return summary


def group_jobs(
    plan: Plan,
    folder: Path,
    executor: Executor,
    *,
    memory_bytes: int | None,
    overwrite: bool = False,
    checksum: bool = False,
) -> list[GroupJob]:
    """Return what there is to do, group by group, the largest first.

    Parameters
    ----------
    memory_bytes : int or None
        Limit for one worker.
    plan, folder, executor, overwrite, checksum
        As for `run_programme`.

    Raises
    ------
    ParameterError
        If a group cannot be made within the limit.
    """
    jobs = []
    for group in balance(plan, executor.n_workers):
        expected = predict(plan, group, memory_bytes, executor.threads)
        if memory_bytes is not None and expected.peak_bytes > memory_bytes:
            first = plan.products[group.products[0]]
            raise ParameterError(
                f"{first.output}: its group of {len(group.products)} products needs "
                f"{megabytes(expected.peak_bytes)} of memory at least, where "
                f"{megabytes(memory_bytes)} are allowed for each of {executor.n_workers} "
                "workers; allow more (--memory), or use fewer workers or threads"
            )
        jobs.append(
            GroupJob(
                kind=group.kind,
                products=tuple(plan.products[i] for i in group.products),
                folder=str(folder.absolute()),
                threads=executor.threads,
                rows_per_block=expected.rows_per_block,
                products_per_pass=expected.products_per_pass,
                overwrite=overwrite,
                checksum=checksum,
            )
        )
    return jobs


def predict(plan: Plan, group: Group, memory_bytes: int | None, threads: int) -> Forecast:
    """Predict how a group will be worked on, and the memory that it takes.

    Parameters
    ----------
    plan : Plan
        The programme.
    group : Group
        One of its groups, or a part of one.
    memory_bytes : int or None
        The limit.
    threads : int
        Threads that work on it.
    """
    known = plan.file_of
    products = [plan.products[i] for i in group.products]
    targets = [known[p.target] for p in products if p.target in known]
    targets = [file for file in targets if file.shape]
    paths = {path for product in products for path in product.backgrounds}
    backgrounds = [known[path] for path in sorted(paths) if path in known]
    backgrounds = [file for file in backgrounds if file.shape]
    shapes = [file.shape[-2:] for file in targets or backgrounds] or [(1, 1)]
    options = products[0].options
    # Backgrounds of another window are read whole rows at a time and cut out; levels and
    # masks change a copy.
    placed = not {file.shape[-2:] for file in backgrounds} <= set(shapes)
    factor = 2 if placed or prepares(options) else 1
    # Then each has its own, one after the other.
    apart = group.kind == "leave-one-out" and (prepares(options) or fits_scale(options))
    masked = sum(math.prod(file.shape[-2:]) // 8 for file in backgrounds if options.mask_sources)
    work = Workload(
        kind="shared" if fits_scale(options) else group.kind,
        n_rows=max(shape[0] for shape in shapes),
        n_columns=max(shape[1] for shape in shapes),
        row_bytes=factor * sum(file.row_bytes for file in backgrounds),
        n_cubes=sum(len(file.shape) == 3 for file in backgrounds),
        n_exposures=len({file.path for file in (*targets, *backgrounds)}),
        n_products=1 if apart else len(products),
        target_bytes=2 * max((file.held_bytes for file in targets), default=0),
        held_bytes=masked + sum(each.held_bytes for each in backgrounds if not each.row_bytes),
        errors=options.errors == "propagate",
    )
    return forecast(work, memory_bytes, threads)


def megabytes(n_bytes: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{n_bytes / 2**20:,.0f} MB"


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
