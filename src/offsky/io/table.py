"""Tables of targets and backgrounds (CSV), as people write them."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from offsky.errors import MissingFileError, ParameterError, reason_of
from offsky.io.names import product_root
from offsky.io.regular import read_text

_NEEDED = ("target", "background")
_COLUMNS = (*_NEEDED, "product", "mask")


@dataclass(frozen=True, slots=True)
class TableProduct:
    """One product of a table.

    Attributes
    ----------
    name : str
        The root of its files' names.
    target : Path
        The exposure to subtract from.
    backgrounds : tuple of Path
        In the order of their rows.
    masks : tuple of (Path or None)
        The mask of each background.
    """

    name: str
    target: Path
    backgrounds: tuple[Path, ...]
    masks: tuple[Path | None, ...]


def read_table(path: Path, known: Mapping[str, Sequence[Path]]) -> list[TableProduct]:
    """Read a table with one row for each target and background.

    Parameters
    ----------
    path : Path
        The file. Its first row names the columns: target and background, and maybe product
        and mask. Paths are relative to its folder.
    known : mapping of str to sequence of Path
        Exposures by their names, that the table may name without a folder.

    Returns
    -------
    list of TableProduct
        In the order of their first rows.

    Raises
    ------
    MissingFileError
        If the table or a file in it is not there.
    ParameterError
        If it is no such table. Errors name the row.
    """
    reader = csv.DictReader(_text(path).splitlines(), skipinitialspace=True)
    columns = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    for name in columns:
        if name not in _COLUMNS or columns.count(name) > 1:
            raise ParameterError(
                f"{path}: column {name!r}; expected {', '.join(_COLUMNS)}, each once"
            )
    for name in _NEEDED:
        if name not in columns:
            raise ParameterError(
                f"{path}: no column {name!r}; expected the first row to name the columns target "
                "and background"
            )
    reader.fieldnames = columns
    found: dict[str, TableProduct] = {}
    for row in reader:
        _add(found, row, _Row(path, reader.line_num, known))
    if not found:
        raise ParameterError(f"{path}: no rows; expected one for each target and background")
    return list(found.values())


def _text(path: Path) -> str:
    try:
        return read_text(path).removeprefix("\ufeff")
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file; check the name") from error
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"{path}: cannot be read ({reason_of(error)}); expected a table (CSV)"
        ) from error


class _Row:
    """Turns the fields of one row into paths, or says where it is wrong."""

    def __init__(self, table: Path, line: int, known: Mapping[str, Sequence[Path]]) -> None:
        self._table, self._line, self._known = table, line, known

    def wrong(self, found: str) -> ParameterError:
        return ParameterError(f"{self._table}, row {self._line}: {found}")

    def file(self, column: str, name: str) -> Path:
        here = self._table.parent / name
        if here.is_file():
            return here
        elsewhere = self._known.get(name, ())
        if len(elsewhere) > 1:
            raise self.wrong(f"{column} {name!r} is several inputs; give its path")
        if not elsewhere:
            raise MissingFileError(
                f"{self._table}, row {self._line}: {column} {name!r}: no such file; expected a "
                "path from the table's folder, or the name of an exposure among the inputs"
            )
        return elsewhere[0]


def _add(found: dict[str, TableProduct], fields: Mapping[str | None, object], row: _Row) -> None:
    """Add a row to its product."""
    if None in fields or None in fields.values():
        raise row.wrong("not as many fields as there are columns")
    texts = {str(key): str(value).strip() for key, value in fields.items()}
    for column in _NEEDED:
        if not texts[column]:
            raise row.wrong(f"no {column}")
    target = row.file("target", texts["target"])
    background = row.file("background", texts["background"])
    mask = row.file("mask", texts["mask"]) if texts.get("mask") else None
    product = texts.get("product") or target.name
    name = product_root(Path(product)) if Path(product).name == product else ""
    if not name:
        raise row.wrong(f"product {product!r}; expected a plain file name")
    known = found.get(name, TableProduct(name, target, (), ()))
    if known.target != target:
        raise row.wrong(
            f"product {name!r} has target {target.name}, and {known.target.name} in a row before"
        )
    found[name] = TableProduct(
        name, target, (*known.backgrounds, background), (*known.masks, mask)
    )
