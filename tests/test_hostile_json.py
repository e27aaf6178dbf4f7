"""Plans and associations that lie, are nested or large: one line, in time linear in the size."""

import contextlib
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from plain import expose, pixels, product, refused, run, write_association

import offsky

DEEP = "[" * 100_000 + "]" * 100_000
HUGE = 10**400

Content = dict[str, Any]


@pytest.fixture
def plan(folder: Path) -> Content:
    """A plan of two products, as JSON holds it."""
    expose(folder / "a_rate.fits", 10)
    expose(folder / "b_rate.fits", 3)
    assert run("plan", folder, "--from", "dithers", "-o", "p.json") == 0
    content: Content = json.loads(Path("p.json").read_text())
    Path("p.json").unlink()
    return content


@pytest.fixture
def association(folder: Path) -> Content:
    """An association of one product."""
    expose(folder / "a_rate.fits", 10)
    expose(folder / "b_rate.fits", 3)
    path = write_association(folder / "x_asn.json", product("p", "a_rate", "b_rate"))
    content: Content = json.loads(path.read_text())
    return content


def files_of(content: Content) -> Content:
    found: Content = next(iter(content["files"].values()))
    return found


LIES: dict[str, Callable[[Content], Any]] = {
    **{
        f"{key} is {str(value)[:20]}": lambda plan, key=key, value=value: files_of(plan).update(
            {key: value}
        )
        for key in ("bytes", "modified_ns", "row_bytes", "held_bytes", "product_bytes")
        for value in (2**63, HUGE, -1, True)
    },
    **{
        f"shape is {str(value)[:30]}": lambda plan, value=value: files_of(plan).update(shape=value)
        for value in ([6], [6, -8], [2**31, 6], [HUGE, HUGE], [1] * 9, [1] * 100_000, [6, True])
    },
    **{
        f"start is {str(value)[:30]}": lambda plan, value=value: files_of(plan).update(start=value)
        for value in ([0, 1], [-5, -5], [HUGE, 1], [1], [1, 1, 1])
    },
    **{
        f"{key} is {str(value)[:30]}": lambda plan, key=key, value=value: files_of(plan).update(
            {key: value}
        )
        for key, value in (("mid_time", HUGE), ("pointing", [HUGE, 1]), ("pointing", [1]))
    },
    "an option is huge": lambda plan: plan["products"][0]["options"].update(sigma=HUGE),
    "a factor is huge": lambda plan: plan["products"][0]["options"].update(target_scale=HUGE),
    **{
        f"output is {value[:9]!r}": lambda plan, value=value: plan["products"][0].update(
            output=value
        )
        for value in ("", ".", "..", "a/b", "/a", "../a", "a\0b.fits", "\ud800.fits")
    },
    **{
        f"target is {value[:16]!r}": lambda plan, value=value: plan["products"][0].update(
            target=value
        )
        for value in ("", "..", "../../etc/passwd", "/etc/passwd", "a\0b", "\ud800")
    },
    "root is relative": lambda plan: plan.update(root=".."),
    "root is a null byte": lambda plan: plan.update(root="/\0"),
    "a product beyond 64 bits": lambda plan: plan["groups"][0].update(products=[2**64]),
    "a product many times": lambda plan: plan["groups"][0].update(products=[0] * 200_000),
    "the version is huge": lambda plan: plan.update(version=HUGE),
}


@pytest.mark.parametrize("how", LIES)
def test_a_plan_that_lies_is_refused_in_one_line(
    plan: Content, capsys: Any, how: str, folder: Path
) -> None:
    LIES[how](plan)
    Path("p.json").write_text(json.dumps(plan))
    before = set(folder.iterdir())
    line = refused(capsys, "run", "p.json", "-o", "out")
    assert line.startswith("offsky: p.json: ")
    assert line.isprintable()
    assert set(folder.iterdir()) - before <= {folder / "out"}


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "1e-999", "1" + "0" * 5000])
def test_numbers_that_are_none_are_refused_in_one_line(
    plan: Content, capsys: Any, number: str
) -> None:
    files_of(plan)["bytes"] = "HERE"
    Path("p.json").write_text(json.dumps(plan).replace('"HERE"', number))
    assert "p.json: " in refused(capsys, "run", "p.json", "-o", "out")


@pytest.mark.parametrize("shape", [[7, 8], [2, 6, 8], [1, 1]])
def test_a_shape_that_lies_moves_no_pixel(plan: Content, shape: list[int]) -> None:
    for each in plan["files"].values():
        each["shape"] = shape
    Path("p.json").write_text(json.dumps(plan))
    assert run("run", "p.json", "-o", "out") == 0
    assert (pixels("out/a_bsub.fits") == 7).all()


@pytest.mark.parametrize("command", ["run", "plan", "subtract"])
@pytest.mark.parametrize("place", ["alone", "in products", "object"])
def test_what_is_nested_a_hundred_thousand_times_is_one_line(
    association: Content, capsys: Any, command: str, place: str
) -> None:
    text = {
        "alone": DEEP,
        "object": '{"a":' * 100_000 + "1" + "}" * 100_000,
        "in products": json.dumps(association).replace('"p"', DEEP, 1),
    }[place]
    Path("d.json").write_text(text)
    assert "d.json: not JSON" in refused(capsys, command, "d.json")


@pytest.mark.parametrize("n_levels", [60, 200, 450, 700, 980])
@pytest.mark.parametrize("key", ["options", "files", "products"])
def test_what_is_nested_in_a_plan_is_one_line(
    plan: Content, capsys: Any, key: str, n_levels: int
) -> None:
    plan[key] = {"sigma": "here"}
    text = json.dumps(plan).replace('"here"', "[" * n_levels + "]" * n_levels)
    Path("d.json").write_text(text)
    assert "d.json: not JSON" in refused(capsys, "run", "d.json", "-o", "out")


def calls_for(make: Callable[[int], Content], capsys: Any, n: int, *command: Any) -> int:
    """Return how many functions are called to judge a file of so many entries."""
    Path("n.json").write_text(json.dumps(make(n)))
    capsys.readouterr()
    n_calls = 0

    def count(frame: Any, event: str, what: Any) -> None:
        nonlocal n_calls
        n_calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        run(*command)
    finally:
        sys.setprofile(before)
    told = capsys.readouterr().err.splitlines()
    # Single files are named a few times, not two hundred thousand.
    assert len(told) <= 25
    assert "Traceback" not in "".join(told)
    return n_calls


def with_files(plan: Content, n: int) -> Content:
    facts = files_of(plan)
    return plan | {"files": plan["files"] | {f"u{i}.fits": facts for i in range(n)}}


def with_members(association: Content, n: int, kind: str) -> Content:
    (only,) = association["products"]
    more = [{"expname": f"u{i}.fits", "exptype": kind} for i in range(n)]
    return association | {"products": [only | {"members": only["members"] + more}]}


@pytest.mark.parametrize("what", ["files of a plan", "other members", "backgrounds"])
def test_unknown_files_cost_work_in_proportion(request: Any, capsys: Any, what: str) -> None:
    if what == "files of a plan":
        make = partial(with_files, request.getfixturevalue("plan"))
        command: tuple[Any, ...] = ("run", "n.json", "-o", "out")
    else:
        kind = "background" if what == "backgrounds" else "sourcecat"
        association = request.getfixturevalue("association")
        make = partial(with_members, association, kind=kind)
        command = ("subtract", "n.json", "-o", ".", "--overwrite")
    few, many = (calls_for(make, capsys, n, *command) for n in (1_000, 10_000))
    # Ten times as many; a search for each among all would take a hundred times.
    assert many < 12 * few


@pytest.mark.slow
@pytest.mark.parametrize("what", ["files of a plan", "other members"])
def test_two_hundred_thousand_unknown_files_are_a_few_lines(
    request: Any, capsys: Any, what: str
) -> None:
    n = 200_000
    if what == "files of a plan":
        content = with_files(request.getfixturevalue("plan"), n)
        command: tuple[Any, ...] = ("run", "n.json", "-o", "out")
    else:
        content = with_members(request.getfixturevalue("association"), n, "sourcecat")
        command = ("subtract", "n.json", "-o", ".")
    Path("n.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert run(*command) == 0
    assert len(capsys.readouterr().err.splitlines()) <= 25


@pytest.mark.slow
def test_members_that_are_not_there_stop_a_product_in_one_line(
    association: Content, capsys: Any
) -> None:
    Path("n.json").write_text(json.dumps(with_members(association, 70_000, "background")))
    line = refused(capsys, "subtract", "n.json")
    assert "p: " in line


PLACES = [
    "target_path", "background_paths", "output_path", "combined_path", "masks", "mask_dir",
    "memory", "threads",
]  # fmt: skip


class Odd:
    """A value that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("value", [3, 1.5, b"\xff", object(), [], {}, [3], {"a": 1}, Odd(), True])
@pytest.mark.parametrize("name", PLACES)
def test_a_value_of_another_kind_is_an_error_of_offsky_s(
    folder: Path, name: str, value: Any
) -> None:
    target, background = expose(folder / "a_rate.fits", 10), expose(folder / "b_rate.fits", 3)
    asked: dict[str, Any] = {
        "target_path": target, "background_paths": [background], "output_path": "r.fits",
    }  # fmt: skip
    asked[name] = value
    with contextlib.suppress(offsky.OffskyError):
        offsky.subtract_file(**asked, overwrite=True)
    del asked["target_path"]
    asked.pop("combined_path", None)
    with contextlib.suppress(offsky.OffskyError):
        offsky.average_file(**asked, overwrite=True)


@pytest.mark.parametrize("value", [3, 1.5, b"\xff", object(), [], {}, [3], {"a": 1}, Odd(), True])
@pytest.mark.parametrize(
    "name", ["association_path", "output_directory", "masks", "mask_dir", "memory", "threads"]
)
def test_so_it_is_for_associations(association: Content, name: str, value: Any) -> None:
    asked: dict[str, Any] = {"association_path": "x_asn.json", "output_directory": "."}
    with contextlib.suppress(offsky.OffskyError):
        list(offsky.subtract_association(**(asked | {name: value}), overwrite=True))
