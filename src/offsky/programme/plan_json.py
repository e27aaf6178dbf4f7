"""Plans as plain JSON; the schema is in docs/programmes.md, `plan_reader` reads it."""

import json
import os
from dataclasses import asdict
from math import isfinite
from typing import Any

from offsky.options import Options
from offsky.programme.plan import Plan, PlannedFile, PlannedProduct
from offsky.selection.examined import Dropped

FORMAT, VERSION = "offsky-plan", 2


def is_plan(content: Any) -> bool:
    """Tell a plan from what other JSON holds, such as an association."""
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
    write = _Writer(root)
    head = {
        "format": FORMAT,
        "version": VERSION,
        "offsky": made_by,
        "root": root,
        "rule": _as_text(asdict(plan.pairing)),
    }
    parts = [f"{_json(key)}: {_json(value)}" for key, value in head.items()]
    parts.append(_lines("files", ("{", "}"), [write.file(file) for file in plan.files]))
    products = [write.product(each) for each in plan.products]
    parts.append(_lines("sets", ("[", "]"), write.sets()))
    parts.append(_lines("products", ("[", "]"), products))
    groups = [_json({"kind": g.kind, "products": g.products}) for g in plan.groups]
    parts.append(_lines("groups", ("[", "]"), groups))
    parts.append(_lines("left_out", ("[", "]"), [write.pair(*pair) for pair in plan.left_out]))
    return "{\n " + ",\n ".join(parts) + "\n}\n"


# Without indentation: that is not done by Python's encoder in C.
_json = json.JSONEncoder(separators=(", ", ": "), allow_nan=False).encode


def _as_text(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with infinite numbers as texts: JSON has none."""
    return {
        key: str(value) if isinstance(value, float) and not isfinite(value) else value
        for key, value in values.items()
    }


def _lines(key: str, brackets: tuple[str, str], members: list[str]) -> str:
    """Return one key with a line for each member of its list or object."""
    begin, end = brackets
    inside = "\n  " + ",\n  ".join(members) + "\n " if members else ""
    return f"{_json(key)}: {begin}{inside}{end}"


class _Writer:
    """Renders parts of one plan; what thousands of products share is rendered once.

    Parameters
    ----------
    root : str
        The folder that paths begin at.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._n_root = len(root) if root.endswith("/") else len(root) + 1
        self._paths: dict[str, str] = {}
        self._lists: dict[tuple[str, ...], str] = {}
        self._options: dict[Options, str] = {}
        self._sets: dict[tuple[str, ...], int] = {}

    def path(self, path: str) -> str:
        found = self._paths.get(path)
        if found is None:
            found = self._paths[path] = _json(path[self._n_root :])
        return found

    def pair(self, path: str, reason: str) -> str:
        return f'{{"file": {self.path(path)}, "reason": {_json(reason)}}}'

    def file(self, file: PlannedFile) -> str:
        facts = {
            "bytes": file.n_bytes,
            "modified_ns": file.modified_ns,
            "shape": file.shape,
            "row_bytes": file.row_bytes,
            "held_bytes": file.held_bytes,
            "product_bytes": file.product_bytes,
            "start": file.start,
            "label": file.label,
            "exp_type": file.exp_type,
            "mid_time": file.mid_time,
            "pointing": file.pointing,
        }
        return f"{self.path(file.path)}: {_json(facts)}"

    def product(self, product: PlannedProduct) -> str:
        dropped = ", ".join([self._dropped(each) for each in product.dropped])
        parts = (
            f'{{"output": {_json(product.output)}',
            f'"target": {self.path(product.target)}',
            f'"backgrounds": {self._list(product.backgrounds)}',
            f'"masks": {self._masks(product.masks)}',
            f'"imprints": [{", ".join(map(self._list, product.imprints))}]',
            f'"dropped": [{dropped}]',
            f'"options": {self._options_of(product.options)}',
            f'"force": {_json(product.force)}',
            f'"skipped": {_json(product.skipped)}',
            f'"problem": {_json(product.problem)}}}',
        )
        return ", ".join(parts)

    def _dropped(self, dropped: Dropped) -> str:
        number = self._sets.setdefault(dropped.among, len(self._sets))
        return f'{{"set": {number}, "reason": {_json(dropped.reason)}}}'

    def sets(self) -> list[str]:
        """Return the lists of files that products refer to, after these were rendered."""
        return [self._list(paths) for paths in self._sets]

    def _list(self, paths: tuple[str, ...]) -> str:
        found = self._lists.get(paths)
        if found is None:
            found = self._lists[paths] = f"[{', '.join(map(self.path, paths))}]"
        return found

    def _masks(self, masks: tuple[str | None, ...]) -> str:
        # A mask may lie anywhere.
        away = [None if path is None else os.path.relpath(path, self._root) for path in masks]
        return _json(away)

    def _options_of(self, options: Options) -> str:
        found = self._options.get(options)
        if found is None:
            found = self._options[options] = _json(_as_text(asdict(options)))
        return found
