"""The commands: names, summaries, exit statuses, and what they do not import."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner, Result
from oracle import offsky_command, read_pixels, tree
from stdatamodels.jwst import datamodels

import offsky
from offsky.combine import blocks
from offsky.command.main import cli
from offsky.simulation import simulate_exposures


def run(*arguments: Any) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("given", "nints", "expected"),
    [
        ("jw1_mirimage_rate.fits", None, "jw1_mirimage_bsub.fits"),
        ("jw1_mirimage_cal.fits", None, "jw1_mirimage_bsub.fits"),
        ("jw1_mirimage_rateints.fits", 2, "jw1_mirimage_bsubints.fits"),
        ("jw1_mirimage_rate.fits.gz", None, "jw1_mirimage_bsub.fits"),
        ("my.own.name.fits", None, "my.own.name_bsub.fits"),
        ("jw1_mirimage_rate.asdf", None, "jw1_mirimage_bsub.asdf"),
    ],
)
def test_the_output_is_named_after_the_target_in_the_current_directory(
    folder: Path, exposures: Any, given: str, nints: int | None, expected: str
) -> None:
    path, backgrounds = exposures(nints, (None, None))
    target = path.with_name(given)
    with datamodels.open(path) as model:
        if given.endswith(".gz"):
            with fits.open(path, memmap=False) as hdus:
                hdus.writeto(target)
        else:
            model.save(target)
    done = run("subtract", target, *backgrounds)
    assert done.exit_code == 0, done.stderr
    assert names(folder) == ["inputs", expected]
    assert f"written:      {expected}" in done.stdout


def test_the_average_is_saved_beside_the_output(folder: Path, exposures: Any) -> None:
    target, backgrounds = exposures(None, (None, None))
    (folder / "out").mkdir()
    done = run("subtract", target, *backgrounds, "-o", "out/mine.fits", "--save-combined")
    assert done.exit_code == 0, done.stderr
    assert names(folder / "out") == ["mine.fits", "target_combinedbackground.fits"]
    assert "average:      out/target_combinedbackground.fits" in done.stdout


def test_options_are_those_of_the_function(folder: Path, exposures: Any) -> None:
    target, backgrounds = exposures(None, (None,) * 4)
    how = ("--sigma", "1.3", "--maxiters", "1", "--threads", "1")
    assert run("subtract", target, *backgrounds, "-o", "a.fits", *how).exit_code == 0
    assert run("average", *backgrounds, "-o", "b.fits", *how).exit_code == 0
    offsky.subtract_file(target, backgrounds, "c.fits", sigma=1.3, maxiters=1)
    offsky.average_file(backgrounds, "d.fits", sigma=1.3, maxiters=1)
    for one, other in (("a.fits", "c.fits"), ("b.fits", "d.fits")):
        for a, b in zip(read_pixels(Path(one)), read_pixels(Path(other)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_existing_output_is_replaced_only_when_told_to(folder: Path, exposures: Any) -> None:
    target, backgrounds = exposures(None, (None,))
    (folder / "r.fits").write_bytes(b"precious")
    before = tree(folder)
    done = run("subtract", target, *backgrounds, "-o", "r.fits")
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert "--overwrite" in done.stderr
    assert tree(folder) == before
    assert run("subtract", target, *backgrounds, "-o", "r.fits", "--overwrite").exit_code == 0
    assert fits.getheader("r.fits")["S_BKDSUB"] == "COMPLETE"


def test_the_summary_tells_what_was_done(folder: Path, exposures: Any) -> None:
    target, backgrounds = exposures(None, (None,) * 5)
    done = run("subtract", target, *backgrounds, "--sigma", "1.5")
    outcome = offsky.subtract_file(target, backgrounds, "again.fits", sigma=1.5)
    lines = dict(line.split(":", 1) for line in done.stdout.splitlines())
    told = {label: text.strip() for label, text in lines.items()}
    assert told["target"] == "target_rate.fits"
    assert told["backgrounds"].startswith("5: background1_rate.fits, background2_rate.fits")
    assert told["backgrounds"].endswith("and 2 more")
    n_rejected = sum(outcome.n_rejected)
    assert n_rejected > 0
    assert told["rejected"].startswith(f"{n_rejected:,} of {outcome.n_samples:,} samples")
    assert told["uncovered"].startswith(f"{outcome.n_uncovered} pixel")
    assert told["median level"] == f"{outcome.median_level:.6g} DN/s"
    assert told["written"] == "target_bsub.fits"
    assert told["time"].endswith(" s")


@pytest.mark.parametrize("command", ["subtract", "average", "skipped"])
def test_json_is_one_object_on_standard_output_and_all_else_on_standard_error(
    folder: Path, exposures: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, backgrounds = exposures(None, (None, None))
    arguments = {
        "subtract": ("subtract", target, *backgrounds),
        "average": ("average", *backgrounds, "-o", "a.fits"),
        "skipped": ("subtract", target),
    }[command]
    done = offsky_command(*arguments, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert "WARNING" in done.stderr
    assert told["status"] == ("SKIPPED" if command == "skipped" else "COMPLETE")
    assert Path(told["output"]).exists()
    if command == "subtract":
        # As the command has it, which counts one block of so little.
        monkeypatch.setattr(blocks, "_TINY_BYTES", 2**17)
        expected = offsky.subtract_file(target, backgrounds, "again.fits").as_dict()
        assert told.keys() == expected.keys()
        for key in told.keys() - {"output", "elapsed_s"}:
            assert told[key] == json.loads(json.dumps(expected[key])), key


def test_without_backgrounds_the_run_succeeds_with_a_warning(folder: Path, exposures: Any) -> None:
    done = offsky_command("subtract", exposures(None, ())[0], cwd=folder)
    assert done.returncode == 0
    assert "no background to subtract" in done.stderr
    assert done.stdout.startswith("SKIPPED: no background used; target_bsub.fits is a copy")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("subtract",), 2, "Missing argument"),
        (("average", "b.fits"), 2, "Missing option '-o'"),
        (("average", "-o", "a.fits"), 2, "Missing argument"),
        (("subtract", "t.fits", "b.fits", "--sigma", "many"), 2, "not a valid float"),
        (("subtract", "t.fits", "--allow-outside"), 2, "for associations"),
        (("subtract", "t_asn.json", "b.fits"), 2, "names its backgrounds itself"),
        (("nonsense",), 2, "No such command"),
        (("subtract", "t.fits", "b.fits"), 1, "t.fits: no such file; check the name"),
        (("average", "b.fits", "-o", "a.fits"), 1, "b.fits: no such file; check the name"),
        (("average", "b.fits", "-o", "a.fits", "--sigma", "0"), 1, "sigma is 0"),
        (("average", "b.fits", "-o", "a.fits", "--maxiters", "-1"), 1, "maxiters is -1"),
        (("average", "b.fits", "-o", "no/a.fits"), 1, "there is no directory no"),
        (("demo", "file/demo"), 1, "cannot be made"),
    ],
)
def test_wrong_usage_ends_with_2_and_what_is_not_possible_with_1(
    folder: Path, arguments: tuple[str, ...], status: int, words: str
) -> None:
    (folder / "file").touch()
    done = run(*arguments)
    assert done.exit_code == status, done.output
    assert words in done.stderr
    assert done.stdout == ""
    if status == 1:
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("offsky: ")
    assert names(folder) == ["file"]


@pytest.mark.parametrize("command", ["", *cli.commands])
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.exit_code == 0
    assert f"  offsky {command or 'demo'}" in done.stdout.replace("Usage: ", "")
    assert "Example" in done.stdout or not command


def python(code: str, *arguments: Any, **how: Any) -> str:
    """Run code in a process of its own; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120, **how,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


FAULTS_OF_CALLS = """
import resource
from offsky.command import main
def leaf():
    pass
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(300):
        leaf()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def deeper(n):
    return max(faults(), deeper(n - 1)) if n else faults()
main.cli = lambda **how: print(deeper(400))
main.main()
"""


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="about CPython's frames")
def test_no_depth_of_calls_asks_the_system_for_memory_at_each_call() -> None:
    # At one depth in a hundred or so it does, 300 times here, where frames come in small pieces.
    assert int(python(FAULTS_OF_CALLS)) < 100


MODULES = """
import sys
from offsky.command.main import cli
cli(sys.argv[1:], standalone_mode=False)
print("\\n" + " ".join(name for name in sys.modules if "." not in name))
"""


def test_help_imports_nothing_heavy() -> None:
    for arguments in (["--help"], ["subtract", "--help"]):
        loaded = set(python(MODULES, *arguments).splitlines()[-1].split())
        assert "click" in loaded
        assert not loaded & {"numpy", "astropy", "stdatamodels", "asdf", "tqdm", "rich"}


def test_from_fits_to_fits_neither_models_nor_asdf_are_imported(
    folder: Path, exposures: Any
) -> None:
    target, backgrounds = exposures(None, (None, 2))
    # Not with --save-combined: to write a table astropy imports all of its own and, where it
    # is installed, asdf_astropy.
    printed = python(MODULES, "subtract", target, *backgrounds, cwd=folder)
    loaded = set(printed.splitlines()[-1].split())
    assert "astropy" in loaded
    assert not loaded & {"stdatamodels", "asdf", "gwcs", "jwst", "scipy", "stpipe"}


OURS = """
import sys
from offsky.command.main import cli
cli(sys.argv[1:], standalone_mode=False)
print("\\n" + " ".join(sorted(name for name in sys.modules if name.startswith("offsky."))))
"""
OF_HELP = """
command command.exposures command.inspect command.main command.options command.pairing
command.programmes
command.report command.shared command.streams declared effect errors options stopping
"""
OF_AN_OPTION = """
measure.finder measure.fit combine.grow engine.band
engine.search engine.imprints engine.imprint_errors
selection.imprints io.association programme step testing
measure.checks measure.gather measure.members io.facts io.inspected report
reporting.observed reporting.place
"""


def test_the_start_of_the_command_imports_these_modules_and_no_other() -> None:
    loaded = python(OURS, "--help").splitlines()[-1].split()
    assert loaded == [f"offsky.{name}" for name in sorted(OF_HELP.split())]


def test_a_plain_subtraction_imports_no_module_of_another_door_or_option(
    folder: Path, exposures: Any
) -> None:
    target, backgrounds = exposures(None, (None, 2))
    loaded = set(
        python(OURS, "subtract", target, *backgrounds, cwd=folder).splitlines()[-1].split()
    )
    assert not loaded & {f"offsky.{name}" for name in OF_AN_OPTION.split()}
    assert len(loaded) < 97


def test_it_works_without_a_network_and_without_crds(folder: Path, exposures: Any) -> None:
    target, backgrounds = exposures(None, (None,))
    without = {key: value for key, value in os.environ.items() if not key.startswith("CRDS")}
    code = (
        """
import socket
def refuse(*given, **how):
    raise AssertionError("the network was used")
socket.socket.connect = socket.getaddrinfo = refuse
"""
        + MODULES
    )
    # By models: with them a network would be used first.
    python(code, "subtract", target, *backgrounds, "-o", "r.asdf", env=without, cwd=folder)
    assert (folder / "r.asdf").exists()


def test_no_progress_bar_is_shown_where_there_is_no_terminal(folder: Path, exposures: Any) -> None:
    target, backgrounds = exposures(None, (None,) * 8)
    done = offsky_command("subtract", target, *backgrounds, "--sigma", "2", cwd=folder)
    assert done.returncode == 0
    assert "\r" not in done.stderr + done.stdout
    assert all(line.startswith("WARNING") for line in done.stderr.splitlines())


def test_python_m_offsky_tells_its_version() -> None:
    done = offsky_command("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("offsky ")


@pytest.mark.slow
def test_the_demo_finds_the_truth_it_was_made_of_and_refuses_to_overwrite(folder: Path) -> None:
    first = offsky_command("demo", "try", cwd=folder)
    assert first.returncode == 0, first.stderr
    assert "What to look at" in first.stdout
    made = {name for name in names(folder / "try") if name.endswith(".fits")}
    assert {"demo_target_rate.fits", "demo_target_bsub.fits"} < made
    assert len([name for name in made if "background" in name]) == 4

    scene = simulate_exposures((512, 512), n_backgrounds=4)
    sci, err, _ = read_pixels(folder / "try" / "demo_target_bsub.fits")
    struck = np.any([each.struck for each in (scene.target, *scene.backgrounds)], axis=0)
    starry = np.any([each.light > 0.05 for each in scene.backgrounds], axis=0)
    clean = np.isfinite(sci) & ~struck & ~starry
    pull = ((sci - scene.target.light) / err)[clean]
    # The target's ERR alone: four backgrounds add a quarter to the variance, clipping a little.
    assert abs(np.median(pull)) < 0.1
    assert 0.9 < 1.4826 * np.median(abs(pull)) < 1.3

    before = tree(folder)
    again = offsky_command("demo", "try", cwd=folder)
    assert again.returncode == 1
    assert len(again.stderr.splitlines()) == 1
    assert "exists already" in again.stderr
    assert "--overwrite" in again.stderr
    assert tree(folder) == before
    last = offsky_command("demo", "try", "--overwrite", "--report", cwd=folder)
    assert last.returncode == 0
    assert last.stdout.splitlines()[-1].strip() == "try/demo_target_bsub.html"
    assert (folder / "try" / "demo_target_bsub.html").exists()
