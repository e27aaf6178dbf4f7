"""The search for sources in the exposures of a pass."""

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from offsky.arrays import Array, Mask
from offsky.combine.images import Image
from offsky.engine.framing import image_of
from offsky.engine.passes import Member, Pass
from offsky.engine.prepared import Opened, Prepared
from offsky.measure.finder import find_in_image, require_finder
from offsky.measure.sources import OVERLAP, find_in_images, grown, strip_rows
from offsky.options import Options
from offsky.values.exposure import Scratch, Wanted
from offsky.values.mask import PackedMask
from offsky.values.window import Window

log = logging.getLogger(__name__)


def find_sources(
    pass_: Pass,
    opened: Opened,
    options: Options,
    threads: int,
    prepared: Sequence[Prepared],
    broken: dict[Hashable, Exception],
) -> None:
    """Find the sources in every exposure of every recipe, and add them to its masks."""
    require_finder()
    for frame, height, numbers in _strips(pass_, opened):
        _SourceSearch(pass_, opened, options, prepared, frame, numbers, find_in_image).search(
            height, threads, broken
        )


def _strips(pass_: Pass, opened: Opened) -> Iterable[tuple[Window, int, list[int]]]:
    """Yield frames with the height of their strips and the recipes that are searched so."""
    groups: dict[tuple[Window, int], list[int]] = {}
    places = {facts.key: i for i, facts in enumerate(pass_.exposures)}
    for number, recipe in enumerate(pass_.recipes):
        row_bytes = sum(
            opened.exposures[places[m.facts.key]].row_bytes(Wanted()) + 24 * recipe.frame.nx
            for m in recipe.members
        )
        height = strip_rows(recipe.frame.ny, row_bytes)
        groups.setdefault((recipe.frame, height), []).append(number)
    for (frame, height), numbers in groups.items():
        yield frame, height, numbers


@dataclass(slots=True)
class _SourceSearch:
    """The search for sources in the recipes of one frame, strip by strip."""

    pass_: Pass
    opened: Opened
    options: Options
    prepared: Sequence[Prepared]
    frame: Window
    numbers: list[int]
    finder: Callable[[Array, Array, Mask], Mask]

    def search(self, height: int, threads: int, broken: dict[Hashable, Exception]) -> None:
        shape = self.frame.ny, self.frame.nx
        found = {
            number: [PackedMask(shape) for _ in self.pass_.recipes[number].members]
            for number in self.numbers
        }

        def work(first: int) -> None:
            last = min(first + height, self.frame.ny)
            for number, masks in self._strip(first, last, broken).items():
                for packed, mask in zip(found[number], masks, strict=True):
                    # Rows of different threads are different bytes.
                    packed.put(first, mask)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(0, self.frame.ny, height)))
            grow = [(number, k) for number in self.numbers for k in range(len(found[number]))]

            def put(place: tuple[int, int]) -> None:
                number, k = place
                mask = grown(found[number][k].rows(0, self.frame.ny))
                self._add(number, k, mask)

            list(pool.map(put, grow))

    def _strip(
        self, first: int, last: int, broken: dict[Hashable, Exception]
    ) -> dict[int, list[Mask]]:
        begin, end = max(0, first - OVERLAP), min(self.frame.ny, last + OVERLAP)
        images: dict[tuple[Hashable, Hashable], Image] = {}
        scratch = Scratch()
        own = slice(first - begin, last - begin)
        masks = {}
        for number in self.numbers:
            members = self.pass_.recipes[number].members
            if any(member.facts.key in broken for member in members):
                continue
            try:
                for member in members:
                    key = member.facts.key, member.mask
                    if key not in images:
                        images[key] = self._image(member, begin, end, scratch, broken)
            except Exception:
                continue
            of_all = [images[member.facts.key, member.mask] for member in members]
            masks[number] = [
                find_in_images(of_all, k, self.finder)[own] for k in range(len(members))
            ]
        return masks

    def _image(
        self,
        member: Member,
        begin: int,
        end: int,
        scratch: Scratch,
        broken: dict[Hashable, Exception],
    ) -> Image:
        place = [facts.key for facts in self.pass_.exposures].index(member.facts.key)
        try:
            return image_of(
                self.opened.exposures[place],
                member.window,
                self.frame,
                (begin, end),
                scratch,
                self.options,
                self.opened.masks.get(member.mask),
            )
        except Exception as error:
            broken[member.facts.key] = error
            raise

    def _add(self, number: int, k: int, in_frame: Mask) -> None:
        """Add a mask of the frame to that of an exposure."""
        recipe, own = self.pass_.recipes[number], self.prepared[number]
        member = recipe.members[k]
        name = self.opened.exposures[
            [facts.key for facts in self.pass_.exposures].index(member.facts.key)
        ].name
        log.info("%s: %.2f %% of the pixels left out as sources", name, 100 * in_frame.mean())
        whole = np.zeros((member.window.ny, member.window.nx), dtype=np.bool_)
        overlap = member.window.overlap(self.frame)
        if overlap is not None:
            whole[overlap.slices_within(member.window)] = in_frame[
                overlap.slices_within(self.frame)
            ]
        own.masks[k] = PackedMask.of(whole).also(own.masks[k])
