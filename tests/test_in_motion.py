"""Files in motion: inputs that change, outputs that appear, FIFOs, links, killed runs."""

import ctypes
import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from doors import Door, DoorError, made_by
from oracle import tree
from plain import expose, pixels, product, refused, run, write_association
from scenes import Job

import offsky
from offsky.io import output as output_module
from offsky.io import parts


@pytest.fixture(autouse=True)
def nothing_was_swept() -> None:
    """Let every test sweep its folders."""
    parts._swept.clear()


@contextmanager
def in_time(seconds: int = 20) -> Iterator[None]:
    """Fail what waits for ever."""

    def late(*_: Any) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def make_irregular(path: Path, kind: str) -> None:
    """Put something at a path that is no regular file."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(path))


KINDS = ["fifo", "device", "directory", "socket"]


@pytest.fixture
def pair(folder: Path) -> tuple[Path, Path]:
    return expose(folder / "t_rate.fits", 10), expose(folder / "b_rate.fits", 3)


# --- inputs


@pytest.mark.parametrize("role", ["target", "background"])
def test_an_input_rewritten_in_place_is_noticed(
    folder: Path, door: Door, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if door.slow or door.from_models:
        pytest.skip("the rows are read in another process, or models are open before")
    job = Job(expose(folder / "t_rate.fits", 10), (expose(folder / "b_rate.fits", 3),))
    victim = job.target if role == "target" else job.backgrounds[0]
    real = os.preadv
    content = victim.read_bytes()

    def rewriting(*given: Any) -> int:
        done = real(*given)
        with victim.open("r+b") as file:
            file.write(content[:4000] + b"changed" + content[4007:])
        return done

    monkeypatch.setattr(os, "preadv", rewriting)
    with pytest.raises(DoorError):
        made_by(door, job, folder / "out")
    assert not list((folder / "out").glob("*.fits"))
    assert not list((folder / "out").rglob("*.part*"))


def test_a_target_named_to_the_models_door_is_looked_at_again(
    folder: Path, pair: tuple[Path, Path]
) -> None:
    target, background = pair

    def touched(*_: int) -> None:
        os.utime(target, ns=(1, 1))

    with pytest.raises(offsky.ExposureError, match="changed while it was read"):
        offsky.subtract(target, [background], progress=touched)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", [".fits", ".asdf"])
@pytest.mark.parametrize("role", ["target", "background", "average", "model"])
def test_an_input_that_is_no_regular_file_is_refused_at_once(
    pair: tuple[Path, Path], folder: Path, kind: str, ending: str, role: str
) -> None:
    target, background = pair
    odd = folder / f"odd{ending}"
    make_irregular(odd, kind)
    actions: dict[str, Callable[[], Any]] = {
        "target": lambda: offsky.subtract_file(odd, [background], "r.fits"),
        "background": lambda: offsky.subtract_file(target, [odd], "r.fits"),
        "average": lambda: offsky.average_file([odd], "r.fits"),
        "model": lambda: offsky.subtract(odd, [background]),
    }
    with in_time(), pytest.raises(offsky.ExposureError, match=r"not a regular file") as caught:
        actions[role]()
    assert len(str(caught.value).splitlines()) == 1
    assert not (folder / "r.fits").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_an_association_and_a_plan_that_are_no_files_are_refused(
    pair: tuple[Path, Path], folder: Path, capsys: Any, kind: str
) -> None:
    target, background = pair
    make_irregular(folder / "mask.fits", kind)
    make_irregular(folder / "odd_asn.json", kind)
    with in_time():
        for arguments in (
            ("subtract", target, background, "-o", "r.fits", "--mask", "mask.fits"),
            ("subtract", "odd_asn.json"),
            ("plan", "odd_asn.json"),
            ("run", "odd_asn.json", "-o", "out"),
        ):
            line = refused(capsys, *arguments)
            assert "odd" in line or "mask" in line
    assert not (folder / "r.fits").exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("checksum", [False, True])
def test_an_input_of_a_programme_that_is_no_file_is_refused(
    folder: Path, kind: str, checksum: bool, capsys: Any
) -> None:
    for i in range(1, 4):
        expose(folder / f"a{i}_rate.fits", float(i))
    assert run("plan", folder, "--from", "dithers", "-o", "plan.json") == 0
    (folder / "a1_rate.fits").unlink()
    make_irregular(folder / "a1_rate.fits", kind)
    with in_time():
        more = ["--checksum"] if checksum else []
        assert run("run", "plan.json", "-o", "out", *more) == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("what", ["lock", "record", "folder", "hard lock"])
def test_records_and_lock_are_not_opened_through_links(
    folder: Path, capsys: Any, what: str
) -> None:
    for i in range(1, 4):
        expose(folder / f"a{i}_rate.fits", float(i))
    precious = folder / "precious"
    precious.mkdir()
    (precious / "file").write_text("do not lose this")
    out = folder / "out"
    out.mkdir()
    if what == "folder":
        (out / ".offsky").symlink_to(precious)
    else:
        (out / ".offsky").mkdir()
        if what == "hard lock":
            os.link(precious / "file", out / ".offsky" / "lock")
        else:
            name = "lock" if what == "lock" else "a1_bsub.fits.json"
            (out / ".offsky" / name).symlink_to(precious / "file")
    arguments = ("run", folder, "--from", "dithers", "--suffix", "rate", "-o", "out")
    if what == "record":
        assert run(*arguments) == 0
    else:
        assert "link" in refused(capsys, *arguments)
    assert (precious / "file").read_text() == "do not lose this"
    assert [each.name for each in precious.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["lock", "a1_bsub.fits.json"])
def test_records_and_lock_that_are_no_files_stop_nothing_for_ever(
    folder: Path, capsys: Any, kind: str, name: str
) -> None:
    for i in range(1, 4):
        expose(folder / f"a{i}_rate.fits", float(i))
    (folder / "out" / ".offsky").mkdir(parents=True)
    make_irregular(folder / "out" / ".offsky" / name, kind)
    with in_time():
        status = run("run", folder, "--from", "dithers", "--suffix", "rate", "-o", "out")
    assert status == 1
    assert "Traceback" not in capsys.readouterr().err
    made = [p.name for p in (folder / "out").glob("*.fits")]
    # One record alone stops one product alone.
    assert len(made) == (0 if name == "lock" else 2)


# --- outputs


def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take hard links away, as some file systems do."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("system", ["links", "renameat2", "placeholder"])
def test_a_file_that_appears_meanwhile_is_never_replaced(
    pair: tuple[Path, Path], folder: Path, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if system != "links":
        no_links(monkeypatch)
    if system == "placeholder":
        monkeypatch.setattr(output_module, "_rename_exclusively", lambda *_: False)
    real = os.fsync

    def appear(fd: int) -> None:
        real(fd)
        Path("r.fits").write_bytes(b"somebody else's")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", appear)
        with pytest.raises(offsky.OutputExistsError, match="appeared while offsky was working"):
            offsky.subtract_file(pair[0], [pair[1]], "r.fits")
    assert Path("r.fits").read_bytes() == b"somebody else's"
    Path("r.fits").unlink()
    offsky.subtract_file(pair[0], [pair[1]], "r.fits")
    assert (pixels("r.fits") == 7).all()
    assert not list(folder.glob(".*part*"))


def test_what_is_written_into_the_placeholder_stays(
    pair: tuple[Path, Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_links(monkeypatch)
    monkeypatch.setattr(output_module, "_rename_exclusively", lambda *_: False)
    real = os.open

    def written(path: Any, flags: int, *more: Any, **how: Any) -> int:
        fd = real(path, flags, *more, **how)
        if Path(path).name == "r.fits":
            Path(path).write_bytes(b"somebody else's")
        return fd

    monkeypatch.setattr(os, "open", written)
    with pytest.raises(offsky.OutputExistsError):
        offsky.subtract_file(pair[0], [pair[1]], "r.fits")
    assert Path("r.fits").read_bytes() == b"somebody else's"


def test_a_system_without_renameat2_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

    monkeypatch.setattr(ctypes, "CDLL", Nothing)
    assert output_module._rename_exclusively(Path("a"), Path("b")) is False


@pytest.mark.parametrize("kind", ["fifo", "device", "socket"])
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_an_output_that_is_no_regular_file_is_refused(
    pair: tuple[Path, Path], folder: Path, capsys: Any, kind: str, overwrite: list[str]
) -> None:
    target, background = pair
    odd = folder / "odd.fits"
    make_irregular(odd, kind)
    association = write_association(folder / "x_asn.json", product("p", "t_rate", "b_rate"))
    make_irregular(folder / "p_bsub.fits", kind)
    make_irregular(folder / "t_combinedbackground.fits", kind)
    make_irregular(folder / "plan.json", kind)
    before = {path.name: path.lstat().st_ino for path in folder.iterdir()}
    with in_time():
        for arguments in (
            ("subtract", target, background, "-o", odd),
            ("average", background, "-o", odd),
            ("subtract", target, background, "-o", "r.fits", "--save-combined"),
            ("subtract", association),
            ("plan", association, "-o", "plan.json"),
        ):
            line = refused(capsys, *arguments, *overwrite)
            assert "never replaced" in line, line
        assert run("run", association, "-o", ".", *overwrite) == 1
    shutil.rmtree(folder / ".offsky")
    (folder / "summary.json").unlink()
    assert {path.name: path.lstat().st_ino for path in folder.iterdir()} == before


def test_the_mode_of_a_product_that_is_replaced_is_kept(
    pair: tuple[Path, Path], folder: Path
) -> None:
    target, background = pair
    for name in ("r.fits", "r.fits.gz", "r.asdf"):
        offsky.subtract_file(target, [background], name, combined_path="c.fits", overwrite=True)
        for path in (Path(name), Path("c.fits")):
            path.chmod(0o640)
        offsky.subtract_file(target, [background], name, combined_path="c.fits", overwrite=True)
        for path in (Path(name), Path("c.fits")):
            assert stat.S_IMODE(path.stat().st_mode) == 0o640


# --- killed runs

KILLING = """
import os, signal, sys
from offsky.io import output
real, name = output.Part.publish, sys.argv.pop(1)
def publish(self):
    if self.path.name == name:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self)
output.Part.publish = publish
from offsky.command.main import main
sys.argv[0] = "offsky"
main()
"""


def killed_at(name: str, *arguments: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLING, name, *map(str, arguments)],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


def run_of(path: str) -> str:
    return str(fits.getheader(path)["OFFRUN"])


def test_a_product_and_its_average_tell_that_they_are_of_one_run(
    pair: tuple[Path, Path], folder: Path
) -> None:
    arguments = ("subtract", *pair, "-o", "r.fits", "--save-combined")
    assert run(*arguments) == 0
    first = run_of("r.fits")
    assert run_of("t_combinedbackground.fits") == first
    # Killed between the two renames: a pair of two runs, which can be told.
    killed_at("r.fits", *arguments, "--overwrite")
    assert run_of("r.fits") == first
    assert run_of("t_combinedbackground.fits") != first
    parts._swept.clear()  # as in another process
    assert run(*arguments, "--overwrite") == 0
    assert run_of("r.fits") == run_of("t_combinedbackground.fits") != first
    assert not list(folder.glob(".*part*"))
    assert run("subtract", *pair, "-o", "alone.fits") == 0
    assert "OFFRUN" not in fits.getheader("alone.fits")


def test_the_half_that_a_killed_run_left_is_made_again(
    pair: tuple[Path, Path], folder: Path, capsys: Any
) -> None:
    arguments = ("subtract", *pair, "-o", "r.fits", "--save-combined")
    killed_at("r.fits", *arguments)
    assert not Path("r.fits").exists()
    left = run_of("t_combinedbackground.fits")
    assert run(*arguments) == 0
    assert run_of("r.fits") == run_of("t_combinedbackground.fits") != left
    # An average that somebody kept is no such half.
    Path("r.fits").unlink()
    assert "exists already" in refused(capsys, *arguments)


def test_a_programme_makes_a_pair_of_two_runs_again(folder: Path) -> None:
    for i in range(1, 4):
        expose(folder / f"a{i}_rate.fits", float(i))
    arguments = ("run", folder, "--from", "dithers", "--suffix", "rate", "-o", "out")
    arguments += ("--save-combined",)
    assert run(*arguments) == 0
    os.utime(folder / "a2_rate.fits")
    killed_at("a1_bsub.fits", *arguments)
    assert run(*arguments) == 0
    for i in range(1, 4):
        pair = f"out/a{i}_bsub.fits", f"out/a{i}_combinedbackground.fits"
        assert run_of(pair[0]) == run_of(pair[1])
    # Whoever mixes them up by hand is told too.
    shutil.copy("out/a2_combinedbackground.fits", "out/a1_combinedbackground.fits")
    assert run(*arguments) == 0
    assert run_of("out/a1_bsub.fits") == run_of("out/a1_combinedbackground.fits")


@pytest.mark.parametrize("name", ["r.fits", "r.fits.gz", "r.asdf"])
def test_part_files_of_a_killed_run_are_swept_by_the_next_and_a_live_one_is_not_disturbed(
    pair: tuple[Path, Path], folder: Path, name: str
) -> None:
    killed_at(name, "subtract", *pair, "-o", name)
    assert list(folder.glob(".*.part*"))
    live, file = parts.create_locked(folder, "other.fits")
    foreign = folder / ".mine.0123abcd.part"
    foreign.write_bytes(b"of another program")
    lookalike = folder / ".dir.0123abcd.offsky.part"
    lookalike.mkdir()
    try:
        offsky.subtract_file(*pair[:1], [pair[1]], "q.fits")
        assert sorted(p.name for p in folder.glob(".*")) == sorted(
            each.name for each in (live, foreign, lookalike)
        )
    finally:
        file.close()
    parts._swept.clear()
    offsky.subtract_file(*pair[:1], [pair[1]], "s.fits")
    assert sorted(p.name for p in folder.glob(".*")) == sorted([foreign.name, lookalike.name])


def test_what_a_killed_programme_left_of_its_summary_is_swept(
    pair: tuple[Path, Path], folder: Path
) -> None:
    write_association(folder / "x_asn.json", product("p", "t_rate", "b_rate"))
    out = folder / "out"
    assert run("run", "x_asn.json", "-o", out) == 0
    left = out / ".summary.json.0123abcd.offsky.part"
    left.write_bytes(b"{")
    live, file = parts.create_locked(out, "summary.json")
    with file:
        assert run("run", "x_asn.json", "-o", out) == 0
        assert list(out.glob(".*.part")) == [live]


def test_two_runs_at_a_time_in_one_folder_do_not_sweep_each_other(folder: Path) -> None:
    for i in range(8):
        expose(folder / f"t{i}_rate.fits", 10)
    background = expose(folder / "b_rate.fits", 3)
    errors = []

    def make(i: int) -> None:
        try:
            for again in range(5):
                parts._swept.clear()
                offsky.subtract_file(
                    folder / f"t{i}_rate.fits", [background], f"r{i}_{again}.fits", threads=1
                )
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=make, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list(folder.glob("r*_*.fits"))) == 40


def test_without_locks_nothing_is_swept(
    pair: tuple[Path, Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    stale = folder / ".x.fits.0123abcd.offsky.part"
    stale.write_bytes(b"")
    offsky.subtract_file(pair[0], [pair[1]], "r.fits")
    assert stale.exists()


# --- folders that go


@pytest.mark.parametrize("place", ["preadv", "pwrite", "fsync"])
def test_a_folder_removed_during_a_run_is_one_line(
    pair: tuple[Path, Path], folder: Path, place: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (folder / "out").mkdir()
    real = getattr(os, place)

    def remove(*given: Any) -> Any:
        done = real(*given)
        shutil.rmtree(folder / "out", ignore_errors=True)
        return done

    monkeypatch.setattr(os, place, remove)
    line = refused(capsys, "subtract", *pair, "-o", "out/r.fits")
    assert "out/r.fits: writing failed" in line


@pytest.mark.parametrize("gone", [".offsky", "."])
def test_a_folder_removed_during_a_programme_is_told_and_the_rest_goes_on(
    folder: Path, gone: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for i in range(1, 5):
        expose(folder / f"a{i}_rate.fits", float(i))
    real, calls = os.fsync, []

    def remove(fd: int) -> None:
        real(fd)
        calls.append(fd)
        if len(calls) == 3:
            shutil.rmtree(folder / "out" / gone, ignore_errors=True)

    monkeypatch.setattr(os, "fsync", remove)
    status = run("run", folder, "--from", "dithers", "--suffix", "rate", "-o", "out")
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    if gone == ".offsky":
        assert status == 0
        assert len(list((folder / "out").glob("*_bsub.fits"))) == 4
        assert json.loads((folder / "out" / "summary.json").read_text())["n_complete"] == 4
    else:
        assert status == 1


def test_a_directory_in_the_place_of_a_part_file_is_left_alone(folder: Path) -> None:
    for i in range(1, 4):
        expose(folder / f"a{i}_rate.fits", float(i))
    odd = [
        folder / "out" / ".a1_bsub.fits.0123abcd.part",
        folder / "out" / ".offsky" / ".a1_bsub.fits.json.0123abcd.offsky.part",
    ]
    for path in odd:
        (path / "more").mkdir(parents=True)
    assert run("run", folder, "--from", "dithers", "--suffix", "rate", "-o", "out") == 0
    assert all(path.is_dir() for path in odd)
    assert [p for p in tree(folder) if ".part" in p] == []
