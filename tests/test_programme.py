"""Programmes run whole: equal to single runs, restartable, bounded, and safe to stop."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programmes import (
    command,
    content,
    expose,
    leftovers,
    offsky_command,
)

import offsky
from offsky.combine.blocks import LEAST_GROWN
from offsky.combine.rule import grows
from offsky.engine.forecast import forecast
from offsky.engine.passes import Demand, Facts, Member, Pass, arrange
from offsky.engine.run import PassRun
from offsky.errors import OutputError, ParameterError
from offsky.io.fits_copy import FitsCopy
from offsky.options import PROFILES, Options
from offsky.programme.executors import ProcessExecutor, SerialExecutor
from offsky.programme.job import GroupReport
from offsky.programme.journal import Journal
from offsky.programme.plan import Plan
from offsky.programme.planning import make_plan
from offsky.programme.run import Summary, run_programme
from offsky.programme.sizing import predict
from offsky.selection.pairing import Pairing
from offsky.values.window import Window

OUT = Path("out")


def planned(*inputs: Path, source: Any = "dithers", **how: Any) -> Plan:
    rule = {each.name: how.pop(each.name) for each in fields(Pairing) if each.name in how}
    named = {each.name: how.pop(each.name) for each in fields(Options) if each.name in how}
    options = Options(**{"sigma": 1.5, **named})
    return make_plan(inputs, pairing=Pairing(source=source, **rule), options=options, **how)


def run(plan: Plan, **how: Any) -> Summary:
    return run_programme(plan, OUT, **{"executor": SerialExecutor(2), **how})


def statuses(summary: Summary) -> list[str]:
    return [product.status for product in summary.products]


def check_against_single_runs(plan: Plan, summary: Summary) -> None:
    """Fail unless every product is what `subtract_file` gives, bytes and counts."""
    alone = OUT / "alone"
    alone.mkdir(exist_ok=True)
    for product, outcome in zip(plan.products, summary.products, strict=True):
        single = offsky.subtract_file(
            product.target,
            product.backgrounds,
            alone / product.output,
            options=product.options,
            force=product.force,
            overwrite=True,
            threads=1,
        )
        assert content(OUT / product.output) == content(alone / product.output), product.output
        details = dict(outcome.details or {})
        for name in ("backgrounds", "n_rejected", "n_uncovered", "median_level", "unit", "status"):
            expected = single.as_dict()[name]
            found = details[name]
            assert (tuple(found) if isinstance(found, list) else found) == expected, name


@pytest.fixture(scope="module", autouse=True)
def processes_are_tracked() -> None:
    """Begin what Python keeps open for as long as it runs once processes were started."""
    resource_tracker.ensure_running()


@pytest.fixture
def dithers(folder: Path) -> list[Path]:
    return [expose(folder, i, days=float(i)) for i in range(1, 6)]


@pytest.fixture
def shared(folder: Path) -> tuple[list[Path], list[Path]]:
    targets = [expose(folder, i) for i in range(1, 6)]
    backgrounds = [expose(folder, i, background=True, observation="002") for i in (11, 12, 13)]
    return targets, backgrounds


ALONG_SLIT = {
    "meta__exposure__type": "MIR_LRS-FIXEDSLIT",
    "meta__dither__primary_type": "ALONG-SLIT-NOD",
}

EXECUTORS = {
    "one thread": lambda: SerialExecutor(1),
    "threads": lambda: SerialExecutor(3),
    "processes": lambda: ProcessExecutor(2),
}


@pytest.mark.slow
@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("source", ["dedicated", "nods", "dithers"])
def test_every_rule_and_executor_gives_the_bytes_of_single_runs(
    folder: Path, source: Any, executor: str
) -> None:
    for i in range(1, 6):
        nod = {**ALONG_SLIT, "meta__dither__position_number": i} if source == "nods" else {}
        expose(folder, i, nints=2 if i == 2 and source == "dedicated" else None, **nod)
    for i in (11, 12, 13):
        expose(folder, i, background=True, observation="002", nints=3 if i == 12 else None)
    plan = planned(folder, source=source)
    assert len(plan.products) == 5
    summary = run(plan, executor=EXECUTORS[executor]())
    assert statuses(summary) == ["COMPLETE"] * 5
    check_against_single_runs(plan, summary)
    assert leftovers(OUT) == []


def test_cubes_in_a_pattern_give_the_bytes_of_single_runs(folder: Path) -> None:
    for i in range(1, 5):
        expose(folder, i, nints=i)
    plan = planned(folder)
    assert [group.kind for group in plan.groups] == ["leave-one-out"]
    check_against_single_runs(plan, run(plan))


def test_nods_with_some_left_out_are_made_in_one_pass_as_single_runs(folder: Path) -> None:
    for i, arcsec in enumerate((0.0, 0.1, 1.0, 2.0, 2.1)):
        expose(folder, i + 1, arcsec=arcsec)
    plan = planned(folder, source="dithers", min_separation=0.3)
    assert [group.kind for group in plan.groups] == ["leave-one-out"]
    assert {len(product.backgrounds) for product in plan.products} == {3, 4}
    check_against_single_runs(plan, run(plan))


def test_targets_of_several_windows_share_backgrounds_as_single_runs(folder: Path) -> None:
    for i, xstart in ((1, 1), (2, 5), (3, 5), (4, 1)):
        size = {"meta__subarray__xstart": xstart}
        expose(folder, i, shape=(24, 16 if xstart == 1 else 20), **size)
    for i in (11, 12):
        expose(folder, i, background=True, observation="002", shape=(24, 16))
    plan = planned(folder, source="dedicated")
    assert [group.kind for group in plan.groups] == ["shared"]
    check_against_single_runs(plan, run(plan))


def test_compressed_targets_and_backgrounds_give_what_single_runs_give(folder: Path) -> None:
    from astropy.io import fits

    paths = [expose(folder, i) for i in range(1, 4)]
    with fits.open(paths[0]) as hdus:
        hdus["SCI"] = fits.CompImageHDU(
            hdus["SCI"].data, hdus["SCI"].header, compression_type="GZIP_2", quantize_level=0
        )
        hdus.writeto(paths[0], overwrite=True)
    plan = planned(folder)
    check_against_single_runs(plan, run(plan))


def test_an_association_runs_as_a_programme_and_a_product_without_backgrounds_is_a_copy(
    folder: Path,
) -> None:
    names = [expose(folder, i).name for i in range(1, 5)]
    products = [
        {
            "name": f"p{i}",
            "members": [
                {"expname": names[i], "exptype": "science"},
                *({"expname": n, "exptype": "background"} for n in (names[2:] if i < 2 else [])),
            ],
        }
        for i in range(3)
    ]
    (folder / "all_asn.json").write_text(json.dumps({"products": products}))
    plan = planned(folder, source="associations")
    summary = run(plan)
    assert statuses(summary) == ["COMPLETE", "COMPLETE", "SKIPPED"]
    check_against_single_runs(plan, summary)


def a_pass(n_rows: int, n_columns: int, n_exposures: int, n_products: int) -> Pass:
    """Arrange products of some exposures, each with one of them left out."""
    frame = Window(0, 0, n_columns, n_rows)
    facts = [Facts(i, (n_rows, n_columns), 12 * n_columns) for i in range(n_exposures)]
    demands = [
        Demand(
            i,
            frame,
            tuple(Member(each, frame) for each in facts if each.key != i)
            or (Member(facts[0], frame),),
            facts[i % n_exposures],
        )
        for i in range(n_products)
    ]
    return arrange(demands)[0]


@given(
    n_rows=st.integers(1, 4096),
    n_columns=st.integers(1, 2048),
    n_exposures=st.integers(1, 40) | st.integers(1, 1000),
    n_products=st.integers(1, 100),
    threads=st.integers(1, 16),
    memory=st.integers(2**20, 2**36),
    options=st.sampled_from([Options(), PROFILES["offsky"], Options(level="offset")]),
)
def test_what_is_forecast_fits_the_memory_or_is_the_least_there_is(
    n_rows: int,
    n_columns: int,
    n_exposures: int,
    n_products: int,
    threads: int,
    memory: int,
    options: Options,
) -> None:
    # Of many exposures few products: else arranging them takes the time of the test.
    n_products = min(n_products, max(1, 4000 // n_exposures))
    pass_ = a_pass(n_rows, n_columns, n_exposures, n_products)
    expected = forecast(pass_, options, threads, memory, open_bytes=0)
    # Where rejection grows, blocks have some rows.
    most = max(len(recipe.members) for recipe in pass_.recipes)
    lowest = LEAST_GROWN if grows(options, most) else 1
    assert lowest <= expected.rows_per_block <= max(lowest, n_rows)
    assert 1 <= expected.recipes_per_pass <= len(pass_.recipes)
    least = forecast(pass_, options, threads, 1, open_bytes=0)
    assert (least.rows_per_block, least.recipes_per_pass) == (lowest, 1)
    if expected.peak_bytes > memory:
        assert expected.peak_bytes == least.peak_bytes
    # More memory never makes it slower.
    more = forecast(pass_, options, threads, 2 * memory, open_bytes=0)
    assert more.recipes_per_pass >= expected.recipes_per_pass


def test_a_pattern_too_large_for_the_memory_is_made_in_several_passes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(1, 6):
        expose(folder, i, shape=(1000, 30))
    plan = planned(folder)
    expected = predict(plan, plan.groups[0], None, 1)
    assert expected is not None
    limit = expected.peak_bytes - 1_400_000
    least = predict(plan, plan.groups[0], limit, 1)
    assert least is not None
    assert 1 <= least.recipes_per_pass < 5
    made_at_once: list[int] = []
    work = PassRun.run

    def counted(self: PassRun, **how: Any) -> None:
        made_at_once.append(len(self.averagings))
        work(self, **how)

    with monkeypatch.context() as patched:
        patched.setattr(PassRun, "run", counted)
        summary = run(plan, executor=SerialExecutor(1), memory_bytes=limit)
    assert sum(made_at_once) == 5
    assert max(made_at_once) == least.recipes_per_pass
    check_against_single_runs(plan, summary)


def test_too_little_memory_is_refused_early_with_numbers(dithers: list[Path]) -> None:
    plan = planned(dithers[0].parent)
    with pytest.raises(ParameterError, match=r"needs \d+ MB .* where 10 MB are allowed"):
        run(plan, memory_bytes=10 * 2**20)
    assert not OUT.exists()


MEASURE = """
import sys
sys.argv[0] = "offsky"
import offsky.command.main
try: offsky.command.main.main()
except SystemExit as e: assert not e.code
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(int(line.split()[1]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
@pytest.mark.parametrize("source", ["dedicated", "dithers"])
@pytest.mark.parametrize("profile", PROFILES)
def test_measured_memory_is_within_what_was_predicted(
    folder: Path, source: Any, profile: str
) -> None:
    how = {"shape": (1500, 1500), "variances": profile == "offsky"}
    first = [expose(folder, i, background=i > 3, **how) for i in range(1, 8)]
    if source == "dithers":
        for path in first[3:]:
            path.unlink()
    options = PROFILES[profile]
    plan = make_plan([folder], pairing=Pairing(source=source), options=options)
    predicted = max(
        each.peak_bytes
        for group in plan.groups
        if (each := predict(plan, group, None, 2)) is not None
    )
    arguments = ["run", ".", "--from", source, "-o", "out", "--threads", "2", "--profile", profile]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    measured = int(done.stdout.splitlines()[-1])
    assert measured <= predicted
    # Not a prediction that fits everything.
    assert measured >= (0.6 if profile == "jwst" else 0.5) * predicted


def test_only_what_is_missing_or_changed_is_made_again(dithers: list[Path]) -> None:
    plan = planned(dithers[0].parent, nearest=2)
    assert [p.made for p in run(plan).products] == [True] * 5
    again = run(plan)
    assert [p.made for p in again.products] == [False] * 5
    assert statuses(again) == ["COMPLETE"] * 5
    check_against_single_runs(plan, again)

    (OUT / plan.products[3].output).unlink()
    assert [p.made for p in run(plan).products] == [False, False, False, True, False]

    # One that is target of the first and background of some.
    os.utime(dithers[0])
    affected = [str(dithers[0]) in product.inputs for product in plan.products]
    assert 1 < sum(affected) < 5
    assert [p.made for p in run(plan).products] == affected

    other = planned(dithers[0].parent, nearest=2, sigma=2.0)
    assert [p.made for p in run(other).products] == [True] * 5
    check_against_single_runs(other, run(other))


def test_with_checksums_a_file_that_was_only_touched_is_the_same(dithers: list[Path]) -> None:
    plan = planned(dithers[0].parent)
    run(plan, checksum=True)
    for path in dithers:
        os.utime(path)
    assert not any(p.made for p in run(plan, checksum=True).products)
    # The same size and time, another content.
    times = dithers[1].stat().st_atime_ns, dithers[1].stat().st_mtime_ns
    data = bytearray(dithers[1].read_bytes())
    place = data.index(b"SIMULATED")
    data[place : place + 9] = b"Simulated"
    dithers[1].write_bytes(data)
    os.utime(dithers[1], ns=times)
    from offsky.programme.journal import _sha256

    _sha256.cache_clear()  # as in another process
    assert all(p.made for p in run(plan, checksum=True).products)


def test_files_that_are_not_ours_are_left_alone(dithers: list[Path]) -> None:
    plan = planned(dithers[0].parent)
    OUT.mkdir()
    foreign = OUT / plan.products[1].output
    foreign.write_text("mine")
    summary = run(plan)
    assert statuses(summary) == ["COMPLETE", "FAILED", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert "exists already" in (summary.products[1].reason or "")
    assert foreign.read_text() == "mine"
    assert statuses(run(plan, overwrite=True)) == ["COMPLETE"] * 5

    # Ours, but someone went on working with it.
    with foreign.open("ab") as file:
        file.write(b"\0" * 2880)
    summary = run(plan)
    assert statuses(summary)[1] == "FAILED"
    os.utime(dithers[0])
    assert statuses(run(plan))[1] == "FAILED"
    assert [p.made for p in run(plan, overwrite=True).products][1]


def test_an_output_that_is_an_input_of_another_product_stops_the_run(dithers: list[Path]) -> None:
    plan = planned(dithers[0].parent)
    OUT.mkdir()
    os.link(dithers[2], OUT / plan.products[0].output)
    with pytest.raises(OutputError, match="also an input of the programme"):
        run(plan, overwrite=True)


@pytest.mark.parametrize("how", ["missing", "truncated"])
@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_a_broken_input_fails_its_products_alone(folder: Path, how: str, executor: str) -> None:
    for observation in ("001", "002"):
        for i in (1, 2, 3):
            expose(folder, i, observation=observation)
    for i in (1, 2):
        expose(folder, i, observation="003")
    plan = planned(folder)
    broken = Path(plan.products[1].target)
    if how == "missing":
        broken.unlink()
    else:
        broken.write_bytes(broken.read_bytes()[:-4000])
    summary = run(plan, executor=EXECUTORS[executor]())
    assert statuses(summary) == ["FAILED"] * 3 + ["COMPLETE"] * 5
    assert all(broken.name in (p.reason or "") for p in summary.products[:3])
    assert len([p for p in OUT.glob("*.fits") if not p.name.startswith(".")]) == 5
    assert leftovers(OUT) == []


def test_products_that_do_without_a_file_cut_short_in_the_pass_are_still_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offsky.errors import ExposureError
    from offsky.io.fits import FitsExposure

    for i, arcsec in enumerate((0.0, 5.0, 5.1, 9.0)):
        expose(folder, i + 1, arcsec=arcsec)
    plan = planned(folder, source="dithers", min_separation=1.0)
    read = FitsExposure.read_rows

    def torn(self: Any, first: int, last: int, scratch: Any, wanted: Any) -> Any:
        if "00002_" in self.name and last > 10:
            raise ExposureError(f"{self.name}: the file ended")
        return read(self, first, last, scratch, wanted)

    monkeypatch.setattr(FitsExposure, "read_rows", torn)
    summary = run(plan)
    # Only the third, too near the second to have it as a background, does without it. The
    # second's own rows are those that failed: they are not read again.
    assert statuses(summary) == ["FAILED", "FAILED", "COMPLETE", "FAILED"]
    assert leftovers(OUT) == []


def test_a_product_that_cannot_be_written_fails_alone(
    dithers: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(dithers[0].parent)
    subtract = FitsCopy.subtract

    def full(self: FitsCopy, first: int, last: int, average: Any, rows: Any) -> Any:
        if self._target.name == dithers[2].name:
            raise OSError(28, "No space left on device")
        return subtract(self, first, last, average, rows)

    monkeypatch.setattr(FitsCopy, "subtract", full)
    summary = run(plan)
    assert [p.status for p in summary.products].count("FAILED") == 1
    assert "No space left" in (summary.products[2].reason or "")
    assert leftovers(OUT) == []
    assert not (OUT / plan.products[2].output).exists()


def test_an_input_that_changes_while_it_is_read_spoils_no_product(
    shared: tuple[list[Path], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(shared[0][0].parent, source="dedicated")
    copy_rest = FitsCopy.copy_rest

    def touched(self: FitsCopy) -> None:
        copy_rest(self)
        if self._target.name == shared[0][1].name:
            os.utime(shared[0][1])

    monkeypatch.setattr(FitsCopy, "copy_rest", touched)
    summary = run(plan)
    assert statuses(summary)[1] == "FAILED"
    assert "changed while it was read" in (summary.products[1].reason or "")
    assert statuses(summary).count("COMPLETE") == 4


def test_inputs_changed_since_the_plan_are_named_and_used_as_they_are(
    dithers: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    plan = planned(dithers[0].parent)
    expose(dithers[0].parent, 2, arcsec=2.0, meta__target__catalog_name="ANOTHER NAME")
    summary = run(plan)
    assert "not what it was when the plan was made" in caplog.text
    check_against_single_runs(plan, summary)


def test_a_second_run_on_the_same_folder_refuses_and_spoils_nothing(dithers: list[Path]) -> None:
    plan = planned(dithers[0].parent)
    with Journal(OUT).locked():
        with pytest.raises(OutputError, match=f"process {os.getpid()}.* is at work"):
            run(plan)
        done = offsky_command("run", ".", "--from", "dithers", "-o", OUT)
        assert done.returncode == 1
        assert "is at work in this folder" in done.stderr
    assert statuses(run(plan)) == ["COMPLETE"] * 5


def test_what_a_killed_run_left_half_written_is_swept_away(dithers: list[Path]) -> None:
    plan = planned(dithers[0].parent)
    OUT.mkdir()
    stale = OUT / f".{plan.products[0].output}.0123abcd.part"
    stale.write_bytes(b"half")
    other = OUT / ".somebody_else.fits.0123abcd.part"
    other.write_bytes(b"not ours")
    run(plan)
    assert leftovers(OUT) == [other.name]


def test_the_run_says_what_came_of_every_product_and_leaves_a_summary(folder: Path) -> None:
    for i in (1, 2):
        expose(folder, i)
    expose(folder, 1, observation="002")
    broken = [expose(folder, i, observation="003") for i in (1, 2)][1]
    assert offsky_command("plan", ".", "--from", "dithers", "-o", "plan.json").returncode == 0
    broken.write_bytes(broken.read_bytes()[:-4000])
    done = offsky_command("run", "plan.json", "-o", "out")
    assert done.returncode == 1
    assert "2 complete, 1 skipped, 2 failed" in done.stdout
    assert "alone in its pattern" in done.stdout
    summary = json.loads((OUT / "summary.json").read_text())
    assert (summary["n_complete"], summary["n_skipped"], summary["n_failed"]) == (2, 1, 2)
    assert [p["status"] for p in summary["products"]] == [
        "COMPLETE", "COMPLETE", "SKIPPED", "FAILED", "FAILED",
    ]  # fmt: skip
    as_json = offsky_command("run", "plan.json", "-o", "out", "--json")
    assert json.loads(as_json.stdout)["n_made"] == 0


@pytest.mark.slow
def test_options_that_the_plan_has_settled_are_refused_at_the_run(dithers: list[Path]) -> None:
    offsky_command("plan", ".", "--from", "dithers", "-o", "plan.json")
    done = offsky_command("run", "plan.json", "--sigma", "2")
    assert done.returncode == 2
    assert "--sigma is settled in the plan" in done.stderr
    assert offsky_command("run", "plan.json", "other.fits").returncode == 2
    done = offsky_command("run", "plan.json", "--workers", "2", "--dask", "x:1")
    assert done.returncode == 2
    assert offsky_command("run", ".", "--from", "dithers", "--memory", "much").returncode == 2
    assert offsky_command("run", ".", "--from", "dithers", "--workers", "0").returncode == 1


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start offsky in another process and see to its end."""
    process = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(condition: Any, process: subprocess.Popen[str], seconds: float = 60) -> bool:
    """Wait until a condition holds; False where the process ended before it did."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return True


def finished_products(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.fits") if not path.name.startswith(".")]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with four patterns of six exposures, and what comes of it undisturbed."""
    folder = tmp_path_factory.mktemp("large")
    for observation in range(4):
        for i in range(1, 7):
            expose(folder, i, observation=f"{observation + 1:03d}", shape=(400, 300))
    whole = folder / "whole"
    plan = planned(folder, sigma=3.0)
    summary = run_programme(plan, whole, executor=SerialExecutor())
    assert statuses(summary) == ["COMPLETE"] * 24
    return folder, whole


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_killed_at_any_moment_leaves_whole_products_and_is_taken_up_again(
    large: tuple[Path, Path], tmp_path: Path, workers: int
) -> None:
    inputs, whole = large
    out = tmp_path / "out"
    n_kills = 0
    for n_wanted in (1, 9, 15):
        with started("run", inputs, "--from", "dithers", "-o", out, "--workers", workers) as run_:
            if wait_for(lambda n=n_wanted: len(finished_products(out)) >= n, run_):
                run_.send_signal(signal.SIGKILL)
                run_.wait()
                n_kills += 1
        for product in finished_products(out):
            assert content(product) == content(whole / product.name)
    assert n_kills
    # Workers that outlived it for a moment must be gone before the count.
    done = offsky_command("run", inputs, "--from", "dithers", "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["n_complete"] == 24
    for product in whole.glob("*.fits"):
        assert content(out / product.name) == content(product)
    assert leftovers(out) == []


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_tidies_up(large: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for workers in (1, 2):
        with started(
            "run", large[0], "--from", "dithers", "-o", out, "--workers", workers
        ) as process:
            n_before = len(finished_products(out))
            if wait_for(lambda n=n_before: len(finished_products(out)) > n, process):
                process.terminate()
                _, stderr = process.communicate(timeout=60)
                assert process.returncode == 128 + signal.SIGTERM
                lines = [x for x in stderr.splitlines() if not x.startswith("WARNING")]
                n_made = len(finished_products(out))
                assert lines == [
                    f"offsky: stopped; {n_made} of 24 products are made; run the same command "
                    "again to go on"
                ]
                summary = json.loads((out / "summary.json").read_text())
                assert summary["n_complete"] == n_made
        assert leftovers(out) == []


def children(process: subprocess.Popen[str]) -> list[int]:
    """Return the worker processes of a run: those that import offsky."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        int(pid) for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc on this system")
def test_a_worker_that_is_killed_is_replaced(large: tuple[Path, Path], tmp_path: Path) -> None:
    inputs, whole = large
    out = tmp_path / "out"
    with started("run", inputs, "--from", "dithers", "-o", out, "--workers", 2) as process:
        assert wait_for(lambda: finished_products(out), process)
        os.kill(children(process)[0], signal.SIGKILL)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "a worker died" in stderr
    for product in whole.glob("*.fits"):
        assert content(out / product.name) == content(product)
    assert leftovers(out) == []


def die(job: Any) -> GroupReport:
    """Be a worker that one group kills each time."""
    from offsky.programme.job import make_group_report

    if "001_02101_00001" in job.products[0].target and "01234002" in job.products[0].target:
        os.kill(os.getpid(), signal.SIGKILL)
    return make_group_report(job)


@pytest.mark.slow
def test_a_group_that_kills_every_worker_fails_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for observation in ("001", "002", "003"):
        for i in (1, 2):
            expose(folder, i, observation=observation)
    monkeypatch.setattr("offsky.programme.executors.make_group_report", die)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    summary = run(planned(folder), executor=ProcessExecutor(2, 1))
    assert statuses(summary) == ["COMPLETE"] * 2 + ["FAILED"] * 2 + ["COMPLETE"] * 2
    assert "workers died" in (summary.products[2].reason or "")


@pytest.mark.parametrize("what", ["subtract", "run"])
def test_a_thousand_backgrounds_need_few_open_files(folder: Path, what: str) -> None:
    target = expose(folder, 1)
    first = expose(folder, 2)
    backgrounds = []
    for i in range(1000 if what == "run" else 300):
        backgrounds.append(folder / f"b{i:04d}_rate.fits")
        shutil.copy(first, backgrounds[-1])
    first.unlink()
    limit = 256 if what == "run" else 60

    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    if what == "run":
        members = [{"expname": path.name, "exptype": "background"} for path in backgrounds]
        members.append({"expname": target.name, "exptype": "science"})
        products = [{"name": "one", "members": members}]
        (folder / "all_asn.json").write_text(json.dumps({"products": products}))
        done = offsky_command("run", "all_asn.json", "-o", "out", preexec_fn=few_files)
    else:
        done = offsky_command(
            "subtract", target, *backgrounds, "-o", "out.fits", preexec_fn=few_files
        )
    assert done.returncode == 0, done.stderr


def test_a_file_exchanged_while_it_was_closed_for_a_moment_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offsky.errors import ExposureError
    from offsky.io import open_files
    from offsky.io.fits import FitsExposure
    from offsky.values.exposure import Scratch, Wanted

    monkeypatch.setattr(open_files, "most_open_files", lambda: 2)
    paths = [expose(folder, i) for i in range(1, 5)]
    exposures = [FitsExposure(path) for path in paths]
    try:
        before = [np.array(e.read_rows(0, 24, Scratch(), Wanted()).sci) for e in exposures]
        after = [np.array(e.read_rows(0, 24, Scratch(), Wanted()).sci) for e in exposures]
        np.testing.assert_array_equal(before, after)
        paths[3].rename(paths[0])
        exposures[1].read_rows(0, 1, Scratch(), Wanted())
        exposures[2].read_rows(0, 1, Scratch(), Wanted())
        with pytest.raises(ExposureError, match="changed while it was in use"):
            exposures[0].read_rows(0, 1, Scratch(), Wanted())
    finally:
        for exposure in exposures:
            exposure.close()


def test_real_exposures_run_by_rule_from_bare_files(shared_data: Path, folder: Path) -> None:
    for name, rule in (
        ("nirspec_nod", {"source": "nods", "min_separation": 0.3}),
        ("miri_4qpm", {"source": "dithers"}),
        ("miri_4qpm", {"source": "dedicated", "any_programme": True, "max_days": 1.0}),
    ):
        plan = planned(shared_data / name, **rule)
        summary = run(plan, overwrite=True)
        assert set(statuses(summary)) == {"COMPLETE"}
        check_against_single_runs(plan, summary)


def test_a_long_file_name_leaves_no_room_for_a_comment_and_no_warning(folder: Path) -> None:
    from astropy.io import fits

    target, background = (expose(folder, i) for i in (1, 2))
    for length in (20, 40, 60, 70, 100):
        name = "x" * (length - 5) + ".fits"
        offsky.subtract_file(target, [background], name)
        assert fits.getheader(name)["FILENAME"] == name
