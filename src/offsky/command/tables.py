"""Plans and summaries as tables: with lines on a terminal, plain where piped."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offsky.command.plan_table import print_products
from offsky.command.printing import Table
from offsky.engine.forecast import megabytes
from offsky.errors import one_line
from offsky.outcome import COMPLETE, FAILED, SKIPPED, counted
from offsky.product_outcome import ProductOutcome
from offsky.programme.plan import Plan, balance
from offsky.programme.run import Executor, Summary, limit_of_worker
from offsky.programme.sizing import predict

# Rough speeds of one core with files in memory, to tell seconds from hours.
_BYTES_PER_S = 1.0e9
_SAMPLES_PER_S = 1.5e8
_SECONDS_PER_PRODUCT = 0.05


def print_plan(
    plan: Plan, executor: Executor, memory_bytes: int | None, *, details: bool = False
) -> bool:
    """Print a plan: products, backgrounds, what was dropped and why, what it takes.

    Returns
    -------
    bool
        Whether a run would make something, as far as memory goes.
    """
    print_products(plan, details=details)
    needed = _memory_of_worker(plan, executor, memory_bytes)
    for line in _totals(plan, executor, memory_bytes, needed):
        print(one_line(line))
    limit = limit_of_worker(memory_bytes, executor)
    if not plan.groups:
        n_skipped = counted(len(plan.products), "product is", "products are")
        print(f"nothing to make: {n_skipped} skipped")
        return False
    return limit is None or needed <= limit


def _memory_of_worker(plan: Plan, executor: Executor, memory_bytes: int | None) -> int:
    """Return the most memory that one worker takes, of the groups as a run divides them."""
    limit = limit_of_worker(memory_bytes, executor)
    forecasts = [
        predict(plan, group, limit, executor.threads)
        for group in balance(plan, executor.n_workers)
    ]
    return max((each.peak_bytes for each in forecasts if each is not None), default=0)


def print_summary(summary: Summary, folder: Path) -> None:
    """Print what came of every product of a run."""
    table = Table(
        "product", "outcome", "backgrounds", "rejected", "uncovered", "median level", "remarks"
    )
    colours = {COMPLETE: "green", SKIPPED: "yellow", FAILED: "red"}
    for product in summary.products:
        details = product.details or {}
        level = details.get("median_level")
        table.add_row(
            product.output,
            product.status,
            str(len(details["backgrounds"])) if details else "",
            _rejected(details),
            f"{details['n_uncovered']:,}" if details else "",
            "" if level is None else f"{level:.5g} {details.get('unit') or ''}".rstrip(),
            _remark(product),
            style=colours.get(product.status),
        )
    table.print()
    print(
        f"{summary.count(COMPLETE)} complete, {summary.count(SKIPPED)} skipped, "
        f"{summary.count(FAILED)} failed in {summary.elapsed_s:.1f} s; see "
        f"{one_line(str(folder / 'summary.json'))}"
    )


def _remark(product: ProductOutcome) -> str:
    """Return why a product is not complete, without its own name, which the row has."""
    if product.reason is not None:
        return product.reason.removeprefix(f"{product.output}: ")
    return "" if product.made else "made by an earlier run"


def _rejected(details: Mapping[str, Any]) -> str:
    """Return the share of samples that were rejected; nothing where there are none."""
    n_samples = details.get("n_samples")
    return f"{sum(details['n_rejected']) / n_samples:.2%}" if n_samples else ""


def _totals(plan: Plan, executor: Executor, memory_bytes: int | None, needed: int) -> list[str]:
    n_products = sum(len(group.products) for group in plan.groups)
    seconds = _seconds(plan, executor)
    n_here = executor.n_workers if executor.is_here else 1
    each = "" if executor.is_here else " for each worker"
    allowed = "" if memory_bytes is None else f" of {megabytes(memory_bytes)} allowed"
    lines = [
        f"{counted(n_products, 'product', 'products')} in "
        f"{counted(len(plan.groups), 'group', 'groups')}; "
        f"{len(plan.products) - n_products} skipped",
        f"to read: {megabytes(plan.bytes_to_read())}; "
        f"memory{each}: {megabytes(needed * n_here)}{allowed}; "
        f"time: {_rough(seconds)}",
    ]
    left_out = Counter(reason for _, reason in plan.left_out)
    lines += [
        f"left out: {counted(n, 'file', 'files')}: {reason}" for reason, n in left_out.items()
    ]
    return lines


def _seconds(plan: Plan, executor: Executor) -> float:
    """Guess the time of a run."""
    files = {file.path: file for file in plan.files}
    n_samples, n_written = 0.0, 0.0
    for group in plan.groups:
        members = [plan.products[i] for i in group.products]
        averaged = [members[0]] if group.kind == "shared" else members
        for product in averaged:
            for path in product.backgrounds:
                if path in files and files[path].shape:
                    n_samples += files[path].row_bytes * files[path].shape[-2] / 12
        for product in members:
            if product.target in files:
                n_written += files[product.target].n_bytes
    n_cores = executor.n_workers * executor.threads
    n_products = sum(len(group.products) for group in plan.groups)
    return (
        (plan.bytes_to_read() + n_written) / _BYTES_PER_S
        + n_samples / _SAMPLES_PER_S / n_cores
        + n_products * _SECONDS_PER_PRODUCT / executor.n_workers
    )


def _rough(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
