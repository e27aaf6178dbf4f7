"""Observers of one order: shown what it is made of, its rows, and what became of it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offsky.engine.order import Order, Watched
from offsky.io.imprinted import bare
from offsky.io.names import product_name, product_root
from offsky.outcome import Outcome
from offsky.selection.choose import Selection
from offsky.subtraction import TargetRows
from offsky.values.average import ClippedMean
from offsky.values.exposure import Exposure, Rows

if TYPE_CHECKING:
    from offsky.measure.members import Members

log = logging.getLogger(__name__)


class Watching:
    """The observers of an order, told what happens to it; of an average alone there are none.

    Parameters
    ----------
    order : Order
        The order.
    target : Exposure or None
        Its target, open.
    backgrounds : sequence of Exposure
        Its backgrounds, open, whether they are used or not.
    selection : Selection
        Which are used.

    Attributes
    ----------
    members : Members or None
        What the backgrounds show, gathered while they are averaged.
    """

    def __init__(
        self,
        order: Order,
        target: Exposure | None,
        backgrounds: Sequence[Exposure],
        selection: Selection,
    ) -> None:
        self.members: Members | None = None
        self._order, self._target, self._selection = order, target, selection
        self._backgrounds = backgrounds
        self._observers = () if target is None else order.observers

    def begin(self) -> None:
        """Tell what is made of what."""
        if self._target is None:
            return
        for observer in self._observers:
            observer.begin(
                Watched(
                    target=bare(self._target),
                    backgrounds=[bare(each) for each in self._backgrounds],
                    verdicts=self._selection.verdicts,
                    run=self._selection.run,
                    given_target=self._order.target,
                    given_backgrounds=self._order.backgrounds,
                    given_masks=self._order.masks,
                    given_imprints=self._order.every_imprint,
                )
            )

    def see(
        self, first: int, last: int, rows: Rows | None, average: ClippedMean, done: TargetRows
    ) -> None:
        """Show rows [first, last) of the target, of its average, and of the product."""
        if rows is not None:
            for observer in self._observers:
                observer.see(first, last, rows, average, done)

    def finish(self, outcome: Outcome, product: Any) -> None:
        """Let observers finish; the product is there, whatever becomes of their work."""
        if self._target is None or not self._observers:
            return
        # A model in memory is called what its file would be.
        root = product_root(Path(self._target.name))
        path = Path(path_of(product) or product_name(root, self._target.shape))
        for observer in self._observers:
            try:
                observer.finish(outcome, path, self.members)
            except Exception as error:
                log.warning("%s: no report: %s", path, error)
                log.debug("the report failed", exc_info=error)


def watch_members(watched: Sequence[Watching], n_rows: int) -> "Members | None":
    """Return where to gather what backgrounds show, for products that are observed."""
    if not watched:
        return None
    # What only an option needs is imported there.
    from offsky.measure.members import Members

    members = Members(n_rows)
    for watching in watched:
        watching.members = members
    return members


def path_of(published: object) -> str | None:
    """Return the path of a file; None for a model in memory."""
    return str(published) if hasattr(published, "__fspath__") else None
