"""HTML of values: every text and every attribute is escaped here, and nowhere else."""

import hashlib
import html
import json
from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

_VOID = {"br", "img", "input", "meta"}


class Safe(str):
    """A text that is HTML already."""

    __slots__ = ()


def tag(name: str, *content: object, **attributes: object) -> Safe:
    """Return an element.

    Parameters
    ----------
    name : str
        Such as "td".
    *content
        Texts, which are escaped, and elements; None is left out.
    **attributes
        By name; ``class_`` and ``for_`` lose the underscore, others have it for a hyphen. None
        and False are left out; True is an attribute without a value.

    Examples
    --------
    >>> print(tag("td", "a < b", class_="number"))
    <td class="number">a &lt; b</td>
    """
    told = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.removesuffix("_").replace("_", "-")
        told.append(f" {key}" if value is True else f' {key}="{escaped(value)}"')
    begin = f"<{name}{''.join(told)}>"
    if name in _VOID:
        return Safe(begin)
    return Safe(f"{begin}{joined(content)}</{name}>")


def joined(content: Iterable[object]) -> Safe:
    """Return texts and elements one after the other."""
    return Safe(
        "".join(
            each if isinstance(each, Safe) else escaped(each)
            for each in content
            if each is not None
        )
    )


def escaped(text: object) -> str:
    """Return a text as HTML shows it; characters that may not be there are replaced.

    Line and paragraph separators, and characters that turn the direction of writing, show
    as what they are: a name may not pretend to be another.
    """
    clean = str(text)
    if not clean.isprintable():
        clean = "".join(
            each if each in "\n\t" or each.isprintable() else f"\\u{ord(each):04x}"
            for each in clean
        )
    return html.escape(clean, quote=True)


def as_script(value: Any) -> Safe:
    """Return a value as JSON that cannot end the element it stands in."""
    text = json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":"))
    for each in "<>&":
        text = text.replace(each, f"\\u{ord(each):04x}")
    return Safe(text)


@cache
def resource(name: str) -> str:
    """Return a text of this package."""
    return files("offsky.report").joinpath(name).read_text(encoding="utf-8")


def page(frame: str, /, *, style: str, script: str, images: str, **parts: object) -> str:
    """Return a page: its frame with parts filled in, and a policy that allows nothing else.

    Parameters
    ----------
    frame : str
        A file of this package.
    style, script : str
        Files of this package.
    images : str
        Where the policy lets pictures come from.
    **parts
        What the frame names, texts or elements.
    """
    css, js = resource(style), resource(script)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(js)}'",
            f"style-src '{_hash(css)}'",
            f"img-src {images}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    filled = {key: joined([value]) for key, value in parts.items()}
    return Template(resource(frame)).substitute(
        filled, policy=escaped(policy), style=css, script=js
    )


def _hash(text: str) -> str:
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
