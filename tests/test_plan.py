"""Plans: the rules on headers alone, the JSON, and what is found among real inputs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programmes import expose, offsky_command

from offsky.errors import ExposureError, MissingFileError, ParameterError
from offsky.options import PROFILES, Options
from offsky.programme.plan import (
    Group,
    Plan,
    PlannedFile,
    PlannedProduct,
    balance,
    group_products,
    merge_groups,
    split_group,
)
from offsky.programme.plan_json import render_plan
from offsky.programme.plan_reader import parse_plan
from offsky.programme.planning import changed_since, make_plan, read_plan
from offsky.selection.apart import separation
from offsky.selection.examined import Dropped, Examined, dropped_files
from offsky.selection.limits import choose
from offsky.selection.pairing import Pairing
from offsky.selection.placing import Placement
from offsky.selection.rules import choose_dedicated, choose_others
from offsky.selection.suitability import Candidate, Policy
from offsky.values.metadata import Metadata
from offsky.values.window import Window

BASE = Metadata(
    instrument="MIRI",
    detector="MIRIMAGE",
    filter="F770W",
    exp_type="MIR_IMAGE",
    program="01234",
    observation="001",
    visit="001",
    visit_group="02",
    sequence="1",
    activity="01",
    xstart=1,
    ystart=1,
    xsize=16,
    ysize=24,
    unit="DN/s",
    mid_time=60000.0,
)


def examined(name: str, **facts: Any) -> Examined:
    metadata = replace(BASE, exposure=name, **facts)
    shape = (metadata.ysize or 24, metadata.xsize or 16)
    return Examined(f"/x/{name}", Candidate(Placement(name, shape, metadata), name))


def backgrounds_of(choices: list[Any]) -> dict[str, list[str]]:
    return {Path(c.target).name: [Path(p).name for p in c.backgrounds] for c in choices}


def dropped_of(choice: Any) -> dict[str, str]:
    return {Path(path).name: why for why, paths in dropped_files(choice) for path in paths}


def test_dedicated_backgrounds_serve_every_target_of_their_configuration() -> None:
    exposures = [
        examined("a"),
        examined("b", filter="F1000W"),
        examined("c"),
        examined("bg1", bkgdtarg=True, observation="002"),
        examined("bg2", bkgdtarg=True, filter="F1000W"),
        examined("bg4", bkgdtarg=True, program="09999"),
        examined("bg3", bkgdtarg=True),
    ]
    choices = choose_dedicated(exposures, Pairing(source="dedicated"), Policy())
    assert backgrounds_of(choices) == {"a": ["bg1", "bg3"], "b": ["bg2"], "c": ["bg1", "bg3"]}
    assert not any(choice.dropped for choice in choices)


@pytest.mark.parametrize(
    "fact",
    [
        {"instrument": "NIRCAM"},
        {"detector": "MIRIFULONG"},
        {"filter": "F560W"},
        {"pupil": "X"},
        {"grating": "X"},
        {"band": "SHORT"},
        {"channel": "12"},
        {"exp_type": "MIR_LYOT"},
        {"unit": "MJy/sr"},
    ],
)
def test_a_background_of_another_configuration_is_none(fact: dict[str, str]) -> None:
    (name,) = fact
    target = examined("a", **({name: "Y"} if getattr(BASE, name) is None else {}))
    exposures = [target, examined("bg", bkgdtarg=True, **fact)]
    (choice,) = choose_dedicated(exposures, Pairing(source="dedicated"), Policy())
    assert choice.backgrounds == ()
    assert choice.skipped is not None
    assert "no dedicated background" in choice.skipped


def test_a_background_that_overlaps_in_part_is_used_and_one_beside_it_dropped() -> None:
    exposures = [
        examined("a"),
        examined("part", bkgdtarg=True, xstart=9),
        examined("beside", bkgdtarg=True, xstart=17),
    ]
    (choice,) = choose_dedicated(exposures, Pairing(source="dedicated"), Policy())
    assert backgrounds_of([choice]) == {"a": ["part"]}
    assert "does not overlap" in dropped_of(choice)["beside"]


def test_each_exposure_of_a_pattern_has_the_others() -> None:
    exposures = [
        examined("a1"),
        examined("a2"),
        examined("a3"),
        examined("b1", observation="002"),
        examined("b2", observation="002"),
        examined("c1", visit_group="03"),
        examined("d1", filter="F560W"),
        examined("d2", filter="F560W", program="05678"),
        examined("e1", xsize=8),
        examined("dedicated", bkgdtarg=True),
    ]
    choices = choose_others(exposures, Pairing(source="dithers"), Policy())
    assert backgrounds_of(choices) == {
        "a1": ["a2", "a3"],
        "a2": ["a1", "a3"],
        "a3": ["a1", "a2"],
        "b1": ["b2"],
        "b2": ["b1"],
        "c1": [],
        "d1": [],
        "d2": [],
        "e1": [],
    }
    assert [c.skipped for c in choices[5:]] == ["alone in its pattern"] * 4


@pytest.mark.parametrize("dedicated", [True, False])
def test_an_imprint_is_neither_target_nor_background(dedicated: bool) -> None:
    exposures = [
        examined("a"),
        examined("b"),
        examined("bg", bkgdtarg=True),
        examined("leakcal", bkgdtarg=dedicated, is_imprint=True),
    ]
    by_mark = choose_dedicated(exposures, Pairing(source="dedicated"), Policy())
    assert backgrounds_of(by_mark) == {"a": ["bg"], "b": ["bg"]}
    others = choose_others(exposures, Pairing(source="dithers"), Policy())
    assert backgrounds_of(others) == {"a": ["b"], "b": ["a"]}


def test_a_plan_names_the_imprints_that_it_left_out(tmp_path: Path) -> None:
    for number in (1, 2):
        expose(tmp_path, number)
    leakcal = expose(tmp_path, 3, meta__exposure__imprint=True)
    plan = make_plan(
        [tmp_path], pairing=Pairing(source="dithers"), options=Options(), imprints="ignore"
    )
    assert [len(product.backgrounds) for product in plan.products] == [1, 1]
    assert plan.left_out == (
        (str(leakcal), "an imprint (IS_IMPRT), neither target nor background"),
    )


def test_an_exposure_that_does_not_tell_its_pattern_is_skipped() -> None:
    choices = choose_others(
        [examined("a", observation=None), examined("b")], Pairing(source="dithers"), Policy()
    )
    assert "does not say" in (choices[0].skipped or "")
    assert choices[1].skipped == "alone in its pattern"


def test_nods_closer_than_the_least_separation_are_left_out() -> None:
    exposures = [
        examined(name, ra_ref=150.0, dec_ref=2.0 + arcsec / 3600)
        for name, arcsec in (("a", 0.0), ("b", 0.2), ("c", 0.5))
    ]
    pairing = Pairing(source="dithers", min_separation=0.3)
    choices = choose_others(exposures, pairing, Policy())
    assert backgrounds_of(choices)["a"] == ["c"]
    assert '0.2" from the target, less than 0.3"' in dropped_of(choices[0])["b"]


def test_separations_come_from_the_wcs_then_the_axis_then_the_offsets() -> None:
    wcs = {"ra_ref": 10.0, "dec_ref": 60.0, "ra_v1": 0.0, "dec_v1": 0.0}
    a, b = examined("a", **wcs), examined("b", **{**wcs, "ra_ref": 10.0 + 1 / 3600})
    assert separation(a, b) == pytest.approx(0.5, rel=1e-4)  # cos(60 degrees)
    a, b = (examined(n, ra_v1=359.9999, dec_v1=0.0) for n in "ab")
    b = examined("b", ra_v1=0.0001, dec_v1=0.0)
    assert separation(a, b) == pytest.approx(0.72, rel=1e-3)
    a, b = examined("a", x_offset=0.0, y_offset=0.0), examined("b", x_offset=3.0, y_offset=4.0)
    assert separation(a, b) == pytest.approx(5.0)


def test_on_a_moving_target_only_the_offsets_tell_the_separation() -> None:
    facts = {"target_type": "MOVING", "ra_ref": 1.0, "dec_ref": 1.0, "y_offset": 0.0}
    a = examined("a", **facts, x_offset=0.0)
    b = examined("b", **{**facts, "ra_ref": 1.1}, x_offset=2.0)
    assert separation(a, b) == pytest.approx(2.0)


def test_separations_that_the_headers_do_not_say_are_refused() -> None:
    exposures = [examined("a", ra_ref=1.0, dec_ref=1.0), examined("b")]
    with pytest.raises(ParameterError, match="do not say how far apart"):
        choose_others(exposures, Pairing(source="dithers", min_separation=0.1), Policy())
    # Offsets are from a point that other observations do not share.
    a = examined("a", x_offset=0.0, y_offset=0.0)
    b = examined("b", x_offset=1.0, y_offset=0.0, observation="002")
    with pytest.raises(ParameterError):
        separation(a, b)


def test_backgrounds_too_far_in_time_are_dropped() -> None:
    exposures = [
        examined("a"),
        examined("near", bkgdtarg=True, mid_time=60001.0),
        examined("far", bkgdtarg=True, mid_time=59990.0),
    ]
    (choice,) = choose_dedicated(exposures, Pairing(source="dedicated", max_days=2), Policy())
    assert backgrounds_of([choice]) == {"a": ["near"]}
    assert dropped_of(choice)["far"] == "10 days from the target, more than 2"


def test_times_come_from_whatever_the_header_says() -> None:
    exposures = [
        examined("a", mid_time=None, start_time=60000.0, end_time=60000.2),
        examined("b", bkgdtarg=True, mid_time=None, date_beg="2023-02-25T12:00:00.000"),
    ]
    (choice,) = choose_dedicated(exposures, Pairing(source="dedicated", max_days=0.1), Policy())
    assert dropped_of(choice)["b"].startswith("0.4 days")
    timeless = [examined("a"), examined("b", bkgdtarg=True, mid_time=None)]
    for pairing in (
        Pairing(source="dedicated", max_days=1),
        Pairing(source="dedicated", nearest=3),
    ):
        with pytest.raises(ParameterError, match="does not say when"):
            choose_dedicated(timeless, pairing, Policy())


@given(st.lists(st.floats(59990, 60010), min_size=1, max_size=9), st.integers(1, 9))
def test_the_nearest_are_used_in_the_order_they_came(times: list[float], nearest: int) -> None:
    target = examined("t")
    others = [examined(f"b{i}", bkgdtarg=True, mid_time=time) for i, time in enumerate(times)]
    choice = choose(target, others, Pairing(source="dedicated", nearest=nearest), Policy())
    used = [int(Path(path).name[1:]) for path in choice.backgrounds]
    assert used == sorted(used)
    assert len(used) == min(nearest, len(times))
    farthest_used = max(abs(times[i] - 60000.0) for i in used)
    unused = [abs(time - 60000.0) for i, time in enumerate(times) if i not in used]
    assert all(distance >= farthest_used for distance in unused)
    assert len(dropped_of(choice)) == len(unused)


def test_too_few_backgrounds_skip_the_product_with_the_reason() -> None:
    exposures = [examined(name) for name in "abc"]
    choices = choose_others(exposures, Pairing(source="dithers", min_backgrounds=3), Policy())
    assert {c.skipped for c in choices} == {"2 of 2 backgrounds left, fewer than 3"}
    near = Pairing(source="dithers", max_days=0.0)
    times = [examined(name, mid_time=60000.0 + i) for i, name in enumerate("abc")]
    skipped = [c.skipped or "" for c in choose_others(times, near, Policy())]
    assert all(why.startswith("0 of 2 backgrounds left, fewer than 1 (") for why in skipped)
    assert [why.partition("(")[2] for why in skipped] == [
        "2 dropped: 1 to 2 days from the target, more than 0)",
        "2 dropped: 1 day from the target, more than 0)",
        "2 dropped: 1 to 2 days from the target, more than 0)",
    ]


def test_a_background_with_another_grating_tilt_is_dropped_as_in_a_single_run() -> None:
    facts = {"instrument": "NIRSPEC", "gwa_ytilt": 0.1}
    exposures = [
        examined("a", gwa_xtilt=0.1, **facts),
        examined("b", gwa_xtilt=0.1, **facts),
        examined("c", gwa_xtilt=0.2, **facts),
    ]
    choices = choose_others(exposures, Pairing(source="dithers"), Policy())
    assert backgrounds_of(choices) == {"a": ["b"], "b": ["a"], "c": []}
    assert "GWA_XTIL" in dropped_of(choices[0])["c"]


def test_what_a_single_run_would_refuse_is_dropped_by_rule_but_a_problem_where_written() -> None:
    target = examined("t")
    others = [examined("ok", bkgdtarg=True), examined("odd", bkgdtarg=True, filter="F560W")]
    by_rule = choose(target, others, Pairing(source="dedicated"), Policy())
    assert backgrounds_of([by_rule]) == {"t": ["ok"]}
    assert "FILTER" in dropped_of(by_rule)["odd"]
    assert by_rule.problem is None
    written = choose(target, others, Pairing(), Policy(), as_written=True)
    assert len(written.backgrounds) == 2
    assert "odd: FILTER" in (written.problem or "")
    forced = choose(target, others, Pairing(), Policy(force=True), as_written=True)
    assert len(forced.backgrounds) == 2
    assert forced.problem is None


def test_a_target_that_was_subtracted_before_is_skipped() -> None:
    exposures = [examined("a", status="COMPLETE"), examined("b", bkgdtarg=True)]
    (choice,) = choose_dedicated(exposures, Pairing(source="dedicated"), Policy())
    assert "subtracted already" in (choice.skipped or "")
    (choice,) = choose_dedicated(exposures, Pairing(source="dedicated"), Policy(force=True))
    assert choice.skipped is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_days": -1.0},
        {"max_days": float("nan")},
        {"nearest": 0},
        {"min_backgrounds": -1},
        {"min_separation": -0.1},
        {"source": "guesses"},
    ],
)
def test_rules_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        Pairing(**wrong)


def products(*lists: tuple[str, str], **how: Any) -> list[PlannedProduct]:
    return [
        PlannedProduct(f"{t}.fits", f"/x/{t}", tuple(f"/x/{b}" for b in bs), **how)
        for t, bs in lists
    ]


def test_products_with_one_list_are_made_together_and_so_is_a_pattern() -> None:
    planned = products(
        ("a", "xy"), ("b", "xy"), ("c", "yx"), ("p", "qr"), ("q", "pr"), ("r", "pq")
    )
    assert group_products(planned) == (
        Group("shared", (0, 1)),
        Group("shared", (2,)),
        Group("leave-one-out", (3, 4, 5)),
    )


def test_products_of_other_options_are_not_made_together() -> None:
    planned = products(("a", "xy")) + products(("b", "xy"), options=Options(sigma=2.0))
    planned += products(("c", "xy"), skipped="why not")
    assert group_products(planned) == (Group("shared", (0,)), Group("shared", (1,)))


@given(st.integers(1, 40), st.integers(1, 9))
def test_a_group_split_for_workers_keeps_every_product(n: int, n_parts: int) -> None:
    parts = split_group(Group("shared", tuple(range(n))), n_parts)
    assert [i for part in parts for i in part.products] == list(range(n))
    assert all(part.products for part in parts)
    assert len(parts) == min(n, n_parts)


@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 6))
def test_groups_balanced_for_workers_keep_every_product(
    n_targets: int, n_backgrounds: int, n_workers: int
) -> None:
    names = [f"b{i}" for i in range(n_backgrounds)]
    planned = tuple(
        PlannedProduct(f"{i}.fits", f"/x/t{i}", tuple(f"/x/{b}" for b in names))
        for i in range(n_targets)
    )
    plan = Plan(Pairing(), (), planned, group_products(planned))
    parts = balance(plan, n_workers)
    assert sorted(i for part in parts for i in part.products) == list(range(n_targets))
    assert all(2 * len(part.products) >= n_backgrounds - 1 for part in parts) or len(parts) == 1


PLAN = Plan(
    Pairing(source="nods", min_separation=0.3),
    (
        PlannedFile("/x/l", 10, 20, (24, 16), 192, 0, 0, (1, 1)),
        PlannedFile("/x/m", 10, 20, (24, 16), 192, 0, 0, (1, 1)),
        PlannedFile("/x/p", 10, 20, (24, 16), 192, 0, 0, (1, 1)),
        PlannedFile("/x/q", 10, 20, (2, 24, 16), 384, 0, 0, (9, 5)),
        PlannedFile("/x/r", 10, 20, (24, 16), 192, 4608),
    ),
    (
        PlannedProduct(
            "p.fits",
            "/x/p",
            ("/x/q",),
            (Dropped("too near", ("/x/p", "/x/r")),),
            Options(sigma=2.5),
        ),
        PlannedProduct(
            "q.fits",
            "/x/q",
            ("/x/p", "/x/r"),
            (),
            Options(sigma=2.5),
            True,
            imprints=(("/x/l", "/x/m"), (), ("/x/l",)),
        ),
        PlannedProduct("r.fits", "/x/r", (), skipped="no", problem="really"),
    ),
    (Group("leave-one-out", (0,)), Group("shared", (1,))),
    (("/x/sub/z", "no SCI"),),
)


def test_a_plan_survives_its_json() -> None:
    text = render_plan(PLAN, "1.0")
    assert parse_plan(text, "plan.json") == PLAN
    content = json.loads(text)
    assert (content["format"], content["version"], content["root"]) == ("offsky-plan", 2, "/x")
    assert list(content["files"]) == ["l", "m", "p", "q", "r"]
    assert content["products"][1]["imprints"] == [["l", "m"], [], ["l"]]


names = st.sampled_from(["a", "b c", "sub/d", "é\n", "..", "sub/../e"])
reasons = st.text(max_size=5)
places = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def plans(draw: Any) -> Plan:
    """Draw a plan of any files, lists and options, all but the skipped ones grouped."""
    members = draw(st.lists(names, min_size=1, unique=True))
    root = draw(st.sampled_from(["/", "/x", "/x/y z"]))
    paths = [str(Path(root) / name) for name in members]
    numbers = st.integers(0, 2**40)
    files = tuple(
        PlannedFile(
            path, draw(numbers), draw(numbers), (*draw(st.sampled_from([(), (3,)])), 24, 16),
            draw(numbers), draw(numbers), draw(numbers),
            draw(st.none() | st.tuples(st.integers(1, 9), st.integers(1, 9))),
            draw(reasons), draw(st.none() | reasons), draw(st.none() | places),
            draw(st.none() | st.tuples(places, places)),
        )
        for path in paths
    )  # fmt: skip
    lists = st.lists(st.sampled_from(paths), max_size=4).map(tuple)
    pairs = st.lists(st.tuples(st.sampled_from(paths), reasons), max_size=2).map(tuple)
    dropped = st.lists(st.builds(Dropped, reasons, lists), max_size=2).map(tuple)
    made = tuple(
        PlannedProduct(
            f"{i}.fits", draw(st.sampled_from(paths)), draw(lists), draw(dropped),
            Options(sigma=draw(st.sampled_from([2.0, 3.0, float("inf")]))), draw(st.booleans()),
            draw(st.none() | reasons), draw(st.none() | reasons),
        )
        for i in range(draw(st.integers(0, 6)))
    )  # fmt: skip
    left_out = draw(pairs)
    return Plan(Pairing(source="dithers"), files, made, group_products(made), left_out)


@given(plan=plans())
def test_any_plan_survives_its_json_and_is_plain_json(plan: Plan) -> None:
    text = render_plan(plan, "1.0")
    assert parse_plan(text, "plan.json") == plan
    content = json.loads(text)
    root = Path(content["root"])
    assert [str(root / name) for name in content["files"]] == [file.path for file in plan.files]


@given(
    sizes=st.lists(st.integers(1, 4), max_size=6),
    together=st.lists(st.lists(st.integers(0, 25), max_size=8), max_size=4),
    data=st.data(),
)
def test_merging_makes_one_group_of_whole_groups_only(
    sizes: list[int], together: list[list[int]], data: st.DataObject
) -> None:
    numbers = data.draw(st.permutations(range(sum(sizes))))
    groups = []
    for size in sizes:
        groups.append(Group("shared", tuple(sorted(numbers[:size]))))
        numbers = numbers[size:]
    # As it was first written: one pattern after the other, all groups looked at.
    expected = list(groups)
    for members in together:
        wanted = {i for group in expected for i in group.products} & set(members)
        inside = [group for group in expected if wanted & set(group.products)]
        if len(inside) >= 2 and not any(set(group.products) - wanted for group in inside):
            expected = [group for group in expected if group not in inside]
            expected.append(Group("leave-one-out", tuple(sorted(wanted))))
    assert merge_groups(groups, together) == tuple(
        sorted(expected, key=lambda group: group.products)
    )


def changed(*path: Any, to: Any) -> str:
    content = json.loads(render_plan(PLAN, "1.0"))
    place = content
    for key in path[:-1]:
        place = place[key]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "no plan"),
        ('{"products": []}', "no plan"),
        (changed("version", to=1), "a plan of version 1, where this offsky knows version 2"),
        (changed("version", to="1"), "version '1'"),
        (changed("colour", to="red"), "unknown key 'colour'"),
        (changed("groups", to=None), "no 'groups'"),
        (changed("sets", 0, to=["p", 3]), r"sets\[0\]: int where str"),
        (changed("products", 0, "dropped", 0, "set", to=7), "there is no set 7"),
        (changed("root", to="x"), "not an absolute folder"),
        (changed("rule", "colour", to="red"), "rule: unknown key 'colour'"),
        (changed("rule", "source", to="guesses"), "expected one of associations"),
        (changed("products", 0, "output", to="../p.fits"), r"products\[0\].output.*plain file"),
        (changed("products", 0, "output", to="q.fits"), "output of several"),
        (changed("products", 0, "target", to=3), r"products\[0\].*int where str"),
        (changed("products", 0, "target", to="nowhere"), "not among its files"),
        (changed("products", 0, "options", "sigma", to=-1), r"products\[0\].options: sigma"),
        (changed("products", 0, "options", "sgima", to=1), "unknown key 'sgima'"),
        (changed("products", 0, "force", to=0), "int where bool"),
        (changed("products", 1, "skipped", to="yes"), "name every product once"),
        (changed("groups", 0, "products", to=[7]), "there is no product 7"),
        (changed("groups", 0, "products", to=[0, 1]), "do not share"),
        (changed("groups", 0, "kind", to="magic"), "known are shared, leave-one-out"),
        (changed("files", "p", "bytes", to=True), "bool where int"),
        (changed("files", "p", "start", to=[1]), "expected column and row"),
        (changed("files", "p", "start", to=[1, "1"]), "str where int"),
        (changed("files", "p", "pointing", to=[1]), "expected"),
        (changed("files", "p", "mid_time", to="now"), "str where float or int"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message) as caught:
        parse_plan(text, "plan.json")
    assert str(caught.value).startswith("plan.json: ")
    assert "\n" not in str(caught.value)


def test_a_folder_gives_its_exposures_and_names_what_it_leaves_out(folder: Path) -> None:
    paths = [expose(folder, i) for i in range(1, 4)]
    paths[1].rename(folder / "b_bsub.fits")
    (folder / "cut_rate.fits").write_bytes(paths[0].read_bytes()[:5000])
    (folder / "notes.txt").write_text("not ours")
    paths.append(expose(folder, 9, background=True))
    plan = make_plan([folder], pairing=Pairing(source="dithers"), options=Options())
    assert [product.target for product in plan.products] == [str(paths[0]), str(paths[2])]
    left_out = dict(plan.left_out)
    assert "no target's background" in left_out[str(paths[3])]
    assert "cut_rate.fits" in next(path for path in left_out if path != str(paths[3]))
    assert plan.bytes_to_read() == paths[0].stat().st_size * 2


def test_a_plan_says_where_each_file_lies_and_what_its_rows_take(folder: Path) -> None:
    window = {"meta__subarray__xstart": 5, "meta__subarray__ystart": 3}
    expose(folder, 1, variances=True, **window)
    expose(folder, 2, nints=3)
    expose(folder, 3, meta__subarray__xsize=99)
    for profile, n_planes in (("jwst", 3), ("offsky", 5)):
        plan = make_plan([folder], pairing=Pairing(source="dithers"), options=PROFILES[profile])
        first, second, third = plan.files
        assert first.start == (5, 3)
        assert first.window == Window(4, 2, 16, 24)
        row = 4 * 16
        assert first.row_bytes == n_planes * row
        assert second.window == Window(0, 0, 16, 24)
        assert second.row_bytes == 9 * row
        # Its keywords contradict its shape: it lies where its companions lie.
        assert third.start is None
        assert third.window is None


def test_two_stages_of_one_exposure_need_a_suffix(folder: Path) -> None:
    for number in (1, 2):
        expose(folder, number)
        expose(folder, number, nints=2)
    with pytest.raises(ExposureError, match="--suffix rate"):
        make_plan([folder], pairing=Pairing(source="dithers"), options=Options())
    plan = make_plan(
        [folder], pairing=Pairing(source="dithers"), options=Options(), suffix="rateints"
    )
    assert [product.output.rpartition("_")[2] for product in plan.products] == [
        "bsubints.fits"
    ] * 2


def test_associations_are_planned_as_written(folder: Path) -> None:
    target, b1, b2 = (expose(folder, i).name for i in (1, 2, 3))
    for name, backgrounds in (("x", [b2, b1]), ("y", [])):
        members = [{"expname": target, "exptype": "science"}]
        members += [{"expname": b, "exptype": "background"} for b in backgrounds]
        product = {"name": name, "members": members}
        (folder / f"{name}_image2_asn.json").write_text(json.dumps({"products": [product]}))
    plan = make_plan([folder], pairing=Pairing(), options=Options(maxiters=2))
    assert [product.output for product in plan.products] == ["x_bsub.fits", "y_bsub.fits"]
    assert plan.products[0].backgrounds == (str(folder / b2), str(folder / b1))
    assert plan.products[0].options == Options(maxiters=2)
    # A copy marked SKIPPED, as `offsky subtract` makes it.
    assert plan.products[1].skipped is None


def test_inputs_that_cannot_be_planned_get_one_clear_line(folder: Path) -> None:
    exposure = expose(folder, 1)
    with pytest.raises(ParameterError, match="--from dedicated, nods or dithers"):
        make_plan([exposure], pairing=Pairing(), options=Options())
    with pytest.raises(ParameterError, match="no association"):
        make_plan([folder], pairing=Pairing(), options=Options())
    (folder / "empty").mkdir()
    with pytest.raises(ParameterError, match="no exposures found"):
        make_plan([folder / "empty"], pairing=Pairing(source="dithers"), options=Options())
    with pytest.raises(MissingFileError):
        make_plan(
            [folder / "gone_rate.fits"], pairing=Pairing(source="dithers"), options=Options()
        )
    other = folder / "other"
    other.mkdir()
    twin = expose(other, 1, observation="001", meta__observation__activity_id="02")
    with pytest.raises(ParameterError, match="would be the output of"):
        make_plan(
            [exposure, twin],
            pairing=Pairing(source="dithers", min_backgrounds=0),
            options=Options(),
        )


def test_a_plan_tells_which_files_have_changed_since(folder: Path) -> None:
    paths = [expose(folder, i) for i in (1, 2)]
    plan = make_plan([folder], pairing=Pairing(source="dithers"), options=Options())
    assert changed_since(plan) == []
    paths[0].unlink()
    assert changed_since(plan) == [str(paths[0])]


def test_the_command_plans_and_prints_a_plain_table_where_piped(folder: Path) -> None:
    for i, arcsec in enumerate((0.0, 1.0, 1.1)):
        expose(folder, i + 1, arcsec=arcsec)
    done = offsky_command(
        "plan", folder, "--from", "dithers", "--min-separation", 0.3, "-o", "plan.json"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["product", "backgrounds"]
    assert lines[1].endswith(": 3 targets x 1 to 2 backgrounds")
    assert "less than 0.3" in lines[3]
    assert not any("\x1b" in line or "─" in line for line in lines)
    assert "3 products in 1 group;" in done.stdout
    assert all(word in done.stdout for word in ("to read:", "memory:", "time: about"))
    plan = read_plan(folder / "plan.json")
    assert plan is not None
    assert [len(product.backgrounds) for product in plan.products] == [2, 1, 1]
    again = offsky_command("plan", folder, "--from", "dithers", "-o", "plan.json")
    assert again.returncode == 1
    assert "exists already" in again.stderr


def test_planning_fits_files_does_not_import_the_data_models(folder: Path) -> None:
    import subprocess
    import sys

    for i in (1, 2):
        expose(folder, i)
    code = (
        "import sys, offsky.command.main\n"
        "try: offsky.command.main.cli(['run', '.', '--from', 'dithers', '-o', 'out'])\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "assert not {'stdatamodels', 'asdf', 'distributed', 'jwst'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_real_nods_and_dithers_are_planned_from_bare_files(shared_data: Path) -> None:
    nods = make_plan(
        [shared_data / "nirspec_nod"],
        pairing=Pairing(source="nods", min_separation=0.3),
        options=Options(),
    )
    assert [len(product.backgrounds) for product in nods.products] == [2, 2, 2]
    miri = shared_data / "miri_4qpm"
    dithers = make_plan([miri], pairing=Pairing(source="dithers"), options=Options())
    assert [len(product.backgrounds) for product in dithers.products] == [4] * 5
    # 10 mas apart: a star would be subtracted from itself.
    pairing = Pairing(source="dithers", min_separation=0.3)
    near = make_plan([miri], pairing=pairing, options=Options())
    assert all(product.skipped for product in near.products)
    dedicated = make_plan(
        [miri],
        pairing=Pairing(source="dedicated", any_programme=True, max_days=1),
        options=Options(),
    )
    assert [len(product.backgrounds) for product in dedicated.products] == [1] * 5
    assert [group.kind for group in dedicated.groups] == ["shared"]
    for any_programme, n in ((False, 1), (True, 3)):
        pairing = Pairing(source="dedicated", any_programme=any_programme)
        everything = make_plan([miri], pairing=pairing, options=Options())
        assert [len(product.backgrounds) for product in everything.products] == [n] * 5
