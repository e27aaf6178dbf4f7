"""What is fitted to one target and a whole average, and told."""

import logging

from offsky.options import Options
from offsky.subtraction import Coefficients
from offsky.values.average import ClippedMean
from offsky.values.exposure import Exposure

log = logging.getLogger(__name__)


def fitted(target: Exposure, average: ClippedMean, options: Options) -> Coefficients:
    """Return the factor on an average, and the constant, that leave least in a target."""
    from offsky.measure.finder import find_in_image, have_finder
    from offsky.measure.fit import fit_target

    masks = options.mask_sources and have_finder()
    found = fit_target(target, average, options, find_in_image if masks else None)
    log.info(
        "%s: %.6g ± %.2g times the average plus %.6g ± %.2g is subtracted, as fitted to %d pixels",
        target.name,
        found.factor,
        found.factor_error,
        found.offset,
        found.offset_error,
        found.n_pixels,
    )
    if found.is_faint:
        log.warning(
            "%s: the average is below the noise of a sample: the fitted factor (%.4g) follows "
            "what target and backgrounds do not share, and adds noise where it is above 1; fit "
            "target_offset, or give target_scale as a number",
            target.name,
            found.factor,
        )
    return found
