"""Judge each combination of headers once, however many exposures have the like."""

from collections.abc import Sequence
from dataclasses import replace

from offsky.errors import ExposureMismatchError
from offsky.selection.placing import Placement
from offsky.selection.suitability import CONFIGURATION, Candidate, Policy, judge
from offsky.values.metadata import MODEL_PATHS, Metadata

# All that `judge` looks at to decide; what else it looks at makes remarks only.
_DECISIVE = (
    *CONFIGURATION,
    "exp_type",
    "unit",
    "gwa_xtilt",
    "gwa_ytilt",
    "status",
    "xstart",
    "ystart",
    "xsize",
    "ysize",
    *(name for name in MODEL_PATHS if "stripe" in name),
    "odd",
)


class Precedents:
    """Remembers which headers go together, so that `judge` is asked once for each kind.

    Parameters
    ----------
    policy : Policy
        How strict to be.

    Notes
    -----
    Thousands of targets and backgrounds of a programme have headers of a few kinds.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._kinds: dict[object, int] = {}
        self._examples: list[Candidate] = []
        # By the candidates' own ids; they are kept alive, so that no id is used again.
        self._known: dict[int, tuple[Candidate, int, tuple[str, ...] | None]] = {}
        self._decided: dict[tuple[int, frozenset[int]], bool] = {}

    def all_used(self, target: Candidate, backgrounds: Sequence[Candidate]) -> bool:
        """Tell whether `judge` would use all backgrounds.

        Parameters
        ----------
        target, backgrounds
            As of `judge`.

        Returns
        -------
        bool
            False also where that hangs on more than the kinds of their headers: `judge`
            then says why.
        """
        _, kind, identity = self._of(target)
        same = {target.same_as}
        kinds = set()
        for background in backgrounds:
            _, each, its_identity = self._of(background)
            kinds.add(each)
            same.add(background.same_as)
            if identity is not None and its_identity == identity:
                return False
        if len(same) != 1 + len(backgrounds):
            return False
        key = kind, frozenset(kinds)
        if key not in self._decided:
            self._decided[key] = self._decide(*key)
        return self._decided[key]

    def _of(self, candidate: Candidate) -> tuple[Candidate, int, tuple[str, ...] | None]:
        known = self._known.get(id(candidate))
        if known is None:
            facts = {name: getattr(candidate.metadata, name) for name in _DECISIVE}
            shape = candidate.placement.shape
            # Numbers of different types may be equal, and be told apart in messages only.
            kind = self._kinds.setdefault((shape, *facts.values()), len(self._kinds))
            if kind == len(self._examples):
                placement = Placement("", shape, Metadata(**facts))
                self._examples.append(Candidate(placement, kind))
            known = self._known[id(candidate)] = candidate, kind, candidate.metadata.identity
        return known

    def _decide(self, target: int, backgrounds: frozenset[int]) -> bool:
        """Judge an example of each kind: it is enough, since order and number do not count."""
        examples = [self._examples[kind] for kind in sorted(backgrounds)]
        try:
            # The target is not the background whose kind it is of.
            judgement = judge(
                replace(self._examples[target], same_as="target"), examples, self._policy
            )
        except ExposureMismatchError:
            return False
        return judgement.n_used == len(examples)
