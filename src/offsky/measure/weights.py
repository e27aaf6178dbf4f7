"""The weights of exposures in their mean, told from their shapes and some of their ERR."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from offsky.combine.rule import exposure_weights
from offsky.options import Options
from offsky.values.exposure import Exposure, Scratch

# Rows that the median ERR of one exposure is told from.
_ROWS = 64


def weigh(
    exposures: Sequence[Exposure], options: Options, threads: int
) -> NDArray[np.float64] | None:
    """Return the weight of each exposure in the mean; None for equal ones.

    Parameters
    ----------
    exposures : sequence of Exposure
        As they will be averaged.
    options : Options
        Of which `weight` counts. By "variance" some rows of each exposure are read.
    threads : int
        Threads to read on.
    """
    n_integrations = [e.shape[0] if len(e.shape) == 3 else 1 for e in exposures]
    median_errors: list[float | None] = []
    if options.weight == "variance":
        with ThreadPoolExecutor(threads) as pool:
            median_errors = list(pool.map(_median_error, exposures))
    return exposure_weights(options, n_integrations, median_errors)


def _median_error(exposure: Exposure) -> float | None:
    """Return the median ERR of an exposure, from some rows in even steps."""
    n_rows = exposure.shape[-2]
    scratch = Scratch(exposure.row_bytes)
    found = []
    for row in range(0, n_rows, max(1, n_rows // _ROWS)):
        scratch.clear()
        rows = exposure.read_rows(row, row + 1, scratch)
        if rows.err is not None:
            # Where there is a sample: the error of a bad pixel tells nothing.
            errors = rows.err[np.isfinite(rows.sci) & np.isfinite(rows.err)]
            found.append(errors.astype(np.float64))
    errors = np.concatenate(found) if found else np.empty(0)
    return float(np.median(errors)) if errors.size else None
