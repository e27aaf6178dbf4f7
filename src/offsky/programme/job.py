"""Make the products of one group: what a worker does, in its own process or ours."""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offsky.combine.blocks import each_block
from offsky.combine.images import combine_images, reduce_rows
from offsky.combine.placed import PlacedExposure
from offsky.combine.whole import Assembled, Assembly, assemble
from offsky.engine.prepare import find_scale, fits_scale, prepare, prepares
from offsky.errors import ExposureError, OffskyError, OutputExistsError
from offsky.files import subtract_file
from offsky.io.cards import Provenance
from offsky.io.files import open_exposure
from offsky.io.fits import FitsExposure
from offsky.io.fits_average import set_cards
from offsky.io.fits_copy import FitsCopy, can_copy
from offsky.io.models import is_asdf
from offsky.io.output import atomic_output, check_output
from offsky.io.product import new_header, start_copy, subtract_whole
from offsky.measure.weights import weigh
from offsky.outcome import FAILED, Outcome, ProductOutcome, completed, skipped
from offsky.programme.journal import Journal, fingerprint
from offsky.programme.plan import Kind, PlannedProduct
from offsky.selection.choose import Choice, check_target, choose_backgrounds
from offsky.selection.suitability import Policy
from offsky.subtraction import Subtraction, TargetScale
from offsky.values.exposure import Exposure, Rows

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupJob:
    """One group of products to be made, with all a worker needs to know.

    Attributes
    ----------
    kind : str
        How they are made together, see `offsky.plan.Group`.
    products : tuple of PlannedProduct
        The products.
    folder : str
        Where they go.
    threads : int
        Threads to work on.
    rows_per_block, products_per_pass : int
        From `offsky.memory.forecast`.
    overwrite : bool
        Whether files that are not ours may be replaced.
    checksum : bool
        Tell by content whether inputs have changed.
    """

    kind: Kind
    products: tuple[PlannedProduct, ...]
    folder: str
    threads: int
    rows_per_block: int
    products_per_pass: int
    overwrite: bool = False
    checksum: bool = False


def make_group(job: GroupJob) -> Iterator[ProductOutcome]:
    """Make what is missing of a group, and say what came of each product.

    Parameters
    ----------
    job : GroupJob
        The group.

    Yields
    ------
    ProductOutcome
        One for each product, as it is finished. Nothing but Ctrl-C is raised.
    """
    journal = Journal(Path(job.folder))
    todo: list[_Product] = []
    for planned in job.products:
        try:
            product = _Product(planned, job, journal)
            kept = product.kept()
            if kept is not None:
                yield kept
                continue
            product.check()
        except Exception as error:
            yield failed(planned, error)
        else:
            todo.append(product)
    if todo:
        yield from _make(todo, job)


def make_group_list(job: GroupJob) -> list[ProductOutcome]:
    """Make a group and return all outcomes together, to be sent back by a worker."""
    return list(make_group(job))


def failed(planned: PlannedProduct, error: BaseException | str) -> ProductOutcome:
    """Return the outcome of a product that could not be made."""
    if isinstance(error, str | OffskyError):
        reason = str(error)
    else:
        reason = f"{type(error).__name__}: {error}"
        log.error("%s: unexpected %s", planned.output, reason, exc_info=error)
    return ProductOutcome(planned.output, planned.target, FAILED, reason)


class _Product:
    """A product on its way: checked, opened, written, noted in the journal."""

    def __init__(self, planned: PlannedProduct, job: GroupJob, journal: Journal) -> None:
        self.planned = planned
        self.output = Path(job.folder) / planned.output
        self._job = job
        self._journal = journal
        self._inputs = [Path(path) for path in planned.inputs]
        self._started = time.perf_counter()
        self._mark = self._fingerprint()
        self._checksum = self._fingerprint(checksum=True) if job.checksum else None
        self.choice = Choice([], ())
        given = planned.options.target_scale
        self._scale = TargetScale(1.0 if given == "fit" else float(given))
        self.how = Subtraction.of(planned.options)

    def _fingerprint(self, *, checksum: bool = False) -> str:
        how = [asdict(self.planned.options), self.planned.force]
        return fingerprint(how, self._inputs, checksum=checksum)

    def kept(self) -> ProductOutcome | None:
        """Return what an earlier run said of it, if that still holds."""
        mark = self._mark if self._checksum is None else self._checksum
        found = self._journal.finished(
            self.planned.output, mark, checksum=self._checksum is not None
        )
        if found is None:
            return None
        return ProductOutcome(
            self.planned.output,
            self.planned.target,
            str(found.get("status")),
            None,
            made=False,
            details=found,
        )

    def check(self) -> None:
        """Raise unless it may be written; note that it is begun."""
        exists = self.output.exists()
        self._replace = self._job.overwrite or self._journal.may_replace(self.planned.output)
        check_output(self.output, inputs=self._inputs, overwrite=self._replace)
        self._replace = self._replace and exists
        self._journal.begin(self.planned.output)

    def prepare(self, exposures: "_OpenExposures") -> None:
        """Open its files and choose its backgrounds; raise if that cannot be done."""
        target = exposures.of(self.planned.target)
        assert isinstance(target, FitsExposure)
        self.target = target
        check_target(target)
        self.choice = choose_backgrounds(
            target,
            [exposures.of(path) for path in self.planned.backgrounds],
            policy=Policy(force=self.planned.force),
            options=self.planned.options,
        )

    def begin(self) -> None:
        """Begin its file."""
        self._provenance = Provenance(self.choice.names, self.planned.options, run=self.choice.run)
        self._stack = ExitStack()
        try:
            part = self._stack.enter_context(atomic_output(self.output, overwrite=self._replace))
            self._header = new_header(self.target, self.output, self._provenance)
            self.copy = self._stack.enter_context(
                closing(start_copy(self.target, part, self._header, self.how))
            )
        except BaseException as error:
            self.abandon(error)
            raise

    def find_scale(self, assembled: Assembled) -> None:
        """Find the factor on the average, where it is not given."""
        self._scale = find_scale(self.target, assembled.average, self.planned.options)
        self.copy.scale = self._scale.factor

    def finish(self, assembled: Assembled) -> ProductOutcome:
        """Complete its file and its record."""
        try:
            self._provenance = self._provenance.with_results(assembled, self._scale)
            set_cards(self._header, self._provenance)
            self.copy.finish()
            self._check_unchanged()
            self._stack.close()
        except BaseException as error:
            self.abandon(error)
            raise
        return self.noted(
            completed(
                assembled,
                target=self.target.name,
                backgrounds=self.choice.names,
                dropped=(*self.planned.dropped, *self.choice.dropped),
                output=str(self.output),
                combined=None,
                unit=self.target.metadata.unit or self.choice.exposures[0].metadata.unit,
                elapsed_s=time.perf_counter() - self._started,
                options=self.planned.options,
                n_err_unknown=self.copy.n_err_unknown,
                scale=self._scale,
            )
        )

    def abandon(self, error: BaseException) -> None:
        """Remove what was written; raise OutputError where that was the trouble."""
        stack, self._stack = self._stack, ExitStack()
        stack.__exit__(type(error), error, error.__traceback__)

    def copy_unchanged(self) -> ProductOutcome:
        """Write a target that has no background to subtract."""
        with atomic_output(self.output, overwrite=self._replace) as part:
            header = new_header(self.target, self.output, None)
            with closing(FitsCopy(self.target, part, header, None)) as copy:
                copy.copy_rest()
                copy.finish()
            self._check_unchanged()
        dropped = (*self.planned.dropped, *self.choice.dropped)
        elapsed = time.perf_counter() - self._started
        options = self.planned.options
        return self.noted(skipped(self.target.name, dropped, str(self.output), elapsed, options))

    def make_model(self) -> ProductOutcome:
        """Make one whose target only `stdatamodels` can read."""
        outcome = subtract_file(
            self.planned.target,
            self.planned.backgrounds,
            self.output,
            overwrite=self._replace,
            force=self.planned.force,
            threads=self._job.threads,
            options=self.planned.options,
        )
        return self.noted(replace(outcome, dropped=(*self.planned.dropped, *outcome.dropped)))

    def noted(self, outcome: Outcome) -> ProductOutcome:
        """Write into the journal what came of it."""
        details = outcome.as_dict()
        self._journal.finish(
            self.planned.output, details, inputs=self._mark, checksum=self._checksum
        )
        return ProductOutcome(
            self.planned.output,
            self.planned.target,
            outcome.status,
            "no background used; a copy of the target" if not outcome.backgrounds else None,
            details=details,
        )

    def outcome_of(self, error: BaseException) -> ProductOutcome:
        """Return what a failure means, though another worker may have been faster."""
        if isinstance(error, OutputExistsError):
            kept = self.kept()
            if kept is not None:
                return kept
        return failed(self.planned, error)

    def _check_unchanged(self) -> None:
        if self._fingerprint() != self._mark:
            raise ExposureError(
                f"{self.planned.output}: an input changed while it was read; run again when it "
                "is finished"
            )


class _OpenExposures(ExitStack):
    """The exposures of a group, each opened once; a broken one is so for all products."""

    def __init__(self, *, variances: bool) -> None:
        super().__init__()
        self._variances = variances
        self._exposures: dict[str, Exposure] = {}
        self._errors: dict[str, Exception] = {}

    def of(self, path: str) -> Exposure:
        if path in self._errors:
            raise self._errors[path]
        if path not in self._exposures:
            try:
                opened = open_exposure(Path(path), variances=self._variances)
                exposure = self.enter_context(closing(opened))
            except Exception as error:
                self._errors[path] = error
                raise
            self._exposures[path] = exposure
        return self._exposures[path]


def _make(todo: Sequence[_Product], job: GroupJob) -> Iterator[ProductOutcome]:
    with _OpenExposures(variances=todo[0].how.propagate) as exposures:
        ready: list[_Product] = []
        for product in todo:
            try:
                if is_asdf(product.planned.target):
                    yield product.make_model()
                    continue
                product.prepare(exposures)
                if not product.choice.exposures:
                    yield product.copy_unchanged()
                    continue
            except Exception as error:
                yield product.outcome_of(error)
            else:
                ready.append(product)
        if job.kind == "leave-one-out":
            together = [product for product in ready if _fits_pass(product, ready[0])]
            if len(together) > 1:
                ready = [product for product in ready if product not in together]
                for first in range(0, len(together), job.products_per_pass):
                    yield from _make_pass(together[first : first + job.products_per_pass], job)
        by_average: dict[object, list[_Product]] = {}
        for product in ready:
            by_average.setdefault(_average_key(product), []).append(product)
        for sharing in by_average.values():
            yield from _make_shared(sharing, job)


def _average_key(product: _Product) -> object:
    """Return what two products have in common whose average is the same."""
    windows = tuple(v.window for v in product.choice.verdicts if v.fate == "used")
    exposures = tuple(exposure.same_as for exposure in product.choice.exposures)
    shape = product.target.shape[-2:]
    return exposures, windows, product.choice.frame, shape


def _fits_pass(product: _Product, other: _Product) -> bool:
    """Tell whether two products can be made of the same blocks of rows."""
    options = product.planned.options
    if prepares(options) or fits_scale(options):
        # Levels are matched and sources found for each list of backgrounds by itself.
        return False
    return product.choice.frame == other.choice.frame and not any(
        isinstance(exposure, PlacedExposure) for exposure in product.choice.exposures
    )


def _make_shared(products: Sequence[_Product], job: GroupJob) -> Iterator[ProductOutcome]:
    """Make one average, and subtract it from each target."""
    options = products[0].planned.options
    placed = any(isinstance(each, PlacedExposure) for each in products[0].choice.exposures)
    try:
        exposures = prepare(products[0].choice.exposures, options, threads=job.threads)
    except Exception as error:
        for product in products:
            yield product.outcome_of(error)
        return
    # What changes as it is read takes memory for the change.
    doubled = placed or prepares(options)
    how: dict[str, Any] = {
        "options": options,
        "threads": job.threads,
        # A placed exposure takes two rows for one.
        "rows_per_block": max(1, job.rows_per_block // 2) if doubled else job.rows_per_block,
    }
    if len(products) == 1 and not fits_scale(options):
        yield _make_alone(products[0], exposures, how)
        return
    try:
        assembled = assemble(
            exposures,
            whole=True,
            errors=products[0].how.propagate or fits_scale(options),
            levels=False,
            weights=weigh(exposures, how["options"], job.threads),
            **how,
        )
    except Exception as error:
        for product in products:
            yield product.outcome_of(error)
        return
    # Much of it is waiting for the disk.  But a worker of one thread has one core, and a
    # target that is rewritten is whole in memory.
    patient = job.threads > 1 and all(can_copy(p.target, p.how) for p in products)
    yield from _in_threads(
        [(product, assembled) for product in products],
        _subtract_whole,
        2 * job.threads if patient else job.threads,
    )


def _make_alone(
    product: _Product, exposures: Sequence[Exposure], how: dict[str, Any]
) -> ProductOutcome:
    try:
        product.begin()
        try:
            assembled = assemble(
                exposures,
                whole=False,
                weights=weigh(exposures, how["options"], how["threads"]),
                consume=product.copy.subtract,
                alongside=[product.copy.copy_rest],
                **how,
            )
        except BaseException as error:
            product.abandon(error)
            raise
        return product.finish(assembled)
    except Exception as error:
        return product.outcome_of(error)


def _subtract_whole(product: _Product, assembled: Assembled) -> ProductOutcome:
    """Subtract an average that is in memory from a target."""
    try:
        product.begin()
        try:
            product.copy.copy_rest()
            product.find_scale(assembled)
            subtract_whole(product.copy, product.target.shape[-2], assembled.average)
        except BaseException as error:
            product.abandon(error)
            raise
        return product.finish(assembled)
    except Exception as error:
        return product.outcome_of(error)


class _Result:
    """One product of a pass, while its average is put together."""

    def __init__(self, product: _Product, exposures: Sequence[Exposure], threads: int) -> None:
        places = {exposure: i for i, exposure in enumerate(exposures)}
        used = product.choice.exposures
        self.product = product
        self.members = [places[exposure] for exposure in used]
        self.weights = weigh(used, product.planned.options, threads)
        self.assembly = Assembly(used, whole=False)
        self.error: Exception | None = None

    def guarded_copy(self) -> None:
        """Copy what does not change, and keep what goes wrong to ourselves."""
        try:
            self.product.copy.copy_rest()
        except Exception as error:
            self.error = error


def _make_pass(products: Sequence[_Product], job: GroupJob) -> Iterator[ProductOutcome]:
    """Make products of backgrounds of their own out of the same files, read once."""
    results: list[_Result] = []
    try:
        # Views of one exposure that read the same are equal.
        exposures = list(dict.fromkeys(e for p in products for e in p.choice.exposures))
        for product in products:
            try:
                result = _Result(product, exposures, job.threads)
                product.begin()
            except Exception as error:
                yield product.outcome_of(error)
            else:
                results.append(result)
        try:
            blocks = _combine_pass(results, exposures, job)
        except Exception as error:
            for result in results:
                _abandon_quietly(result.product, error)
            # Those that do without the broken file can still be made, one by one.
            for result in results:
                yield from _make_shared([result.product], job)
            return
        yield from _in_threads(
            [(result, [block[i] for block in blocks]) for i, result in enumerate(results)],
            _finish_result,
            job.threads,
        )
    except BaseException as error:
        for result in results:
            _abandon_quietly(result.product, error)
        raise


Count = tuple[NDArray[np.int64], int]


def _combine_pass(
    results: Sequence[_Result], exposures: Sequence[Exposure], job: GroupJob
) -> list[list[Count]]:
    """Read all rows once; average and subtract for every product.

    Returns, for each block and product, the samples rejected and ERR estimated.
    """
    options = results[0].product.planned.options

    def work(first: int, last: int, rows: Sequence[Rows]) -> list[Count]:
        images = [reduce_rows(each, options) for each in rows]
        counts: list[Count] = []
        for result in results:
            if result.error is not None:
                counts.append((np.zeros(len(result.members), dtype=np.int64), 0))
                continue
            used = [images[i] for i in result.members]
            average = combine_images(
                used,
                options,
                result.weights,
                errors=options.uses_errors,
                room=result.assembly.room(first, last),
            )
            counts.append((average.n_rejected, average.n_err_estimated))
            try:
                result.product.copy.subtract(first, last, average)
            except Exception as error:
                result.error = error
        return counts

    return each_block(
        exposures,
        work,
        threads=job.threads,
        alongside=[result.guarded_copy for result in results],
        rows_per_block=job.rows_per_block,
        errors=options.uses_errors,
    )


def _finish_result(result: _Result, counts: Sequence[Count]) -> ProductOutcome:
    try:
        if result.error is not None:
            result.product.abandon(result.error)
            raise result.error
        n_rejected = np.zeros(len(result.members), dtype=np.int64)
        for rejected, _ in counts:
            n_rejected += rejected
        n_err_estimated = sum(n_estimated for _, n_estimated in counts)
        return result.product.finish(result.assembly.finish(n_rejected, n_err_estimated))
    except Exception as error:
        return result.product.outcome_of(error)


def _abandon_quietly(product: _Product, error: BaseException) -> None:
    try:
        product.abandon(error)
    except OffskyError:
        log.debug("%s: abandoned", product.planned.output)


def _in_threads(
    arguments: Sequence[tuple[Any, Any]], work: Any, threads: int
) -> Iterator[ProductOutcome]:
    """Do the same for several products, on several threads; yield as they are done."""
    pool = ThreadPoolExecutor(threads)
    try:
        futures: list[Future[ProductOutcome]] = [pool.submit(work, *each) for each in arguments]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
