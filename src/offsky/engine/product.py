"""One order on its way: opened, chosen, written, checked, published."""

import logging
import secrets
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Lock, local
from typing import TYPE_CHECKING

from offsky.combine.whole import Finished, rows_of
from offsky.engine.order import Order, Result
from offsky.engine.watching import Watching, path_of
from offsky.io.average_product import FileAverage
from offsky.io.cards import Provenance, average_metadata, input_records
from offsky.io.imprinted import ImprintedExposure, bare, imprints_of
from offsky.io.mask import UserMask
from offsky.io.product import FileProduct
from offsky.io.writer import Publication, SavedAverage, Writer
from offsky.options import Options
from offsky.outcome import COMPLETE, completed, skipped
from offsky.selection.choose import Selection
from offsky.subtraction import PLAIN, Coefficients, Subtraction, as_subtracted
from offsky.values.average import ClippedMean
from offsky.values.exposure import Exposure, Rows, Scratch, Wanted
from offsky.values.metadata import Metadata

if TYPE_CHECKING:
    from offsky.engine.imprint_errors import ImprintErrors

log = logging.getLogger(__name__)

# Rows of a target that are subtracted from at a time, once the average is whole.
_ROWS = 64


class _Own(local):
    """Memory of each thread for rows of a target."""

    def __init__(self) -> None:
        self.scratch = Scratch()


_own = _Own()


class Making:
    """One order that is being made.

    Parameters
    ----------
    number : int
        Of the order.
    order : Order
        The order.
    options : Options
        How it is made.
    target : Exposure or None
        The exposure to subtract from.
    backgrounds : sequence of Exposure
        All that were given.
    masks : sequence of (UserMask or None)
        One for each of them.
    selection : Selection
        Which of them are used.

    Attributes
    ----------
    error : Exception or None
        What stopped it.
    members : Members or None
        What was seen of the backgrounds, where the product is observed.
    """

    def __init__(
        self,
        number: int,
        order: Order,
        options: Options,
        target: Exposure | None,
        backgrounds: Sequence[Exposure],
        masks: Sequence[UserMask | None],
        selection: Selection,
    ) -> None:
        self.number = number
        self.order = order
        self.options = options
        self.target = target
        self.selection = selection
        self.used = [backgrounds[i] for i in selection.used]
        self.masks = [masks[i] for i in selection.used]
        self.how = Subtraction.of(options)
        self.error: Exception | None = None
        self.coefficients = Coefficients.given(options)
        self.predicted_bytes = 0
        self.watching = Watching(order, target, backgrounds, selection)
        self._writer: Writer | None = None
        # Two renames are never one: who is killed between them leaves two files of two runs.
        in_files = isinstance(order.product, FileProduct) and isinstance(
            order.combined, FileAverage
        )
        self._pair = f"r{secrets.token_hex(8)}" if in_files else None
        self._started = time.perf_counter()
        self._lock = Lock()
        self._n_err_unknown = self._n_no_value = 0
        self._imprint_errors = self._errors_of_imprints() if self.how.propagate else None

    def _errors_of_imprints(self) -> "ImprintErrors | None":
        selection = self.selection
        if selection.frame is None or not any(map(imprints_of, [self.target, *self.used])):
            return None
        # What only an option needs is imported there: a cold run waits for less.
        from offsky.engine.imprint_errors import ImprintErrors

        windows = [selection.verdicts[i].window for i in selection.used]
        return ImprintErrors(self.target, self.used, windows, selection.frame)

    @property
    def imprints(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Names of the target and the backgrounds that had an imprint, each with theirs."""
        return tuple(
            (each.name, tuple(imprint.name for imprint in imprints))
            for each in (self.target, *self.used)
            if each is not None and (imprints := imprints_of(each))
        )

    @property
    def target_key(self) -> Hashable:
        """What tells its target from other exposures."""
        return None if self.target is None else self.target.same_as

    @property
    def provenance(self) -> Provenance:
        """What the product records, as far as it is known before the average is made."""
        masks = [
            (exposure.name, mask.name)
            for exposure, mask in zip(self.used, self.masks, strict=True)
            if mask is not None
        ]
        return Provenance(
            self.selection.names,
            self.options,
            tuple(masks),
            run=self.selection.run,
            pair=self._pair,
            imprints=self.imprints,
            had_imprint=isinstance(self.target or self.used[0], ImprintedExposure),
        )

    def begin(self) -> None:
        """Begin to write the product."""
        if self.order.product is not None and self.target is not None:
            self._writer = self.order.product.begin(self.target, self.how, self.provenance)
            self.watching.begin()

    def copy_rest(self) -> None:
        """Copy what the subtraction does not change; keep an error for the end."""
        if self._writer is not None and self.error is None:
            self._guarded(self._writer.copy_rest)

    def subtract(
        self, first: int, last: int, average: ClippedMean, given: Rows | None = None
    ) -> None:
        """Subtract rows of the average; keep an error for the end."""
        if self._writer is None or self.error is not None:
            return
        writer = self._writer

        def work() -> None:
            rows = self._target_rows(first, last, given)
            level = as_subtracted(average, self.coefficients)
            if self._imprint_errors is not None:
                factor = self.coefficients.factor
                level = self._imprint_errors.in_product(first, last, level, average.shares, factor)
            done = writer.subtract(first, last, level, rows)
            with self._lock:
                self._n_err_unknown += done.n_err_unknown
                self._n_no_value += done.n_no_value
            self.watching.see(first, last, rows, level, done.rows)

        self._guarded(work)

    def _target_rows(self, first: int, last: int, given: Rows | None) -> Rows | None:
        """Return rows of the target, read here where observers or an imprint need them.

        Observers see ERR too. What is read here, or by the pass, the writer does not read again.
        """
        target = self.target
        if target is None:
            return given
        if self.order.observers:
            if given is not None and (given.err is not None or "ERR" in target.missing):
                return given
            wanted = Wanted(True, self.how.propagate)
        elif given is None and isinstance(target, ImprintedExposure):
            wanted = Wanted(err=False)
        else:
            return given
        _own.scratch.clear()
        return target.read_rows(first, last, _own.scratch, wanted)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.error = self.error or error

    def subtract_whole(self, average: ClippedMean) -> None:
        """Subtract an average that is whole."""
        for first in range(0, len(average.sci), _ROWS):
            last = min(first + _ROWS, len(average.sci))
            self.subtract(first, last, rows_of(average, first, last))

    def finish(self, finished: Finished, levels: Sequence[float | None]) -> Result:
        """Complete the product, and let it appear.

        Parameters
        ----------
        finished : Finished
            The average.
        levels : sequence of (float or None)
            The level of each exposure of it, where it is saved.
        """
        combined: Publication | None = None
        if self.error is None and self.covers_nothing(finished):
            return self._nothing_subtracted(finished)
        try:
            if self.error is not None:
                raise self.error
            provenance = self.provenance.with_results(finished, self.coefficients)
            if self._writer is not None:
                self._writer.finish(provenance)
            if self.order.combined is not None:
                combined = self.order.combined.begin(self._saved(finished, provenance, levels))
            self.check_unchanged()
            saved = None if combined is None else combined.publish()
            product = None if self._writer is None else self._writer.publish()
        except BaseException as error:
            if combined is not None:
                with suppress(Exception):
                    combined.abandon()
            self.abandon()
            if isinstance(error, Exception):
                return Result(self.order, error=error)
            raise
        outcome = completed(
            finished,
            target=None if self.target is None else self.target.name,
            backgrounds=self.selection.names,
            dropped=self.selection.dropped,
            output=path_of(saved if self.target is None else product),
            combined=None if self.target is None else path_of(saved),
            unit=self._unit(),
            elapsed_s=time.perf_counter() - self._started,
            options=self.options,
            n_err_unknown=self._n_err_unknown,
            n_no_value=self._n_no_value,
            coefficients=self.coefficients,
            predicted_bytes=self.predicted_bytes,
            imprints=self.imprints,
        )
        self.watching.finish(outcome, product)
        return Result(self.order, outcome, product=product, combined=saved)

    def covers_nothing(self, finished: Finished) -> bool:
        """Tell whether an average has no value at any pixel of a target."""
        frame = self.selection.frame
        if self.target is None or self.order.product is None or frame is None:
            return False
        return finished.n_uncovered == frame.ny * frame.nx

    def _nothing_subtracted(self, finished: Finished) -> Result:
        """Write the target as it is, since the average has no value anywhere."""
        self.abandon()
        try:
            result = self.copy_unchanged(_why_nothing(finished))
            outcome = replace(
                result.succeeded(),
                n_uncovered=finished.n_uncovered,
                n_samples=finished.n_samples,
            )
            return replace(result, outcome=outcome)
        except Exception as error:
            return Result(self.order, error=error)

    def copy_unchanged(self, reason: str | None = None) -> Result:
        """Write a target that has no background to subtract.

        Parameters
        ----------
        reason : str or None
            Why the backgrounds that were used gave none; None where none was used.
        """
        if self.target is None or self.order.product is None:
            raise RuntimeError("an average without exposures")
        why = "no background to subtract" if reason is None else f"nothing subtracted: {reason}"
        also = ", and no imprint is subtracted either" if self.order.every_imprint else ""
        log.warning("%s: %s; the output is a copy%s", self.target.name, why, also)
        try:
            self._writer = self.order.product.begin(self.target, PLAIN, None)
            self._writer.copy_rest()
            self._writer.finish(None)
            self.check_unchanged()
            product = self._writer.publish()
        except BaseException:
            self.abandon()
            raise
        elapsed = time.perf_counter() - self._started
        dropped = self.selection.dropped
        if reason is not None:
            dropped = (*dropped, *((name, reason) for name in self.selection.names))
        outcome = skipped(
            self.target.name, dropped, path_of(product), elapsed, self.options, reason
        )
        self.watching.begin()
        self.watching.finish(outcome, product)
        return Result(self.order, outcome, product=product)

    def failed(self, error: Exception) -> Result:
        """Return the answer to an order that an error stopped."""
        self.abandon()
        return Result(self.order, error=error)

    def abandon(self) -> None:
        """Remove what was written."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(Exception):
                writer.abandon()

    def check_unchanged(self) -> None:
        """Raise ExposureError if an input is not what it was when it was opened."""
        exposures = [*self.used, *([] if self.target is None else [self.target])]
        for exposure in exposures:
            exposure.check_unchanged()
        for mask in self.masks:
            if mask is not None:
                mask.check_unchanged()

    def _saved(
        self, finished: Finished, provenance: Provenance, levels: Sequence[float | None]
    ) -> SavedAverage:
        if finished.average is None:
            raise RuntimeError("an average that was not kept whole")
        like = bare(self.used[0] if self.target is None else self.target)
        average = finished.average
        if self._imprint_errors is not None:
            average = self._imprint_errors.in_average(average)
        given = self.order.target
        if self.target is None:
            given = self.order.backgrounds[self.selection.used[0]]
        return SavedAverage(
            average,
            provenance,
            input_records(self.selection.verdicts, finished, levels, self.imprints),
            average_metadata(like.metadata, [_metadata(each) for each in self.used]),
            like,
            given,
        )

    def _unit(self) -> str | None:
        unit = None if self.target is None else self.target.metadata.unit
        return unit or self.used[0].metadata.unit


def _metadata(exposure: Exposure) -> Metadata:
    """Return the header of an exposure, with the imprint that is subtracted from it."""
    if isinstance(exposure, ImprintedExposure):
        return replace(exposure.metadata, imprint_status=COMPLETE)
    return exposure.metadata


def _why_nothing(finished: Finished) -> str:
    """Return why an average has no value anywhere."""
    if finished.n_samples == 0 and any(finished.n_masked):
        return "the masks leave out every sample of the backgrounds"
    if any(finished.n_rejected):
        return (
            "every sample of the backgrounds was rejected; keep some (--min-keep 1), or reject "
            "in another way"
        )
    return "the backgrounds have no usable sample (all are NaN, or flagged as bad)"
