"""One average that a pass makes, and what is kept of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from offsky.arrays import Array
from offsky.combine.images import Combination, Image
from offsky.combine.rule import grows
from offsky.combine.whole import Assembly, Finished
from offsky.engine.passes import Recipe
from offsky.engine.prepared import Prepared
from offsky.engine.product import Making
from offsky.options import Options
from offsky.values.average import ClippedMean
from offsky.values.exposure import Scratch

if TYPE_CHECKING:
    from offsky.combine.grow import Grower, Piece
    from offsky.kernel.contract import Marks
    from offsky.measure.members import Members


class Averaging:
    """One average that a pass makes.

    Parameters
    ----------
    recipe : Recipe
        What it is made of.
    prepared : Prepared
        What it needs beside rows.
    products : sequence of Making
        The products that are written while it is made.
    options : Options
        How it is made.
    has_variances : bool
        Whether all of its exposures have VAR_POISSON and VAR_RNOISE.
    members : Members or None
        Where to gather what rows of the backgrounds show; None where nobody observes.
    """

    def __init__(
        self,
        recipe: Recipe,
        prepared: Prepared,
        products: Sequence[Making],
        options: Options,
        *,
        has_variances: bool,
        members: "Members | None" = None,
    ) -> None:
        propagates = options.errors == "propagate"
        kept = recipe.kept(propagates=propagates)
        self.recipe = recipe
        self.prepared = prepared
        self.products = products
        self.members = members
        self.error = prepared.error
        self.errors = options.uses_errors or (kept.errors and kept.whole)
        self.variances = propagates and has_variances
        shape = recipe.frame.ny, recipe.frame.nx
        self._assembly = Assembly(shape, len(recipe.members), kept)
        self._combination = Combination(
            options,
            prepared.weights,
            prepared.adjustments,
            None if prepared.depths is None else prepared.depths.numbers,
            self.errors,
            recipe.groups if kept.n_shares else None,
        )

    @property
    def is_alive(self) -> bool:
        """Whether somebody still waits for it."""
        if self.error is not None:
            return False
        return self.recipe.is_whole or any(product.error is None for product in self.products)

    @property
    def grows(self) -> bool:
        """Whether rejection grows to neighbours."""
        return grows(self._combination.options, len(self.recipe.members))

    def average(
        self, first: int, last: int, images: Sequence[Image], scratch: Scratch
    ) -> ClippedMean:
        """Average rows [first, last) of the frame, and count them."""
        return self._average(first, last, self._with_variances(images), scratch)

    def _average(
        self,
        first: int,
        last: int,
        images: Sequence[Image],
        scratch: Scratch,
        marks: "Marks | None" = None,
    ) -> ClippedMean:
        room = self._assembly.room(
            first, last, scratch, errors=self.errors, variances=self.variances
        )
        average = self._combination.average(images, room=room, marks=marks)
        self._assembly.add(average)
        return average

    def _with_variances(self, images: Sequence[Image]) -> Sequence[Image]:
        return images if self.variances else [_without_variances(image) for image in images]

    def grower(self, begin: int, end: int) -> "Grower":
        """Return the average of rows [begin, end) of the frame, whose rejection grows."""
        from offsky.combine.grow import Grower

        frame = self.recipe.frame
        return Grower(self._combination, (frame.ny, frame.nx), begin, end)

    def grow(
        self,
        grower: "Grower",
        rows: tuple[int, int],
        images: Sequence[Image],
        tail: Sequence[Image],
        scratch: Scratch,
        *,
        counts: bool,
    ) -> "list[Piece]":
        """Average further rows of a grower; return those that are settled, which are counted.

        Parameters
        ----------
        grower : Grower
            Has taken the rows above, if any.
        rows : tuple of int
            [first, last) of the frame.
        images, tail : sequence of Image
            These rows, and those above, of each exposure.
        scratch : Scratch
            Memory for the average.
        counts : bool
            Whether the rows are wanted; others are only looked at.
        """
        images = self._with_variances(images)

        def average(marks: "Marks") -> ClippedMean:
            if counts:
                return self._average(*rows, images, scratch, marks)
            return self._combination.average(images, marks=marks)

        pieces = grower.push(*rows, images, self._with_variances(tail), average)
        for piece in pieces:
            self._assembly.amend(piece.first, piece.average, piece.n_grown, piece.n_err_estimated)
        return pieces

    def see(self, first: int, last: int, images: Sequence[Image], flags: Array | None) -> None:
        """Gather what rows show of the backgrounds, where somebody observes."""
        if self.members is not None:
            self.members.see(first, last, images, flags, self._flags_if_kept)

    def _flags_if_kept(self, images: Sequence[Image]) -> Array | None:
        """Return the flags of the average of some rows, if only those of kept samples counted."""
        options = self._combination.options
        if options.dq != "or":
            return None
        options = options.changed(dq="kept", bad_fraction=None)
        if self.grows:
            # What is rejected is left out of these rows.
            options = options.changed(reject="none")
        combination = self._combination._replace(
            options=options, errors=options.uses_errors, groups=None
        )
        return combination.average([_without_variances(image) for image in images]).dq

    def finish(self) -> Finished:
        """Return the average; all of its rows are made."""
        depths, finished = self.prepared.depths, self._assembly.finish()
        if depths is None or not depths.is_measured:
            return finished
        return replace(finished, err_ratios=tuple(map(float, depths.ratios)))


def _without_variances(image: Image) -> Image:
    if image.rows.var_poisson is None and image.rows.var_rnoise is None:
        return image
    return image._replace(rows=image.rows._replace(var_poisson=None, var_rnoise=None))
