"""Imprints: chosen as the pipeline chooses, subtracted before rejection, through every door."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from doors import AVERAGE_DOORS, DOORS, AverageDoor, Door, DoorError, How
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import NIRSPEC, expose, pixels, refused, rows_of, run
from programmes import leftovers
from scenes import SHAPE, Job, write

import offsky
from offsky.errors import ExposureError, ExposureMismatchError
from offsky.selection.imprints import choose_imprints, may_serve
from offsky.values.metadata import Metadata

FILE = DOORS["file"]
every_door = pytest.mark.parametrize(
    "door",
    [pytest.param(name, marks=[pytest.mark.slow] * each.slow) for name, each in DOORS.items()],
    indirect=True,
)
to_averages = pytest.mark.parametrize(
    "alone", list(AVERAGE_DOORS.values()), ids=lambda door: door.name
)


def corrected(path: Path, folder: Path, *imprints: Path) -> Path:
    """Write an exposure minus the mean of imprints, by plain NumPy."""
    folder.mkdir(exist_ok=True)
    with fits.open(path, memmap=False) as hdus, np.errstate(invalid="ignore"):
        level = np.mean([pixels(each).astype("f8") for each in imprints], axis=0)
        hdus["SCI"].data = (hdus["SCI"].data.astype("f8") - level).astype("f4")
        for each in imprints:
            hdus["DQ"].data = hdus["DQ"].data | pixels(each, "DQ")
        hdus[0].header["S_IMPRNT"] = "COMPLETE"
        hdus.writeto(folder / path.name)
    return folder / path.name


def scene(folder: Path, nints: int | None = None, stored: str = "fits") -> Job:
    """Write a target, five backgrounds of which one is a cube, and an imprint."""
    target = write(folder, 0, nints, stored=stored, by_models=True)
    backgrounds = [write(folder, i, 3 if i == 2 else None, by_models=True) for i in range(1, 6)]
    return Job(target, tuple(backgrounds), imprints=(write(folder, 20, by_models=True),))


def expected_of(job: Job, folder: Path, changes: dict[str, Any] | None = None) -> Any:
    """Make the same product of exposures that have been corrected beforehand."""
    before = folder / "before"
    target = corrected(job.target, before, *job.imprints)
    backgrounds = [corrected(each, before, *job.imprints) for each in job.backgrounds]
    (made,) = FILE.make(
        [Job(target, tuple(backgrounds))], folder / "expected", changes or {}, average=True
    )
    return made


# The rule

TRUTHS = st.sampled_from([None, True, False])
PLACES = st.sampled_from([None, "001", "002"]), st.sampled_from([None, 1, 2])


@given(
    exposure=st.tuples(TRUTHS, *PLACES),
    imprints=st.lists(st.tuples(TRUTHS, *PLACES), min_size=1, max_size=4),
)
def test_an_imprint_that_is_chosen_serves_alone_or_is_of_the_exposures_own_place(
    exposure: Any, imprints: list[Any]
) -> None:
    def facts(values: Any) -> Metadata:
        return Metadata(bkgdtarg=values[0], observation=values[1], pattern_number=values[2])

    chosen = choose_imprints(facts(exposure), [facts(each) for each in imprints])
    side = [i for i, each in enumerate(imprints) if bool(each[0]) == bool(exposure[0])]
    same = [i for i in side if imprints[i][1:] == exposure[1:]]
    if len(imprints) == 1:
        assert chosen == (0,)
    elif same:
        assert chosen == tuple(same)
    else:
        assert chosen == (tuple(side) if len(side) == 1 else ())


def test_an_imprint_of_another_detector_filter_grating_or_msa_file_does_not_serve() -> None:
    own = {"detector": "NRS1", "filter": "F170LP", "grating": "G235H", "msa_file": "a.fits"}
    for name, value in own.items():
        assert may_serve(Metadata(**own), Metadata(**{**own, name: None}))  # type: ignore[arg-type]
        other = Metadata(**{**own, name: f"{value}2"})  # type: ignore[arg-type]
        assert not may_serve(other, Metadata(**own))  # type: ignore[arg-type]


# Through every door


@every_door
@pytest.mark.parametrize(("nints", "stored"), [(None, "fits"), (4, "fits"), (None, "compressed")])
def test_the_imprint_is_subtracted_from_the_target_and_each_background_before_their_average(
    door: Door, folder: Path, nints: int | None, stored: str
) -> None:
    job = scene(folder, nints, stored)
    if door.name == "step" and stored == "compressed":
        pytest.skip("stpipe opens no compressed file")
    (made,) = door.make([job], folder / "out", {}, average="average" in door.abilities)
    expected = expected_of(job, folder)
    for name in ("SCI", "DQ", "ERR"):
        np.testing.assert_array_equal(pixels(made.product, name), pixels(expected.product, name))
    if made.average is not None:
        for name in ("SCI", "DQ", "ERR"):
            got, wanted = pixels(made.average, name), pixels(expected.average, name)
            np.testing.assert_array_equal(got, wanted)
    # What a file without an imprint would give is something else.
    (without,) = FILE.make([Job(job.target, job.backgrounds)], folder / "without", {})
    assert not np.array_equal(pixels(made.product, "DQ"), pixels(without.product, "DQ"))


@pytest.mark.slow
@every_door
def test_each_product_tells_its_imprints(door: Door, folder: Path) -> None:
    job = scene(folder)
    (made,) = door.make([job], folder / "out", {}, average="average" in door.abilities)
    header = fits.getheader(made.product)
    assert header["S_IMPRNT"] == "COMPLETE"
    # Long lines go on in the next card.
    told = "".join(map(str, header["HISTORY"])).split("offsky imprint: ")[1:]
    (imprint,) = job.imprints
    assert len(told) == 6
    assert all(imprint.name in line for line in told)
    assert [path.name in line for path, line in zip(job.backgrounds, told[1:], strict=True)]
    assert told[0].endswith(job.target.name)
    outcome = made.outcome or {}
    assert [Path(name).name for name, _ in outcome["imprints"]] == [
        path.name for path in (job.target, *job.backgrounds)
    ]
    assert {Path(each).name for _, names in outcome["imprints"] for each in names} == {
        imprint.name
    }
    if made.average is not None:
        rows = rows_of(made.average)
        assert {Path(row["IMPRINTS"]).name for row in rows} == {imprint.name}
        assert fits.getheader(made.average)["S_IMPRNT"] == "COMPLETE"


@pytest.mark.slow
@every_door
def test_exposures_that_had_their_imprint_are_not_corrected_again(
    door: Door, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = scene(folder)
    before = folder / "before"
    target = corrected(job.target, before, *job.imprints)
    backgrounds = tuple(corrected(each, before, *job.imprints) for each in job.backgrounds)
    if door.name == "step":
        # Its header's cards win over the metadata in ASDF.
        assert fits.getheader(target)["S_IMPRNT"] == "COMPLETE"
    (made,) = door.make([Job(target, backgrounds, imprints=job.imprints)], folder / "out", {})
    (expected,) = FILE.make([Job(target, backgrounds)], folder / "expected", {})
    for name in ("SCI", "DQ"):
        np.testing.assert_array_equal(pixels(made.product, name), pixels(expected.product, name))
    assert (made.outcome or {})["imprints"] == []


@pytest.mark.slow
@every_door
def test_a_background_without_the_imprint_that_the_target_had_stops_the_product(
    door: Door, folder: Path
) -> None:
    job = scene(folder)
    target = corrected(job.target, folder / "before", *job.imprints)
    alone = Job(target, job.backgrounds)
    if door.name != "step":  # which forces everything, as the pipeline's does
        (failed,) = door.make_each([alone], folder / "out", {})
        assert isinstance(failed, DoorError)
        assert "no imprint has been subtracted from it, where one has been from" in str(failed)
        assert "force" in str(failed)
        assert leftovers(folder / "out") == []
    (made,) = door.make([alone], folder / "forced", {}, How(force=True))
    assert fits.getheader(made.product)["S_BKDSUB"] == "COMPLETE"


@to_averages
def test_an_average_alone_is_of_corrected_exposures(alone: AverageDoor, folder: Path) -> None:
    job = scene(folder)
    made = alone.make_told(job, folder / "out", {})
    expected = expected_of(job, folder)
    for name in ("SCI", "DQ", "ERR"):
        np.testing.assert_array_equal(pixels(made.product, name), pixels(expected.average, name))
    assert fits.getheader(made.product)["S_IMPRNT"] == "COMPLETE"
    assert len(made.outcome["imprints"]) == 5  # type: ignore[index]


def test_an_asdf_target_is_corrected_too(folder: Path) -> None:
    from stdatamodels.jwst import datamodels

    target = write(folder, 0, stored="asdf")
    job = Job(target, tuple(write(folder, i) for i in range(1, 4)))
    imprint = write(folder, 20)
    (made,) = FILE.make([Job(job.target, job.backgrounds, imprints=(imprint,))], folder / "o", {})
    with datamodels.open(job.target) as model, datamodels.open(made.product) as product:
        with np.errstate(invalid="ignore"):
            sci = model.data - pixels(imprint)
        before = folder / "before"
        backgrounds = [corrected(each, before, imprint) for each in job.backgrounds]
        offsky.average_file(backgrounds, folder / "average.fits")
        covered = pixels(folder / "average.fits", "N_KEPT") > 0
        expected = sci - np.where(covered, pixels(folder / "average.fits"), 0)
        np.testing.assert_array_equal(product.data, expected)
        wanted = model.dq | pixels(imprint, "DQ") | pixels(folder / "average.fits", "DQ")
        np.testing.assert_array_equal(product.dq, wanted)
        assert product.meta.cal_step.imprint == "COMPLETE"


# Input that cannot be


def nirspec(folder: Path, name: str, sci: Any = 1.0, **keywords: Any) -> Path:
    return expose(folder / f"{name}_rate.fits", sci, keywords={**NIRSPEC, **keywords})


@pytest.fixture
def pair(folder: Path) -> list[Path]:
    """A target and two backgrounds of NIRSpec."""
    return [nirspec(folder, name, i) for i, name in enumerate(("target", "one", "two"))]


def test_an_imprint_that_cannot_be_is_told_in_one_line(
    folder: Path, pair: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(folder / "fifo_rate.fits")
    (folder / "cut_rate.fits").write_bytes(pair[0].read_bytes()[:5000])
    (folder / "text_rate.fits").write_text("no FITS")
    (folder / "folder_rate.fits").mkdir()
    nirspec(folder, "small", np.ones((6, 4)))
    nirspec(folder, "cube", np.ones((3, 6, 8)))
    nirspec(folder, "shifted", SUBSTRT1=3)
    nirspec(folder, "other", DETECTOR="NRS2")
    nirspec(folder, "grating", GRATING="G140H")
    nirspec(folder, "unit", BUNIT="MJy/sr")
    for name, words in (
        ("fifo", "fifo_rate.fits"),
        ("cut", "cut_rate.fits"),
        ("text", "text_rate.fits"),
        ("folder", "folder_rate.fits"),
        ("nowhere", "no such file"),
        ("small", "an imprint of 6 rows by 4 columns, where"),
        ("cube", "an imprint of 3 integrations; expected an image, its _rate.fits"),
        ("shifted", "expected one of the same window"),
        ("other", "DETECTOR 'NRS2' differs from"),
        ("grating", "GRATING 'G140H' differs from"),
        ("unit", "unit 'MJy/sr' differs from"),
        ("target", "itself"),
    ):
        line = refused(
            capsys, "subtract", *pair, "--imprint", folder / f"{name}_rate.fits", "-o", "out.fits"
        )
        assert f"{name}_rate.fits: " in line
        assert words in line
        assert leftovers(folder) == []
    # A device is no file either.
    assert "/dev/null" in refused(capsys, "subtract", *pair, "--imprint", "/dev/null")


def test_an_imprint_of_another_detector_can_be_forced(
    folder: Path, pair: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    other = nirspec(folder, "other", 0.25, DETECTOR="NRS2")
    offsky.subtract_file(pair[0], pair[1:], folder / "o.fits", imprints=[other], force=True)
    assert "the imprint DETECTOR 'NRS2' differs" in caplog.text
    np.testing.assert_array_equal(pixels(folder / "o.fits"), -1.5)


def test_the_product_may_not_replace_an_imprint(folder: Path, pair: list[Path]) -> None:
    imprint = nirspec(folder, "imprint")
    with pytest.raises(offsky.OutputError):
        offsky.subtract_file(pair[0], pair[1:], imprint, imprints=[imprint], overwrite=True)


def test_an_imprint_that_changes_while_it_is_read_stops_the_product(
    folder: Path, pair: list[Path]
) -> None:
    imprint = nirspec(folder, "imprint")

    def touch(n_done: int, n_total: int) -> None:
        os.utime(imprint, ns=(1, 1))

    with pytest.raises(ExposureError, match=r"imprint_rate.fits: changed while it was read"):
        offsky.subtract_file(
            pair[0], pair[1:], folder / "o.fits", imprints=[imprint], progress=touch
        )
    assert leftovers(folder) == []
    assert not (folder / "o.fits").exists()


def test_where_no_imprint_fits_that_is_said(
    folder: Path, pair: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    imprints = [nirspec(folder, f"l{i}", PATT_NUM=i) for i in (5, 6)]
    offsky.subtract_file(pair[0], pair[1:], folder / "o.fits", imprints=imprints)
    assert "target_rate.fits: none of 2 imprints has its BKGDTARG None" in caplog.text
    assert "S_IMPRNT" not in fits.getheader(folder / "o.fits")
    # One that fits the target alone leaves the backgrounds without.
    nirspec(folder, "target", PATT_NUM=5)
    with pytest.raises(ExposureMismatchError, match=r"one_rate.fits: no imprint"):
        offsky.subtract_file(pair[0], pair[1:], folder / "p.fits", imprints=imprints)


def test_a_copy_of_the_target_has_no_imprint_subtracted_and_says_so(
    folder: Path, pair: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    tilted = nirspec(folder, "tilted", GWA_XTIL=0.36)
    imprint = nirspec(folder, "imprint", 0.5)
    outcome = offsky.subtract_file(pair[0], [tilted], folder / "o.fits", imprints=[imprint])
    assert outcome.status == "SKIPPED"
    np.testing.assert_array_equal(pixels(folder / "o.fits"), pixels(pair[0]))
    assert "S_IMPRNT" not in fits.getheader(folder / "o.fits")
    assert "no imprint is subtracted either" in caplog.text


def test_a_single_name_for_imprints_is_no_list(pair: list[Path]) -> None:
    with pytest.raises(offsky.ParameterError, match="give a list"):
        offsky.subtract_file(pair[0], pair[1:], imprints="imprint_rate.fits")


def test_models_that_are_imprints_are_not_changed(folder: Path) -> None:
    from stdatamodels.jwst import datamodels

    job = scene(folder)
    with datamodels.open(job.imprints[0]) as imprint, datamodels.open(job.target) as target:
        before = imprint.data.copy(), imprint.dq.copy(), target.data.copy(), target.dq.copy()
        offsky.subtract(target, job.backgrounds, imprints=[imprint]).close()
        after = imprint.data, imprint.dq, target.data, target.dq
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)
        assert target.meta.cal_step.imprint is None


def test_options_that_contradict_are_refused(
    folder: Path, pair: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("subtract", *pair, "--imprints", "ignore") == 2
    assert "--imprints is for associations" in capsys.readouterr().err
    (folder / "a_asn.json").write_text("{}")
    assert run("subtract", "a_asn.json", "--imprint", pair[0]) == 2
    assert "an association names its imprints itself" in capsys.readouterr().err


# Several imprints, and several uses of one


def test_imprints_that_match_equally_are_averaged(folder: Path) -> None:
    target = nirspec(folder, "target", 10.0, PATT_NUM=1)
    backgrounds = [nirspec(folder, f"b{i}", 2.0 + i, PATT_NUM=2) for i in range(2)]
    imprints = [
        nirspec(folder, "l1", 1.0, PATT_NUM=1),
        nirspec(folder, "l2a", 0.25, PATT_NUM=2),
        nirspec(folder, "l2b", 0.75, PATT_NUM=2),
    ]
    outcome = offsky.subtract_file(target, backgrounds, folder / "o.fits", imprints=imprints)
    np.testing.assert_array_equal(pixels(folder / "o.fits"), 10.0 - 1.0 - (2.5 - 0.5))
    assert [len(names) for _, names in outcome.imprints] == [1, 2, 2]


@pytest.mark.parametrize("errors", ["none", "propagate"])
def test_nods_that_share_files_are_made_in_one_pass_with_the_same_pixels(
    folder: Path, errors: str
) -> None:
    paths = [write(folder, i, by_models=True) for i in range(5)]
    imprints = (write(folder, 20),)
    jobs = [
        Job(path, tuple(other for other in paths if other != path), imprints=imprints)
        for path in paths
    ]
    together = DOORS["association"].make(jobs, folder / "together", {"errors": errors})
    for job, made in zip(jobs, together, strict=True):
        (alone,) = FILE.make([job], folder / "alone", {"errors": errors})
        for name in ("SCI", "DQ", "ERR"):
            np.testing.assert_array_equal(pixels(made.product, name), pixels(alone.product, name))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, SHAPE[0]), threads=st.integers(1, 3))
def test_neither_blocks_nor_threads_change_a_pixel(
    tmp_path_factory: pytest.TempPathFactory, height: int, threads: int
) -> None:
    from offsky.engine import make as module

    folder = tmp_path_factory.mktemp("blocks")
    job = scene(folder)
    how: dict[str, Any] = {"imprints": job.imprints, "errors": "propagate"}
    offsky.subtract_file(job.target, job.backgrounds, folder / "a.fits", threads=1, **how)
    forecast = module.forecast

    def low(*arguments: Any, **named: Any) -> Any:
        from dataclasses import replace

        return replace(forecast(*arguments, **named), rows_per_block=height)

    module.forecast = low
    try:
        offsky.subtract_file(
            job.target, job.backgrounds, folder / "b.fits", threads=threads, **how
        )
    finally:
        module.forecast = forecast
    for name in ("SCI", "DQ", "ERR"):
        np.testing.assert_array_equal(pixels(folder / "a.fits", name),
                                      pixels(folder / "b.fits", name))  # fmt: skip


def test_a_memory_limit_makes_lower_blocks_and_the_same_pixels(folder: Path) -> None:
    job = scene(folder)
    how: dict[str, Any] = {"imprints": job.imprints, "errors": "propagate", "threads": 2}
    free = offsky.subtract_file(job.target, job.backgrounds, folder / "a.fits", **how)
    bare = offsky.subtract_file(
        job.target, job.backgrounds, folder / "c.fits", errors="propagate", threads=2
    )
    assert free.predicted_bytes > bare.predicted_bytes
    limit = bare.predicted_bytes
    offsky.subtract_file(job.target, job.backgrounds, folder / "b.fits", memory=limit, **how)
    np.testing.assert_array_equal(pixels(folder / "a.fits"), pixels(folder / "b.fits"))


def test_an_average_of_corrected_exposures_is_a_background_that_had_its_imprint(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = scene(folder)
    average = folder / "average_rate.fits"
    offsky.average_file(job.backgrounds, average, imprints=job.imprints)
    offsky.subtract_file(job.target, [average], folder / "a.fits", imprints=job.imprints)
    assert "average_rate.fits: an imprint has been subtracted from it already" in caplog.text
    offsky.subtract_file(job.target, job.backgrounds, folder / "b.fits", imprints=job.imprints)
    for name in ("SCI", "DQ"):
        np.testing.assert_array_equal(
            pixels(folder / "a.fits", name), pixels(folder / "b.fits", name)
        )
    # A target that has not had it does not go with that average.
    with pytest.raises(ExposureMismatchError, match="no imprint has been subtracted from it"):
        offsky.subtract_file(job.target, [average], folder / "c.fits")


def test_a_report_is_of_the_corrected_exposures(folder: Path) -> None:
    job = scene(folder)
    offsky.subtract_file(
        job.target, job.backgrounds, folder / "a.fits", imprints=job.imprints, report=True
    )
    (page,) = folder.glob("a*.html")
    offsky.subtract_file(job.target, job.backgrounds, folder / "b.fits", imprints=job.imprints)
    for name in ("SCI", "DQ", "ERR"):
        np.testing.assert_array_equal(
            pixels(folder / "a.fits", name), pixels(folder / "b.fits", name)
        )
    assert page.stat().st_size > 10_000
