"""The memory that a pass takes, predicted: pure arithmetic."""

from dataclasses import dataclass

from offsky.combine.blocks import BLOCK_BYTES, GROWN_BLOCK_BYTES, LEAST_GROWN, block_rows, is_tiny
from offsky.combine.rule import grows
from offsky.engine.passes import Facts, Pass, Recipe
from offsky.io.imprinted import imprints_of
from offsky.measure.pairs import block_grid
from offsky.measure.sources import STRIP_BYTES
from offsky.options import Options
from offsky.outcome import counted
from offsky.values.exposure import Exposure, Wanted

# What a process holds before it reads pixels: the interpreter, NumPy, astropy's FITS.
# Measured 62 to 75 MB with Python 3.11 to 3.13.
PROCESS_BYTES = 85 * 2**20
# An exposure that is open: its headers. Measured 65 kB for a full-frame image.
EXPOSURE_BYTES = 100 * 2**10
# What finding the median of an average takes, by pixel.
_MEDIAN_PIXEL_BYTES = 2
# What writing an average to a file takes, by pixel: the number kept as int32, and what of it is
# not given back at once (of a full frame 5 MB, in some runs).
_SAVE_PIXEL_BYTES = 6
# One averaged row in a thread's memory: SCI, ERR, DQ, n_kept, two variances; and what
# adjusting it by a factor takes (float64).
_AVERAGE_ROW_BYTES = 22 + 40
# One exposure's image that is made of its integrations: float64, DQ, n_kept; with ERR and
# variances also those.
_REDUCED_ROW_BYTES, _REDUCED_ERROR_BYTES = 14, 24
# A row of a target beside the one that is read, and its product: SCI, DQ; and ERR, VAR_*.
_PRODUCT_ROW_BYTES, _PRODUCT_ERROR_BYTES = 16, 32
# What adding the errors of imprints takes beside, by pixel: coefficients, variances and sums in
# float64, ERR and variances of the result; and of a whole average that is saved.
_IMPRINT_ROW_BYTES, _IMPRINT_SAVE_BYTES = 96, 12
# Bounds of a pixel's mean and ERR, beside the marks of its samples.
_MARK_BYTES = 16
# Reads of fewer rows than this are many and small.
_COMFORTABLE_ROWS = 16
# Open files that products are written to in one pass, at most.
_MOST_PRODUCTS = 192


@dataclass(frozen=True, slots=True)
class Forecast:
    """How a pass will be worked on, and the memory that it takes.

    Attributes
    ----------
    peak_bytes : int
        Of the whole process.
    rows_per_block : int
        Height of the blocks.
    recipes_per_pass : int
        Averages that are made in one pass over the exposures.
    block_row_bytes : int
        Memory for one row of a block.
    """

    peak_bytes: int
    rows_per_block: int
    recipes_per_pass: int
    block_row_bytes: int


def wanted_planes(pass_: Pass, options: Options) -> Wanted:
    """Return which planes a pass reads."""
    propagates = options.errors == "propagate"
    saves = any(recipe.saves for recipe in pass_.recipes)
    read = {facts.key for facts in pass_.exposures}
    watches = any(
        d.watched and d.target is not None and d.target.key in read
        for r in pass_.recipes
        for d in r.demands
    )
    return Wanted(options.uses_errors or saves or watches, propagates)


def facts_of(exposure: Exposure, wanted: Wanted) -> Facts:
    """Return what arranging and forecasting know of an open exposure."""
    return Facts(
        exposure.same_as,
        exposure.shape,
        exposure.row_bytes(wanted),
        exposure.held_bytes,
        tuple(each.same_as for each in imprints_of(exposure)),
    )


def forecast(
    pass_: Pass, options: Options, threads: int, memory_bytes: int | None, *, open_bytes: int
) -> Forecast:
    """Predict the memory of a pass, and find how to keep it within a limit.

    Parameters
    ----------
    pass_ : Pass
        The pass.
    options : Options
        How it averages.
    threads : int
        Threads that work on it.
    memory_bytes : int or None
        The limit; None for no limit.
    open_bytes : int
        Memory of everything that is open meanwhile.

    Returns
    -------
    Forecast
        Its ``peak_bytes`` is above the limit only where nothing can be done about it:
        one row at a time is too much, or one whole image.
    """
    fixed = PROCESS_BYTES + open_bytes + _mask_bytes(pass_, options)
    costs = sorted((_recipe_bytes(recipe, options) for recipe in pass_.recipes), reverse=True)
    row_bytes = _row_bytes(pass_, options)
    fixed += _once_bytes(pass_, threads)
    n_rows = pass_.last_row - pass_.first_row
    n_blocks = 1 if is_tiny(row_bytes, n_rows) else threads
    n_recipes = min(len(costs), max(1, _most_recipes(pass_)))
    # Memory of a row of the blocks of all threads, and the lowest block that there can be.
    rows_bytes, least, block_bytes = n_blocks * row_bytes, 1, BLOCK_BYTES
    if _grows(pass_, options):
        # A block is kept while the next one is worked on.
        rows_bytes, least, block_bytes = 2 * rows_bytes, LEAST_GROWN, GROWN_BLOCK_BYTES
    height = max(least, block_rows(row_bytes, n_rows, n_blocks, block_bytes))
    if memory_bytes is not None:
        # First lower blocks, down to a comfortable height; then fewer averages in a pass;
        # then rows as few as can be.
        spare = memory_bytes - fixed
        low = min(height, _COMFORTABLE_ROWS)
        height = max(low, min(height, (spare - sum(costs[:n_recipes])) // rows_bytes))
        while n_recipes > 1 and sum(costs[:n_recipes]) + height * rows_bytes > spare:
            n_recipes -= 1
        most = (spare - sum(costs[:n_recipes])) // rows_bytes
        height = max(least, min(height, most))
    run_bytes = sum(costs[:n_recipes]) + height * rows_bytes
    peak = fixed + max(run_bytes, look_bytes(pass_, options))
    return Forecast(peak, height, n_recipes, row_bytes)


def look_bytes(pass_: Pass, options: Options) -> int:
    """Return the memory of what is looked at before a pass: samples of levels, strips."""
    n_bytes = 0
    if options.level != "none":
        kinds = {(r.frame, len(r.members)) for r in pass_.recipes}
        for frame, n_members in kinds:
            grid = block_grid(frame.ny, frame.nx, n_members)
            # Blocks of all; and, on two threads, the rows that they are taken from.
            n_bytes += 4 * grid.n_pixels * len(pass_.exposures)
            n_bytes += 16 * len(grid.rows) * frame.nx
    if options.reject == "error":
        from offsky.combine.depths import depth_bytes

        sizes = [len(r.members) for r in pass_.recipes]
        n_bytes += depth_bytes(len(pass_.exposures), len(sizes), max(sizes))
    if options.mask_sources:
        n_bytes += 2 * STRIP_BYTES
    return n_bytes


def _mask_bytes(pass_: Pass, options: Options) -> int:
    """Return the memory of masks: one bit a pixel."""
    masks = {(m.facts.key, m.mask): m for r in pass_.recipes for m in r.members if m.mask}
    n_bytes = sum(m.window.nx * m.window.ny // 8 for m in masks.values())
    if options.mask_sources:
        n_bytes += sum(r.frame.nx * r.frame.ny // 8 * len(r.members) for r in pass_.recipes)
    return n_bytes


def _recipe_bytes(recipe: Recipe, options: Options) -> int:
    """Return the memory of one average and its products while a pass makes it."""
    kept = recipe.kept(propagates=options.errors == "propagate")
    n_pixels = recipe.frame.nx * recipe.frame.ny
    streamed = [d for d in recipe.demands if d.number in recipe.streamed]
    return n_pixels * kept.pixel_bytes + sum(demand.product_bytes for demand in streamed)


def _once_bytes(pass_: Pass, threads: int) -> int:
    """Return the memory of what is done to one average, or a few products, at a time."""
    n_pixels = max(recipe.frame.nx * recipe.frame.ny for recipe in pass_.recipes)
    saves = any(recipe.saves for recipe in pass_.recipes)
    late = sorted(
        (d.product_bytes for r in pass_.recipes for d in r.demands if d.number not in r.streamed),
        reverse=True,
    )
    per_pixel = _MEDIAN_PIXEL_BYTES + saves * _SAVE_PIXEL_BYTES
    if saves and _n_groups(pass_):
        per_pixel += _IMPRINT_SAVE_BYTES
    return n_pixels * per_pixel + sum(late[:threads])


def _row_bytes(pass_: Pass, options: Options) -> int:
    """Return the memory of one row of a block: what is read, and what becomes of it."""
    errors = wanted_planes(pass_, options)
    propagates = options.errors == "propagate"
    targets = {d.target.key for r in pass_.recipes for d in r.demands if d.target is not None}
    # Of the cubes that are no targets, one at a time.
    at_once = [f.row_bytes for f in pass_.exposures if not f.is_cube or f.key in targets]
    in_turn = [f.row_bytes for f in pass_.exposures if f.is_cube and f.key not in targets]
    n_bytes = sum(at_once) + max(in_turn, default=0)
    frames = {recipe.frame for recipe in pass_.recipes}
    of_window = dict(zip((f.key for f in pass_.exposures), pass_.windows, strict=True))
    for facts in pass_.exposures:
        window = of_window[facts.key]
        for frame in frames:
            if facts.is_cube:
                n_bytes += frame.nx * (_REDUCED_ROW_BYTES + errors.err * _REDUCED_ERROR_BYTES)
            if window != frame:
                planes = _REDUCED_ROW_BYTES + errors.err * _REDUCED_ERROR_BYTES
                n_bytes += frame.nx * (planes + 2)
    widest = max(frame.nx for frame in frames)
    changes = [d for r in pass_.recipes for d in r.demands if d.target is not None]
    product = 0
    for demand in changes:
        n_integrations = 1
        target = demand.target
        if target is not None and target.is_cube:
            n_integrations = target.shape[0]
        each = _PRODUCT_ROW_BYTES + (propagates or demand.changes_errors) * _PRODUCT_ERROR_BYTES
        product = max(product, 2 * n_integrations * demand.frame.nx * each)
    imprint = 0
    if any(demand.target.imprints for demand in changes if demand.target is not None):
        # Rows of a target minus its imprint are read for its writer.
        imprint += max(d.target.row_bytes for d in changes if d.target is not None)
    if propagates and (imprint or _n_groups(pass_)):
        imprint += widest * (4 * _n_groups(pass_) + _IMPRINT_ROW_BYTES)
    if _grows(pass_, options):
        # Bits of one average: rejection and two passes.
        most = max(len(recipe.members) for recipe in pass_.recipes)
        n_bytes += widest * (most // 2 + 1 + _MARK_BYTES)
    return n_bytes + widest * _AVERAGE_ROW_BYTES + product + imprint


def _grows(pass_: Pass, options: Options) -> bool:
    """Tell whether the rejection of any of its averages grows."""
    return any(grows(options, len(recipe.members)) for recipe in pass_.recipes)


def _n_groups(pass_: Pass) -> int:
    """Return the most groups of exposures with imprints that an average has."""
    return max(recipe.kept(propagates=True).n_shares for recipe in pass_.recipes)


def _most_recipes(pass_: Pass) -> int:
    """Return how many averages one pass may make for the files that it writes to."""
    most = max((len(recipe.streamed) for recipe in pass_.recipes), default=0)
    return len(pass_.recipes) if most == 0 else _MOST_PRODUCTS // most


def refusal(name: str, n_products: int, expected: Forecast, memory_bytes: int) -> str:
    """Return why a pass is not begun: the memory that it needs."""
    return (
        f"{name}: {counted(n_products, 'product needs', 'products need')} "
        f"{megabytes(expected.peak_bytes)} of memory at least, where {megabytes(memory_bytes)} "
        "are allowed; allow more (--memory), or use fewer threads"
    )


def megabytes(n_bytes: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{n_bytes / 2**20:,.0f} MB"
