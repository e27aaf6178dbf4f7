"""A product with all that its checks measure."""

from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np

from offsky.arrays import Array
from offsky.measure.ghosts import Ghost, Templates, find_templates, measure_ghost
from offsky.measure.scatter import pair_scatter
from offsky.measure.structure import Structure, structure_of
from offsky.values.facts import Facts
from offsky.values.gathered import UNUSABLE, Gathered


@dataclass(frozen=True, eq=False)
class Judged:
    """A product with all that its checks measure; each is measured once, when asked for."""

    gathered: Gathered
    facts: Facts

    @cached_property
    def noise(self) -> float:
        """Scatter of a block of the product; much sooner known than all that is left in it."""
        return pair_scatter(self.usable_image)

    @cached_property
    def after(self) -> Structure:
        """What is left in the product; blocks with DO_NOT_USE do not count."""
        return structure_of(self.usable_image, self.gathered.bin, noise=self.noise)

    @cached_property
    def usable_image(self) -> Array:
        """The product, NaN in blocks that have DO_NOT_USE."""
        gathered = self.gathered
        if gathered.flags is None:
            return gathered.after
        # Of large blocks few would be left.
        if gathered.bin > 4:
            return gathered.after
        unusable = (gathered.flags & UNUSABLE) != 0
        if unusable.mean() > 0.5:
            return gathered.after
        return np.where(unusable, np.float32(np.nan), gathered.after)

    @cached_property
    def before(self) -> Structure | None:
        """What was in the target, at the same blocks."""
        if self.gathered.before is None:
            return None
        return structure_of(self.gathered.before, self.gathered.bin, free=self.after.free)

    @cached_property
    def err(self) -> float:
        """Median ERR of a pixel; NaN without one."""
        err = self.gathered.err_samples
        if err is None:
            return float("nan")
        known = err[np.isfinite(err) & (err > 0)]
        return float(np.median(known)) if known.size else float("nan")

    @cached_property
    def err_ratio(self) -> float:
        """Scatter of source-free pixels over ERR; NaN where it cannot be told."""
        gathered = self.gathered
        if gathered.err_samples is None or gathered.after_samples is None:
            return float("nan")
        usable = gathered.usable_samples
        sci = gathered.after_samples
        if usable is not None:
            sci = np.where(usable, sci, np.float32(np.nan))
        err = np.where(gathered.err_samples > 0, gathered.err_samples, np.float32(np.nan))
        return pair_scatter(sci, err)

    @cached_property
    def err_without_average(self) -> float:
        """The same as expected where ERR omits the average's error; 1 where it has it."""
        facts, gathered = self.facts, self.gathered
        if facts.errors == "propagate" or not facts.used or facts.subtraction == "none":
            return 1.0
        average, err = gathered.average_err_samples, gathered.err_samples
        if average is not None and err is not None:
            with np.errstate(invalid="ignore", divide="ignore"):
                share = (average / err) ** 2
            share = share[np.isfinite(share)]
            if share.size:
                return sqrt(1 + float(np.median(share)))
        n = 0.0
        for each in facts.used:
            times = each.exposure.exposure_time, facts.target.exposure_time
            ratio = 1.0
            if times[0] and times[1]:
                per_plane = times[1] / max(1, facts.target.n_integrations)
                ratio = times[0] / per_plane
            else:
                ratio = float(each.exposure.n_integrations)
            n += ratio
        factor = 1.57 if facts.combine == "median" and len(facts.used) > 2 else 1.0
        return sqrt(1 + factor / max(n, 1e-3))

    @cached_property
    def templates(self) -> Templates:
        """The sources of the product."""
        image = self.usable_image - np.float32(self.after.level)
        return find_templates(image, self.after.noise)

    def ghost(self, offset: tuple[float, float]) -> Ghost | None:
        """Return how much of the sources' light is missing at an offset, in pixels."""
        image = self.usable_image - np.float32(self.after.level)
        side = self.gathered.bin
        in_blocks = offset[0] / side, offset[1] / side
        return measure_ghost(image, self.templates, in_blocks, self.after.noise)
