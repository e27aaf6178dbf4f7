"""The passes that a group of a plan will be made in, and their memory: from the plan alone."""

from collections.abc import Mapping, Sequence

from offsky.engine.forecast import EXPOSURE_BYTES, Forecast, forecast
from offsky.engine.passes import Demand, Facts, Member, Pass, arrange
from offsky.io.imprinted import difference_bytes
from offsky.programme.plan import Group, Plan, PlannedFile, PlannedProduct
from offsky.subtraction import Subtraction
from offsky.values.window import Window

# What a file takes that could not be read when the plan was made.
_UNKNOWN = (1, 1)


def passes_of(
    plan: Plan, group: Group, *, save_combined: bool = False
) -> tuple[list[Pass], list[PlannedFile]]:
    """Return the passes that a group is made in, as the engine arranges them.

    Parameters
    ----------
    plan : Plan
        The programme.
    group : Group
        One of its groups, or a part of one.
    save_combined : bool
        Whether the average of each product is written too.

    Returns
    -------
    passes : list of Pass
        Empty where no product has a background.
    files : list of PlannedFile
        The files that are open meanwhile.
    """
    known = plan.file_of
    demands = []
    paths: dict[str, None] = {}
    for number in group.products:
        product = plan.products[number]
        paths.update(dict.fromkeys(product.inputs))
        if product.backgrounds:
            demands.append(_demand(number, product, known, save_combined=save_combined))
    return arrange(demands), [known[path] for path in paths if path in known and known[path].shape]


def predict(
    plan: Plan,
    group: Group,
    memory_bytes: int | None,
    threads: int,
    *,
    save_combined: bool = False,
) -> Forecast | None:
    """Predict how a group will be worked on, and the memory that it takes.

    Parameters
    ----------
    plan, group, save_combined
        As for `passes_of`.
    memory_bytes : int or None
        The limit.
    threads : int
        Threads that work on it.

    Returns
    -------
    Forecast or None
        Of the pass that takes the most; None where nothing is averaged.
    """
    passes, files = passes_of(plan, group, save_combined=save_combined)
    open_bytes = sum(EXPOSURE_BYTES + file.held_bytes for file in files)
    options = plan.products[group.products[0]].options
    forecasts = [
        forecast(pass_, options, threads, memory_bytes, open_bytes=open_bytes) for pass_ in passes
    ]
    return max(forecasts, key=lambda each: each.peak_bytes, default=None)


def _demand(
    number: int,
    product: PlannedProduct,
    known: dict[str, PlannedFile],
    *,
    save_combined: bool,
) -> Demand:
    how = Subtraction.of(product.options)
    target = known.get(product.target)
    masks: Sequence[str | None] = product.masks or [None] * len(product.backgrounds)
    imprints = product.imprints or [()] * (1 + len(product.backgrounds))
    members = tuple(
        Member(_facts(path, known, of_one), _window(known.get(path)), mask)
        for path, mask, of_one in zip(product.backgrounds, masks, imprints[1:], strict=True)
    )
    return Demand(
        number,
        _window(target),
        members,
        _facts(product.target, known, imprints[0]),
        fits=product.options.fits_target,
        saves=save_combined,
        changes_errors=how.changes_errors,
        product_bytes=0 if target is None else target.product_bytes,
    )


def _facts(path: str, known: Mapping[str, PlannedFile], imprints: tuple[str, ...]) -> Facts:
    file = known.get(path)
    if file is None or not file.shape:
        return Facts(path, _UNKNOWN, 0)
    if not imprints:
        return Facts(path, file.shape, file.row_bytes, file.held_bytes)
    row_bytes = file.row_bytes + sum(known[each].row_bytes for each in imprints if each in known)
    row_bytes += difference_bytes(file.shape)
    return Facts((path, imprints), file.shape, row_bytes, file.held_bytes, imprints)


def _window(file: PlannedFile | None) -> Window:
    if file is None or not file.shape:
        return Window(0, 0, *_UNKNOWN)
    # One that does not say lies where those of its shape lie.
    return file.window or Window(0, 0, file.shape[-1], file.shape[-2])
