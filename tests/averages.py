"""Averages of rows and of exposures in memory, by the pieces of the engine itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from offsky.combine.images import combine_images, make_image
from offsky.combine.whole import Finished
from offsky.engine.averaging import Averaging
from offsky.engine.forecast import wanted_planes
from offsky.engine.look import look
from offsky.engine.passes import Demand, Member, Pass, arrange
from offsky.engine.prepared import Opened, Prepared
from offsky.engine.run import PassRun
from offsky.engine.samples import Samples
from offsky.options import Options
from offsky.values.average import ClippedMean
from offsky.values.exposure import Rows, Wanted
from offsky.values.in_memory import ArrayExposure
from offsky.values.mask import PackedMask
from offsky.values.window import Window


def combine_rows(rows: Sequence[Rows], options: Options, weights: Any = None) -> ClippedMean:
    """Average the same rows of several exposures, images and cubes in any mixture."""
    images = [make_image(each, options) for each in rows]
    return combine_images(images, options, weights=weights)


def pass_of(
    exposures: Sequence[ArrayExposure],
    windows: Sequence[Window] | None = None,
    frame: Window | None = None,
    *,
    without_each: bool = False,
) -> tuple[Pass, Opened]:
    """Arrange one average of some exposures, which is saved; or one without each of them."""
    from offsky.engine.forecast import facts_of

    if windows is None:
        windows = [Window(0, 0, each.shape[-1], each.shape[-2]) for each in exposures]
    members = tuple(
        Member(facts_of(each, Wanted()), window)
        for each, window in zip(exposures, windows, strict=True)
    )
    lists = [members]
    if without_each:
        lists = [members[:i] + members[i + 1 :] for i in range(len(members))]
    (made,) = arrange(
        [Demand(i, frame or windows[0], each, saves=True) for i, each in enumerate(lists)]
    )
    by_key = {each.same_as: each for each in exposures}
    return made, Opened([by_key[facts.key] for facts in made.exposures], {})


def assemble(
    exposures: Sequence[ArrayExposure],
    windows: Sequence[Window],
    frame: Window,
    options: Options,
    *,
    height: int,
    threads: int,
) -> Finished:
    """Average exposures as the engine does, in blocks of `height` rows."""
    made, opened = pass_of(exposures, windows, frame)
    prepared, broken = look(made, opened, options, threads)
    average = Averaging(made.recipes[0], prepared[0], [], options, has_variances=False)
    run = PassRun(made, opened, [average], options, wanted_planes(made, options), broken)
    run.run(height=height, row_bytes=1024, threads=threads, progress=None)
    if average.error is not None:
        raise average.error
    return average.finish()


def find_sources(
    exposures: Sequence[ArrayExposure], *, options: Options, threads: int
) -> list[PackedMask]:
    """Find the sources in each exposure, by its difference from the others."""
    from offsky.engine import search

    made, opened = pass_of(exposures)
    prepared = [Prepared([None] * len(exposures))]
    broken: dict[Any, Exception] = {}
    search.find_sources(made, opened, options, threads, prepared, broken)
    assert not broken
    return [mask for mask in prepared[0].masks if mask is not None]


def sample_levels(exposures: Sequence[ArrayExposure], options: Options) -> list[np.ndarray]:
    """Return the blocks that the levels of some exposures are told from."""
    made, opened = pass_of(exposures)
    prepared = [Prepared([None] * len(exposures))]
    samples = Samples(made, opened, options.changed(level="offset"), prepared)
    for i in range(len(exposures)):
        samples.read(i)
    return list(samples._levels._blocks.values())
