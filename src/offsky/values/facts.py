"""What is known of a product beside its pixels, for checks and reports."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureFacts:
    """What a header says of a target or a background; None where it does not say.

    Attributes
    ----------
    name : str
        The file.
    date : str or None
        When it began.
    mjd : float or None
        Its middle.
    readout : str or None
        Readout pattern and number of groups.
    exposure_time : float or None
        In seconds.
    n_integrations : int
        1 for an image.
    imprint, background, master : str or None
        Status of the imprint, background and master background subtraction.
    """

    name: str
    date: str | None = None
    mjd: float | None = None
    readout: str | None = None
    exposure_time: float | None = None
    n_integrations: int = 1
    imprint: str | None = None
    background: str | None = None
    master: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundFacts:
    """One background of a product.

    Attributes
    ----------
    exposure : ExposureFacts
        What its header says.
    fate : str
        "used" or "dropped".
    remarks : str
        Why, and what else there is to say.
    separation : float or None
        From the target, arcsec.
    offset : tuple of float or None
        Columns and rows by which a source of the target lies elsewhere in this background.
    n_rejected, n_masked : int or None
        Samples of it that were rejected, and left out by a mask.
    """

    exposure: ExposureFacts
    fate: str = "used"
    remarks: str = ""
    separation: float | None = None
    offset: tuple[float, float] | None = None
    n_rejected: int | None = None
    n_masked: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a product beside its pixels.

    Attributes
    ----------
    status : str or None
        S_BKDSUB of the product.
    subtraction : str
        "none", "pixels", "master" or "offsky".
    times_subtracted : int
        How often a background was subtracted, as far as the header tells.
    target : ExposureFacts
        What the target's header says.
    backgrounds : tuple of BackgroundFacts
        All that were given.
    exp_type : str or None
        The mode.
    is_imaging : bool
        Whether a source is a point on the sky in it, not a spectrum.
    is_nodded : bool
        Whether the backgrounds are nods, which leave negative images on purpose.
    fwhm : float or None
        Width of a point source, pixels.
    why_no_offsets : str
        Why offsets of backgrounds are not known; empty where they are.
    unit : str or None
        Unit of SCI.
    profile : str
        The set of options.
    errors, combine, level, dq, uncovered : str
        Options that the checks depend on.
    n_samples : int
        Finite samples of all backgrounds; 0 where not known.
    expected_rejected : float or None
        Share of samples that the clip rejects of Gaussian noise.
    n_uncovered, n_no_value : int
        Pixels without background, and those of them without a value in the target.
    """

    target: ExposureFacts
    status: str | None = None
    subtraction: str = "offsky"
    times_subtracted: int = 1
    backgrounds: tuple[BackgroundFacts, ...] = ()
    exp_type: str | None = None
    is_imaging: bool = True
    is_nodded: bool = False
    fwhm: float | None = None
    why_no_offsets: str = ""
    unit: str | None = None
    profile: str = "jwst"
    errors: str = "none"
    combine: str = "mean"
    level: str = "none"
    dq: str = "or"
    uncovered: str = "keep"
    n_samples: int = 0
    expected_rejected: float | None = None
    n_uncovered: int = 0
    n_no_value: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def used(self) -> tuple[BackgroundFacts, ...]:
        """The backgrounds that were averaged."""
        return tuple(each for each in self.backgrounds if each.fate == "used")
