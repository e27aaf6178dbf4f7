"""Where exposures lie on the detector, told from their headers."""

from dataclasses import dataclass

from offsky.errors import ExposureMismatchError
from offsky.values.metadata import KEYWORDS, Metadata
from offsky.values.window import Window


@dataclass(frozen=True, slots=True)
class Placement:
    """What one exposure says of its place on the detector.

    Attributes
    ----------
    name : str
        The exposure.
    shape : tuple of int
        (ny, nx) of its array.
    metadata : Metadata
        Its header.
    """

    name: str
    shape: tuple[int, int]
    metadata: Metadata

    @property
    def keywords(self) -> tuple[int, int, int, int] | None:
        """SUBSTRT1, SUBSTRT2, SUBSIZE1, SUBSIZE2; None where a start is not given.

        A size that is not given is the array's.
        """
        m = self.metadata
        if m.xstart is None or m.ystart is None:
            return None
        ny, nx = self.shape
        xsize, ysize = nx if m.xsize is None else m.xsize, ny if m.ysize is None else m.ysize
        return int(m.xstart), int(m.ystart), int(xsize), int(ysize)

    @property
    def window(self) -> Window | None:
        """Where it lies; None where that hangs on the exposures that it is used with."""
        return None if self.contradicts or self.metadata.stripes is not None else _window_of(self)

    @property
    def contradicts(self) -> bool:
        """Whether the keywords give another size than the array has."""
        return self.keywords is not None and self.keywords[:1:-1] != self.shape


def place(exposures: list[Placement]) -> tuple[list[Window], str | None]:
    """Find the detector window of every exposure.

    Parameters
    ----------
    exposures : list of Placement
        The target, if any, first; then the backgrounds.

    Returns
    -------
    windows : list of Window
        In the same order.
    warning : str or None
        What had to be assumed.

    Raises
    ------
    ExposureMismatchError
        If a place cannot be told.

    Notes
    -----
    An exposure lies where SUBSTRT1/2 and SUBSIZE1/2 say. Where the keywords
    contradict the array (files cropped afterwards), exposures of one shape and with
    the same keywords share a window. So do subarrays of stripes (MSTR_* keywords), whose
    rows have gaps that a window does not describe (decision 0020). Without keywords, an
    array of the detector's full size is the full frame; failing that, arrays of one shape
    share a window, that of those among them whose keywords agree on one.
    """
    first = exposures[0]
    same_shape = all(exposure.shape == first.shape for exposure in exposures)
    for exposure in exposures:
        _check_numbers(exposure)
    _check_stripes(exposures)
    contradicting = [exposure for exposure in exposures if exposure.contradicts]
    if contradicting:
        same_keywords = all(e.keywords == first.keywords for e in exposures)
        if same_shape and same_keywords:
            return [Window(0, 0, *first.shape[::-1])] * len(exposures), (
                f"{_sizes(first)}: taken as the same window in all exposures, since their "
                "shapes and keywords agree"
            )
        odd = contradicting[0]
        other = next(e for e in exposures if e.shape != odd.shape or e.keywords != odd.keywords)
        raise ExposureMismatchError(
            f"{_sizes(odd)}: it cannot be placed beside {_sizes(other)}; use exposures of "
            "one window, or mend the keywords"
        )
    windows = [_window_of(exposure) for exposure in exposures]
    if None not in windows:
        return [window for window in windows if window is not None], None
    nowhere = exposures[windows.index(None)]
    known = {window for window in windows if window is not None}
    if same_shape and not known:
        return [Window(0, 0, *first.shape[::-1])] * len(exposures), None
    if same_shape and len(known) == 1:
        return [*known] * len(exposures), (
            f"{nowhere.name}: without SUBSTRT1/2 and SUBSIZE1/2, taken to lie where the others "
            "lie, since their shapes agree"
        )
    raise ExposureMismatchError(
        f"{nowhere.name}: without SUBSTRT1/2 and SUBSIZE1/2 its {_rows_columns(nowhere.shape)} "
        "cannot be placed on the detector; expected the keywords, a full frame, or exposures of "
        "one shape"
    )


_PLACES = {"xstart", "ystart", "xsize", "ysize", *(n for n in KEYWORDS if "stripe" in n)}


def _check_numbers(exposure: Placement) -> None:
    """Raise ExposureMismatchError where a keyword of the window is there but no number."""
    for name, text in exposure.metadata.odd:
        if name in _PLACES:
            raise ExposureMismatchError(
                f"{exposure.name}: the keyword {KEYWORDS[name]} is {text}; expected a whole "
                "number, to place it on the detector: correct it, or remove it"
            )


def _check_stripes(exposures: list[Placement]) -> None:
    """Raise ExposureMismatchError where stripes of the detector are not the same in all."""
    first = exposures[0]
    layout = first.shape, first.keywords, first.metadata.stripes
    for other in exposures[1:]:
        if (other.shape, other.keywords, other.metadata.stripes) == layout:
            continue
        odd = next((e for e in (other, first) if e.metadata.stripes is not None), None)
        if odd is None:
            continue
        beside = first if odd is other else other
        raise ExposureMismatchError(
            f"{odd.name}: a subarray of stripes (MSTR_* keywords), whose rows are not those of "
            f"{beside.name}; expected the same stripes in all: cut them out of the other "
            "(jwst.lib.stripe_utils.generate_stripe_reference) or leave it out"
        )


def _window_of(exposure: Placement) -> Window | None:
    """Return the window of one exposure by itself."""
    if exposure.keywords is not None:
        xstart, ystart, xsize, ysize = exposure.keywords
        return Window(xstart - 1, ystart - 1, xsize, ysize)
    miri = (exposure.metadata.instrument or "").upper() == "MIRI"
    if exposure.shape == ((1024, 1032) if miri else (2048, 2048)):
        return Window(0, 0, exposure.shape[1], exposure.shape[0])
    return None


def _sizes(exposure: Placement) -> str:
    if exposure.keywords is None:
        return f"{exposure.name}: {_rows_columns(exposure.shape)} without SUBSIZE1/2"
    _, _, xsize, ysize = exposure.keywords
    return (
        f"{exposure.name}: {_rows_columns(exposure.shape)} where SUBSIZE2 and SUBSIZE1 say "
        f"{ysize} by {xsize}"
    )


def _rows_columns(shape: tuple[int, int]) -> str:
    return f"{shape[0]} rows by {shape[1]} columns"
