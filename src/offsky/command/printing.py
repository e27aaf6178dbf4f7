"""Tables: with lines on a terminal, plain columns where piped."""

import sys
from itertools import zip_longest

from offsky.errors import one_line

_GAP = "  "


class Table:
    """Rows of text under headings.

    Parameters
    ----------
    *columns : str
        The headings.
    """

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self._rows: list[tuple[tuple[str, ...], str | None]] = []

    def add_row(self, *cells: str, style: str | None = None) -> None:
        """Add a row, with a style of rich for terminals; no terminal obeys what it names."""
        self._rows.append((tuple(map(one_line, cells)), style))

    def print(self) -> None:
        """Print it; piped, a row is a line, whatever its length."""
        if sys.stdout.isatty():
            self._draw()
            return
        rows = [self._columns, *(cells for cells, _ in self._rows)]
        # Thousands of rows: rich would take as long for them as their products.
        columns = zip_longest(*rows, fillvalue="")
        widths = [max(map(len, column)) for column in columns]
        for cells in rows:
            padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
            print(_GAP.join(padded).rstrip())

    def _draw(self) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table as Drawn

        table = Drawn(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in self._columns:
            table.add_column(column, overflow="fold")
        for cells, style in self._rows:
            table.add_row(*cells, style=style)
        Console(file=sys.stdout, highlight=False).print(table, markup=False)
