"""Tables: with lines on a terminal, plain where piped."""

import sys
from typing import TYPE_CHECKING, Any

from offsky.errors import one_line

if TYPE_CHECKING:
    from rich.table import Table


def new_table(*columns: str) -> "Table":
    """Return an empty table."""
    from rich import box
    from rich.table import Table

    class Printable(Table):
        """A table whose names a terminal does not obey."""

        def add_row(self, *cells: Any, **how: Any) -> None:
            super().add_row(
                *(one_line(each) if isinstance(each, str) else each for each in cells), **how
            )

    table = Printable(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=not sys.stdout.isatty())
    return table


def print_table(table: "Table") -> None:
    """Print a table; piped, a row is a line."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console(file=sys.stdout, highlight=False).print(table, markup=False)
        return
    # Piped, a row is a line, whatever its length.
    console = Console(width=10_000, highlight=False, color_system=None)
    with console.capture() as captured:
        console.print(table, markup=False)
    for line in captured.get().splitlines():
        print(line.rstrip())
