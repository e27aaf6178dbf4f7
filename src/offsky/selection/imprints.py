"""Which imprints are subtracted from which exposure, told from headers alone: pure.

An imprint (leakcal) is an exposure of NIRSpec with all shutters closed and the same light on
them: what it shows is subtracted from the exposures of a target and of its backgrounds.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from offsky.errors import ParameterError
from offsky.selection.suitability import Candidate, configuration_objections, differ
from offsky.values.metadata import Metadata

ImprintUse = Literal["use", "ignore"]

IMPRINT_USES: tuple[ImprintUse, ...] = ("use", "ignore")


def uses_imprints(use: str) -> bool:
    """Tell whether imprints are to be subtracted; raise ParameterError for another word."""
    if use not in IMPRINT_USES:
        raise ParameterError(f"imprints is {use!r}; known are {', '.join(IMPRINT_USES)}")
    return use == "use"


class HasMetadata(Protocol):
    """An exposure of which the header is known."""

    @property
    def metadata(self) -> Metadata:
        """Its header."""


_OF_ONE_KIND = ("instrument", "detector", "filter", "grating", "msa_file")


def choose_imprints(exposure: Metadata, imprints: Sequence[Metadata]) -> tuple[int, ...]:
    """Choose the imprints of one exposure as the JWST pipeline does.

    Parameters
    ----------
    exposure : Metadata
        The exposure.
    imprints : sequence of Metadata
        Those that there are for its product.

    Returns
    -------
    tuple of int
        The places of those to subtract, of which the mean is taken; empty for none.

    Notes
    -----
    One imprint serves every exposure. Of several, those with the exposure's BKGDTARG are
    looked at (absent counts as false): the ones of its OBSERVTN and PATT_NUM, or else the only
    one. The pipeline takes the first of several that match; here they are averaged.
    """
    if len(imprints) == 1:
        return (0,)
    of_side = [
        i for i, each in enumerate(imprints) if bool(each.bkgdtarg) == bool(exposure.bkgdtarg)
    ]
    place = exposure.observation, exposure.pattern_number
    same = [i for i in of_side if (imprints[i].observation, imprints[i].pattern_number) == place]
    if same:
        return tuple(same)
    return tuple(of_side) if len(of_side) == 1 else ()


def may_serve(imprint: Metadata, exposure: Metadata) -> bool:
    """Tell whether an imprint is of an exposure's detector, filter, grating and MSA file.

    As far as both headers say.
    """
    return not any(differ(getattr(imprint, n), getattr(exposure, n)) for n in _OF_ONE_KIND)


def imprint_objections(exposure: Candidate, imprint: Candidate) -> list[str]:
    """Return what speaks against an imprint that was named for an exposure."""
    objections = configuration_objections(exposure, imprint)
    if imprint.same_as == exposure.same_as:
        objections.insert(0, f"is {exposure.name} itself")
    return objections


class ImprintsOfProgramme:
    """The imprints among many exposures, found by programme and observation.

    Parameters
    ----------
    imprints : sequence of exposures
        With ``metadata``, in the order in which they are to be used.
    """

    def __init__(self, imprints: Sequence[Any]) -> None:
        self._of: dict[tuple[str | None, str | None], list[Any]] = {}
        # Products of one pattern look for the same.
        self._found: dict[tuple[object, ...], list[Any]] = {}
        for each in imprints:
            self._of.setdefault(_observation(each.metadata), []).append(each)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._of)

    def there(self, exposures: Sequence[HasMetadata]) -> list[Any]:
        """Return the imprints that there are for a product.

        Parameters
        ----------
        exposures : sequence of exposures
            Its target, then its backgrounds.

        Returns
        -------
        list of exposures
            Those of the observations of all of them, as far as they are of the target's
            detector, filter, grating and MSA file.
        """
        observations = {_observation(each.metadata) for each in exposures}
        target = exposures[0].metadata
        key = (frozenset(observations), *(getattr(target, name) for name in _OF_ONE_KIND))
        if key not in self._found:
            self._found[key] = [
                imprint
                for observation, imprints in self._of.items()
                if observation in observations
                for imprint in imprints
                if may_serve(imprint.metadata, target)
            ]
        return self._found[key]


def _observation(metadata: Metadata) -> tuple[str | None, str | None]:
    return metadata.program, metadata.observation


def none_fits(name: str, exposure: Metadata, n_imprints: int) -> str:
    """Say that none of several imprints is an exposure's."""
    return (
        f"{name}: none of {n_imprints} imprints has its BKGDTARG {exposure.bkgdtarg}, OBSERVTN "
        f"{exposure.observation} and PATT_NUM {exposure.pattern_number}; none is subtracted"
    )


def one_sided(had: Sequence[bool], names: Sequence[str]) -> str | None:
    """Say so where some exposures of a product had an imprint subtracted and others not.

    Parameters
    ----------
    had : sequence of bool
        For the target, if any, and each background: whether it had or will have one.
    names : sequence of str
        What messages call them.
    """
    if len(set(had)) < 2:
        return None
    i, j = had.index(True), had.index(False)
    return (
        f"{names[j]}: no imprint has been subtracted from it, where one has been from {names[i]}"
    )
