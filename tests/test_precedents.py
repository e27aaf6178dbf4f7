"""Quick answers for many exposures are those of judging and comparing each pair."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from offsky.errors import ExposureMismatchError
from offsky.selection.examined import Examined, dropped_files
from offsky.selection.pairing import Pairing
from offsky.selection.placing import Placement
from offsky.selection.precedents import Precedents
from offsky.selection.rules import choose_dedicated
from offsky.selection.suitability import Candidate, Policy, judge, same_configuration
from offsky.values.metadata import Metadata

BASE = Metadata(
    instrument="MIRI",
    detector="MIRIMAGE",
    exp_type="MIR_IMAGE",
    xstart=1,
    ystart=1,
    xsize=16,
    ysize=24,
    unit="DN/s",
)
IDENTITY = {
    "program": "1", "observation": "1", "visit": "1", "visit_group": "1", "sequence": "1",
    "activity": "1",
}  # fmt: skip

# Mostly alike, else nothing is ever used.
facts = st.fixed_dictionaries(
    {},
    optional={
        "filter": st.sampled_from([None, "F770W", "f770w ", "F1000W"]),
        "exp_type": st.sampled_from([None, "MIR_LRS-SLITLESS", "MIR_LRS-FIXEDSLIT"]),
        "channel": st.sampled_from(["12", 12, 12.0, 34]),
        "unit": st.sampled_from([None, "MJy/sr"]),
        "instrument": st.just("NIRSPEC"),
        "gwa_xtilt": st.sampled_from([0.1, 0.2, 0.1 + 1e-9]),
        "xstart": st.sampled_from([None, 9, 17]),
        "xsize": st.sampled_from([None, 16, 8]),
        "status": st.just("COMPLETE"),
        "readpatt": st.sampled_from(["FAST", "SLOW"]),
    },
)
shapes = st.sampled_from([(24, 16), (24, 16), (24, 16), (24, 8), (1024, 1032)])
exposures = st.builds(
    lambda facts, shape, number, same_as: (facts, shape, number, same_as),
    facts,
    shapes,
    st.integers(0, 30),
    st.integers(0, 60),
)


def candidate(name: str, drawn: Any) -> Candidate:
    """Return an exposure of some facts, shape, number and file."""
    facts, shape, number, same_as = drawn
    metadata = replace(BASE, **IDENTITY, exposure=str(number), **facts)
    return Candidate(Placement(name, shape, metadata), same_as)


@given(
    sets=st.lists(st.tuples(exposures, st.lists(exposures, min_size=1, max_size=4)), max_size=5),
    policy=st.builds(Policy, st.booleans(), st.booleans()),
)
def test_all_are_said_to_be_used_only_if_judging_uses_all(sets: Any, policy: Policy) -> None:
    precedents = Precedents(policy)
    for target_facts, members in sets:
        target = candidate("target", target_facts)
        backgrounds = [candidate(f"b{i}", each) for i, each in enumerate(members)]
        try:
            judged = judge(target, backgrounds, policy).n_used == len(backgrounds)
        except ExposureMismatchError:
            judged = False
        everything = [target, *backgrounds]
        numbers = {each.metadata.exposure for each in backgrounds}
        distinct = len({each.same_as for each in everything}) == len(everything)
        if distinct and target.metadata.exposure not in numbers:
            assert precedents.all_used(target, backgrounds) == judged
        else:
            # Whatever hangs on single files is left to the judge.
            assert not precedents.all_used(target, backgrounds)


@given(drawn=st.lists(st.tuples(facts, st.booleans()), max_size=12))
def test_dedicated_backgrounds_are_those_of_the_same_configuration(drawn: Any) -> None:
    found = [
        Examined(
            f"/x/{i}",
            Candidate(Placement(str(i), (24, 16), replace(BASE, bkgdtarg=background, **each)), i),
        )
        for i, (each, background) in enumerate(drawn)
    ]
    policy = Policy(force=True)
    pairs = choose_dedicated(found, Pairing(source="dedicated"), policy)
    targets = [each for each in found if not each.metadata.bkgdtarg]
    assert [pair.target for pair in pairs] == [target.path for target in targets]
    for pair, target in zip(pairs, targets, strict=True):
        looked_at = {
            *pair.backgrounds,
            *(path for _, paths in dropped_files(pair) for path in paths),
        }
        assert looked_at == {
            each.path
            for each in found
            if each.metadata.bkgdtarg and same_configuration(target.metadata, each.metadata)
        }
