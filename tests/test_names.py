"""Names of outputs, and names that hold what a terminal would obey."""

import os
from pathlib import Path
from typing import Any

import pytest
from plain import expose, pixels, product, run, write_association

import offsky
from offsky.errors import one_line

HOSTILE = "a\x1b[2Jb\x07\n\u202ec"


@pytest.fixture
def pair(folder: Path) -> tuple[Path, Path]:
    return expose(folder / "t_rate.fits", 10), expose(folder / "b_rate.fits", 3)


@pytest.mark.parametrize("ending", [".fits", ".fits.gz", ".asdf"])
@pytest.mark.parametrize("n_bytes", [246, 247, 248, 254, 255])
@pytest.mark.parametrize("letter", ["x", "\N{LATIN SMALL LETTER E WITH ACUTE}"])
@pytest.mark.filterwarnings("ignore")
def test_a_name_may_be_as_long_as_the_system_lets_it(
    pair: tuple[Path, Path], ending: str, n_bytes: int, letter: str
) -> None:
    room = n_bytes - len(ending)
    name = letter * (room // len(letter.encode()))
    name += "x" * (room - len(name.encode())) + ending
    assert len(os.fsencode(name)) == n_bytes
    offsky.subtract_file(pair[0], [pair[1]], name)
    assert Path(name).is_file()
    if ending != ".asdf":
        assert (pixels(name) == 7).all()
    offsky.average_file([pair[1]], name, overwrite=True)
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("n_bytes", [256, 5000])
def test_a_name_that_no_file_can_have_is_one_line(
    pair: tuple[Path, Path], capsys: Any, n_bytes: int
) -> None:
    name = "x" * (n_bytes - 5) + ".fits"
    for command in (
        ("subtract", *pair), ("average", *pair), ("plan", ".", "--from", "dithers"),
        ("run", ".", "--from", "dithers"),
    ):  # fmt: skip
        assert run(*command, "-o", name) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "File name too long" in line
    with pytest.raises(offsky.OutputError, match="File name too long"):
        offsky.subtract_file(*pair[:1], pair[1:], name)


def test_products_of_long_names_are_run_and_found_again(folder: Path) -> None:
    for i in range(1, 3):
        expose(folder / f"a{i}_rate.fits", float(i))
    names = ["n" * 240, "m" * 245, "\N{LATIN SMALL LETTER E WITH ACUTE}" * 120]
    write_association(
        folder / "x_asn.json", *(product(name, "a1_rate", "a2_rate") for name in names)
    )
    for made in (True, False):
        assert run("run", "x_asn.json", "-o", "out") == 0
        stamps = {path: path.stat().st_mtime_ns for path in (folder / "out").glob("*.fits")}
        assert len(stamps) == 3
        if made:
            before = stamps
    assert stamps == before


@pytest.mark.parametrize("name", ["", "-"])
@pytest.mark.parametrize("command", ["subtract", "average", "plan", "run", "report"])
def test_no_name_and_a_dash_are_refused(
    pair: tuple[Path, Path], folder: Path, capsys: Any, command: str, name: str
) -> None:
    inputs = [pair[0]] if command == "report" else pair
    before = set(folder.iterdir())
    assert run(command, *inputs, "-o", name) == 2
    told = capsys.readouterr().err
    assert "name a f" in told
    assert "Traceback" not in told
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize("name", [".", "..", "-", "gone/x.fits", "/dev/null"])
@pytest.mark.parametrize("command", ["subtract", "average", "plan"])
def test_what_is_no_place_for_a_file_is_refused(
    pair: tuple[Path, Path], folder: Path, capsys: Any, command: str, name: str
) -> None:
    before = set(folder.iterdir())
    inputs = [".", "--from", "dithers"] if command == "plan" else pair
    assert run(command, *inputs, "-o", name, "--overwrite") in (1, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert set(folder.iterdir()) == before
    if command != "plan":
        with pytest.raises(offsky.OutputError):
            offsky.average_file([pair[1]], name, overwrite=True)


@pytest.mark.parametrize("command", ["subtract", "average", "plan"])
def test_a_file_is_not_written_where_a_folder_was_named(
    pair: tuple[Path, Path], capsys: Any, command: str
) -> None:
    inputs = [".", "--from", "dithers"] if command == "plan" else pair
    assert run(command, *inputs, "-o", "new/") in (1, 2)
    assert "new/ is a folder; name a file in it" in capsys.readouterr().err
    assert not Path("new").exists()


def test_no_function_writes_a_file_where_a_folder_was_named(pair: tuple[Path, Path]) -> None:
    target, background = pair
    for make in (
        lambda: offsky.subtract_file(target, [background], "new/"),
        lambda: offsky.subtract_file(target, [background], "r.fits", combined_path="new/"),
        lambda: offsky.subtract_file(target, [background], "r.fits", report="new.html/"),
        lambda: offsky.average_file([background], "new/"),
        lambda: offsky.subtract(str(target), [str(background)], combined_path="new/"),
    ):
        with pytest.raises(offsky.OutputError, match="is a folder; name a file in it"):
            make()
    assert sorted(Path().iterdir()) == sorted(path.relative_to(Path.cwd()) for path in pair)


@pytest.mark.parametrize("name", ["a\0b.fits", "\ud800.fits"])
def test_a_name_that_the_system_cannot_hold_is_one_line(
    pair: tuple[Path, Path], name: str
) -> None:
    for make in (
        lambda: offsky.subtract_file(pair[0], [pair[1]], name),
        lambda: offsky.subtract_file(name, [pair[1]], "r.fits"),
        lambda: offsky.subtract_file(pair[0], [name], "r.fits"),
        lambda: offsky.subtract_file(pair[0], [pair[1]], "r.fits", masks=[name]),
        lambda: offsky.subtract_file(pair[0], [pair[1]], "r.fits", combined_path=name),
        lambda: offsky.subtract_file(pair[0], [pair[1]], "r.fits", mask_dir=name),
        lambda: offsky.average_file([name], "r.fits"),
        lambda: offsky.average_file([pair[1]], name),
        lambda: list(offsky.subtract_association(name)),
        lambda: offsky.subtract(str(pair[0]), [name]),
    ):
        with pytest.raises(offsky.OffskyError) as told:
            make()
        assert len(str(told.value).splitlines()) == 1
    assert sorted(path.name for path in Path().glob("*r*")) == ["b_rate.fits", "t_rate.fits"]


def test_names_that_a_terminal_would_obey_are_shown_as_escapes(folder: Path, capsys: Any) -> None:
    # Their FILENAME could not say it.
    target = expose(folder / "t_rate.fits", 10).rename(folder / f"{HOSTILE}_rate.fits")
    background = expose(folder / "b_rate.fits", 3).rename(folder / "b\udcff_rate.fits")
    outputs = []
    for command in (
        ("subtract", target, background, "-o", f"{HOSTILE}.fits"),
        ("subtract", target, "-o", "copy.fits"),
        ("average", target, background, "-o", f"{HOSTILE}2.fits"),
        ("plan", target, background, "--from", "dithers", "-o", f"{HOSTILE}.json"),
        ("run", f"{HOSTILE}.json", "-o", f"{HOSTILE}.d"),
        ("run", f"{HOSTILE}.json", "-o", f"{HOSTILE}.d"),
    ):
        assert run(*command) == 0
        told = capsys.readouterr()
        outputs.append(told.out)
        for line in (*told.out.split("\n"), *told.err.split("\n")):
            assert line.isprintable(), line
    assert r"a\x1b[2Jb\x07\n\u202ec" in outputs[0]
    assert (pixels(f"{HOSTILE}.fits") == 7).all()


def test_text_without_control_characters_is_left_alone() -> None:
    assert one_line("plain ü, 3 × 4") == "plain ü, 3 × 4"
    assert one_line("\x00\x7f\x9b\u2028\ud800") == r"\x00\x7f\x9b\u2028\ud800"
