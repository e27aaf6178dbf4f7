"""What is asked of the engine, within which limits, and what it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from offsky.effect import Run
from offsky.io.writer import AverageProduct, Product
from offsky.outcome import Outcome
from offsky.selection.suitability import Policy, Verdict
from offsky.subtraction import TargetRows
from offsky.values.average import ClippedMean
from offsky.values.exposure import Exposure, Rows

if TYPE_CHECKING:
    from offsky.measure.members import Members

Progress = Callable[[int, int], None]
"""Called with the number of rows just done and that of all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Watched:
    """What an observer is told of a product before its rows go by.

    Attributes
    ----------
    target : Exposure
        The exposure that is subtracted from.
    backgrounds : sequence of Exposure
        All that were given.
    verdicts : sequence of Verdict
        One on each of them.
    run : Run or None
        What decides which options have no effect.
    given_target, given_backgrounds, given_masks, given_imprints
        What the order names.
    """

    target: Exposure
    backgrounds: Sequence[Exposure]
    verdicts: Sequence[Verdict]
    run: Run | None
    given_target: Any
    given_backgrounds: Sequence[Any]
    given_masks: Sequence[Any]
    given_imprints: Sequence[Any]


class Observer(Protocol):
    """Sees rows go by: a picture for a report, a check.

    Rows come in any order and from several threads; all are valid until a method returns.
    """

    @property
    def held_bytes(self) -> int:
        """Memory that it takes while a product is made."""

    def begin(self, watched: Watched) -> None:
        """Prepare for a product."""

    def see(
        self, first: int, last: int, target: Rows, average: ClippedMean, product: TargetRows
    ) -> None:
        """Look at rows [first, last) of the target, what is subtracted, and the product."""

    def finish(self, outcome: Outcome, product: Path, members: "Members | None") -> None:
        """Do what is to be done once the product is there.

        Parameters
        ----------
        outcome : Outcome
            What was used and rejected.
        product : Path
            The file; what it would be called where the product is a model in memory.
        members : Members or None
            What was seen of the backgrounds; None where nothing was averaged.
        """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Order:
    """One product to make, or one average.

    Attributes
    ----------
    backgrounds : tuple of (path or data model)
        The exposures to average.
    target : path, data model or None
        The exposure to subtract from; None for an average alone.
    product : Product or None
        Where the subtracted exposure goes; None for an average alone.
    combined : AverageProduct or None
        Where the average goes; None for nowhere.
    masks : tuple of (path, array or None)
        One for each background, or empty.
    imprints : tuple of tuples of (path or data model)
        Imprints of the target (an empty tuple where there is none), then of each background;
        of several the mean is subtracted. Empty for no imprints at all.
    imprint_choice : tuple of (path or data model)
        Imprints to choose from, by the headers, for the target and each background: in the
        place of `imprints`.
    policy : Policy
        How strict to be with the backgrounds.
    name : str
        What messages call the product; empty for its target's name.
    observers : tuple of Observer
        What sees the rows go by.
    """

    backgrounds: tuple[Any, ...]
    target: Any = None
    product: Product | None = None
    combined: AverageProduct | None = None
    masks: tuple[Any, ...] = ()
    imprints: tuple[tuple[Any, ...], ...] = ()
    imprint_choice: tuple[Any, ...] = ()
    policy: Policy = field(default_factory=Policy)
    name: str = ""
    observers: tuple[Observer, ...] = ()

    @property
    def every_imprint(self) -> tuple[Any, ...]:
        """All imprints that it may read."""
        return (*self.imprint_choice, *(each for of_one in self.imprints for each in of_one))


@dataclass(frozen=True, slots=True)
class Limits:
    """What the work may take.

    Attributes
    ----------
    threads : int
        Threads to work on; the result does not depend on it.
    memory_bytes : int or None
        Most memory of the whole process; None for no limit.
    """

    threads: int = 1
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The answer to one order: an outcome, or the error that stopped it.

    Attributes
    ----------
    order : Order
        The order.
    outcome : Outcome or None
        What was used, rejected and written.
    error : Exception or None
        Why there is no product.
    product, combined : object
        What `Product` and `AverageProduct` published: a path or a data model.
    """

    order: Order
    outcome: Outcome | None = None
    error: Exception | None = None
    product: Any = None
    combined: Any = None

    def succeeded(self) -> Outcome:
        """Return the outcome, with its page if any; raise the error where there is none."""
        if self.error is not None:
            raise self.error
        if self.outcome is None:
            raise RuntimeError("an order without an outcome or an error")
        pages = [getattr(each, "page", None) for each in self.order.observers]
        if not any(pages):
            return self.outcome
        return replace(self.outcome, report=str(pages[0]))


Orders = Sequence[Order]
