"""Plans as plain JSON and back; the schema is in docs/programmes.md."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import PurePath
from typing import Any

from offsky.errors import OffskyError, ParameterError
from offsky.options import Options
from offsky.programme.plan import Group, Plan, PlannedFile, PlannedProduct
from offsky.selection.pairing import Pairing

FORMAT, VERSION = "offsky-plan", 1

_KEYS = {"format", "version", "offsky", "root", "rule", "files", "products", "groups", "left_out"}
_FILE_KEYS = {
    "bytes",
    "modified_ns",
    "shape",
    "row_bytes",
    "held_bytes",
    "product_bytes",
    "x0",
    "y0",
}
_PRODUCT_KEYS = {
    "output",
    "target",
    "backgrounds",
    "masks",
    "dropped",
    "options",
    "force",
    "skipped",
    "problem",
}
_DROPPED_KEYS = {"file", "reason"}
_GROUP_KEYS = {"kind", "products"}


def is_plan(text: str) -> bool:
    """Tell a plan from other JSON, such as an association."""
    try:
        content = json.loads(text)
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def render_plan(plan: Plan, made_by: str) -> str:
    """Return a plan as JSON text.

    Parameters
    ----------
    plan : Plan
        The plan.
    made_by : str
        Version of offsky that made it.
    """
    paths = [file.path for file in plan.files] + [path for path, _ in plan.left_out]
    root = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else "/"  # noqa: PTH120

    def short(path: str) -> str:
        return PurePath(path).relative_to(root).as_posix()

    def away(path: str) -> str:
        # A mask may lie anywhere.
        return os.path.relpath(path, root)

    def pairs(dropped: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
        return [{"file": short(path), "reason": reason} for path, reason in dropped]

    content = {
        "format": FORMAT,
        "version": VERSION,
        "offsky": made_by,
        "root": root,
        "rule": asdict(plan.pairing),
        "files": {
            short(file.path): {
                "bytes": file.n_bytes,
                "modified_ns": file.modified_ns,
                "shape": list(file.shape),
                "row_bytes": file.row_bytes,
                "held_bytes": file.held_bytes,
                "product_bytes": file.product_bytes,
                "x0": file.x0,
                "y0": file.y0,
            }
            for file in plan.files
        },
        "products": [
            {
                "output": product.output,
                "target": short(product.target),
                "backgrounds": [short(path) for path in product.backgrounds],
                "masks": [None if path is None else away(path) for path in product.masks],
                "dropped": pairs(product.dropped),
                "options": asdict(product.options),
                "force": product.force,
                "skipped": product.skipped,
                "problem": product.problem,
            }
            for product in plan.products
        ],
        "groups": [
            {"kind": group.kind, "products": list(group.products)} for group in plan.groups
        ],
        "left_out": pairs(plan.left_out),
    }
    return json.dumps(content, indent=1) + "\n"


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
    return _Reader(name).plan(text)


class _Reader:
    """Turns parts of one plan into values, or says where it is wrong."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._root = PurePath("/")

    def _wrong(self, place: str, found: str) -> ParameterError:
        return ParameterError(f"{self._name}: {place}: {found}; make the plan again")

    def plan(self, text: str) -> Plan:
        try:
            content = json.loads(text)
        except ValueError as error:
            raise ParameterError(
                f"{self._name}: not JSON ({error}); expected a plan made by 'offsky plan'"
            ) from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
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
        self._root = PurePath(self._value(content["root"], str, "root"))
        if not self._root.is_absolute():
            raise self._wrong("root", f"{content['root']!r} is not an absolute folder")
        files = self._value(content["files"], dict, "files")
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
            self._made(Pairing, content["rule"], "rule"),
            tuple(self._file(path, part) for path, part in files.items()),
            products,
            groups,
            self._pairs(content["left_out"], "left_out"),
        )

    def _keys(self, part: Any, wanted: set[str], place: str) -> None:
        self._value(part, dict, place)
        for key in sorted(set(part) - wanted):
            raise self._wrong(
                place, f"unknown key {key!r} (known are {', '.join(sorted(wanted))})"
            )
        for key in sorted(wanted - set(part)):
            raise self._wrong(place, f"no {key!r}")

    def _value(self, value: Any, kind: type | tuple[type, ...], place: str) -> Any:
        # True is an int to Python, not to us.
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
            raise self._wrong(place, f"{type(value).__name__} where {names} is expected")
        return value

    def _path(self, value: Any, place: str) -> str:
        return str(self._root / self._value(value, str, place))

    def _pairs(self, part: Any, place: str) -> tuple[tuple[str, str], ...]:
        pairs = []
        for i, each in enumerate(self._value(part, list, place)):
            where = f"{place}[{i}]"
            self._keys(each, _DROPPED_KEYS, where)
            pairs.append(
                (self._path(each["file"], where), self._value(each["reason"], str, where))
            )
        return tuple(pairs)

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
        except (TypeError, ValueError) as error:
            raise self._wrong(place, f"values of the wrong kind ({error})") from error

    def _file(self, path: str, part: Any) -> PlannedFile:
        place = f"files[{path!r}]"
        self._keys(part, _FILE_KEYS, place)
        numbers = {key: self._value(part[key], int, place) for key in _FILE_KEYS - {"shape"}}
        shape = self._value(part["shape"], list, place)
        return PlannedFile(
            self._path(path, place),
            numbers["bytes"],
            numbers["modified_ns"],
            tuple(self._value(n, int, place) for n in shape),
            numbers["row_bytes"],
            numbers["held_bytes"],
            numbers["product_bytes"],
            numbers["x0"],
            numbers["y0"],
        )

    def _product(self, part: Any, place: str) -> PlannedProduct:
        self._keys(part, _PRODUCT_KEYS, place)
        output = self._value(part["output"], str, place)
        if not output or PurePath(output).name != output:
            raise self._wrong(f"{place}.output", f"{output!r} is not a plain file name")
        backgrounds = self._value(part["backgrounds"], list, place)
        text = (str, type(None))
        return PlannedProduct(
            output,
            self._path(part["target"], place),
            tuple(self._path(path, place) for path in backgrounds),
            self._pairs(part["dropped"], f"{place}.dropped"),
            self._made(Options, part["options"], f"{place}.options"),
            self._value(part["force"], bool, place),
            self._value(part["skipped"], text, place),
            self._value(part["problem"], text, place),
            self._masks(part["masks"], len(backgrounds), place),
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
        outputs = [product.output for product in products]
        twice = next((name for name in outputs if outputs.count(name) > 1), None)
        if twice is not None:
            raise self._wrong("products", f"{twice!r} is the output of several")


def _frozen(value: Any) -> Any:
    """Return lists as tuples: options are hashable."""
    if isinstance(value, list):
        return tuple(_frozen(each) for each in value)
    if isinstance(value, Mapping):
        return {key: _frozen(each) for key, each in value.items()}
    return value
