"""Imprints beside the JWST pipeline: its ImprintStep as the judge, and its order of steps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

pytest.importorskip("jwst", reason="the JWST pipeline is not installed: offsky[jwst]")

from jwst.assign_wcs import AssignWcsStep
from jwst.background import BackgroundStep as JwstStep
from jwst.imprint import ImprintStep
from jwst.pipeline import Image2Pipeline, Spec2Pipeline
from plain import pixels, write_association
from stdatamodels.jwst import datamodels

import offsky
from offsky.io.files import open_exposure
from offsky.io.imprinted import ImprintedExposure
from offsky.options import Options
from offsky.programme.associations import write_associations
from offsky.programme.executors import SerialExecutor
from offsky.programme.planning import make_plan
from offsky.programme.run import run_programme
from offsky.selection.imprints import choose_imprints
from offsky.selection.pairing import Pairing
from offsky.step import BackgroundStep, install, uninstall
from offsky.testing import write_exposure
from offsky.values.exposure import Scratch, Wanted

pytestmark = pytest.mark.filterwarnings("ignore:.*get_cache_lock:DeprecationWarning")

SHAPE = (9, 11)


@pytest.fixture(autouse=True)
def without_crds(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty CRDS cache, no server."""
    for name in ("CRDS_SERVER_URL", "CRDS_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CRDS_PATH", str(tmp_path_factory.mktemp("crds")))
    monkeypatch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", "true")


def ifu(folder: Path, name: str, number: int, nints: int | None = None, **metadata: Any) -> Path:
    """Write an exposure of NIRSpec's IFU, its pixels all different."""
    rng = np.random.default_rng([7, number])
    shape = SHAPE if nints is None else (nints, *SHAPE)
    sci = rng.normal(10 * number, 3, shape).astype("f4")
    sci[rng.random(shape) < 0.05] = np.nan
    facts = {
        "meta.observation.exposure_number": str(number),
        "meta.observation.bkgdtarg": False,
        "meta.observation.observation_number": "001",
        "meta.dither.position_number": 1,
    }
    more = {f"meta.{key.replace('__', '.')}": value for key, value in metadata.items()}
    return write_exposure(
        folder / f"{name}_rate.fits",
        sci=sci,
        dq=(1 << rng.integers(0, 30, shape)).astype("u4"),
        model="CubeModel" if nints else "IFUImageModel",
        metadata={**NIRSPEC, **facts, **more},
    )


NIRSPEC = {
    "meta.instrument.name": "NIRSPEC",
    "meta.instrument.detector": "NRS1",
    "meta.instrument.filter": "F170LP",
    "meta.instrument.grating": "G235H",
    "meta.exposure.type": "NRS_IFU",
}


@pytest.mark.slow
@pytest.mark.parametrize("nints", [None, 3])
@pytest.mark.parametrize("case", range(12))
def test_sci_and_dq_are_those_of_the_pipelines_step(
    folder: Path, case: int, nints: int | None
) -> None:
    rng = np.random.default_rng([31, case])

    def place() -> dict[str, Any]:
        return {
            "observation__bkgdtarg": bool(rng.integers(2)),
            "observation__observation_number": f"00{rng.integers(1, 3)}",
            "dither__position_number": int(rng.integers(1, 3)),
        }

    path = ifu(folder, "exposure", 1, nints, **place())
    places: list[Any] = []
    while len(places) < 1 + case % 4:
        # Of two that match equally the pipeline takes the first, offsky the mean.
        another = place()
        if another not in places:
            places.append(another)
    imprints = [ifu(folder, f"l{i}", 10 + i, **each) for i, each in enumerate(places)]
    with datamodels.open(path) as model:
        theirs = ImprintStep.call(model, [str(each) for each in imprints])

    exposure, *opened = [open_exposure(each) for each in (path, *imprints)]
    chosen = choose_imprints(exposure.metadata, [each.metadata for each in opened])
    assert theirs.meta.cal_step.imprint == ("COMPLETE" if chosen else "SKIPPED")
    ours: Any = exposure
    if chosen:
        ours = ImprintedExposure(exposure, [opened[i] for i in chosen])
    rows = ours.read_rows(0, SHAPE[0], Scratch(), Wanted())
    np.testing.assert_array_equal(rows.sci, theirs.data)
    np.testing.assert_array_equal(rows.dq ^ np.uint32(rows.dq_flip), theirs.dq)
    picked = ours.pick_rows([1, 4], Scratch(), Wanted())
    np.testing.assert_array_equal(picked.sci, theirs.data[..., [1, 4], :])
    theirs.close()
    for each in (exposure, *opened):
        each.close()


@pytest.fixture
def members(folder: Path) -> list[tuple[str, str]]:
    """The members of programme 2162's kind: science, backgrounds, an imprint of each side."""
    ifu(folder, "science", 1)
    for i in (2, 3):
        ifu(folder, f"background{i}", i, observation__bkgdtarg=True)
    ifu(folder, "lt", 5)
    ifu(folder, "lb", 6, observation__bkgdtarg=True)
    return [
        ("science_rate.fits", "science"),
        ("background2_rate.fits", "background"),
        ("background3_rate.fits", "background"),
        ("lt_rate.fits", "imprint"),
        ("lb_rate.fits", "imprint"),
    ]


def only_imprints_and_backgrounds() -> dict[str, dict[str, bool]]:
    wanted = {"assign_wcs", "imprint_subtract", "bkg_subtract"}
    return {name: {"skip": name not in wanted} for name in Spec2Pipeline.step_defs}


@pytest.fixture
def without_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipelines that ask for no reference files."""

    def process(self: Any, model: Any) -> Any:
        model.meta.cal_step.assign_wcs = "COMPLETE"
        return model

    # It cannot be skipped, and would need reference files.
    monkeypatch.setattr(AssignWcsStep, "process", process)
    monkeypatch.setattr(AssignWcsStep, "prefetch_references", False)
    monkeypatch.setattr("stpipe.crds_client.get_context_used", lambda observatory: "none")
    for step in (BackgroundStep, JwstStep, ImprintStep):
        monkeypatch.setattr(step, "prefetch_references", False)


@pytest.fixture
def corrected(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the pipeline corrects by an imprint; it leaves the backgrounds open."""
    found: list[Any] = []
    own = ImprintStep.process

    def noted(self: Any, *arguments: Any) -> Any:
        found.append(own(self, *arguments))
        return found[-1]

    monkeypatch.setattr(ImprintStep, "process", noted)
    yield found
    for each in found:
        each.close()


@pytest.mark.slow
def test_inside_the_pipeline_an_imprint_is_subtracted_once(
    folder: Path,
    members: list[tuple[str, str]],
    without_references: None,
    corrected: list[Any],
) -> None:
    association = write_association(folder / "a_asn.json", ("product", members))
    results = {}
    for name in ("offsky", "jwst"):
        if name == "offsky":
            install()
        try:
            (result,) = Spec2Pipeline.call(str(association), steps=only_imprints_and_backgrounds())
        finally:
            uninstall()
        with result:
            assert result.meta.cal_step.imprint == "COMPLETE"
            assert result.meta.cal_step.bkg_subtract == "COMPLETE"
            results[name] = np.array(result.data), np.array(result.dq)
    assert len(corrected) == 2 * 3
    for ours, theirs in zip(results["offsky"], results["jwst"], strict=True):
        np.testing.assert_array_equal(ours, theirs)

    def sci(name: str) -> np.ndarray:
        return pixels(f"{name}_rate.fits").astype("f8")

    level = (sci("background2") + sci("background3")) / 2 - sci("lb")
    finite = np.isfinite(level + sci("science") + sci("lt"))
    assert finite.mean() > 0.6
    np.testing.assert_allclose(
        results["offsky"][0][finite], (sci("science") - sci("lt") - level)[finite], rtol=1e-5,
        atol=1e-4,
    )  # fmt: skip
    # The step alone, with the same association, comes to the same pixels; so does `subtract`.
    with BackgroundStep.call(str(association)) as alone:
        assert alone.meta.cal_step.imprint == "COMPLETE"
        np.testing.assert_array_equal(alone.data, results["offsky"][0])
        np.testing.assert_array_equal(alone.dq, results["offsky"][1])
    list(offsky.subtract_association(association, overwrite=True))
    np.testing.assert_array_equal(pixels("product_bsub.fits"), results["offsky"][0])


@pytest.mark.slow
def test_the_pipeline_makes_of_a_plans_associations_what_the_plan_makes(
    folder: Path,
    members: list[tuple[str, str]],
    without_references: None,
    corrected: list[Any],
) -> None:
    for name, exptype in members:
        if exptype == "imprint":
            fits.setval(name, "IS_IMPRT", value=True)
    plan = make_plan([folder], pairing=Pairing(source="dedicated"), options=Options())
    (path,) = write_associations(plan, folder, "1")
    run_programme(plan, folder / "out", executor=SerialExecutor())
    (result,) = Spec2Pipeline.call(str(path), steps=only_imprints_and_backgrounds())
    with result:
        assert len(corrected) == 3
        np.testing.assert_array_equal(result.data, pixels("out/science_bsub.fits"))


@pytest.mark.slow
def test_so_it_does_of_images(folder: Path, without_references: None) -> None:
    for number in (1, 2, 3):
        write_exposure(
            folder / f"sky{number}_rate.fits",
            sci=np.full(SHAPE, 10.0 * number, "f4"),
            metadata={
                "meta.observation.exposure_number": str(number),
                "meta.observation.bkgdtarg": number > 1,
            },
        )
    plan = make_plan([folder], pairing=Pairing(source="dedicated"), options=Options())
    (path,) = write_associations(plan, folder, "1")
    others = {name: {"skip": name != "bkg_subtract"} for name in Image2Pipeline.step_defs}
    (result,) = Image2Pipeline.call(str(path), steps=others)
    with result:
        assert (result.data == 10.0 - 25.0).all()
