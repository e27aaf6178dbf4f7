"""What is asked of the engine, within which limits, and what it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from offsky.io.writer import AverageProduct, Product
from offsky.outcome import Outcome
from offsky.selection.suitability import Policy
from offsky.subtraction import TargetRows
from offsky.values.average import ClippedMean
from offsky.values.exposure import Rows

Progress = Callable[[int, int], None]
"""Called with the number of rows just done and that of all."""


class Observer(Protocol):
    """Sees rows go by: a picture for a report, a check."""

    def see(
        self,
        first: int,
        last: int,
        target: Rows | None,
        average: ClippedMean,
        product: TargetRows,
    ) -> None:
        """Look at rows [first, last) of one product; all are valid until it returns.

        Rows come in any order and from several threads.
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
    policy: Policy = field(default_factory=Policy)
    name: str = ""
    observers: tuple[Observer, ...] = ()


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
        """Return the outcome; raise the error where there is none."""
        if self.error is not None:
            raise self.error
        if self.outcome is None:
            raise RuntimeError("an order without an outcome or an error")
        return self.outcome


Orders = Sequence[Order]
