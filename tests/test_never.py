"""Whatever the exposures and the rule: some things are never used as a background."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from test_nods import IFU, LRS, SHUTTERS, SLIT

from offsky.selection.examined import Examined, dropped_files
from offsky.selection.nods import nod_of
from offsky.selection.pairing import Pairing
from offsky.selection.placing import Placement
from offsky.selection.rules import choose_dedicated, choose_others
from offsky.selection.suitability import Candidate, Policy, same_configuration

IMAGE = replace(LRS, exp_type="MIR_IMAGE", filter="F770W", pattern_type="CYCLING")

# Mostly alike, else nothing is ever used.
facts = st.fixed_dictionaries(
    {"pattern_number": st.integers(1, 5)},
    optional={
        "bkgdtarg": st.booleans(),
        "is_imprint": st.booleans(),
        "status": st.sampled_from(["COMPLETE", "SKIPPED"]),
        "filter": st.sampled_from(["F770W", "F1000W"]),
        "unit": st.sampled_from(["DN/s", "MJy/sr"]),
        "observation": st.sampled_from(["001", "002"]),
        "program": st.sampled_from(["01234", "05678"]),
        "n_subpixel": st.sampled_from([1, 2]),
        "n_positions": st.sampled_from([5, 10]),
        "fixed_slit": st.sampled_from(["S200A1", "S1600A1"]),
        "readpatt": st.sampled_from(["FAST", "SLOW"]),
        "segment": st.integers(1, 2),
        "gwa_xtilt": st.sampled_from([0.1, 0.2]),
        "mid_time": st.sampled_from([60000.0, 60001.0, 60005.0]),
    },
)
exposures = st.lists(
    st.tuples(st.sampled_from([SLIT, SHUTTERS, IFU, LRS, IMAGE]), facts, st.integers(1, 12)),
    max_size=10,
)
limits = st.fixed_dictionaries(
    {},
    optional={
        "max_days": st.sampled_from([0.0, 2.0]),
        "nearest": st.integers(1, 2),
        "match_readout": st.booleans(),
        "min_backgrounds": st.integers(0, 2),
    },
)
of_patterns = st.fixed_dictionaries(
    {"source": st.sampled_from(["nods", "dithers"])},
    optional={
        "add_dedicated": st.booleans(),
        "group_by": st.sampled_from(["PROGRAM", "+TARGPROP"]),
    },
)
of_dedicated = st.fixed_dictionaries(
    {"source": st.just("dedicated")}, optional={"any_programme": st.booleans()}
)
rules = st.one_of(
    st.builds(lambda a, b: {**a, **b}, of_patterns, limits),
    st.builds(lambda a, b: {**a, **b}, of_dedicated, limits),
    st.builds(
        lambda source: {"source": source, "pair": True},
        st.sampled_from(["nods", "dithers", "dedicated"]),
    ),
)


@settings(max_examples=400)
@given(drawn=exposures, rule=rules, names=st.none() | st.sets(st.integers(0, 9)))
def test_no_plan_uses_a_target_an_imprint_a_product_or_another_configuration(
    drawn: Any, rule: dict[str, Any], names: set[int] | None
) -> None:
    there = {}
    for i, (base, each, number) in enumerate(drawn):
        metadata = replace(base, **each, exposure=str(number))
        candidate = Candidate(Placement(str(i), (24, 16), metadata), i)
        there[f"/x/{i}"] = Examined(f"/x/{i}", candidate)
    given_ = list(there.values())
    pairing = Pairing(**rule)
    if pairing.source == "dedicated":
        named = None if names is None else {f"/x/{i}": True for i in names}
        found = choose_dedicated(given_, pairing, Policy(), named)
    else:
        named = None
        found = choose_others(given_, pairing, Policy())
    targets = {each.target for each in found}
    for each in found:
        ours = there[each.target].metadata
        assert not ours.is_imprint
        assert not ours.bkgdtarg
        dropped = [path for _, paths in dropped_files(each) for path in paths]
        # Each exposure has one fate.
        assert len({each.target, *each.backgrounds, *dropped}) == (
            1 + len(each.backgrounds) + len(dropped)
        )
        for path in each.backgrounds:
            theirs = there[path].metadata
            assert same_configuration(ours, theirs)
            assert not theirs.is_imprint
            assert theirs.status != "COMPLETE"
            assert ours.identity is None or theirs.identity != ours.identity
            if pairing.source == "dedicated":
                assert path not in targets
                assert theirs.bkgdtarg if named is None else path in named
            elif theirs.bkgdtarg:
                assert pairing.add_dedicated
            elif pairing.source == "nods":
                assert nod_of(ours) != nod_of(theirs)
            if pairing.match_readout:
                assert None in (ours.readpatt, theirs.readpatt) or (
                    ours.readpatt == theirs.readpatt
                )
        if pairing.pair:
            assert len(each.backgrounds) <= 1
