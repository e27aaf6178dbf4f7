"""Before averaging: leave out the sources in backgrounds, and match their levels."""

import logging
from collections.abc import Sequence

from offsky.combine.adjusted import AdjustedExposure
from offsky.options import Options
from offsky.subtraction import TargetScale
from offsky.values.average import ClippedMean
from offsky.values.exposure import Exposure

# What only some options need is imported where they ask for it: a cold run waits for less.

log = logging.getLogger(__name__)


def prepares(options: Options) -> bool:
    """Tell whether exposures are looked at before they are averaged."""
    return options.mask_sources or options.level != "none"


def prepare(exposures: Sequence[Exposure], options: Options, *, threads: int) -> list[Exposure]:
    """Return exposures as they are to be averaged.

    Parameters
    ----------
    exposures : sequence of Exposure
        All of the same (ny, nx), placed by now.
    options : Options
        `mask_sources` and `level` say what to do.
    threads : int
        Threads to work on.

    Returns
    -------
    list of Exposure
        The same exposures, or what leaves samples out and moves levels as they are read.

    Raises
    ------
    ParameterError
        Where sources cannot be found for lack of sep.
    ExposureMismatchError
        Where levels cannot be matched.

    Notes
    -----
    Finding sources reads everything once, matching levels some rows; the average reads
    everything once more. In memory stay one bit for each pixel of each exposure.
    """
    prepared = list(exposures)
    if options.mask_sources and prepared:
        from offsky.measure.finder import find_in_image, require_finder
        from offsky.measure.sources import find_sources

        require_finder()
        masks = find_sources(prepared, find_in_image, options=options, threads=threads)
        for exposure, mask in zip(prepared, masks, strict=True):
            share = mask.count() / (mask.shape[0] * mask.shape[1])
            log.info("%s: %.2f %% of the pixels left out as sources", exposure.name, 100 * share)
        prepared = [
            AdjustedExposure(exposure, mask=mask)
            for exposure, mask in zip(prepared, masks, strict=True)
        ]
    if options.level != "none" and len(prepared) > 1:
        from offsky.measure.levels import match_levels, sample_levels

        match = match_levels(sample_levels(prepared, options, threads), options.level)
        how = zip(prepared, match.levels, match.offsets, match.scales, strict=True)
        prepared = []
        for exposure, level, offset, scale in how:
            log.info("%s: level %g, offset %+g, factor %.6g", exposure.name, level, offset, scale)
            prepared.append(AdjustedExposure(exposure, offset=offset, scale=scale))
    return prepared


def fits_scale(options: Options) -> bool:
    """Tell whether the factor on the average is to be found, once that is whole."""
    return options.target_scale == "fit"


def find_scale(target: Exposure, average: ClippedMean, options: Options) -> TargetScale:
    """Return the factor on an average for one target, found or given.

    Parameters
    ----------
    target : Exposure
        What the average is subtracted from.
    average : ClippedMean
        The average, whole where the factor is to be found.
    options : Options
        `target_scale` is the factor, or says to find it.
    """
    if options.target_scale != "fit":
        return TargetScale(float(options.target_scale))
    from offsky.measure.finder import find_in_image, have_finder
    from offsky.measure.fit import fit_target_scale

    masks = options.mask_sources and have_finder()
    found = fit_target_scale(target, average, options, find_in_image if masks else None)
    log.info(
        "%s: the average is subtracted %.6g ± %.2g times, as fitted to %d pixels",
        target.name,
        found.factor,
        found.error,
        found.n_pixels,
    )
    return found
