"""The memory that a group of products takes, predicted: pure arithmetic."""

from dataclasses import dataclass

from offsky.combine.blocks import block_rows

# What a process holds before it reads pixels: the interpreter, NumPy, astropy's FITS.
# Measured 62 to 75 MB with Python 3.11 to 3.13.
PROCESS_BYTES = 85 * 2**20
# An exposure that is open: its headers. Measured 65 kB for a full-frame image.
EXPOSURE_BYTES = 100 * 2**10
# A whole average: SCI, DQ and n_kept, and what its median is found with.
_AVERAGE_PIXEL_BYTES = 10 + 2
# One result of a leave-one-out pass, until its median is known: SCI and n_kept.
_RESULT_PIXEL_BYTES = 6
_MEDIAN_PIXEL_BYTES = 2
# One averaged row, and what subtracting it from an image takes.
_COMBINED_PIXEL_BYTES = 14 + 28
# One exposure's image that is made of its integrations first: float64, DQ, n_kept.
_REDUCED_PIXEL_BYTES = 22
# Where errors are propagated, in addition: ERR, VAR_POISSON and VAR_RNOISE of a whole average;
# the same of one averaged row, and what adding them to an image takes; variances of one
# exposure's image.
_AVERAGE_ERROR_BYTES = 12
_COMBINED_ERROR_BYTES = 12 + 96
_REDUCED_ERROR_BYTES = 16
# Reads of fewer rows than this are many and small.
_COMFORTABLE_ROWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a group of products needs memory for.

    Attributes
    ----------
    kind : str
        "shared" (one average for all) or "leave-one-out".
    n_rows, n_columns : int
        Of the images.
    row_bytes : int
        Memory for one row of every exposure that is averaged.
    n_cubes : int
        Those of them with integrations.
    n_exposures : int
        Files open, targets included.
    n_products : int
        Products to make.
    target_bytes : int
        Memory that the largest target takes whole; 0 where it is copied by rows.
    held_bytes : int
        Memory of exposures that cannot be read by rows.
    errors : bool
        Whether errors are propagated.
    """

    kind: str
    n_rows: int
    n_columns: int
    row_bytes: int
    n_cubes: int
    n_exposures: int
    n_products: int
    target_bytes: int = 0
    held_bytes: int = 0
    errors: bool = False


@dataclass(frozen=True, slots=True)
class Forecast:
    """How a group will be worked on, and the memory that it takes.

    Attributes
    ----------
    peak_bytes : int
        Of the whole process.
    rows_per_block : int
        Height of the blocks.
    products_per_pass : int
        Leave-one-out results made in one pass over the files.
    """

    peak_bytes: int
    rows_per_block: int
    products_per_pass: int


def forecast(work: Workload, memory_bytes: int | None, n_threads: int) -> Forecast:
    """Predict the memory of a group, and find how to keep it within a limit.

    Parameters
    ----------
    work : Workload
        The group.
    memory_bytes : int or None
        The limit; None for no limit.
    n_threads : int
        Threads that work on it.

    Returns
    -------
    Forecast
        Its ``peak_bytes`` is above the limit only where nothing can be done about it:
        one row at a time is too much, or one whole image.
    """
    n_pixels = work.n_rows * work.n_columns
    fixed = PROCESS_BYTES + work.n_exposures * EXPOSURE_BYTES + work.held_bytes
    if work.kind == "shared":
        # Targets that are rewritten whole are so on every thread.
        n_at_a_time = min(n_threads, work.n_products)
        average_bytes = _AVERAGE_PIXEL_BYTES + work.errors * _AVERAGE_ERROR_BYTES
        fixed += n_pixels * average_bytes + n_at_a_time * work.target_bytes
        per_product = 0
    else:
        fixed += n_pixels * _MEDIAN_PIXEL_BYTES
        per_product = n_pixels * _RESULT_PIXEL_BYTES + work.target_bytes
    combined = _COMBINED_PIXEL_BYTES + work.errors * _COMBINED_ERROR_BYTES
    reduced = _REDUCED_PIXEL_BYTES + work.errors * _REDUCED_ERROR_BYTES
    per_row = n_threads * (work.row_bytes + work.n_columns * (combined + work.n_cubes * reduced))
    n_products = work.n_products if per_product else 1

    height = block_rows(work.row_bytes, work.n_rows, n_threads)
    if work.kind == "shared":
        # The average is in memory at the same time.
        height = max(1, height // 2)
    height = max(height, min(_COMFORTABLE_ROWS, -(-work.n_rows // n_threads)))
    if memory_bytes is not None:
        # First lower blocks, down to a comfortable height; then fewer products in a
        # pass; then single rows.
        spare = memory_bytes - fixed - n_products * per_product
        low = min(height, _COMFORTABLE_ROWS)
        height = max(low, min(height, spare // per_row))
        if per_product and spare < height * per_row:
            affordable = (memory_bytes - fixed - height * per_row) // per_product
            n_products = max(1, min(n_products, affordable))
            spare = memory_bytes - fixed - n_products * per_product
        height = max(1, min(height, spare // per_row))
    peak = fixed + n_products * per_product + height * per_row
    return Forecast(peak, height, n_products)
