"""The inputs of some orders, each opened once; and which orders share inputs."""

import os
from collections.abc import Hashable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from offsky.engine.order import Order
from offsky.io.files import open_exposure
from offsky.io.imprinted import ImprintedExposure
from offsky.io.mask import UserMask, read_mask
from offsky.io.names import key_of
from offsky.options import Options
from offsky.values.exposure import Exposure

# Inputs that are open at a time: their headers take memory.
_MOST_INPUTS = 512


class Inputs:
    """Inputs by name, opened when they are first asked for.

    One that cannot be opened stays broken: whoever needs it gets the same error.

    Parameters
    ----------
    options : Options
        Whether variances are wanted, and what masks mean.
    """

    def __init__(self, options: Options) -> None:
        self._variances = options.errors == "propagate" or options.uncovered == "nan"
        self._good_is = options.mask_good_is
        self._exposures: dict[Hashable, Exposure] = {}
        self._imprinted: dict[Hashable, Exposure] = {}
        self._masks: dict[Hashable, UserMask] = {}
        self._errors: dict[Hashable, Exception] = {}

    @property
    def n_open(self) -> int:
        """Exposures that are open."""
        return len(self._exposures)

    @property
    def held_bytes(self) -> int:
        """Memory that they take as long as they are open."""
        return sum(exposure.held_bytes for exposure in self._exposures.values())

    def of(self, given: Any) -> Exposure:
        """Return an input as an exposure; raise ExposureError if it cannot be opened."""
        key = key_of(given)
        if key in self._errors:
            raise self._errors[key]
        if key not in self._exposures:
            try:
                self._exposures[key] = open_exposure(given, variances=self._variances)
            except Exception as error:
                self._errors[key] = error
                raise
        return self._exposures[key]

    def imprinted(self, exposure: Exposure, imprints: Sequence[Exposure]) -> Exposure:
        """Return an exposure minus its imprints, the same object for the same of all."""
        made = ImprintedExposure(exposure, imprints)
        return self._imprinted.setdefault(made.same_as, made)

    def mask(self, given: Any, exposure: Exposure) -> UserMask:
        """Return a mask, checked against the exposure that it is for."""
        shape = (exposure.shape[-2], exposure.shape[-1])
        key = key_of(given), shape
        if key in self._errors:
            raise self._errors[key]
        if key not in self._masks:
            try:
                self._masks[key] = read_mask(given, shape, exposure.name, good_is=self._good_is)
            except Exception as error:
                self._errors[key] = error
                raise
        return self._masks[key]

    def paths_of(self, order: Order) -> list[Path]:
        """Return the files that an order reads."""
        given = [order.target, *order.backgrounds, *order.masks, *order.every_imprint]
        return [Path(each) for each in given if isinstance(each, str | os.PathLike)]

    def __enter__(self) -> Self:
        """Return the inputs, to be closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close everything."""
        for exposure in self._exposures.values():
            with suppress(OSError):
                exposure.close()


def together(orders: Sequence[Order]) -> list[list[Order]]:
    """Group orders that share inputs; the groups share none, unless they are large.

    Parameters
    ----------
    orders : sequence of Order
        In any order.

    Returns
    -------
    list of list of Order
        Of a bounded number of inputs each, in the order of their first orders.

    Notes
    -----
    Nothing is opened. Twenty thousand files opened first would hold 2 GB of headers.
    """
    groups: list[list[Order]] = []
    inputs: list[set[Hashable]] = []
    having: dict[Hashable, int] = {}
    for order in orders:
        keys = {key_of(each) for each in order.backgrounds}
        if order.target is not None:
            keys.add(key_of(order.target))
        shared: dict[int, int] = {}
        for key in keys:
            if key in having:
                shared[having[key]] = shared.get(having[key], 0) + 1
        found = None
        for number in sorted(shared, key=lambda number: (-shared[number], number)):
            if len(inputs[number]) + len(keys) - shared[number] <= _MOST_INPUTS:
                found = number
                break
        if found is None:
            found = len(groups)
            groups.append([])
            inputs.append(set())
        groups[found].append(order)
        inputs[found] |= keys
        for key in keys:
            having.setdefault(key, found)
    return groups
