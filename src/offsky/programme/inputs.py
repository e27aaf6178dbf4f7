"""The inputs of a programme: exposures among files and folders, each examined once."""

import logging
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from offsky.errors import ExposureError, MissingFileError, ParameterError
from offsky.io.files import exposure_endings, open_exposure
from offsky.io.product import FileProduct
from offsky.programme.plan import PlannedFile, absolute
from offsky.selection.choose import candidate_of
from offsky.selection.examined import Examined
from offsky.selection.precedents import Precedents
from offsky.selection.suitability import Policy
from offsky.subtraction import Subtraction
from offsky.values.exposure import Wanted
from offsky.values.metadata import KEYWORDS

log = logging.getLogger(__name__)

# What offsky and the pipeline write from exposures; never their inputs in a folder.
_PRODUCT_SUFFIXES = ("bsub", "bsubints", "combinedbackground")


@dataclass
class Files:
    """Input files, each examined once."""

    policy: Policy
    how: Subtraction
    planned: dict[str, PlannedFile] = field(default_factory=dict)
    examined: dict[str, Examined] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    precedents: Precedents = field(init=False)
    _keys: dict[Path, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.precedents = Precedents(self.policy)

    def examine(self, path: Path) -> Examined:
        """Read a file's headers; raise ExposureError if it is no exposure."""
        key = self._keys.get(path)
        if key is None:
            key = self._keys[path] = absolute(path)
        if key in self.broken:
            raise ExposureError(self.broken[key])
        if key not in self.examined:
            try:
                self.examined[key], self.planned[key] = _examine(path, self.how)
            except ExposureError as error:
                self.broken[key] = str(error)
                self.planned[key] = unreadable(path)
                raise
        return self.examined[key]


def check_there(inputs: Sequence[Path]) -> None:
    """Raise MissingFileError for an input that is not there, and say what it would be."""
    for path in inputs:
        if not path.exists():
            is_file = path.name.lower().endswith((".json", *exposure_endings()))
            kind = "file" if is_file else "file or folder"
            raise MissingFileError(f"{path}: no such {kind}; check the name")


def find_exposures(
    inputs: Sequence[Path], files: Files, suffix: str | None, left_out: list[tuple[str, str]]
) -> list[Examined]:
    """Examine all exposures among the inputs, in the order of their paths."""
    found: dict[str, Examined] = {}
    for path in inputs:
        if not path.is_dir():
            if path.suffix.lower() == ".json":
                raise ParameterError(
                    f"{path}: an association says itself how its products are made; leave out "
                    "--from, or give exposures"
                )
            found[absolute(path)] = files.examine(path)
            continue
        for entry in entries_of(path, suffix):
            try:
                found[absolute(entry)] = files.examine(entry)
            except ExposureError as error:
                log.warning("left out: %s", error)
                left_out.append((absolute(entry), str(error).removeprefix(f"{entry}: ")))
    for each in found.values():
        odd = dict(each.metadata.odd)
        for name in ("bkgdtarg", "is_imprint"):
            if name in odd:
                log.warning(
                    "%s: %s is %s, no truth value; taken for a target",
                    each.path,
                    KEYWORDS[name],
                    odd[name],
                )
    if not found:
        raise ParameterError(
            f"{names_of(inputs)}: no exposures found; name files or their folders"
        )
    return [found[key] for key in sorted(found)]


def entries_of(folder: Path, suffix: str | None) -> list[Path]:
    """Return what may be exposures in a folder; if there is none, in the folders in it.

    Archives deliver each file in a folder of its own.
    """
    with os.scandir(folder) as entries:
        here = list(entries)
    found = sorted(each.name for each in here if _may_be_exposure(each, suffix))
    if found:
        return [folder / name for name in found]
    below = sorted(e.name for e in here if e.is_dir(follow_symlinks=False) and e.name[0] != ".")
    paths = [path for name in below for path in entries_of(folder / name, suffix)]
    if paths and below:
        log.info("%s: %d files in its folders", folder, len(paths))
    return paths


def _may_be_exposure(entry: os.DirEntry[str], suffix: str | None) -> bool:
    """Tell by its name whether a folder's entry is to be looked into."""
    if entry.name.startswith(".") or not entry.name.lower().endswith(exposure_endings()):
        return False
    ending = entry.name.split(".")[0].rpartition("_")[2]
    if ending in _PRODUCT_SUFFIXES or (suffix is not None and ending != suffix.lstrip("_")):
        return False
    return entry.is_file()


def _examine(path: Path, how: Subtraction) -> tuple[Examined, PlannedFile]:
    name = absolute(path)
    with closing(open_exposure(path, variances=how.changes_errors)) as exposure:
        candidate = candidate_of(exposure)
        window = candidate.placement.window
        status = path.stat()
        planned = PlannedFile(
            name,
            status.st_size,
            status.st_mtime_ns,
            exposure.shape,
            exposure.row_bytes(Wanted(err=True, variances=how.propagate)),
            exposure.held_bytes,
            FileProduct(Path(path.name)).held_bytes(exposure, how),
            None if window is None else (window.x0 + 1, window.y0 + 1),
        )
    examined = Examined(name, candidate)
    return examined, _described(planned, examined)


def _described(planned: PlannedFile, examined: Examined) -> PlannedFile:
    """Return a file with what people want to know of it."""
    m = examined.metadata
    names = (m.instrument, m.filter, m.pupil, m.grating, m.band, m.channel, m.subarray)
    # What is not in the beam says nothing.
    label = " ".join(
        name for name in names if name and name.upper() not in ("CLEAR", "N/A", "ANY")
    )
    return replace(
        planned,
        label=label,
        exp_type=m.exp_type,
        mid_time=examined.mid_time,
        pointing=examined.pointing,
    )


def unreadable(path: Path) -> PlannedFile:
    """Return what is known of a file that is no exposure."""
    try:
        status = path.stat()
    except OSError:
        return PlannedFile(absolute(path), 0, 0)
    return PlannedFile(absolute(path), status.st_size, status.st_mtime_ns)


def refuse_two_stages(exposures: Sequence[Examined]) -> None:
    """Refuse where a folder holds _rate and _rateints, say, of one exposure."""
    seen: dict[object, Examined] = {}
    for exposure in exposures:
        identity = exposure.metadata.identity
        if identity is None:
            continue
        # Slits cut out of one exposure are told apart by their windows.
        m = exposure.metadata
        window = (m.xstart, m.ystart, m.xsize, m.ysize)
        other = seen.setdefault((identity, m.segment, window), exposure)
        if other is not exposure:
            raise ExposureError(
                f"{exposure.path}: the same exposure as {other.path}; name the files to use, or "
                "the suffix to look for (--suffix rate)"
            )


def names_of(inputs: Sequence[Path]) -> str:
    """Return the first inputs, for messages."""
    shown = ", ".join(str(path) for path in inputs[:3])
    return shown if len(inputs) <= 3 else f"{shown} and {len(inputs) - 3} more"
