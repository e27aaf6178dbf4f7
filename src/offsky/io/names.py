"""Names of products, as the JWST pipeline gives them."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from offsky.errors import OutputError, ParameterError, shown

# Suffixes of the products that are inputs here; the last one is replaced.
_SUFFIXES = ("rate", "rateints", "cal", "calints", "bsub", "bsubints")
_ENDINGS = (".fits.gz", ".fits.fz", ".fits", ".fit.gz", ".fit", ".asdf")


def product_root(path: Path) -> str:
    """Return a file's name without its ending and product suffix.

    Examples
    --------
    >>> product_root(Path("jw01_00001_mirimage_rate.fits"))
    'jw01_00001_mirimage'
    """
    name = path.name
    for ending in _ENDINGS:
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    else:
        # Of another kind of file.
        name = Path(name).stem
    root, _, suffix = name.rpartition("_")
    return root if root and suffix in _SUFFIXES else name


def product_name(root: str, shape: tuple[int, ...], ending: str = ".fits") -> str:
    """Return the name of a subtracted target of this shape.

    Examples
    --------
    >>> product_name("jw01_00001_mirimage", (4, 1024, 1032))
    'jw01_00001_mirimage_bsubints.fits'
    """
    suffix = "bsubints" if len(shape) == 3 else "bsub"
    return f"{root}_{suffix}{ending}"


def combined_name(root: str, *, asdf: bool = False) -> str:
    """Return the name of the average that goes with a product."""
    return f"{root}_combinedbackground{'.asdf' if asdf else '.fits'}"


def is_asdf(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path names an ASDF file."""
    return os.path.splitext(path)[1].lower() == ".asdf"  # noqa: PTH122 (no Path is made)


def key_of(given: Any) -> Any:
    """Return what tells an input from others before it is opened."""
    if isinstance(given, str | os.PathLike):
        path = given if isinstance(given, Path) else Path(given)
        return str(path.absolute())
    return id(given)


def as_path(given: Any, name: str) -> Path:
    """Return what was given for a path; raise ParameterError where it is none.

    Parameters
    ----------
    given : object
        A text or a path.
    name : str
        What the parameter is called.
    """
    if isinstance(given, str | os.PathLike):
        with contextlib.suppress(TypeError):
            return Path(given)
    raise ParameterError(f"{name} is {shown(given)}: give the path of a file or a folder")


def as_file(given: Any, name: str) -> Path:
    """Return what was given for a file to write; raise OutputError where it names a folder.

    A path forgets the slash at the end of a text: ``name/`` would become a file.

    Parameters
    ----------
    given, name
        As of `as_path`.

    Examples
    --------
    >>> as_file("out/a.fits", "output_path").name
    'a.fits'
    """
    if isinstance(given, str) and given.endswith(("/", os.sep)):
        raise OutputError(f"{given} is a folder; name a file in it")
    return as_path(given, name)


def as_paths(given: Any, name: str) -> list[Path]:
    """Return what was given for several paths; raise ParameterError where they are none."""
    if isinstance(given, str | bytes | os.PathLike) or not isinstance(given, Iterable):
        raise ParameterError(f"{name} is {shown(given)}: give a list of paths")
    return [as_path(each, f"{name}[{i}]") for i, each in enumerate(given)]


def is_same_place(one: Path, other: Path) -> bool:
    """Tell whether two paths lead to one place; False where one leads nowhere at all."""
    try:
        return one.resolve() == other.resolve()
    except (OSError, RuntimeError, ValueError):
        # Links in a circle, and names that no file can have.
        return False
