"""What works through one door works through all: each row of the table of abilities.

A door is a public way to make products (`doors`). Doors that start processes are slow. What
happens inside a pass is counted at the system's own calls, where the files are read by this
process.
"""

import errno
import json
import os
import re
import resource
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import plain
import pytest
from astropy.io import fits
from doors import (
    AVERAGE_DOORS,
    DOORS,
    AverageDoor,
    Door,
    DoorError,
    How,
    Made,
    masks_by_name,
    open_models,
    root,
    write_association,
)
from plain import expose, pixels, rows_of
from plain import write_association as write_products
from programmes import leftovers, offsky_command
from scenes import FULL, KINDS, SHAPE, Job, write, write_mask

import offsky
from offsky.io.fits import FitsExposure

EVERY = list(DOORS)
APART = [name for name, door in DOORS.items() if door.slow]
MANY = [name for name, door in DOORS.items() if "many" in door.abilities]
READING = [name for name, door in DOORS.items() if "reads" in door.abilities]
WITH_PROGRESS = [name for name, door in DOORS.items() if "progress" in door.abilities]
FILE = DOORS["file"]


def through(names: Sequence[str], *, slow: Sequence[str] = ()) -> pytest.MarkDecorator:
    """Run a test through these doors, the slow ones marked; and those that are named so."""
    return pytest.mark.parametrize(
        "door",
        [
            pytest.param(name, marks=[pytest.mark.slow] * (DOORS[name].slow or name in slow))
            for name in names
        ],
        indirect=True,
    )


to_averages = pytest.mark.parametrize(
    "alone", list(AVERAGE_DOORS.values()), ids=lambda door: door.name
)
"""Runs a test through every door to an average alone."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Job]]:
    """Return the jobs of a kind of input, written once and only read."""
    made: dict[str, list[Job]] = {}

    def of(kind: str) -> list[Job]:
        if kind not in made:
            made[kind] = KINDS[kind](tmp_path_factory.mktemp(kind))
        return made[kind]

    return of


@pytest.fixture
def masked(scene: Any) -> Job:
    """A target and five backgrounds, four of them with a mask."""
    (job,) = scene("masked")
    return Job(job.target, job.backgrounds, job.masks)


@pytest.fixture(scope="module", autouse=True)
def processes_are_tracked() -> None:
    """Begin what Python keeps open for as long as it runs once processes were started."""
    resource_tracker.ensure_running()


def finite_and_masked(job: Job) -> list[tuple[int, int]]:
    """Return the finite samples of each background: not masked, and masked."""
    counts = []
    for background, mask in zip(job.backgrounds, job.masks, strict=True):
        finite = np.isfinite(pixels(background))
        skip = np.zeros(SHAPE, bool) if mask is None else fits.getdata(mask) != 0
        counts.append((int((finite & ~skip).sum()), int((finite & skip).sum())))
    return counts


def ring(folder: Path, n: int = 5) -> list[Job]:
    """Write exposures each of which has the next two as its backgrounds."""
    paths = [write(folder, i + 1, by_models=True) for i in range(n)]
    return [Job(paths[i], (paths[(i + 1) % n], paths[(i + 2) % n])) for i in range(n)]


# Reports


@pytest.mark.slow
@through([name for name, door in DOORS.items() if "reports" in door.abilities])
@pytest.mark.parametrize("kind", ["images", "cubes", "dithers"])
def test_the_page_of_a_product_tells_the_same_through_every_door(
    door: Door, kind: str, scene: Any, folder: Path
) -> None:
    jobs = scene(kind) if "many" in door.abilities else scene(kind)[:1]
    made = door.make(jobs, folder, {"profile": "offsky"}, How(report=folder / "pages"))
    expected = FILE.make(
        jobs, folder / "expected", {"profile": "offsky"}, How(report=folder / "expected")
    )
    told, known = (
        [
            json.loads(Path(each.outcome["report"]).with_suffix(".json").read_text())
            for each in all_
        ]
        for all_ in (made, expected)
    )
    for one, other in zip(told, known, strict=True):
        names = ("checks", "after", "before", "flags", "histogram", "backgrounds", "shape")
        for name in (*names, "description", "parameters"):
            assert one[name] == other[name], name
    if "many" in door.abilities:
        index = json.loads((folder / "pages" / "index.json").read_text())
        assert len(index["products"]) == len(jobs)


# User masks


@through(EVERY)
def test_a_mask_leaves_its_samples_out_and_leaves_its_traces(
    door: Door, masked: Job, folder: Path
) -> None:
    (made,) = door.make([masked], folder / "out", {}, average=True)
    counts = finite_and_masked(masked)
    outcome = made.outcome or {}
    assert outcome["n_masked"] == [n_masked for _, n_masked in counts]
    assert outcome["n_samples"] == sum(n for n, _ in counts)

    # The same backgrounds, with NaN where the masks are.
    lost = []
    for path, mask in zip(masked.backgrounds, masked.masks, strict=True):
        with fits.open(path, memmap=False) as hdus:
            if mask is not None:
                hdus["SCI"].data[fits.getdata(mask) != 0] = np.nan
            lost.append(folder / path.name)
            hdus.writeto(lost[-1])
    (expected,) = FILE.make([Job(masked.target, tuple(lost))], folder / "lost", {})
    np.testing.assert_array_equal(pixels(made.product), pixels(expected.product))

    header = fits.getheader(made.product)
    history = [str(line) for line in header["HISTORY"]]
    named = masks_by_name([masked])
    for name, mask in named.items():
        assert any(line.startswith(f"offsky mask: {mask.name}") for line in history), name
    assert sum(line.startswith("offsky mask:") for line in history) == len(named)
    assert made.average is not None
    rows = rows_of(made.average)
    assert [row["N_MASKED"] for row in rows] == outcome["n_masked"]
    for row, (_, n_masked) in zip(rows, counts, strict=True):
        assert (f"{n_masked} samples left out by a mask" in row["REMARKS"]) == (n_masked > 0)


@through([name for name, door in DOORS.items() if "positions" in door.abilities])
def test_masks_by_name_are_masks_by_position(door: Door, masked: Job, folder: Path) -> None:
    (by_position,) = door.make([masked], folder / "position", {})
    (by_name,) = door.make([masked], folder / "name", {}, How(by_name=True))
    assert (by_name.outcome or {})["n_masked"] == (by_position.outcome or {})["n_masked"]
    np.testing.assert_array_equal(pixels(by_name.product), pixels(by_position.product))


def mask_folder(job: Job, folder: Path, numbers: Sequence[int]) -> Path:
    """Write masks of some of a job's backgrounds, named after these."""
    folder.mkdir()
    for i in numbers:
        written = write_mask(folder, i + 1)
        written.rename(folder / f"{root(job.backgrounds[i])}_mask.fits")
    return folder


@through(EVERY)
def test_a_folder_of_masks_is_used_and_the_log_tells_how_many(
    door: Door, masked: Job, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    masks = mask_folder(masked, folder / "masks", (0, 2, 4))
    job = Job(masked.target, masked.backgrounds)
    (made,) = door.make([job], folder / "out", {}, How(mask_dir=masks))
    assert [n > 0 for n in (made.outcome or {})["n_masked"]] == [True, False, True, False, True]
    if not door.slow:
        assert caplog.text.count("masks of 3 of 5 backgrounds") == 1


@through(EVERY)
def test_a_folder_without_any_of_the_masks_is_warned_of(
    door: Door, masked: Job, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    masks = mask_folder(masked, folder / "masks", ())
    job = Job(masked.target, masked.backgrounds)
    (made,) = door.make([job], folder / "out", {}, How(mask_dir=masks))
    assert sum((made.outcome or {})["n_masked"]) == 0
    assert sum("masks of 0 of 5 backgrounds" in each for each in door.warnings(caplog)) == 1


@through(EVERY)
def test_a_mask_of_a_name_that_fits_no_background_is_refused(
    door: Door, masked: Job, folder: Path
) -> None:
    # The name of another file, to be found under the name that is given.
    (folder / "elsewhere").mkdir()
    stranger = write(folder / "elsewhere", 9)
    wrong = Job(masked.target, (stranger,), (masked.masks[0],))

    job = Job(masked.target, masked.backgrounds)
    named = masks_by_name([wrong])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("doors.masks_by_name", lambda jobs: named)
        with pytest.raises(DoorError, match=r"mask for .*no background has this name or path"):
            door.make([job], folder / "out", {}, How(by_name=True))
    assert not list((folder / "out").glob("*_bsub*"))


@through(EVERY)
def test_masks_and_a_folder_of_masks_do_not_mix(door: Door, masked: Job, folder: Path) -> None:
    masks = mask_folder(masked, folder / "masks", (0,))
    with pytest.raises(DoorError, match="masks and mask_dir are given; give one of them"):
        door.make([masked], folder / "out", {}, How(mask_dir=masks))


def test_masks_by_position_and_by_name_do_not_mix_on_the_command_line(
    masked: Job, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = masked.backgrounds[:2]
    masks = f"--mask={masked.masks[0]}", f"--mask={second.name}={masked.masks[2]}"
    for command in (["subtract", masked.target], ["average", "-o", "a.fits"]):
        assert plain.run(*command, first, second, *masks) == 2
        assert "do not mix" in capsys.readouterr().err
    assert plain.run("run", masked.target, "--from", "dithers", masks[0]) == 2
    assert "--mask BACKGROUND=FILE" in capsys.readouterr().err


def test_a_plan_records_masks_and_a_product_whose_mask_changed_is_made_again(
    masked: Job, folder: Path
) -> None:
    mask = folder / "mask.fits"
    mask.write_bytes((masked.masks[0] or Path()).read_bytes())
    association = write_association([masked], folder)
    first, second, *_ = (path.name for path in masked.backgrounds)
    planning = ["plan", association, "--allow-outside", "--overwrite", "-o", "plan.json"]

    def made(name: str) -> int:
        assert plain.run(*planning, f"--mask={name}={mask}") == 0
        import json

        from doors import run_and_read

        assert str(mask.name) in json.dumps(json.loads(Path("plan.json").read_text()))
        return int(run_and_read("run", "plan.json", "-o", "out")["n_made"])

    assert made(first) == 1
    assert made(first) == 0
    # The same file, of another background.
    assert made(second) == 1
    assert made(second) == 0
    mask.write_bytes((masked.masks[2] or Path()).read_bytes())
    os.utime(mask, (1, 1))
    assert made(second) == 1


@to_averages
def test_an_average_alone_takes_masks_in_all_three_ways(
    alone: AverageDoor, masked: Job, folder: Path
) -> None:
    counts = finite_and_masked(masked)
    for how in (How(), How(by_name=True)):
        made = alone.make_told(masked, folder / f"out{how.by_name}", {}, how)
        assert (made.outcome or {})["n_masked"] == [n for _, n in counts]
        assert (made.outcome or {})["n_samples"] == sum(n for n, _ in counts)
        assert [row["N_MASKED"] for row in rows_of(made.product)] == [n for _, n in counts]
    masks = mask_folder(masked, folder / "masks", (1,))
    bare = Job(masked.target, masked.backgrounds)
    made = alone.make_told(bare, folder / "out", {}, How(mask_dir=masks))
    assert [n > 0 for n in (made.outcome or {})["n_masked"]] == [False, True, False, False, False]


# Saved averages


@pytest.mark.slow
@through(EVERY)
@pytest.mark.parametrize("kind", ["images", "asdf"])
def test_the_average_of_every_product_is_saved_in_the_format_of_its_target(
    door: Door, scene: Any, folder: Path, kind: str
) -> None:
    (job,) = scene(kind)
    (made,) = door.make([job], folder / "out", {"profile": "offsky"}, average=True)
    assert made.average is not None
    expected = offsky.average(job.backgrounds, profile="offsky")
    from stdatamodels.jwst import datamodels

    with expected, datamodels.open(made.average) as average:
        for name in ("data", "err", "dq"):
            np.testing.assert_array_equal(getattr(average, name), getattr(expected, name))
    if not door.from_models:
        assert made.average.suffix == made.product.suffix == job.target.suffix


@pytest.mark.parametrize("ending", [".fits", ".asdf"])
@pytest.mark.parametrize("door", ["subtract_file", "subtract", "average_file", "average"])
def test_the_name_of_an_average_tells_its_format(
    scene: Any, folder: Path, door: str, ending: str
) -> None:
    from stdatamodels.jwst import datamodels

    (job,) = scene("images")
    path = folder / f"average{ending}"
    if door == "average_file":
        offsky.average_file(job.backgrounds, path)
    elif door == "average":
        assert plain.run("average", *job.backgrounds, "-o", path) == 0
    elif door == "subtract_file":
        offsky.subtract_file(job.target, job.backgrounds, "r.fits", combined_path=path)
    else:
        offsky.subtract(job.target, job.backgrounds, combined_path=path).close()
    with offsky.average(job.backgrounds) as expected, datamodels.open(path) as average:
        np.testing.assert_array_equal(average.data, expected.data)
        np.testing.assert_array_equal(average.err, expected.err)
    assert path.read_bytes()[:6] == (b"#ASDF " if ending == ".asdf" else b"SIMPLE")


# What is read


class Reads:
    """The bytes that the system was asked for, by files."""

    def __init__(self) -> None:
        self.spans: dict[str, list[tuple[int, int]]] = {}
        self.n_calls: Counter[str] = Counter()
        self.before: Callable[[str], None] | None = None
        self._lock = threading.Lock()

    def rows(self, path: Path) -> np.ndarray:
        """Return how often each row of SCI was read, of the plane that was read the most."""
        with FitsExposure(path) as exposure:
            sci: Any = exposure.sci
            shape = (sci.n_planes, *sci.shape[-2:])
            begin, size = sci.offset, sci.dtype.itemsize
        n_bytes = int(np.prod(shape)) * size
        counts = np.zeros(n_bytes, int)
        for start, end in self.spans.get(os.fspath(path), []):
            counts[max(0, start - begin) : max(0, min(end - begin, n_bytes))] += 1
        return np.asarray(counts.reshape(*shape, size).max(axis=(0, 2, 3)))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Count what is read."""
    counted = Reads()
    preadv, copy = os.preadv, os.copy_file_range

    def note(fd: int, start: int, n_bytes: int) -> None:
        name = os.fspath(Path(f"/proc/self/fd/{fd}").readlink())
        with counted._lock:
            counted.spans.setdefault(name, []).append((start, start + n_bytes))

    def read(fd: int, buffers: Any, start: int, *more: Any) -> int:
        name = os.fspath(Path(f"/proc/self/fd/{fd}").readlink())
        counted.n_calls[name] += 1
        if counted.before is not None:
            counted.before(name)
        n_read = preadv(fd, buffers, start, *more)
        note(fd, start, n_read)
        return n_read

    def copied(fd: int, to: int, n_bytes: int, start: int, position: int) -> int:
        n_copied = copy(fd, to, n_bytes, start, position)
        note(fd, start, n_copied)
        return n_copied

    monkeypatch.setattr(os, "preadv", read)
    monkeypatch.setattr(os, "copy_file_range", copied)
    return counted


def masked_dithers(folder: Path) -> list[Job]:
    """Make four dithers and their masks."""
    paths = [write(folder, i, by_models=True) for i in range(1, 5)]
    masks = dict(zip(paths, [write_mask(folder, i) for i in range(1, 5)], strict=True))
    jobs = []
    for path in paths:
        others = tuple(other for other in paths if other != path)
        jobs.append(Job(path, others, tuple(masks[other] for other in others)))
    return jobs


def windowed(folder: Path) -> list[Job]:
    """Make dithers, two of them parts of the detector, each with the others."""
    part = (9, 7, 30, 28)
    paths = [write(folder, i, by_models=True, window=part if i > 3 else FULL) for i in range(1, 6)]
    return [Job(path, tuple(other for other in paths if other != path)) for path in paths]


OFFSKY = {"profile": "offsky"}
READINGS: dict[str, tuple[Any, dict[str, Any], bool]] = {
    # Kind, options, and whether there is a look before.
    "plain dithers": ("dithers", {}, False),
    "the profile offsky": ("dithers", OFFSKY, True),
    "mixed windows": (windowed, {}, False),
    "mixed windows with the profile": (windowed, OFFSKY, True),
    "masks": (masked_dithers, {}, False),
    "weights by variance": ("dithers", {"weight": "variance"}, True),
    "one list for all": ("shared", OFFSKY, True),
}


@through(READING, slow=["command"])
@pytest.mark.parametrize("case", READINGS)
def test_a_pass_reads_each_row_once_beside_the_one_look(
    door: Door, scene: Any, folder: Path, reads: Reads, case: str
) -> None:
    kind, changes, looks = READINGS[case]
    jobs = scene(kind) if isinstance(kind, str) else kind(folder)
    most = 2 if looks else 1
    groups = [jobs] if "many" in door.abilities else [[job] for job in jobs]
    for i, group in enumerate(groups):
        reads.spans.clear()
        door.make(group, folder / f"out{i}", changes, How(threads=2))
        for path in {path for job in group for path in job.backgrounds}:
            assert 1 <= reads.rows(path).max() <= most, path.name
        for job in group:
            is_member = any(job.target in other.backgrounds for other in group)
            rows = reads.rows(job.target)
            assert rows.min() >= 1
            assert rows.max() <= (most if is_member else 1), job.target.name


@through(READING)
@pytest.mark.parametrize("changes", [{}, OFFSKY], ids=["jwst", "offsky"])
def test_a_fitted_factor_reads_the_target_once_more(
    door: Door, scene: Any, folder: Path, reads: Reads, changes: dict[str, Any]
) -> None:
    jobs = scene("shared")
    jobs = jobs if "many" in door.abilities else jobs[:1]
    door.make(jobs, folder / "out", {**changes, "target_scale": "fit"})
    for path in jobs[0].backgrounds:
        assert reads.rows(path).max() <= 1 + bool(changes)
    for job in jobs:
        assert reads.rows(job.target).max() == 2


@through([name for name in READING if name in MANY])
def test_a_fitted_factor_of_dithers_reads_them_once_more_beside_the_rows_of_the_fit(
    door: Door, scene: Any, folder: Path, reads: Reads
) -> None:
    jobs = scene("dithers")
    door.make(jobs, folder / "out", {"target_scale": "fit"})
    for job in jobs:
        # Of small images like these the fit takes all rows.
        assert reads.rows(job.target).max() == 3


@through(["file", "programme"])
def test_the_look_is_bounded_however_large_the_exposure(
    door: Door, folder: Path, reads: Reads
) -> None:
    shape = (1200, 640)
    rng = np.random.default_rng(1)
    paths = [
        plain.expose(folder / f"e{i}_rate.fits", rng.normal(10, 1, shape), EXPSTART=60000.0 + i)
        for i in range(3)
    ]
    job = Job(paths[0], tuple(paths[1:]))
    door.make([job], folder / "out", {"level": "offset", "weight": "variance"}, How(average=True))
    for path in job.backgrounds:
        looked = reads.rows(path) - 1
        assert looked.min() >= 0
        assert looked.max() == 1
        # One look for levels, one for noise, one for the table: the union of their rows.
        assert looked.sum() * shape[1] <= 3 * 2**18


@to_averages
def test_an_average_alone_reads_each_row_once_beside_the_look_for_its_table(
    alone: AverageDoor, scene: Any, folder: Path, reads: Reads
) -> None:
    (job,) = scene("images")
    alone.make(job, folder / "out", {})
    for path in job.backgrounds:
        assert reads.rows(path).max() <= 2


# Faults


@contextmanager
def kept_as_before(folder: Path, jobs: Sequence[Job]) -> Iterator[None]:
    """Fail if an older output is changed, or anything is left half-written."""
    folder.mkdir(parents=True, exist_ok=True)
    old = [folder / f"{root(job.target)}_bsub{job.target.suffix}" for job in jobs]
    for path in old:
        path.write_bytes(b"an older product")
    yield
    assert leftovers(folder) == []
    assert [path.name for path in folder.iterdir() if path.name.startswith(".offsky")] in (
        [],
        [".offsky"],
    )
    for path in old:
        assert path.read_bytes() == b"an older product"


def at_the_read(reads: Reads, path: Path, number: int | None, action: Callable[[], None]) -> None:
    """Do something when a file is read for the n-th time; at None, every time."""

    def before(name: str) -> None:
        if name == os.fspath(path) and number in (None, reads.n_calls[name]):
            action()

    reads.before = before


def fail(*_: Any) -> None:
    raise OSError(5, "Input/output error")


@through([name for name in MANY if name in READING])
@pytest.mark.parametrize("changes", [{}, OFFSKY], ids=["jwst", "offsky"])
@pytest.mark.parametrize(
    "broken", [0, 3, *(pytest.param(i, marks=pytest.mark.slow) for i in (1, 2, 4))]
)
def test_a_read_that_fails_stops_the_products_that_need_it_and_no_other(
    door: Door, folder: Path, reads: Reads, broken: int, changes: dict[str, Any]
) -> None:
    inputs = folder / "inputs"
    inputs.mkdir()
    jobs = ring(inputs)
    whole = door.make(jobs, folder / "whole", changes, How(threads=1))
    reads.spans.clear()
    reads.n_calls.clear()
    victim = jobs[broken].target
    at_the_read(reads, victim, None, fail)
    found = door.make_each(jobs, folder / "out", changes, How(threads=1))
    needing = 0
    for job, expected, made in zip(jobs, whole, found, strict=True):
        if victim in (job.target, *job.backgrounds):
            needing += 1
            assert isinstance(made, DoorError)
            assert victim.name in str(made)
            assert "Input/output error" in str(made)
        else:
            assert isinstance(made, Made)
            np.testing.assert_array_equal(pixels(made.product), pixels(expected.product))
    # A programme makes lists that are not out of one set of files in groups of their own.
    n_groups = needing if door.name == "programme" else 1
    assert 1 <= reads.n_calls[os.fspath(victim)] <= n_groups
    for job in jobs:
        assert reads.rows(job.target).max() <= (2 if changes else 1) * n_groups
    assert leftovers(folder / "out") == []


@through([name for name in MANY if name in READING])
@pytest.mark.parametrize("changes", [{}, OFFSKY, {"target_scale": "fit"}], ids=repr)
@pytest.mark.parametrize("number", [1, 2])
def test_nothing_is_read_again_after_a_read_has_failed(
    door: Door, scene: Any, folder: Path, reads: Reads, number: int, changes: dict[str, Any]
) -> None:
    # A fault that goes away: a second try would succeed, and its product appear.
    jobs = scene("dithers")
    victim = jobs[2].target
    at_the_read(reads, victim, number, fail)
    found = door.make_each(jobs, folder / "out", changes, How(threads=1))
    n_calls = reads.n_calls[os.fspath(victim)]
    if n_calls < number:
        # It is read once in all.
        assert all(isinstance(made, Made) for made in found)
        return
    assert n_calls == number
    assert all(isinstance(made, DoorError) for made in found[:2] + found[3:])
    assert isinstance(found[2], DoorError)
    assert not list((folder / "out").glob("*_bsub*"))
    assert leftovers(folder / "out") == []


@through([*READING, "step"])
def test_a_read_that_fails_keeps_the_older_product(
    door: Door, scene: Any, folder: Path, reads: Reads
) -> None:
    jobs = scene("images")
    at_the_read(reads, jobs[0].backgrounds[2], 1, fail)
    with kept_as_before(folder / "out", jobs):
        (error,) = door.make_each(jobs, folder / "out", {}, How(overwrite=True, average=True))
    assert isinstance(error, DoorError)
    assert jobs[0].backgrounds[2].name in str(error)


@through([*READING, "step"], slow=["command"])
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("where", ["thread", "main"])
def test_ctrl_c_in_a_read_leaves_nothing_behind(
    door: Door, scene: Any, folder: Path, reads: Reads, where: str, number: int
) -> None:
    # A shared average with several targets, a look, and a pass.
    jobs = scene("shared") if "many" in door.abilities else scene("images")

    def stop() -> None:
        if where == "thread":
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    at_the_read(reads, jobs[0].backgrounds[1], number, stop)
    with kept_as_before(folder / "out", jobs):
        try:
            found = door.make_each(
                jobs, folder / "out", OFFSKY, How(overwrite=True, average=True, threads=2)
            )
        except KeyboardInterrupt:
            return
        words = r"stopped; (nothing was left behind|0 of \d+ products? (is|are) made)"
        assert all(re.search(words, str(each)) for each in found)


@through([name for name in MANY if name in READING])
@pytest.mark.parametrize("where", ["thread", "main"])
def test_ctrl_c_while_targets_wait_for_their_average_leaves_nothing_behind(
    door: Door, scene: Any, folder: Path, reads: Reads, where: str
) -> None:
    jobs = scene("shared")

    def stop() -> None:
        if where == "thread":
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    at_the_read(reads, jobs[1].target, 1, stop)
    (folder / "out").mkdir()
    try:
        found = door.make_each(jobs, folder / "out", {}, How(threads=1))
    except KeyboardInterrupt:
        pass
    else:
        assert all("stopped" in str(each) for each in found)
    assert leftovers(folder / "out") == []


@through(WITH_PROGRESS)
def test_ctrl_c_in_a_callback_leaves_nothing_behind(door: Door, scene: Any, folder: Path) -> None:
    jobs = scene("images")

    def stop(n_done: int, n_total: int) -> None:
        raise KeyboardInterrupt

    with kept_as_before(folder / "out", jobs), pytest.raises(KeyboardInterrupt):
        door.make_each(jobs, folder / "out", {}, How(overwrite=True, average=True, progress=stop))


@through([name for name in EVERY if name not in ("step", "dask")])
def test_a_full_disk_keeps_the_older_files(door: Door, scene: Any, folder: Path) -> None:
    # stpipe writes the step's files, and a cluster's worker was started before.
    jobs = scene("images")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with kept_as_before(folder / "out", jobs):
        resource.setrlimit(resource.RLIMIT_FSIZE, (12 * 1024, limits[1]))
        try:
            (error,) = door.make_each(jobs, folder / "out", {}, How(overwrite=True, average=True))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(error, DoorError)
    assert "writing failed" in str(error)


@through(READING, slow=["command"])
@pytest.mark.parametrize("number", range(1, 5))
def test_a_disk_that_fails_at_the_last_flush_keeps_product_and_average(
    door: Door, scene: Any, folder: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = scene("images")
    average = folder / "out" / f"{root(jobs[0].target)}_combinedbackground.fits"
    real, calls = os.fsync, []

    def flush(fd: int) -> None:
        calls.append(fd)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd)

    with kept_as_before(folder / "out", jobs):
        average.write_bytes(b"an older average")
        monkeypatch.setattr(os, "fsync", flush)
        (error,) = door.make_each(jobs, folder / "out", {}, How(overwrite=True, average=True))
        assert isinstance(error, DoorError)
        assert "writing failed (No space left on device)" in str(error)
        assert average.read_bytes() == b"an older average"


@through([name for name in EVERY if name != "model"])
@pytest.mark.parametrize("fault", ["broken", "missing"])
def test_a_broken_or_missing_background_fails_its_products_and_no_other(
    door: Door, folder: Path, fault: str
) -> None:
    # An open model is neither; a path among models is a background of the step.
    inputs = folder / "inputs"
    inputs.mkdir()
    one, other, *_ = ring(inputs)
    victim = write(inputs, 9)
    content = victim.read_bytes()
    victim.unlink()
    if fault == "broken":
        victim.write_bytes(content[: len(content) // 2 + 7])
    jobs = [Job(one.target, (victim, *one.backgrounds)), other]
    first, second = door.make_each(jobs, folder / "out", {})
    assert isinstance(first, DoorError)
    assert victim.name in str(first)
    if "many" in door.abilities:
        assert root(one.target) in str(first)
    assert isinstance(second, Made)
    assert fits.getheader(second.product)["S_BKDSUB"] == "COMPLETE"
    assert leftovers(folder / "out") == []


# Inputs that change


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


@through([*READING, "step"])
@pytest.mark.parametrize("what", ["target", "background", "mask"])
def test_an_input_that_changes_while_it_is_read_fails_its_product(
    door: Door, folder: Path, reads: Reads, what: str
) -> None:
    if door.name == "step" and what == "target":
        pytest.skip("the step is given a model by stpipe")
    inputs = folder / "inputs"
    inputs.mkdir()
    (job,) = KINDS["masked"](inputs)
    changing = {"target": job.target, "background": job.backgrounds[0], "mask": job.masks[0]}
    path = changing[what] or Path()
    at_the_read(reads, job.backgrounds[3], 1, lambda: touch(path))
    with kept_as_before(folder / "out", [job]):
        (error,) = door.make_each([job], folder / "out", {}, How(overwrite=True, average=True))
        assert isinstance(error, DoorError)
        assert path.name in str(error)
        assert "changed while it was" in str(error)
        assert not list((folder / "out").glob("*combined*"))


@through(WITH_PROGRESS)
def test_a_mask_that_changes_meanwhile_fails_the_product_of_every_door(
    door: Door, folder: Path
) -> None:
    inputs = folder / "inputs"
    inputs.mkdir()
    (job,) = KINDS["masked"](inputs)
    mask = job.masks[0] or Path()
    with pytest.raises(DoorError, match="the mask changed while it was read"):
        door.make([job], folder / "out", {}, How(progress=lambda *_: touch(mask)))
    assert not list((folder / "out").glob("*_bsub*"))


@to_averages
def test_an_input_that_changes_while_it_is_averaged_fails_the_average(
    alone: AverageDoor, folder: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = folder / "inputs"
    inputs.mkdir()
    (job,) = KINDS["masked"](inputs)
    mask = job.masks[0] or Path()
    if alone.name == "model":
        how = How(progress=lambda *_: touch(mask))
    else:
        how = How()
        at_the_read(reads, job.backgrounds[3], 1, lambda: touch(mask))
    with pytest.raises(DoorError, match="the mask changed while it was read"):
        alone.make(job, folder / "out", {}, how)
    assert not list((folder / "out").iterdir())


def test_a_model_that_is_changed_in_place_is_changed_after_the_check_alone(
    masked: Job, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jwst")
    from contextlib import ExitStack

    from offsky.engine.make import make
    from offsky.engine.order import Limits, Order
    from offsky.io.model_product import ModelProduct
    from offsky.options import Options

    mask = folder / "mask.fits"
    mask.write_bytes((masked.masks[0] or Path()).read_bytes())
    with ExitStack() as stack:
        (model,) = open_models([masked.target], stack)
        before = model.data.copy()
        order = Order(
            target=model,
            backgrounds=masked.backgrounds[:1],
            product=ModelProduct(model, in_place=True),
            masks=(mask,),
        )

        def changed(*_: int) -> None:
            touch(mask)

        (result,) = make([order], options=Options(), limits=Limits(), progress=changed)
        assert "the mask changed while it was read" in str(result.error)
        np.testing.assert_array_equal(model.data, before)
        assert model.meta.cal_step.bkg_subtract is None
        (result,) = make([order], options=Options(), limits=Limits())
        assert result.product is model
        assert model.meta.cal_step.bkg_subtract == "COMPLETE"


# What was lost is told


@through(EVERY)
def test_uncovered_pixels_are_told_and_those_without_a_value_apart(
    door: Door, scene: Any, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (job,) = scene("images")
    (made,) = door.make([job], folder / "out", {})
    told = [each for each in door.warnings(caplog) if "background sample" in each]
    with offsky.average(job.backgrounds) as average:
        uncovered = np.isnan(average.data)
    n_uncovered = int(uncovered.sum())
    n_no_value = int((uncovered & ~np.isfinite(pixels(job.target))).sum())
    assert 0 < n_no_value < n_uncovered
    outcome = made.outcome or {}
    assert (outcome["n_uncovered"], outcome["n_no_value"]) == (n_uncovered, n_no_value)
    assert len(told) == 1
    assert f"{n_uncovered} pixels" in told[0]
    assert re.search(rf"{n_no_value} of them (has|have) no value in the target", told[0])


@through([name for name in EVERY if isinstance(DOORS[name], type(DOORS["programme"]))])
def test_a_programme_tells_the_total_in_one_warning(
    door: Door, scene: Any, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = scene("shared")
    made = door.make(jobs, folder / "out", {"errors": "propagate"})
    told = door.warnings(caplog)
    for name, words in (
        ("n_uncovered", "without a background sample"),
        ("n_err_estimated", "whose ERR was estimated"),
    ):
        total = sum((each.outcome or {})[name] for each in made)
        (line,) = [each for each in told if words in each]
        assert line.startswith(f"{len(jobs)} products of {len(jobs)}: {total} pixels")


def test_the_table_of_a_programme_has_what_was_rejected_and_uncovered(
    scene: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = scene("shared")
    association = write_association(jobs, folder)
    assert plain.run("run", association, "--allow-outside", "-o", "out") == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert "rejected" in header
    assert "uncovered" in header
    made = FILE.make(jobs[:1], folder / "single", {})
    outcome = made[0].outcome or {}
    row = next(line for line in lines if root(jobs[0].target) in line)
    assert f"{sum(outcome['n_rejected']) / outcome['n_samples']:.2%}" in row
    assert f" {outcome['n_uncovered']} " in row


# Limits


@through(EVERY)
def test_a_memory_limit_is_kept_or_refused_before_pixels_are_read(
    door: Door, scene: Any, folder: Path
) -> None:
    (job,) = scene("images")
    with kept_as_before(folder / "out", [job]), pytest.raises(DoorError) as caught:
        door.make([job], folder / "out", {}, How(memory="2M", overwrite=True))
    # Workers of this machine share it.
    allowed = 1 if door.name == "workers" else 2
    words = rf"needs? [0-9]+ MB of memory at least, where {allowed} MB are allowed"
    assert re.search(words, str(caught.value))
    (made,) = door.make([job], folder / "allowed", {}, How(memory="1G"))
    assert 2**20 < (made.outcome or {})["predicted_bytes"] < 2**30


@through([name for name in READING if name != "programme"] + ["step"])
def test_a_memory_limit_is_refused_without_a_read(
    door: Door, scene: Any, folder: Path, reads: Reads
) -> None:
    (job,) = scene("images")
    with pytest.raises(DoorError, match="2 MB are allowed"):
        door.make([job], folder / "out", OFFSKY, How(memory="2M"))
    assert not any(reads.n_calls[os.fspath(path)] for path in (job.target, *job.backgrounds))


@to_averages
def test_an_average_alone_is_refused_memory_in_the_same_words(
    alone: AverageDoor, scene: Any, folder: Path
) -> None:
    (job,) = scene("images")
    with pytest.raises(DoorError, match="MB of memory at least, where 2 MB are allowed"):
        alone.make(job, folder / "out", {}, How(memory="2M"))
    made = alone.make_told(job, folder / "out", {}, How(memory="1G"))
    assert 2**20 < (made.outcome or {})["predicted_bytes"] < 2**30


@pytest.mark.parametrize(
    "workers", [(), pytest.param(("--workers", "2"), marks=pytest.mark.slow)], ids=["one", "two"]
)
@pytest.mark.parametrize("kind", ["dithers", "shared"])
def test_a_plan_is_refused_where_its_run_would_be(
    scene: Any, folder: Path, kind: str, workers: tuple[str, ...]
) -> None:
    association = write_association(scene(kind), folder)
    ends = []
    for memory in ("40M", "80M", "86M", "100M", "160M", "174M", "400M"):
        how = ("--allow-outside", "--memory", memory, *workers)
        planned = plain.run("plan", association, *how)
        assert plain.run("run", association, *how, "-o", f"out{memory}") == planned, memory
        ends.append(planned)
    assert ends[0] == 1
    assert ends[-1] == 0


@pytest.mark.slow
def test_a_plan_counts_a_cluster_s_memory_as_its_run_does(
    scene: Any, folder: Path, cluster_address: Callable[[], str]
) -> None:
    pytest.importorskip("distributed")
    association = write_association(scene("dithers"), folder)
    ends = []
    for memory in ("40M", "86M", "100M", "400M"):
        how = ("--allow-outside", "--memory", memory, "--dask", cluster_address())
        planned = offsky_command("plan", association, *how)
        done = offsky_command("run", association, *how, "-o", f"out{memory}")
        assert done.returncode == planned.returncode, memory
        ends.append(planned.returncode)
    assert ends[0] == 1
    assert ends[-1] == 0


@through([name for name in EVERY if name != "dask"])
def test_threads_change_nothing(door: Door, scene: Any, folder: Path) -> None:
    (job,) = scene("images")
    one, three = (door.make([job], folder / f"out{n}", OFFSKY, How(threads=n))[0] for n in (1, 3))
    np.testing.assert_array_equal(pixels(one.product), pixels(three.product))
    with pytest.raises(DoorError, match="threads is 0"):
        door.make([job], folder / "none", {}, How(threads=0))


@through(WITH_PROGRESS)
def test_progress_is_told_row_by_row(door: Door, scene: Any, folder: Path) -> None:
    (job,) = scene("images")
    told: list[tuple[int, int]] = []
    door.make([job], folder / "out", {}, How(progress=lambda *each: told.append(each)))
    assert {n_total for _, n_total in told} == {SHAPE[0]}
    assert sum(n_done for n_done, _ in told) == SHAPE[0]


# Outcomes and warnings


@through(EVERY)
@pytest.mark.parametrize("changes", [{}, OFFSKY], ids=["jwst", "offsky"])
def test_every_door_gives_the_same_outcome(
    door: Door, masked: Job, folder: Path, changes: dict[str, Any]
) -> None:
    (expected,) = FILE.make([masked], folder / "file", changes)
    (made,) = door.make([masked], folder / "out", changes)
    wanted, found = expected.outcome or {}, made.outcome or {}
    assert found.keys() == wanted.keys()
    own = {"output", "combined", "target", "elapsed_s", "predicted_bytes", "backgrounds"}
    for name in wanted.keys() - own:
        assert found[name] == wanted[name], name
    assert [Path(each).name for each in found["backgrounds"]] == [
        path.name for path in masked.backgrounds
    ]


def test_the_step_logs_the_summary_of_its_outcome(
    masked: Job, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jwst")
    caplog.set_level("INFO")
    from contextlib import ExitStack

    step = DOORS["step"]
    with ExitStack() as stack:
        step.enter(stack, monkeypatch=monkeypatch, crds_path=folder)
        step.make([masked], folder / "out", {})
    (summary,) = [r.getMessage() for r in caplog.records if "median level:" in r.getMessage()]
    assert re.search(r"^masked: +[0-9,]+ samples left out by masks$", summary, re.MULTILINE)
    assert re.search(r"^uncovered: +[0-9]+ pixels without a sample", summary, re.MULTILINE)


@through(EVERY)
def test_an_option_without_effect_is_warned_of_and_gets_no_card(
    door: Door, scene: Any, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = scene("dithers") if "many" in door.abilities else scene("images")
    changes = {"bad_bits": 4, "reject": "none", "sigma_lower": 2.0, "sigma": 2.5}
    made = door.make(jobs, folder / "out", changes)
    told = door.warnings(caplog)
    for start in ("bad_bits = 4 has no effect: dq is or", "sigma_lower = 2 has no effect: "):
        n_told = sum(each.startswith(start) for each in told)
        # Each product of Python's association is its caller's; a command warns once.
        assert n_told == (len(jobs) if door.name == "association" else 1)
    for each in made:
        header = fits.getheader(each.product)
        assert not {"OFFBADBT", "OFFSIGLO"} & set(header)
        assert header["OFFSIGMA"] == 2.5
        assert "OFFMAXIT" in header
        assert header["OFFREJCT"] == "none"


def test_a_command_with_an_association_warns_once(
    scene: Any, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    association = write_association(scene("dithers"), folder)
    how = ("--allow-outside", "-o", folder / "out", "--bad-bits", "4")
    (folder / "out").mkdir()
    assert plain.run("subtract", association, *how) == 0
    told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert sum(each.startswith("bad_bits = 4 has no effect") for each in told) == 1
    assert len(told) == len(set(told))


@through(EVERY)
def test_another_instrument_is_told_before_its_window(
    door: Door, scene: Any, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (job,) = scene("images")
    with fits.open(job.backgrounds[1], memmap=False) as hdus:
        header = hdus[0].header
        header.update({"INSTRUME": "NIRCAM", "DETECTOR": "NRCA1", "SUBSIZE1": 2048})
        other = folder / job.backgrounds[1].name
        hdus.writeto(other)
    mixed = Job(job.target, (job.backgrounds[0], other))
    if door.name != "step":
        with pytest.raises(DoorError) as caught:
            door.make([mixed], folder / "out", {})
        assert "NIRCAM" in str(caught.value)
        assert "SUBSIZE" not in str(caught.value)
    # The step goes on where it can, as jwst's does: both are told, the instrument first.
    with pytest.raises(DoorError) as caught:
        door.make([mixed], folder / "forced", {}, How(force=True))
    assert "SUBSIZE" in str(caught.value)
    assert str(caught.value).index("NIRCAM") < str(caught.value).index("SUBSIZE")


@pytest.mark.parametrize("option", ["target_scale", "target_offset", "uncovered"])
@pytest.mark.parametrize("function", [offsky.average_file, offsky.average])
def test_an_average_alone_refuses_options_of_the_subtraction(
    scene: Any, folder: Path, function: Any, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (job,) = scene("images")
    value: Any = {"target_scale": 0.9, "target_offset": 0.1, "uncovered": "nan"}[option]
    where = (folder / "a.fits",) if function is offsky.average_file else ()
    with pytest.raises(offsky.ParameterError, match=f"{option} is an option of the subtraction"):
        function(job.backgrounds, *where, **{option: value})
    flag = f"--{option.replace('_', '-')}={value}"
    assert plain.run("average", *job.backgrounds, "-o", "a.fits", flag) == 2
    assert "an average alone is not subtracted" in capsys.readouterr().err
    assert not Path("a.fits").exists()


def test_products_that_share_an_average_save_the_same_one_at_a_time(tmp_path: Path) -> None:
    """Writers of a shared average work at a time: none may change it for the others."""
    rng = np.random.default_rng(5)
    shape = (256, 256)
    skies = [expose(tmp_path / f"sky{i}_rate.fits", rng.normal(10, 1, shape)) for i in range(3)]
    targets = [expose(tmp_path / f"t{i}_rate.fits", rng.normal(12, 1, shape)) for i in range(12)]
    plan = [
        (path.stem, [(path.name, "science"), *((sky.name, "background") for sky in skies)])
        for path in targets
    ]
    asn = write_products(tmp_path / "a_asn.json", *plan)
    for _ in range(3):
        done = offsky.subtract_association(
            asn, tmp_path, save_combined=True, overwrite=True, threads=4
        )
        assert all(isinstance(each, offsky.Outcome) for each in done)
        saved = [
            pixels(path, "ERR") for path in sorted(tmp_path.glob("*_combinedbackground.fits"))
        ]
        assert len(saved) == 12
        assert all(np.array_equal(each, saved[0]) for each in saved)
        for path in targets:
            product = pixels(tmp_path / path.name.replace("_rate", "_bsub"))
            level = pixels(tmp_path / path.name.replace("_rate", "_combinedbackground"))
            np.testing.assert_array_equal(product, pixels(path) - level)
