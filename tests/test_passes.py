"""Which averages share a pass: pure, from facts alone."""

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from offsky.engine.passes import MOST_EXPOSURES, Demand, Facts, Member, Pass, arrange
from offsky.values.window import Window

FRAME = Window(0, 0, 16, 24)
PART = Window(4, 6, 8, 8)


def facts(name: object) -> Facts:
    return Facts(name, (24, 16), 16 * 12)


def demand(number: int, target: object, members: Iterable[object], **more: object) -> Demand:
    of_members = tuple(Member(facts(name), FRAME) for name in members)
    return replace(
        Demand(number, FRAME, of_members, None if target is None else facts(target)), **more
    )


def dithers(n: int) -> list[Demand]:
    return [demand(i, i, [k for k in range(n) if k != i]) for i in range(n)]


def keys(pass_: Pass) -> set[object]:
    return {each.key for each in pass_.exposures}


def test_the_dithers_of_one_pattern_are_one_pass_in_which_all_products_are_streamed() -> None:
    (pass_,) = arrange(dithers(12))
    assert keys(pass_) == set(range(12))
    assert len(pass_.recipes) == 12
    assert all(recipe.streamed == {recipe.demands[0].number} for recipe in pass_.recipes)
    assert not any(recipe.is_whole for recipe in pass_.recipes)


def test_a_pair_of_nods_is_one_pass_too() -> None:
    (pass_,) = arrange(dithers(2))
    assert keys(pass_) == {0, 1}


def test_targets_with_one_list_share_its_average_which_is_whole() -> None:
    (pass_,) = arrange([demand(i, f"t{i}", "abc") for i in range(20)])
    (recipe,) = pass_.recipes
    assert len(recipe.demands) == 20
    assert recipe.is_whole
    assert recipe.streamed == frozenset()
    assert keys(pass_) == set("abc")


def test_a_single_target_is_streamed_and_its_average_is_not_kept() -> None:
    ((recipe,),) = [pass_.recipes for pass_ in arrange([demand(0, "t", "abc")])]
    assert recipe.streamed == {0}
    assert not recipe.is_whole


def test_members_of_a_pass_that_share_a_list_are_streamed_from_its_rows() -> None:
    # Two exposures at each of two nods.
    demands = [demand(i, "abcd"[i], "cd" if i < 2 else "ab") for i in range(4)]
    (pass_,) = arrange(demands)
    assert [recipe.streamed for recipe in pass_.recipes] == [{0, 1}, {2, 3}]


def test_lists_that_have_nothing_in_common_are_passes_of_their_own() -> None:
    assert len(arrange([demand(0, "t", "abc"), demand(1, "u", "def")])) == 2


def test_another_frame_or_mask_or_order_is_another_average_of_the_same_pass() -> None:
    plain = demand(0, "t", "abc")
    masked = replace(
        plain, number=1, members=(replace(plain.members[0], mask=7), *plain.members[1:])
    )
    turned = demand(2, "t", "cba")
    framed = replace(plain, number=3, frame=PART, target=None, saves=True)
    (pass_,) = arrange([plain, masked, turned, framed])
    assert len(pass_.recipes) == 4
    assert keys(pass_) == set("abc")


def test_an_exposure_that_lies_elsewhere_in_another_list_is_read_in_another_pass() -> None:
    moved = tuple(Member(facts(name), PART) for name in "abc")
    assert len(arrange([demand(0, "t", "abc"), Demand(1, PART, moved, facts("u"))])) == 2


def test_a_pass_stays_small_enough_however_long_the_chain_of_lists() -> None:
    demands = [demand(i, ("t", i), range(i, i + 8)) for i in range(2000)]
    passes = arrange(demands)
    assert max(len(pass_.exposures) for pass_ in passes) <= MOST_EXPOSURES
    assert len(passes) < 30


def test_a_fit_and_a_saved_average_keep_the_average_whole() -> None:
    for more in ({"fits": True}, {"saves": True}):
        ((recipe,),) = [pass_.recipes for pass_ in arrange([demand(0, "t", "abc", **more)])]
        assert recipe.is_whole


def test_parts_of_a_pass_read_only_what_they_need() -> None:
    (pass_,) = arrange(dithers(4))
    parts = pass_.parts(1)
    assert [keys(part) for part in parts] == [{0, 1, 2, 3} - {i} for i in range(4)]
    assert pass_.parts(4) == [pass_]


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.lists(st.integers(0, 8), min_size=1, max_size=5)),
        min_size=1,
        max_size=12,
    )
)
def test_every_demand_is_met_once_by_a_recipe_of_its_own_members(
    lists: list[tuple[int, list[int]]],
) -> None:
    demands = [demand(i, target, members) for i, (target, members) in enumerate(lists)]
    met = {}
    for pass_ in arrange(demands):
        for recipe in pass_.recipes:
            assert {m.facts.key for m in recipe.members} <= keys(pass_)
            for each in recipe.demands:
                assert each.number not in met
                met[each.number] = recipe.members
    assert met == {each.number: each.members for each in demands}
