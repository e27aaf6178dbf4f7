"""What a header says of an exposure, as far as offsky looks at it."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from math import isfinite
from numbers import Integral, Real
from typing import Any

# Exposure types that are the same kind of observation for a background.
_FAMILIES = {
    "MIR_LRS-SLITLESS": "MIR_LRS",
    "MIR_LRS-FIXEDSLIT": "MIR_LRS",
    "NRC_TSIMAGE": "NRC_IMAGE",
    "NRC_TSGRISM": "NRC_GRISM",
    "NRC_WFSS": "NRC_GRISM",
    "NRS_BRIGHTOBJ": "NRS_FIXEDSLIT",
}


def _keyword(keyword: str, model: str, *, of_sci: bool = False) -> Any:
    """Declare a field: its FITS keyword and its place in a data model's ``meta``.

    `of_sci` is for a keyword that belongs into SCI's header, as `stdatamodels` has it.
    """
    return field(default=None, metadata={"keyword": keyword, "model": model, "of_sci": of_sci})


@dataclass(frozen=True, slots=True)
class Metadata:
    """Facts from an exposure's header; None where it does not say.

    The windows of detector pixels (`xstart` and so on) are 1-based, as in the header. `odd`
    has the names and texts of values that are there but of no use, such as "N/A" for a
    number: what needs one says so.
    """

    filename: str | None = _keyword("FILENAME", "filename")
    instrument: str | None = _keyword("INSTRUME", "instrument.name")
    detector: str | None = _keyword("DETECTOR", "instrument.detector")
    filter: str | None = _keyword("FILTER", "instrument.filter")
    pupil: str | None = _keyword("PUPIL", "instrument.pupil")
    grating: str | None = _keyword("GRATING", "instrument.grating")
    band: str | None = _keyword("BAND", "instrument.band")
    channel: str | None = _keyword("CHANNEL", "instrument.channel")
    gwa_xtilt: float | None = _keyword("GWA_XTIL", "instrument.gwa_xtilt")
    gwa_ytilt: float | None = _keyword("GWA_YTIL", "instrument.gwa_ytilt")
    exp_type: str | None = _keyword("EXP_TYPE", "exposure.type")
    readpatt: str | None = _keyword("READPATT", "exposure.readpatt")
    exposure_time: float | None = _keyword("EFFEXPTM", "exposure.exposure_time")
    ngroups: int | None = _keyword("NGROUPS", "exposure.ngroups")
    xstart: int | None = _keyword("SUBSTRT1", "subarray.xstart")
    ystart: int | None = _keyword("SUBSTRT2", "subarray.ystart")
    xsize: int | None = _keyword("SUBSIZE1", "subarray.xsize")
    ysize: int | None = _keyword("SUBSIZE2", "subarray.ysize")
    fastaxis: int | None = _keyword("FASTAXIS", "subarray.fastaxis")
    slowaxis: int | None = _keyword("SLOWAXIS", "subarray.slowaxis")
    stripe_reads1: int | None = _keyword("MSTR_RD1", "subarray.multistripe_reads1")
    stripe_skips1: int | None = _keyword("MSTR_SK1", "subarray.multistripe_skips1")
    stripe_reads2: int | None = _keyword("MSTR_RD2", "subarray.multistripe_reads2")
    stripe_skips2: int | None = _keyword("MSTR_SK2", "subarray.multistripe_skips2")
    stripe_repeat: int | None = _keyword("MSTR_RPT", "subarray.repeat_stripe")
    stripe_interleave: int | None = _keyword("MSTR_ILV", "subarray.interleave_reads1")
    superstripe_step: int | None = _keyword("SSTR_STP", "subarray.superstripe_step")
    n_superstripes: int | None = _keyword("SSTR_NST", "subarray.num_superstripe")
    program: str | None = _keyword("PROGRAM", "observation.program_number")
    observation: str | None = _keyword("OBSERVTN", "observation.observation_number")
    visit: str | None = _keyword("VISIT", "observation.visit_number")
    visit_group: str | None = _keyword("VISITGRP", "observation.visit_group")
    sequence: str | None = _keyword("SEQ_ID", "observation.sequence_id")
    activity: str | None = _keyword("ACT_ID", "observation.activity_id")
    exposure: str | None = _keyword("EXPOSURE", "observation.exposure_number")
    segment: int | None = _keyword("EXSEGNUM", "exposure.segment_number")
    date_beg: str | None = _keyword("DATE-BEG", "observation.date_beg")
    date_end: str | None = _keyword("DATE-END", "observation.date_end")
    start_time: float | None = _keyword("EXPSTART", "exposure.start_time")
    mid_time: float | None = _keyword("EXPMID", "exposure.mid_time")
    end_time: float | None = _keyword("EXPEND", "exposure.end_time")
    bkgdtarg: bool | None = _keyword("BKGDTARG", "observation.bkgdtarg")
    is_imprint: bool | None = _keyword("IS_IMPRT", "exposure.imprint")
    imprint_status: str | None = _keyword("S_IMPRNT", "cal_step.imprint")
    pattern_number: int | None = _keyword("PATT_NUM", "dither.position_number")
    msa_file: str | None = _keyword("MSAMETFL", "instrument.msa_metadata_file")
    pattern_type: str | None = _keyword("PATTTYPE", "dither.primary_type")
    n_positions: int | None = _keyword("NUMDTHPT", "dither.total_points")
    n_subpixel: int | None = _keyword("SUBPXPTS", "dither.subpixel_total_points")
    fixed_slit: str | None = _keyword("FXD_SLIT", "instrument.fixed_slit")
    subarray: str | None = _keyword("SUBARRAY", "subarray.name")
    integration_time: float | None = _keyword("EFFINTTM", "exposure.integration_time")
    proposed_target: str | None = _keyword("TARGPROP", "target.proposer_name")
    target_name: str | None = _keyword("TARGNAME", "target.catalog_name")
    target_type: str | None = _keyword("TARGTYPE", "target.type")
    ra_ref: float | None = _keyword("RA_REF", "wcsinfo.ra_ref", of_sci=True)
    dec_ref: float | None = _keyword("DEC_REF", "wcsinfo.dec_ref", of_sci=True)
    ra_v1: float | None = _keyword("RA_V1", "pointing.ra_v1")
    dec_v1: float | None = _keyword("DEC_V1", "pointing.dec_v1")
    x_offset: float | None = _keyword("XOFFSET", "dither.x_offset")
    y_offset: float | None = _keyword("YOFFSET", "dither.y_offset")
    status: str | None = _keyword("S_BKDSUB", "cal_step.bkg_subtract")
    unit: str | None = _keyword("BUNIT", "bunit_data", of_sci=True)
    odd: tuple[tuple[str, str], ...] = ()

    @property
    def had_imprint(self) -> bool:
        """Whether an imprint has been subtracted from it (S_IMPRNT is COMPLETE)."""
        return self.imprint_status == "COMPLETE"

    @property
    def family(self) -> str | None:
        """The kind of observation: the exposure type, its variants taken as one."""
        if self.exp_type is None:
            return None
        return _FAMILIES.get(self.exp_type, self.exp_type)

    @property
    def stripes(self) -> tuple[int | None, ...] | None:
        """Which rows or columns of the detector were read, where they have gaps; else None.

        What the JWST pipeline's `generate_stripe_reference` places them by, beside the window.
        """
        if not (self.stripe_reads1 or self.stripe_reads2):
            return None
        names = (name for name in MODEL_PATHS if "stripe" in name)
        return (*(getattr(self, name) for name in names), self.fastaxis, self.slowaxis)

    @property
    def identity(self) -> tuple[str, ...] | None:
        """What tells this exposure from every other; None where it is not known.

        Segments of one exposure have the same; `EXSEGNUM` tells them apart.
        """
        numbers = (
            self.program,
            self.observation,
            self.visit,
            self.visit_group,
            self.sequence,
            self.activity,
            self.exposure,
            self.detector,
        )
        if any(number is None for number in numbers):
            return None
        return tuple(str(number) for number in numbers)


_FIELDS = tuple(each for each in fields(Metadata) if each.metadata)
KEYWORDS = {each.name: each.metadata["keyword"] for each in _FIELDS}
MODEL_PATHS = {each.name: each.metadata["model"] for each in _FIELDS}
OF_SCI = frozenset(each.name for each in _FIELDS if each.metadata["of_sci"])

UNREADABLE = object()
"""What a header's card that cannot be parsed has for its value."""


def metadata_of(read: Callable[[str], Any]) -> Metadata:
    """Return the facts of a header.

    Parameters
    ----------
    read : callable
        Returns the value of a field, None where there is none, `UNREADABLE` where there is
        one that nobody can read.

    Notes
    -----
    Texts that are numbers or truth values count as these ("0.0", "F", "TRUE"), numbers
    as texts where a text belongs. Whatever else does not fit is in `Metadata.odd`.
    """
    values: dict[str, Any] = {}
    odd = []
    for each in _FIELDS:
        found = read(each.name)
        if isinstance(found, str):
            found = found.strip() or None
        if found is None:
            continue
        value = None if found is UNREADABLE else _READ[each.type](found)
        if value is None:
            odd.append((each.name, "unreadable" if found is UNREADABLE else repr(found)))
        else:
            values[each.name] = value
    return Metadata(**values, odd=tuple(odd))


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, Real) else None


def _number(value: Any) -> float | None:
    try:
        if type(value) is float or type(value) is int:
            return value if isfinite(value) else None
        if isinstance(value, bool) or not isinstance(value, str | Real):
            return None
        number = float(value)
    except (ValueError, OverflowError):
        # A whole number may be beyond all floats.
        return None
    return number if isfinite(number) else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    if type(value) is int:
        return None if number is None else value
    return int(number) if number is not None and number == int(number) else None


_TRUTHS = {"T": True, "TRUE": True, "YES": True, "1": True}
_TRUTHS |= {"F": False, "FALSE": False, "NO": False, "0": False}


def _truth(value: Any) -> bool | None:
    if isinstance(value, str):
        return _TRUTHS.get(value.upper().strip("."))
    if isinstance(value, bool):
        return value
    if not isinstance(value, Integral | Real) and type(value).__name__ != "bool":
        return None
    return bool(value) if value in (0, 1) else None


_READ: dict[Any, Callable[[Any], Any]] = {
    str | None: _text,
    float | None: _number,
    int | None: _whole,
    bool | None: _truth,
}
