"""Read plans from JSON: whatever does not fit is told with its place."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import PurePath
from typing import Any

from offsky.errors import OffskyError, ParameterError
from offsky.io.json_text import parse_json
from offsky.options import Options
from offsky.programme.plan import Group, Plan, PlannedFile, PlannedProduct
from offsky.programme.plan_json import FORMAT, VERSION, is_plan
from offsky.selection.examined import Dropped
from offsky.selection.pairing import Pairing

# Bytes, or nanoseconds since 1970; rows, columns or integrations.
_MOST_BYTES, _MOST_PIXELS = 2**63 - 1, 2**31 - 1

_KEYS = {
    "format",
    "version",
    "offsky",
    "root",
    "rule",
    "files",
    "sets",
    "products",
    "groups",
    "left_out",
}
_FILE_NUMBERS = ("bytes", "modified_ns", "row_bytes", "held_bytes", "product_bytes")
_FILE_KEYS = {*_FILE_NUMBERS, "shape", "start", "label", "exp_type", "mid_time", "pointing"}
_PRODUCT_KEYS = {
    "output",
    "target",
    "backgrounds",
    "masks",
    "imprints",
    "dropped",
    "options",
    "force",
    "skipped",
    "problem",
}
_DROPPED_KEYS = {"set", "reason"}
_LEFT_OUT_KEYS = {"file", "reason"}
_GROUP_KEYS = {"kind", "products"}


def parse_plan(text: str, name: str) -> Plan:
    """Read a plan from JSON text.

    Parameters
    ----------
    text : str
        The JSON.
    name : str
        What messages call it.

    Returns
    -------
    Plan

    Raises
    ------
    ParameterError
        If it is no plan that this version understands, with the place in it.
    """
    try:
        content = parse_json(text)
    except ValueError as error:
        raise ParameterError(
            f"{name}: not JSON ({error}); expected a plan made by 'offsky plan'"
        ) from error
    return plan_of(content, name)


def plan_of(content: Any, name: str) -> Plan:
    """Return the plan that JSON holds.

    Parameters
    ----------
    content : object
        What was read.
    name : str
        What messages call it.

    Returns
    -------
    Plan

    Raises
    ------
    ParameterError
        As for `parse_plan`.
    """
    return _Reader(name).plan(content)


class _Reader:
    """Turns parts of one plan into values, or says where it is wrong."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._root = PurePath("/")
        # What thousands of products share is looked at once.
        self._paths: dict[str, str] = {}
        self._options: dict[str, Options] = {}
        self._sets: list[tuple[str, ...]] = []

    def _wrong(self, place: str, found: str) -> ParameterError:
        return ParameterError(f"{self._name}: {place}: {found}; make the plan again")

    def plan(self, content: Any) -> Plan:
        if not is_plan(content):
            raise ParameterError(
                f"{self._name}: no plan (its format is not {FORMAT!r}); expected one made by "
                "'offsky plan'"
            )
        version = content.get("version")
        if version != VERSION:
            raise ParameterError(
                f"{self._name}: a plan of version {version!r}, where this offsky knows version "
                f"{VERSION}; make the plan again with this one, or run it with the other"
            )
        self._keys(content, _KEYS, "the plan")
        self._root = PurePath(self._name_of(content["root"], "root"))
        if not self._root.is_absolute():
            raise self._wrong("root", f"{content['root']!r} is not an absolute folder")
        files = self._value(content["files"], dict, "files")
        self._sets = [
            tuple(self._path(path, f"sets[{i}]") for path in self._value(part, list, f"sets[{i}]"))
            for i, part in enumerate(self._value(content["sets"], list, "sets"))
        ]
        products = tuple(
            self._product(part, f"products[{i}]")
            for i, part in enumerate(self._value(content["products"], list, "products"))
        )
        groups = tuple(
            self._group(part, f"groups[{i}]", products)
            for i, part in enumerate(self._value(content["groups"], list, "groups"))
        )
        self._check_complete(products, groups)
        known = {self._path(path, "files") for path in files}
        for i, product in enumerate(products):
            for path in product.inputs:
                if path not in known:
                    raise self._wrong(f"products[{i}]", f"{path} is not among its files")
        return Plan(
            self._made(Pairing, _as_numbers(content["rule"]), "rule"),
            tuple(self._file(path, part) for path, part in files.items()),
            products,
            groups,
            self._pairs(content["left_out"], "left_out"),
        )

    def _keys(self, part: Any, wanted: set[str], place: str) -> None:
        self._value(part, dict, place)
        if part.keys() == wanted:
            return
        for key in sorted(set(part) - wanted):
            raise self._wrong(
                place, f"unknown key {key!r} (known are {', '.join(sorted(wanted))})"
            )
        for key in sorted(wanted - set(part)):
            raise self._wrong(place, f"no {key!r}")

    def _value(self, value: Any, kind: type | tuple[type, ...], place: str) -> Any:
        if type(value) is kind:
            return value
        # True is an int to Python, not to us.
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
            raise self._wrong(place, f"{type(value).__name__} where {names} is expected")
        return value

    def _path(self, value: Any, place: str) -> str:
        path = self._paths.get(value) if isinstance(value, str) else None
        if path is None:
            path = str(self._root / self._name_of(value, place))
            self._paths[value] = path
        return path

    def _name_of(self, value: Any, place: str) -> str:
        name: str = self._value(value, str, place)
        try:
            raw = os.fsencode(name)
        except ValueError:
            raw = b"\0"
        if b"\0" in raw:
            raise self._wrong(place, f"{name!r} is no name that a file can have")
        return name

    def _pairs(self, part: Any, place: str) -> tuple[tuple[str, str], ...]:
        pairs = []
        for i, each in enumerate(self._value(part, list, place)):
            where = f"{place}[{i}]"
            self._keys(each, _LEFT_OUT_KEYS, where)
            pairs.append(
                (self._path(each["file"], where), self._value(each["reason"], str, where))
            )
        return tuple(pairs)

    def _dropped(self, part: Any, place: str) -> tuple[Dropped, ...]:
        dropped = []
        for i, each in enumerate(self._value(part, list, place)):
            where = f"{place}[{i}]"
            self._keys(each, _DROPPED_KEYS, where)
            number = self._value(each["set"], int, where)
            if not 0 <= number < len(self._sets):
                raise self._wrong(where, f"there is no set {number}")
            reason = self._value(each["reason"], str, where)
            dropped.append(Dropped(reason, self._sets[number]))
        return tuple(dropped)

    def _made(self, make: Callable[..., Any], part: Any, place: str) -> Any:
        """Make a dataclass of options, whose own checks judge the values."""
        self._value(part, dict, place)
        known = {each.name for each in fields(make)}  # type: ignore[arg-type]
        for key in sorted(set(part) - known):
            raise self._wrong(place, f"unknown key {key!r} (known are {', '.join(sorted(known))})")
        try:
            return make(**{key: _frozen(value) for key, value in part.items()})
        except OffskyError as error:
            raise self._wrong(place, str(error)) from error
        except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
            raise self._wrong(place, f"values of the wrong kind ({error})") from error

    def _file(self, path: str, part: Any) -> PlannedFile:
        place = f"files[{path!r}]"
        self._keys(part, _FILE_KEYS, place)
        numbers = {key: self._number(part[key], f"{place}.{key}") for key in _FILE_NUMBERS}
        shape = self._numbers(part["shape"], f"{place}.shape", least=0)
        if len(shape) not in (0, 2, 3):
            raise self._wrong(f"{place}.shape", f"{len(shape)} numbers, where 2 or 3 are expected")
        start = None if part["start"] is None else self._start(part["start"], shape, place)
        return PlannedFile(
            self._path(path, place),
            numbers["bytes"],
            numbers["modified_ns"],
            shape,
            numbers["row_bytes"],
            numbers["held_bytes"],
            numbers["product_bytes"],
            start,
            self._value(part["label"], str, place),
            self._value(part["exp_type"], (str, type(None)), place),
            self._float(part["mid_time"], place),
            self._pointing(part["pointing"], place),
        )

    def _float(self, part: Any, place: str) -> float | None:
        found = self._value(part, (float, int, type(None)), place)
        try:
            return None if found is None else float(found)
        except OverflowError as error:
            raise self._wrong(place, "a number beyond all that is measured") from error

    def _pointing(self, part: Any, place: str) -> tuple[float, float] | None:
        if part is None:
            return None
        degrees = [self._float(each, place) for each in self._value(part, list, place)]
        if len(degrees) != 2 or None in degrees:
            raise self._wrong(
                place, f"pointing {part!r}; expected right ascension and declination"
            )
        return degrees[0], degrees[1]  # type: ignore[return-value]

    def _start(self, part: Any, shape: tuple[int, ...], place: str) -> tuple[int, int]:
        numbers = self._numbers(part, f"{place}.start", least=1)
        if len(numbers) != 2 or len(shape) < 2:
            raise self._wrong(place, f"start {part!r}; expected column and row of an image")
        return numbers[0], numbers[1]

    def _numbers(self, part: Any, place: str, *, least: int) -> tuple[int, ...]:
        return tuple(
            self._number(n, place, least, _MOST_PIXELS) for n in self._value(part, list, place)
        )

    def _number(self, value: Any, place: str, least: int = 0, most: int = _MOST_BYTES) -> int:
        number: int = self._value(value, int, place)
        if not least <= number <= most:
            raise self._wrong(place, f"a number that is not within {least} and {most}")
        return number

    def _product(self, part: Any, place: str) -> PlannedProduct:
        self._keys(part, _PRODUCT_KEYS, place)
        output = self._name_of(part["output"], f"{place}.output")
        if output in ("", "..") or PurePath(output).name != output:
            raise self._wrong(f"{place}.output", f"{output!r} is not a plain file name")
        backgrounds = self._value(part["backgrounds"], list, place)
        text = (str, type(None))
        return PlannedProduct(
            output,
            self._path(part["target"], place),
            tuple(self._path(path, place) for path in backgrounds),
            self._dropped(part["dropped"], f"{place}.dropped"),
            self._options_of(part["options"], f"{place}.options"),
            self._value(part["force"], bool, place),
            self._value(part["skipped"], text, place),
            self._value(part["problem"], text, place),
            self._masks(part["masks"], len(backgrounds), place),
            self._imprints(part["imprints"], len(backgrounds), f"{place}.imprints"),
        )

    def _imprints(self, part: Any, n_backgrounds: int, place: str) -> tuple[tuple[str, ...], ...]:
        imprints = self._value(part, list, place)
        if imprints and len(imprints) != 1 + n_backgrounds:
            raise self._wrong(
                place,
                f"{len(imprints)} lists; expected one for the target and one for each of "
                f"{n_backgrounds} backgrounds",
            )
        return tuple(
            tuple(self._path(path, place) for path in self._value(of_one, list, place))
            for of_one in imprints
        )

    def _masks(self, part: Any, n_backgrounds: int, place: str) -> tuple[str | None, ...]:
        masks = self._value(part, list, f"{place}.masks")
        if masks and len(masks) != n_backgrounds:
            raise self._wrong(
                f"{place}.masks", f"{len(masks)} masks for {n_backgrounds} backgrounds"
            )
        where = f"{place}.masks"
        return tuple(
            None if each is None else os.path.normpath(self._path(each, where)) for each in masks
        )

    def _options_of(self, part: Any, place: str) -> Options:
        # Text tells 1 from True, which are equal.
        key = repr(part)
        if key not in self._options:
            self._options[key] = self._made(Options, _as_numbers(part), place)
        return self._options[key]

    def _group(self, part: Any, place: str, products: tuple[PlannedProduct, ...]) -> Group:
        self._keys(part, _GROUP_KEYS, place)
        if part["kind"] not in ("shared", "leave-one-out"):
            raise self._wrong(place, f"kind {part['kind']!r}; known are shared, leave-one-out")
        numbers = self._value(part["products"], list, place)
        for number in numbers:
            if not 0 <= self._value(number, int, place) < len(products):
                raise self._wrong(place, f"there is no product {number}")
        if not numbers:
            raise self._wrong(place, "no products")
        members = [products[i] for i in numbers]
        for member in members[1:]:
            like = (member.options, member.force) == (members[0].options, members[0].force)
            if not like or (
                part["kind"] == "shared" and member.backgrounds != members[0].backgrounds
            ):
                raise self._wrong(place, "its products do not share backgrounds and options")
        return Group(part["kind"], tuple(numbers))

    def _check_complete(
        self, products: tuple[PlannedProduct, ...], groups: tuple[Group, ...]
    ) -> None:
        grouped = sorted(i for group in groups for i in group.products)
        wanted = [i for i, product in enumerate(products) if product.skipped is None]
        if grouped != wanted:
            raise self._wrong(
                "groups", "they must name every product once, but for the skipped ones"
            )
        outputs = Counter(product.output for product in products)
        twice = next((name for name, n in outputs.items() if n > 1), None)
        if twice is not None:
            raise self._wrong("products", f"{twice!r} is the output of several")


def _frozen(value: Any) -> Any:
    """Return lists as tuples: options are hashable."""
    if isinstance(value, list):
        return tuple(_frozen(each) for each in value)
    if isinstance(value, Mapping):
        return {key: _frozen(each) for key, each in value.items()}
    return value


def _as_numbers(values: Any) -> Any:
    """Return values as they were before `_as_text`."""
    if not isinstance(values, dict):
        return values
    return {k: float(v) if v in ("inf", "-inf") else v for k, v in values.items()}
