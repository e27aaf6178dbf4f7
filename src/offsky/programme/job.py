"""Make the products of one group: what a worker does, in its own process or ours."""

import errno
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offsky.engine.make import make
from offsky.engine.order import Limits, Order, Progress, Result
from offsky.errors import OffskyError, OutputExistsError
from offsky.io.average_product import FileAverage
from offsky.io.names import combined_name, is_asdf, product_root
from offsky.io.parts import run_of
from offsky.io.product import FileProduct
from offsky.options import Options
from offsky.outcome import COMPLETE, FAILED
from offsky.product_outcome import ProductOutcome
from offsky.programme.journal import Journal, fingerprint, sha256
from offsky.programme.plan import PlannedProduct
from offsky.selection.examined import dropped_files
from offsky.selection.suitability import Policy

if TYPE_CHECKING:
    from offsky.engine.order import Observer
    from offsky.reporting.place import Place

log = logging.getLogger(__name__)


@lru_cache(maxsize=16)
def _as_dict(options: Options) -> dict[str, Any]:
    """Return options by name; products of a programme share them."""
    return asdict(options)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupJob:
    """One group of products to be made, with all a worker needs to know.

    Attributes
    ----------
    products : tuple of PlannedProduct
        The products, all by the same options.
    folder : str
        Where they go.
    threads : int
        Threads to work on.
    memory_bytes : int or None
        Most memory of the worker; None for no limit.
    overwrite : bool
        Whether files that are not ours may be replaced.
    checksum : bool
        Tell by content whether inputs have changed.
    save_combined : bool
        Also write the average of each product.
    report : str or None
        Folder for a page on each product; None for no pages.
    """

    products: tuple[PlannedProduct, ...]
    folder: str
    threads: int
    memory_bytes: int | None = None
    overwrite: bool = False
    checksum: bool = False
    save_combined: bool = False
    report: str | None = None


@dataclass(frozen=True, slots=True)
class GroupReport:
    """What a worker sends back.

    Attributes
    ----------
    outcomes : list of ProductOutcome
        One for each product.
    warnings : list of str
        What is to be logged where the command runs.
    is_full : bool
        Whether a product found no room on the disk.
    """

    outcomes: list[ProductOutcome]
    warnings: list[str]
    is_full: bool = False


NO_ROOM = "not tried, since the disk is full; make room, and run the same command again to go on"
"""Why a product was not begun."""


@dataclass(slots=True)
class Room:
    """Whether there is room for more products on the disk."""

    is_full: bool = False


def make_group(
    job: GroupJob, progress: Progress | None = None, *, room: Room | None = None
) -> Iterator[ProductOutcome]:
    """Make what is missing of a group.

    Parameters
    ----------
    job : GroupJob
        The group.
    progress : callable or None
        As of `offsky.engine.make.make`.
    room : Room or None
        Whether the disk is full already; told to the caller too.

    Yields
    ------
    ProductOutcome
        One for each product, as it is finished. Nothing but Ctrl-C is raised.

    Notes
    -----
    Products that are written at the same time may need more room together than one by one:
    those that found none are tried again, one at a time, until the first that does not fit.
    """
    room = room or Room()
    journal = Journal(Path(job.folder))
    todo: dict[int, _Product] = {}
    orders: list[Order] = []
    for planned in job.products:
        try:
            product = _Product(planned, job, journal)
            kept = product.kept()
            if kept is not None:
                product.add_page()
                yield kept
                continue
            order = product.order()
        except Exception as error:
            yield failed(planned, error)
        else:
            todo[id(order)] = product
            orders.append(order)
    if not orders:
        return
    limits = Limits(job.threads, job.memory_bytes)
    options = job.products[0].options
    again: list[Order] = []
    if not room.is_full:
        for result in make(orders, options=options, limits=limits, progress=progress):
            if len(orders) > 1 and _is_full(result.error):
                again.append(result.order)
                continue
            yield _outcome(todo[id(result.order)], result, room)
    else:
        again = orders
    for order in again:
        if room.is_full:
            yield failed(todo[id(order)].planned, NO_ROOM)
            continue
        for result in make([order], options=options, limits=limits, progress=progress):
            yield _outcome(todo[id(order)], result, room)


def _outcome(product: "_Product", result: Result, room: Room) -> ProductOutcome:
    """Return the outcome of a product, and note where it found no room."""
    room.is_full = room.is_full or _is_full(result.error)
    try:
        return product.outcome(result)
    except OSError as error:
        # The product is there, its record is not.
        room.is_full = room.is_full or _is_full(error)
        return failed(product.planned, error)


def _is_full(error: BaseException | None) -> bool:
    """Tell whether an error, or what was behind it, is a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def without_room(job: GroupJob) -> Iterator[ProductOutcome]:
    """Yield the outcomes of a group that is not begun, since the disk is full."""
    yield from make_group(job, room=Room(is_full=True))


def on_disk(job: GroupJob, planned: PlannedProduct) -> ProductOutcome | None:
    """Return the outcome of a product that is there as it should be; None for any other."""
    journal = Journal(Path(job.folder))
    try:
        kept = _Product(planned, job, journal).kept()
    except (OffskyError, OSError):
        return None
    if kept is None and journal.appeared(planned.output):
        reason = "made at the very end; the next run makes it again, since it is not recorded"
        return ProductOutcome(planned.output, planned.target, COMPLETE, reason)
    return kept


def make_group_report(job: GroupJob) -> GroupReport:
    """Make a group and return all outcomes together, to be sent back by a worker."""
    collected = _Collected()
    logger = logging.getLogger("offsky")
    logger.addHandler(collected)
    try:
        room = Room()
        outcomes = list(make_group(job, room=room))
        return GroupReport(outcomes, collected.warnings, room.is_full)
    finally:
        logger.removeHandler(collected)


class _Collected(logging.Handler):
    """Collects warnings, the same words once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[str, None] = {}

    @property
    def warnings(self) -> list[str]:
        """The words, in their order."""
        return list(self._said)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the words of a record."""
        self._said[record.getMessage()] = None


def failed(planned: PlannedProduct, error: BaseException | str) -> ProductOutcome:
    """Return the outcome of a product that could not be made."""
    if isinstance(error, str | OffskyError):
        reason = str(error)
        if product_root(Path(planned.output)) not in reason:
            reason = f"{planned.output}: {reason}"
    else:
        reason = f"{type(error).__name__}: {error}"
        log.error("%s: unexpected %s", planned.output, reason, exc_info=error)
    return ProductOutcome(planned.output, planned.target, FAILED, reason)


class _Product:
    """A product of a group: what the journal knows of it, and its order."""

    def __init__(self, planned: PlannedProduct, job: GroupJob, journal: Journal) -> None:
        self.planned = planned
        self._output = Path(job.folder) / planned.output
        self._job = job
        self._journal = journal
        self._inputs = [Path(path) for path in (*planned.inputs, *planned.mask_files)]
        asdf = is_asdf(planned.target)
        self._combined = combined_name(product_root(self._output), asdf=asdf)
        self._mark = self._fingerprint()
        self._checksum = self._fingerprint(checksum=True) if job.checksum else None

    def _fingerprint(self, *, checksum: bool = False) -> str:
        # Which background a mask is of counts too.
        how = [_as_dict(self.planned.options), self.planned.force, self.planned.masks]
        if self.planned.imprints:
            how.append(self.planned.imprints)
        return fingerprint(how, self._inputs, checksum=checksum)

    def kept(self) -> ProductOutcome | None:
        """Return the outcome of an earlier run, if that still holds."""
        mark = self._mark if self._checksum is None else self._checksum
        found = self._journal.finished(
            self.planned.output, mark, checksum=self._checksum is not None
        )
        if found is None or not self._has_average(found.get("status")):
            return None
        return ProductOutcome(
            self.planned.output,
            self.planned.target,
            str(found.get("status")),
            None,
            made=False,
            details=found,
        )

    def add_page(self) -> None:
        """Write the page of a product that an earlier run made, where it is not there."""
        place = self._place()
        if place is None or place.of(self._output).exists():
            return
        from offsky.reporting.existing import report_products

        try:
            report_products([self._output], place, [Path(self.planned.target).parent])
        except OffskyError as error:
            log.warning("%s: no report: %s", self.planned.output, error)

    def _place(self) -> "Place | None":
        """Return where the page goes; None where none is wanted."""
        if self._job.report is None:
            return None
        # What only an option needs is imported there.
        from offsky.reporting.place import Place

        folder = Path(self._job.report)
        return Place(folder=folder, overwrite=self._job.overwrite, thumbnails=True)

    def _observers(self) -> "tuple[Observer, ...]":
        place = self._place()
        if place is None:
            return ()
        from offsky.reporting.observed import PageObserver

        place.check(self._output)
        inputs = dict.fromkeys((self.planned.target, *self.planned.backgrounds))
        checksums = [(path, sha256(Path(path))) for path in inputs] if self._job.checksum else []
        return (PageObserver(place, checksums),)

    def _has_average(self, status: object) -> bool:
        """Whether the average that is wanted is there."""
        if not self._job.save_combined or status != "COMPLETE":
            return True
        average = Path(self._job.folder) / self._combined
        # Those of two runs are no pair.
        return average.exists() and run_of(average) == run_of(self._output)

    def order(self) -> Order:
        """Return what the engine is to make; note in the journal that it is begun."""
        replace_product = self._job.overwrite or self._journal.may_replace(self.planned.output)
        combined = None
        if self._job.save_combined:
            mine = self._journal.may_replace_average(self.planned.output, self._combined)
            combined = FileAverage(
                Path(self._job.folder) / self._combined, overwrite=self._job.overwrite or mine
            )
        product = FileProduct(self._output, overwrite=replace_product and self._output.exists())
        # Before anything is noted: what may not be replaced is no business of the journal.
        product.check(self._inputs)
        observers = self._observers()
        self._journal.begin(
            self.planned.output, average=self._combined if combined is not None else None
        )
        return Order(
            name=self.planned.output,
            target=Path(self.planned.target),
            backgrounds=tuple(Path(path) for path in self.planned.backgrounds),
            product=product,
            combined=combined,
            masks=tuple(None if m is None else Path(m) for m in self.planned.masks),
            imprints=tuple(tuple(map(Path, of_one)) for of_one in self.planned.imprints),
            policy=Policy(force=self.planned.force),
            observers=observers,
        )

    def outcome(self, result: Result) -> ProductOutcome:
        """Return the outcome of the engine's result, and write it into the journal."""
        if result.error is not None:
            # Another worker may have been faster.
            kept = self.kept() if isinstance(result.error, OutputExistsError) else None
            return failed(self.planned, result.error) if kept is None else kept
        outcome = result.succeeded()
        pages = [getattr(each, "page", None) for each in result.order.observers]
        page = str(pages[0]) if pages and pages[0] is not None else None
        dropped = (*_dropped(self.planned), *outcome.dropped)
        outcome = replace(outcome, dropped=dropped, report=page)
        details = outcome.as_dict()
        self._journal.finish(
            self.planned.output, details, inputs=self._mark, checksum=self._checksum
        )
        return ProductOutcome(
            self.planned.output,
            self.planned.target,
            outcome.status,
            None
            if outcome.backgrounds
            else f"{outcome.reason or 'no background used'}; a copy of the target",
            details=details,
        )


def _dropped(planned: PlannedProduct) -> Iterator[tuple[str, str]]:
    """Yield the files that the plan has dropped, those with one reason together."""
    for reason, files in dropped_files(planned):
        names = ", ".join(Path(path).name for path in files[:2])
        more = f" and {len(files) - 2} more" if len(files) > 2 else ""
        if files:
            yield f"{names}{more}", reason
