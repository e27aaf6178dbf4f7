"""What a file is and what it has been through, told from its headers."""

import re
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from offsky.declared import declarations
from offsky.errors import OffskyError
from offsky.io.facts import Keywords
from offsky.io.files import open_exposure
from offsky.io.fits import FitsExposure
from offsky.io.fits_average import INPUTS_EXTENSION
from offsky.io.regular import open_regular
from offsky.options import PROFILES, Options
from offsky.values.exposure import Exposure

STEPS = {
    "S_DQINIT": "flags set from the bad pixel mask",
    "S_SATURA": "saturation flagged",
    "S_SUPERB": "superbias subtracted",
    "S_REFPIX": "reference pixels used",
    "S_CLNFNS": "1/f noise cleaned",
    "S_LINEAR": "linearity corrected",
    "S_DARK": "dark subtracted",
    "S_JUMP": "jumps flagged",
    "S_RAMP": "ramps fitted",
    "S_GANSCL": "gain scaled",
    "S_WCS": "world coordinates assigned",
    "S_MSAFLG": "stuck shutters flagged",
    "S_IMPRNT": "imprint subtracted",
    "S_BKDSUB": "background subtracted",
    "S_MSBSUB": "master background subtracted",
    "S_EXTR2D": "slits cut out",
    "S_SRCTYP": "source types set",
    "S_FLAT": "flat field divided by",
    "S_STRAY": "stray light subtracted",
    "S_FRINGE": "fringes divided by",
    "S_PTHLOS": "path losses corrected",
    "S_BARSHA": "bar shadows corrected",
    "S_WAVCOR": "wavelengths corrected",
    "S_CONTAM": "contamination subtracted",
    "S_PHOTOM": "calibrated photometrically",
    "S_PXREPL": "bad pixels replaced",
    "S_OUTLIR": "outliers flagged over exposures",
    "S_SKYMAT": "sky levels matched",
    "S_TWKREG": "images aligned",
    "S_RESAMP": "resampled",
}
"""What steps of the pipeline do, in words; the order is that of the pipeline."""

_BACKGROUND = re.compile(r"offsky background: (.*)")
# The pipeline's reference backgrounds: WFSS and SOSS.
_REFERENCES = ("R_WFSBKG", "R_BKG", "R_SPBKG")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What a file is and what it has been through.

    Attributes
    ----------
    file : str
        Its path.
    error : str or None
        Why it cannot be read; then nothing else is known.
    kind : str
        "exposure", "subtracted exposure" or "averaged background".
    instrument, detector, filter, grating, mode, subarray, window, date, unit, readout : str, None
        As headers have it, `window` as 1-based pixels.
    shape : tuple of int
        Of SCI.
    steps : tuple of (str, str, str)
        Keyword S_*, its value, and what it means in words.
    subtraction : str
        "none", "pixels", "master" or "offsky".
    subtraction_words : str
        The same in a sentence.
    status, imprint : str or None
        S_BKDSUB and S_IMPRNT.
    keywords : tuple of (str, value, str)
        OFF* keywords with their comments.
    options : dict
        Options that offsky averaged and subtracted by; empty without them.
    backgrounds : tuple of str
        Those that HISTORY names.
    inputs : tuple of dict
        Rows of BKGINPUT.
    pipeline : str or None
        Version of the JWST pipeline.
    """

    file: str
    error: str | None = None
    kind: str = "exposure"
    instrument: str | None = None
    detector: str | None = None
    filter: str | None = None
    grating: str | None = None
    mode: str | None = None
    subarray: str | None = None
    window: str | None = None
    date: str | None = None
    unit: str | None = None
    readout: str | None = None
    exposure_number: str | None = None
    target: str | None = None
    shape: tuple[int, ...] = ()
    steps: tuple[tuple[str, str, str], ...] = ()
    subtraction: str = "none"
    subtraction_words: str = ""
    times_subtracted: int = 0
    status: str | None = None
    imprint: str | None = None
    keywords: tuple[tuple[str, Any, str], ...] = ()
    options: dict[str, Any] | None = None
    backgrounds: tuple[str, ...] = ()
    inputs: tuple[dict[str, Any], ...] = ()
    pipeline: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes by name, ready for JSON: it has no NaN."""
        found: dict[str, Any] = _plain(asdict(self))
        found["steps"] = {key: {"status": value, "words": w} for key, value, w in self.steps}
        found["keywords"] = {key: _plain(value) for key, value, _ in self.keywords}
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


def inspect_file(path: Path) -> Inspected:
    """Return what a file is; one that cannot be read says why."""
    try:
        exposure = open_exposure(path)
    except OffskyError as error:
        return Inspected(file=str(path), error=str(error))
    try:
        return inspected(exposure, str(path))
    finally:
        exposure.close()


def inspected(exposure: Exposure, file: str) -> Inspected:
    """Return what an open exposure is."""
    metadata, keywords = exposure.metadata, Keywords(exposure)
    header = exposure.header if isinstance(exposure, FitsExposure) else fits.Header()
    text = keywords.text
    status, master = metadata.status, text("S_MSBSUB")
    own = [
        (card.keyword, _value(card.value), card.comment)
        for card in header.cards
        if card.keyword.startswith("OFF") and card.keyword not in ("OFFSET", "OFFSETS")
    ]
    runs = _runs(header)
    subtraction, words = _subtraction(keywords, status, master, {k: v for k, v, _ in own})
    inputs = _inputs(exposure)
    readout = metadata.readpatt
    if readout is not None and metadata.ngroups is not None:
        readout = f"{readout}, {metadata.ngroups} groups"
    corner = metadata.xstart, metadata.ystart, metadata.xsize, metadata.ysize
    window = None
    if all(each is not None for each in corner):
        x, y, nx, ny = (int(each or 0) for each in corner)
        window = f"x {x}-{x + nx - 1}, y {y}-{y + ny - 1}"
    kind = "exposure"
    if inputs or (own and status is None):
        kind = "averaged background"
    elif subtraction != "none":
        kind = "subtracted exposure"
    date = metadata.date_beg or text("DATE-OBS")
    return Inspected(
        file=file,
        kind=kind,
        instrument=metadata.instrument,
        detector=metadata.detector,
        filter=metadata.filter,
        grating=metadata.grating,
        mode=metadata.exp_type,
        subarray=text("SUBARRAY"),
        window=window,
        date=date,
        unit=metadata.unit,
        readout=readout,
        exposure_number=_number_of(exposure),
        target=text("TARGNAME") or text("TARGPROP"),
        shape=tuple(exposure.shape),
        steps=_steps(header),
        subtraction=subtraction,
        subtraction_words=words,
        times_subtracted=max(len(runs), int(subtraction != "none")),
        status=status,
        imprint=text("S_IMPRNT"),
        keywords=tuple(own),
        options=_options({k: v for k, v, _ in own}) if own else None,
        backgrounds=runs[-1] if runs else (),
        inputs=inputs,
        pipeline=text("CAL_VER"),
    )


def _value(value: Any) -> Any:
    return None if isinstance(value, fits.card.Undefined) else value


def _number_of(exposure: Exposure) -> str | None:
    identity = exposure.metadata.identity
    if identity is None:
        return exposure.metadata.exposure
    program, observation, visit, group, sequence, activity, number, _ = identity
    return (
        f"programme {program}, observation {observation}, visit {visit}, "
        f"{group}{sequence}{activity}, exposure {number}"
    )


def _steps(header: fits.Header) -> tuple[tuple[str, str, str], ...]:
    """Return keywords S_* in the order of the pipeline, those of other steps last."""
    found = {
        card.keyword: str(card.value)
        for card in header.cards
        if card.keyword.startswith("S_") and isinstance(card.value, str)
    }
    order = [*(key for key in STEPS if key in found), *(key for key in found if key not in STEPS)]
    return tuple(
        (key, found[key], _in_words(STEPS.get(key, header.comments[key] or key), found[key]))
        for key in order
    )


def _in_words(action: str, status: str) -> str:
    if status == "COMPLETE":
        return action
    if status == "SKIPPED":
        return f"not done: {action}"
    return f"{status.lower()}: {action}"


def _runs(header: fits.Header) -> list[tuple[str, ...]]:
    """Return the backgrounds that HISTORY names, one list for each subtraction by offsky.

    Between two of them stands another line, or a background that was named already.
    """
    runs: list[list[str]] = []
    follows = False
    for line in header.get("HISTORY", []):
        match = _BACKGROUND.fullmatch(str(line).strip())
        if match is None:
            follows = False
            continue
        if not follows or match[1] in runs[-1]:
            runs.append([])
        runs[-1].append(match[1])
        follows = True
    return [tuple(run) for run in runs]


def _subtraction(
    keywords: Keywords, status: str | None, master: str | None, own: dict[str, Any]
) -> tuple[str, str]:
    """Return which background subtraction a file has had, and the same in words."""
    if status == "COMPLETE" and "OFFNBKG" in own:
        n = own["OFFNBKG"]
        exposures = "1 exposure" if n == 1 else f"{n} exposures"
        words = f"by offsky {own.get('OFFVER', '')}: the average of {exposures}"
        more = " and a master background" if master == "COMPLETE" else ""
        return "offsky", f"{words}, profile {own.get('OFFPROF', 'not told')}{more}"
    if status == "COMPLETE":
        reference = next((r for key in _REFERENCES if (r := keywords.text(key))), None)
        if reference is not None and reference != "N/A":
            return "pixels", f"by the JWST pipeline, with the reference background {reference}"
        more = "; a master background as well" if master == "COMPLETE" else ""
        return "pixels", f"by the JWST pipeline, pixel by pixel{more}"
    if master == "COMPLETE":
        return "master", "a master background (one spectrum), by the JWST pipeline"
    if status is None:
        return "none", "none: no step has tried (S_BKDSUB is not there)"
    return "none", f"none: the step was {status} (S_BKDSUB)"


def _options(own: dict[str, Any]) -> dict[str, Any]:
    """Return the options that OFF* keywords tell, as far as they are readable."""
    return options_of(own).beyond_profile() | {"profile": own.get("OFFPROF")}


def options_of(own: dict[str, Any]) -> Options:
    """Return the options that OFF* keywords tell; the profile's where they are damaged."""
    begun = PROFILES.get(str(own.get("OFFPROF", "jwst")), PROFILES["jwst"])
    for each in declarations(Options):
        if each.keyword not in own:
            continue
        value = own[each.keyword]
        if (each.name == "maxiters" and value == -1) or (value == "none" and each.may_be_none):
            value = None
        elif value == "N/A":
            value = float("inf")
        try:
            begun = begun.changed(**{each.name: value})
        except OffskyError:
            continue
    return begun


def _inputs(exposure: Exposure) -> tuple[dict[str, Any], ...]:
    """Return the rows of the table of inputs of an average."""
    if not isinstance(exposure, FitsExposure):
        return ()
    if not any(extent.name == INPUTS_EXTENSION for extent in exposure.extents):
        return ()
    try:
        with open_regular(exposure.path) as file, fits.open(file, memmap=False) as hdus:
            table = hdus[INPUTS_EXTENSION].data
            return tuple(
                {str(name): _python(row[name]) for name in table.names}
                for row in (table[i] for i in range(len(table)))
            )
    except Exception:  # a damaged table says nothing
        return ()


def _python(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return value.strip() if isinstance(value, str) else value
