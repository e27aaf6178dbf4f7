"""offsky's step in every place where jwst's may be."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jwst", reason="the JWST pipeline is not installed: offsky[jwst]")

import jwst.background
from jwst.assign_wcs import AssignWcsStep
from jwst.pipeline import Image2Pipeline, Spec2Pipeline, calwebb_spec2
from jwst.stpipe import Step
from stdatamodels.jwst import datamodels

import offsky
from offsky import step as step_module
from offsky.declared import declarations
from offsky.errors import ParameterError
from offsky.options import Options
from offsky.step import BackgroundStep, install, uninstall
from offsky.testing import file_digest, write_exposure

pytestmark = pytest.mark.filterwarnings("ignore:.*get_cache_lock:DeprecationWarning")

SHAPE = (8, 10)


@pytest.fixture(autouse=True)
def without_crds(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty CRDS cache, no server."""
    for name in ("CRDS_SERVER_URL", "CRDS_CONTEXT", "STPIPE_DISABLE_CRDS_STEPPARS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CRDS_PATH", str(tmp_path_factory.mktemp("crds")))


@pytest.fixture
def files(folder: Path) -> Path:
    """The current folder: target_rate.fits of 10, one_, two_ and four_rate.fits of that."""
    values = {"target": 10.0, "one": 1.0, "two": 2.0, "four": 4.0}
    for number, (name, value) in enumerate(values.items(), 1):
        write_exposure(
            folder / f"{name}_rate.fits",
            sci=np.full(SHAPE, value, dtype=np.float32),
            metadata={"meta.observation.exposure_number": str(number)},
        )
    return folder


def value(result: Any) -> float:
    """Return the one value of a subtracted exposure, and close it."""
    with result:
        assert result.meta.cal_step.bkg_subtract == "COMPLETE"
        assert np.ptp(result.data) == 0
        return float(result.data[0, 0])


def value_in(path: str | Path) -> float:
    """Return the one value of a saved exposure."""
    return value(datamodels.open(str(path)))


def association(path: Path, target: str, *backgrounds: str, kind: str = "image2") -> str:
    """Write a level-2 association."""
    members = [{"expname": target, "exptype": "science"}]
    members += [{"expname": name, "exptype": "background"} for name in backgrounds]
    contents = {
        "asn_type": kind,
        "asn_rule": "DMSLevel2bBase",
        "asn_id": "a3001",
        "asn_pool": "none",
        "program": "01234",
        "products": [{"name": "product", "members": members}],
    }
    path.write_text(json.dumps(contents))
    return str(path)


# From Python


def test_call_saves_both_products(files: Path) -> None:
    before = {path: file_digest(path) for path in files.glob("*.fits")}
    result = BackgroundStep.call(
        "target_rate.fits",
        ["one_rate.fits", "two_rate.fits"],
        save_combined_background=True,
        save_results=True,
        suffix="bsub",
        output_dir="products",
    )

    assert value(result) == 8.5
    assert value_in("products/target_bsub.fits") == 8.5
    with datamodels.open("products/target_combinedbackground.fits") as average:
        np.testing.assert_array_equal(average.data, 1.5)
        np.testing.assert_allclose(average.err, 0.1 / np.sqrt(2), rtol=1e-6)
        assert average.meta.instrument.filter == "F770W"
    assert before == {path: file_digest(path) for path in files.glob("*.fits")}


def test_products_are_named_after_output_file(files: Path) -> None:
    for output_file in (None, "other.fits"):
        step = BackgroundStep(save_combined_background=True, save_results=True)
        step.output_file = output_file
        step.run("target_rate.fits", "one_rate.fits").close()
    for root in ("target", "other"):
        assert Path(f"{root}_backgroundstep.fits").exists()
        assert Path(f"{root}_combinedbackground.fits").exists()


def test_run_takes_the_attributes_set_before(files: Path) -> None:
    step = BackgroundStep()
    step.bkg_list = ["one_rate.fits", "four_rate.fits", "", "four_rate.fits"]
    step.sigma = 1.0
    assert value(step.run("target_rate.fits")) == 6
    step.bkg_list = "one_rate.fits, four_rate.fits"
    assert value(step.run("target_rate.fits")) == 7.5


def test_hooks_are_run(files: Path) -> None:
    seen = []

    class Look(Step):
        def process(self, *arguments: Any) -> None:
            seen.append(arguments)

    inputs = ("target_rate.fits", "one_rate.fits")
    result = BackgroundStep.call(*inputs, pre_hooks=[Look], post_hooks=[Look])
    assert seen == [inputs, (result,)]
    assert value(result) == 9


def test_a_folder_for_inputs_holds_the_target_and_members(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    association(files / "some_asn.json", "target_rate.fits", "one_rate.fits")
    monkeypatch.chdir(files.parent)
    inputs = str(files)
    assert value(BackgroundStep.call(f"{inputs}/some_asn.json")) == 9
    whole = json.loads((files / "some_asn.json").read_text())
    assert value(BackgroundStep.call(whole, input_dir=inputs)) == 9


def test_an_association_in_memory_names_products_after_itself(files: Path) -> None:
    path = association(files / "some_asn.json", "target_rate.fits", "one_rate.fits")
    whole = json.loads(Path(path).read_text())
    before = json.dumps(whole)
    BackgroundStep.call(whole, save_results=True, suffix="bsub").close()
    assert value_in("product_bsub.fits") == 9
    assert json.dumps(whole) == before


@pytest.mark.parametrize("parameters", [{"sigma": 0.0}, {"sigma": -1.0}])
def test_a_threshold_that_makes_no_sense_is_refused(
    files: Path, parameters: dict[str, float]
) -> None:
    with pytest.raises(ParameterError, match="sigma is"):
        BackgroundStep.call("target_rate.fits", "one_rate.fits", **parameters)


def test_without_crds_jwst_ends_the_process_and_offsky_goes_on(
    files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        jwst.background.BackgroundStep.call("target_rate.fits", "one_rate.fits")
    assert value(BackgroundStep.call("target_rate.fits", "one_rate.fits", sigma=2.0)) == 9
    assert "CRDS cannot be reached: going on with the parameters given" in caplog.text


def test_messages_are_shown_and_recorded_with_the_pipeline_s_own(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = logging.getLogger("offsky")
    before = (ours.level, list(ours.handlers))
    with BackgroundStep.call("target_rate.fits", ["one_rate.fits", "two_rate.fits"]) as result:
        recorded = "\n".join(result.cal_logs.bkg_subtract)
    shown = capsys.readouterr().err
    for line in ("one_rate.fits  used", "rejects nothing", "CRDS cannot be reached"):
        assert shown.count(line) == 1
        assert recorded.count(line) == 1
    assert (ours.level, list(ours.handlers)) == before


@pytest.mark.slow
@pytest.mark.parametrize("exp_type", ["NIS_SOSS", "NIS_WFSS", "NRC_WFSS", "MIR_WFSS"])
def test_backgrounds_from_reference_files_are_left_to_jwst(
    files: Path, monkeypatch: pytest.MonkeyPatch, exp_type: str
) -> None:
    write_exposure(
        "spectra_rate.fits",
        sci=np.ones(SHAPE),
        metadata={"meta.exposure.type": exp_type, "meta.source_catalog": "sources.ecsv"},
    )
    given = []

    def process(self: Any, *arguments: Any) -> Any:
        given.append(arguments)
        return datamodels.open(arguments[0])

    monkeypatch.setattr(jwst.background.BackgroundStep, "process", process)
    BackgroundStep.call("spectra_rate.fits", ["one_rate.fits"]).close()
    assert given == [("spectra_rate.fits", ["one_rate.fits"])]


def test_no_exposure_type_with_a_reference_background_is_forgotten() -> None:
    # Spec2Pipeline counts NRC_GRISM among them, jwst's step does not.
    known = set(calwebb_spec2.EXP_TYPES_USING_REFBKGDS) - {"NRC_GRISM"}
    assert set(step_module._FROM_REFERENCE) == known


# Options


def test_the_parameters_are_jwst_s_and_the_options() -> None:
    ours, theirs = BackgroundStep().get_pars(), jwst.background.BackgroundStep().get_pars()
    of_ours = {"profile", "masks", "mask_dir", "report", "memory", "threads"}
    added = {*of_ours, *(each.name for each in declarations(Options))} - set(theirs)
    assert set(ours) == set(theirs) | added
    # "Not given" for all that a profile decides; sigma is then the 3 it has been.
    assert {name for name in theirs if ours[name] != theirs[name]} <= {"sigma", "class", "name"}
    assert BackgroundStep()._options() == offsky.Options()


def test_options_are_step_parameters(files: Path) -> None:
    backgrounds = ["one_rate.fits", "two_rate.fits", "four_rate.fits"]
    call = BackgroundStep.call
    assert value(call("target_rate.fits", backgrounds, combine="median")) == 8
    assert value(call("target_rate.fits", backgrounds, target_scale="3", combine="median")) == 4
    assert value(call("target_rate.fits", backgrounds, reject="minmax", n_extremes=1)) == 8

    step = BackgroundStep(profile="offsky", bad_bits="DO_NOT_USE,4", sigma=2.0, bad_fraction=0.5)
    expected = offsky.PROFILES["offsky"].changed(bad_bits=5, sigma=2.0, bad_fraction=0.5)
    assert step._options() == expected
    step.target_scale = "fit"
    assert step._options() == expected.changed(target_scale="fit")
    step.profile, step.mask_sources, step.maxiters = "jwst", True, 0
    assert step._options().mask_sources
    assert step._options().maxiters is None


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bad_bits": "NO_SUCH_FLAG"}, "NO_SUCH_FLAG"),
        ({"target_scale": "twice"}, "target_scale"),
        ({"bad_fraction": 2.0}, "bad_fraction"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    files: Path, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        BackgroundStep.call("target_rate.fits", "one_rate.fits", **parameters)


def test_propagated_errors_are_in_both_products(files: Path) -> None:
    for name, number in (("target", 10.0), ("one", 1.0), ("two", 2.0)):
        write_exposure(
            f"{name}_rate.fits", sci=np.full(SHAPE, number), err=0.1 * number, variances=True
        )
    with BackgroundStep.call(
        "target_rate.fits",
        ["one_rate.fits", "two_rate.fits"],
        errors="propagate",
        save_combined_background=True,
    ) as result:
        variance = 1.0 + (0.01 + 0.04) / 4
        np.testing.assert_allclose(result.err, np.sqrt(variance), rtol=1e-6)
        np.testing.assert_allclose(result.var_poisson, 0.75 * variance, rtol=1e-6)
        np.testing.assert_allclose(result.var_rnoise, 0.25 * variance, rtol=1e-6)
    with datamodels.open("target_combinedbackground.fits") as average:
        np.testing.assert_allclose(average.var_poisson, 0.75 * 0.05 / 4, rtol=1e-6)


# From the shell


def shell(*command: str) -> str:
    """Run one of stpipe's commands; return what it wrote."""
    script = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [sys.executable, script, *command[1:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_strun_takes_the_list_as_an_option(files: Path) -> None:
    output = shell(
        "strun",
        "offsky.step.BackgroundStep",
        "target_rate.fits",
        "--bkg_list=one_rate.fits,two_rate.fits",
        "--save_combined_background=true",
        "--suffix=bsub",
    )
    assert "CRDS cannot be reached" in output
    assert "two_rate.fits  used" in output
    assert value_in("target_bsub.fits") == 8.5
    assert Path("target_combinedbackground.fits").exists()


@pytest.mark.slow
def test_strun_takes_a_parameter_file(files: Path) -> None:
    step = BackgroundStep(bkg_list=["one_rate.fits", "four_rate.fits"], sigma=2.5)
    step.export_config("subtract.asdf")
    output = shell("strun", "subtract.asdf", "target_rate.fits", "--suffix=bsub")
    assert "sigma: 2.5" in output
    assert value_in("target_bsub.fits") == 7.5


def test_stpipe_lists_the_step() -> None:
    from stpipe import entry_points

    names = [each.class_name for each in entry_points.get_steps()]
    assert "offsky.step.BackgroundStep" in names


def test_the_alias_stays_that_of_jwst() -> None:
    # Two steps of one alias would make ``strun bkg_subtract`` an error.
    from stpipe.utilities import resolve_step_class_alias

    assert resolve_step_class_alias("bkg_subtract") == "jwst.step.BackgroundStep"


def test_listing_the_step_imports_nothing_else() -> None:
    code = (
        "import sys; from offsky.stpipe_entry import get_steps; get_steps(); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"jwst", "stpipe", "stdatamodels", "astropy", "numpy"} & set(done.stdout.split())


# Inside the pipelines


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """offsky's step in the pipelines, which do not ask for CRDS."""
    monkeypatch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", "true")
    monkeypatch.setattr("stpipe.crds_client.get_context_used", lambda observatory: "none")
    monkeypatch.setattr(BackgroundStep, "prefetch_references", False)
    install()
    yield
    uninstall()


def only_background(pipeline: Any, *others: str) -> dict[str, dict[str, bool]]:
    """Return the parameters that skip all other steps."""
    left = ("bkg_subtract", *others)
    steps: dict[str, Any] = {
        name: {"skip": True} for name in pipeline.step_defs if name not in left
    }
    steps["bkg_subtract"] = {"save_results": True, "save_combined_background": True}
    return steps


def test_the_image_pipeline_uses_it_after_install(files: Path, installed: None) -> None:
    path = association(files / "some_asn.json", "target_rate.fits", "one_rate.fits")
    (result,) = Image2Pipeline.call(path, save_results=True, steps=only_background(Image2Pipeline))

    with result:
        assert "one_rate.fits  used" in "\n".join(result.cal_logs.calwebb_image2)
        assert result.meta.asn.table_name == "some_asn.json"
    assert value(result) == 9
    assert value_in("product_bsub.fits") == value_in("product_cal.fits") == 9
    assert Path("product_combinedbackground.fits").exists()


@pytest.mark.slow
def test_the_pipelines_of_the_command_line_use_it_too(
    files: Path, installed: None, caplog: pytest.LogCaptureFixture
) -> None:
    path = association(files / "some_asn.json", "target_rate.fits", "one_rate.fits")
    skipped = [f"--steps.{name}.skip=true" for name in Image2Pipeline.step_defs]
    skipped.remove("--steps.bkg_subtract.skip=true")
    Step.from_cmdline(["calwebb_image2", path, *skipped])
    caplog.clear()  # the records hold the pipeline's model, and that its file
    assert value_in("product_cal.fits") == 9


@pytest.mark.slow
def test_the_spectroscopic_pipeline_uses_it_after_install(
    folder: Path, installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, number in (("target", 10.0), ("one", 1.0)):
        write_exposure(
            f"{name}_rate.fits",
            sci=np.full(SHAPE, number, dtype=np.float32),
            model="IFUImageModel",
            metadata={"meta.observation.exposure_number": str(int(number))},
        )

    def process(self: Any, model: Any) -> Any:
        model.meta.cal_step.assign_wcs = "COMPLETE"
        return model

    # It cannot be skipped, and would need reference files.
    monkeypatch.setattr(AssignWcsStep, "process", process)
    monkeypatch.setattr(AssignWcsStep, "prefetch_references", False)
    path = association(folder / "a_asn.json", "target_rate.fits", "one_rate.fits", kind="spec2")
    (result,) = Spec2Pipeline.call(path, steps=only_background(Spec2Pipeline, "assign_wcs"))

    assert value(result) == 9
    assert value_in("product_bsub.fits") == 9


@pytest.mark.parametrize("pipeline", [Image2Pipeline, Spec2Pipeline])
def test_uninstall_gives_jwst_s_step_back(pipeline: Any, installed: None) -> None:
    assert type(pipeline().bkg_subtract) is BackgroundStep
    uninstall()
    assert type(pipeline().bkg_subtract) is jwst.background.BackgroundStep
