"""The engine: orders in, outcomes out, one by one."""

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from offsky.combine.whole import Finished, freeze
from offsky.engine.averaging import Averaging
from offsky.engine.fitting import fitted
from offsky.engine.forecast import (
    EXPOSURE_BYTES,
    Forecast,
    facts_of,
    forecast,
    refusal,
    wanted_planes,
)
from offsky.engine.inputs import Inputs, together
from offsky.engine.look import look
from offsky.engine.order import Limits, Order, Progress, Result
from offsky.engine.passes import Demand, Member, Pass, arrange
from offsky.engine.prepared import Opened, Prepared
from offsky.engine.product import Making
from offsky.engine.run import PassRun
from offsky.engine.watching import watch_members
from offsky.errors import ParameterError
from offsky.options import Options
from offsky.selection.choose import check_target, choose_backgrounds
from offsky.values.exposure import Wanted

log = logging.getLogger(__name__)

# Pixels of an average whose median is worth a thread.
_LARGE = 2**18


def make(
    orders: Sequence[Order],
    *,
    options: Options,
    limits: Limits,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """Make products and averages.

    Parameters
    ----------
    orders : sequence of Order
        What to make. Orders that share exposures read them together.
    options : Options
        How to average and subtract.
    limits : Limits
        Threads and memory.
    progress : callable or None
        Called with the number of rows just done and that of all, for each pass.

    Yields
    ------
    Result
        One for each order, as it is finished; its error, if any, stops no other order.
    """
    for group in together(orders):
        with Inputs(options) as inputs:
            yield from _make_group(group, inputs, options, limits, progress)


def _make_group(
    orders: Sequence[Order],
    inputs: Inputs,
    options: Options,
    limits: Limits,
    progress: Progress | None,
) -> Iterator[Result]:
    ready: list[Making] = []
    demands: list[Demand] = []
    for number, order in enumerate(orders):
        try:
            making = _chosen(number, order, inputs, options)
            if making.used:
                demands.append(_demand(making, options))
                ready.append(making)
                continue
            result = making.copy_unchanged()
        except Exception as error:
            result = Result(order, error=error)
        yield result
    by_number = {making.number: making for making in ready}
    for pass_ in arrange(demands):
        group = [by_number[d.number] for recipe in pass_.recipes for d in recipe.demands]
        yield from _PassMaking(pass_, group, inputs, options, limits, progress).make()


def _chosen(number: int, order: Order, inputs: Inputs, options: Options) -> Making:
    """Open the files of an order, and choose its backgrounds."""
    paths = inputs.paths_of(order)
    for place in (order.product, order.combined):
        if place is not None:
            place.check(paths)
    target = None if order.target is None else inputs.of(order.target)
    backgrounds = [inputs.of(each) for each in order.backgrounds]
    if target is not None:
        check_target(target)
    masks = [
        None if mask is None else inputs.mask(mask, background)
        for mask, background in zip(
            order.masks or [None] * len(backgrounds), backgrounds, strict=True
        )
    ]
    selection = choose_backgrounds(target, backgrounds, policy=order.policy, options=options)
    exposures = [*backgrounds, *([] if target is None else [target])]
    if order.every_imprint or any(each.metadata.had_imprint for each in exposures):
        # What only an option needs is imported there: a cold run waits for less.
        from offsky.engine.imprints import with_imprints

        target, backgrounds = with_imprints(order, inputs, target, backgrounds, selection)
    return Making(number, order, options, target, backgrounds, masks, selection)


def _demand(making: Making, options: Options) -> Demand:
    """Return what an order needs, for `arrange`."""
    saves = making.order.combined is not None
    selection = making.selection
    observers = making.order.observers
    # An observer sees ERR of a target, which may be read as a background.
    with_err = options.uses_errors or saves or bool(observers)
    wanted = Wanted(with_err, options.errors == "propagate")
    if selection.frame is None:
        raise RuntimeError("backgrounds without a frame")
    members = tuple(
        Member(
            facts_of(exposure, wanted),
            selection.verdicts[i].window,
            None if mask is None else id(mask),
        )
        for i, exposure, mask in zip(selection.used, making.used, making.masks, strict=True)
    )
    target, product = making.target, making.order.product
    held = 0
    if target is not None and product is not None:
        held = product.held_bytes(target, making.how)
        held += sum(observer.held_bytes for observer in observers)
    return Demand(
        making.number,
        selection.frame,
        members,
        None if target is None else facts_of(target, wanted),
        fits=options.fits_target and target is not None,
        saves=saves,
        changes_errors=making.how.changes_errors,
        product_bytes=held,
        watched=bool(observers),
    )


class _PassMaking:
    """A pass, and all the products that come of it."""

    def __init__(
        self,
        pass_: Pass,
        group: Sequence[Making],
        inputs: Inputs,
        options: Options,
        limits: Limits,
        progress: Progress | None,
    ) -> None:
        self._pass = pass_
        self._making = {making.number: making for making in group}
        self._inputs = inputs
        self._options = options
        self._limits = limits
        self._progress = progress

    def make(self) -> Iterator[Result]:
        """Make all of it; yield one result for each order."""
        try:
            expected = self._forecast()
            opened = self._opened(self._pass)
            prepared, broken = look(self._pass, opened, self._options, self._limits.threads)
        except Exception as error:
            for making in self._making.values():
                yield making.failed(error)
            return
        begin = 0
        for part in self._pass.parts(expected.recipes_per_pass):
            end = begin + len(part.recipes)
            yield from self._make_part(part, prepared[begin:end], broken, expected)
            begin = end

    def _forecast(self) -> Forecast:
        """Predict the memory; raise if it is more than is allowed."""
        limits = self._limits
        expected = forecast(
            self._pass,
            self._options,
            limits.threads,
            limits.memory_bytes,
            open_bytes=self._inputs.n_open * EXPOSURE_BYTES + self._inputs.held_bytes,
        )
        if limits.memory_bytes is not None and expected.peak_bytes > limits.memory_bytes:
            raise ParameterError(
                refusal(self._name, len(self._making), expected, limits.memory_bytes)
            )
        for making in self._making.values():
            making.predicted_bytes = expected.peak_bytes
        return expected

    @property
    def _name(self) -> str:
        first = next(iter(self._making.values()))
        if first.order.name:
            return first.order.name
        return first.used[0].name if first.target is None else first.target.name

    def _opened(self, pass_: Pass) -> Opened:
        exposures = {}
        masks: dict[Hashable, object] = {}
        for making in self._making.values():
            exposures.update({each.same_as: each for each in making.used})
            masks.update({id(mask): mask.packed for mask in making.masks if mask is not None})
        return Opened([exposures[facts.key] for facts in pass_.exposures], masks)  # type: ignore[arg-type]

    def _make_part(
        self,
        part: Pass,
        prepared: Sequence[Prepared],
        broken: dict[Hashable, Exception],
        expected: Forecast,
    ) -> Iterator[Result]:
        averagings = [
            self._averaging(recipe_number, part, prepared[recipe_number])
            for recipe_number in range(len(part.recipes))
        ]
        waiting = {d.number for recipe in part.recipes for d in recipe.demands}
        try:
            for each in averagings:
                for product in each.products:
                    _begin(product)
            run = PassRun(
                part,
                self._opened(part),
                averagings,
                self._options,
                Wanted(
                    wanted_planes(part, self._options).err,
                    any(averaging.variances for averaging in averagings),
                ),
                broken,
            )
            run.run(
                height=expected.rows_per_block,
                row_bytes=expected.block_row_bytes,
                threads=self._limits.threads,
                progress=self._progress,
            )
            self._tell_unusable_err(run)
            for averaging in averagings:
                self._stop_unread(averaging, broken)
            for averaging, finish in _finished_ahead(averagings):
                for result, number in self._results(averaging, finish):
                    waiting.discard(number)
                    yield result
        finally:
            for number in waiting:
                self._making[number].abandon()

    def _tell_unusable_err(self, run: PassRun) -> None:
        """Warn of exposures whose ERR cannot serve, as plainly as of those without."""
        wanting = [
            f"{name} = {value}"
            for name, value in (
                ("reject", self._options.reject),
                ("weight", self._options.weight),
            )
            if value in ("error", "variance")
        ]
        for facts, exposure in zip(run.pass_.exposures, run.opened.exposures, strict=True):
            count = run.err_counts.get(facts.key)
            if count is None or 2 * count.n_usable >= count.n_samples:
                continue
            log.warning(
                "%s: ERR is zero, negative or not finite at about %.0f %% of the pixels, so that "
                "%s cannot use it: nothing is rejected or weighted by it there; use reject = mad "
                "and weight = equal, or files with ERR",
                exposure.name,
                100 * (1 - count.n_usable / count.n_samples),
                " and ".join(wanting),
            )

    def _averaging(self, number: int, part: Pass, prepared: Prepared) -> Averaging:
        recipe = part.recipes[number]
        members = self._opened(part).exposures
        places = {facts.key: i for i, facts in enumerate(part.exposures)}
        # Nobody else looks at variances: they may be damaged.
        has_variances = self._options.errors == "propagate" and all(
            members[places[m.facts.key]].has_variances for m in recipe.members
        )
        streamed = [self._making[d.number] for d in recipe.demands if d.number in recipe.streamed]
        return Averaging(
            recipe,
            prepared,
            streamed,
            self._options,
            has_variances=has_variances,
            members=watch_members(
                [self._making[d.number].watching for d in recipe.demands if d.watched],
                recipe.frame.ny,
            ),
        )

    def _stop_unread(self, averaging: Averaging, broken: dict[Hashable, Exception]) -> None:
        """Stop products whose target could not be read: it is not tried again."""
        for demand in averaging.recipe.demands:
            making = self._making[demand.number]
            if making.target_key in broken:
                making.error = making.error or broken[making.target_key]

    def _results(
        self, averaging: Averaging, finish: Callable[[], Finished]
    ) -> Iterator[tuple[Result, int]]:
        """Finish an average, and all of its products."""
        recipe = averaging.recipe
        of_recipe = [self._making[demand.number] for demand in recipe.demands]
        if averaging.error is not None:
            for making in of_recipe:
                yield making.failed(making.error or averaging.error), making.number
            return
        if all(making.error is not None for making in of_recipe):
            for making in of_recipe:
                yield making.failed(making.error or RuntimeError("no reason")), making.number
            return
        finished, levels = finish(), averaging.prepared.levels
        if len(of_recipe) > 1 and finished.average is not None:
            freeze(finished.average)
        late = []
        for making in of_recipe:
            if making.error is not None:
                yield making.failed(making.error), making.number
            elif making.number in recipe.streamed or making.target is None:
                yield making.finish(finished, levels), making.number
            else:
                late.append(making)
        yield from self._late(late, finished, levels)

    def _late(
        self, late: Sequence[Making], finished: Finished, levels: Sequence[float | None]
    ) -> Iterator[tuple[Result, int]]:
        """Subtract an average that is whole from targets, several at a time."""
        if not late:
            return
        # Much of it is waiting for the disk. But a target that is held in memory is so on
        # every thread, and a worker of one thread has one core.
        threads = self._limits.threads
        held = any(
            d.product_bytes for r in self._pass.recipes for d in r.demands if d.target is not None
        )
        pool = ThreadPoolExecutor(threads if held or threads == 1 else 2 * threads)
        try:
            futures = {pool.submit(self._subtract, each, finished, levels): each for each in late}
            for future in as_completed(futures):
                yield future.result(), futures[future].number
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _subtract(
        self, making: Making, finished: Finished, levels: Sequence[float | None]
    ) -> Result:
        """Subtract a whole average from one target."""
        average, target = finished.average, making.target
        if average is None or target is None:
            raise RuntimeError("an average that was not kept whole")
        if making.covers_nothing(finished):
            return making.finish(finished, levels)
        try:
            making.begin()
            if self._options.fits_target:
                making.coefficients = fitted(target, average, self._options)
        except Exception as error:
            return making.failed(error)
        making.copy_rest()
        making.subtract_whole(average)
        return making.finish(finished, levels)


def _finished_ahead(
    averagings: Sequence[Averaging],
) -> Iterator[tuple[Averaging, Callable[[], Finished]]]:
    """Yield averages, each with what finishes it.

    Large ones are finished while products of those before wait for the disk: their medians
    take as long.
    """
    frame = averagings[0].recipe.frame
    if len(averagings) == 1 or frame.nx * frame.ny < _LARGE:
        for each in averagings:
            yield each, each.finish
        return
    with ThreadPoolExecutor(1) as pool:
        finished = [pool.submit(each.finish) for each in averagings]
        for each, future in zip(averagings, finished, strict=True):
            yield each, future.result


def _begin(making: Making) -> None:
    try:
        making.begin()
    except Exception as error:
        making.error = error
