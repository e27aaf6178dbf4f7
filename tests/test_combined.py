"""The combined background: an exposure like the target, that tells of its inputs."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from plain import NIRSPEC, expose, pixels, rows_of, run

import offsky
from offsky.testing import write_exposure

SUBARRAY = {"SUBSTRT1": 101, "SUBSTRT2": 201, "SUBARRAY": "SUB64"}


def noise(seed: int, shape: tuple[int, ...] = (6, 8)) -> np.ndarray:
    return np.random.default_rng(seed).normal(5.0, 1.0, shape).astype(np.float32)


@pytest.mark.parametrize("nints", [None, 3])
@pytest.mark.parametrize("common", [{}, SUBARRAY, NIRSPEC], ids=["full", "subarray", "NIRSpec"])
def test_it_is_a_background_again_with_the_same_result(
    folder: Path, caplog: pytest.LogCaptureFixture, common: dict[str, Any], nints: int | None
) -> None:
    shape = (6, 8) if nints is None else (nints, 6, 8)
    target = expose(folder / "t_rate.fits", noise(0, shape), keywords=common)
    skies = [expose(folder / f"b{i}.fits", noise(i, shape), keywords=common) for i in (1, 2, 3)]
    offsky.subtract_file(target, skies, "first.fits", combined_path="c.fits")
    offsky.average_file(skies, "average.fits")
    for again in ("c.fits", "average.fits"):
        # Strictly, and without a remark: its metadata is like the target's.
        caplog.clear()
        offsky.subtract_file(target, [again], f"with_{again}")
        assert not caplog.messages
        np.testing.assert_array_equal(pixels(f"with_{again}"), pixels("first.fits"))
        with offsky.subtract(target, [again]) as model:
            np.testing.assert_array_equal(model.data, pixels("first.fits"))
    # Its own average is itself.
    offsky.average_file(["c.fits"], "once_more.fits")
    np.testing.assert_array_equal(pixels("once_more.fits"), pixels("c.fits"))


def test_it_lies_where_the_target_lies(folder: Path) -> None:
    # The inputs are larger than the target, and at another place.
    target = expose(folder / "t.fits", 10, SUBSTRT1=11, SUBSTRT2=21)
    larger = expose(folder / "b.fits", noise(1, (40, 40)), SUBSTRT1=5, SUBSTRT2=7)
    offsky.subtract_file(target, [larger], "r.fits", combined_path="c.fits")
    header = fits.getheader("c.fits")
    window = [header[key] for key in ("SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2")]
    assert window == [11, 21, 8, 6]
    np.testing.assert_array_equal(pixels("c.fits"), pixels(larger)[14:20, 6:14])
    # So it can be cut for a subarray of the target's again.
    small = expose(folder / "s.fits", 0, shape=(2, 3), SUBSTRT1=12, SUBSTRT2=24)
    offsky.subtract_file(small, ["c.fits"], "r2.fits")
    np.testing.assert_array_equal(pixels("r2.fits"), -pixels(larger)[17:19, 7:10])


KEPT_FROM_THE_TARGET = {
    "telescope": "JWST",
    "instrument.name": "NIRSPEC",
    "instrument.detector": "NRS1",
    "instrument.filter": "F170LP",
    "instrument.grating": "G235H",
    "instrument.gwa_xtilt": 0.35,
    "exposure.type": "NRS_IFU",
    "exposure.readpatt": "NRSIRS2RAPID",
    "exposure.nints": 1,
    "subarray.xstart": 5,
    "subarray.ystart": 6,
    "subarray.xsize": 8,
    "subarray.ysize": 6,
    "bunit_data": "DN/s",
    "bunit_err": "DN/s",
    # Of the inputs: the first start, the last end, the mean middle.
    "observation.date_beg": "2026-08-01T00:00:00.000",
    "observation.date_end": "2026-08-03T12:00:00.000",
    "exposure.start_time": 60001.0,
    "exposure.mid_time": 60002.25,
    "exposure.end_time": 60003.5,
    # It is no exposure of its own.
    "observation.exposure_number": None,
    "cal_step.bkg_subtract": None,
}


@pytest.mark.parametrize("made", ["subtract", "average", "model"])
def test_it_carries_the_metadata_of_an_exposure_like_the_target(folder: Path, made: str) -> None:
    from stdatamodels.jwst import datamodels

    paths = []
    for day in range(4):
        times = {"start": 60000.0, "mid": 60000.25, "end": 60000.5}
        metadata: dict[str, object] = {
            "meta.subarray.xstart": 5,
            "meta.subarray.ystart": 6,
            "meta.observation.date_beg": f"2026-08-{day:02d}T00:00:00.000" if day else None,
            "meta.observation.date_end": f"2026-08-{day:02d}T12:00:00.000" if day else None,
            **{f"meta.exposure.{name}_time": time + day for name, time in times.items()},
        }
        path = folder / f"e{day}_rate.fits"
        paths.append(
            write_exposure(path, sci=noise(day), model="IFUImageModel", metadata=metadata)
        )
    if made == "subtract":
        offsky.subtract_file(paths[0], paths[1:], "r.fits", combined_path="c.fits")
    elif made == "average":
        offsky.average_file(paths[1:], "c.fits")
    else:
        with offsky.average(paths[1:]) as model:
            model.save("c.fits")
    with datamodels.open("c.fits") as model:
        assert type(model) is datamodels.ImageModel
        model.validate()
        flat = model.to_flat_dict()
        assert flat["meta.filename"] == "c.fits"
        found = {name: flat.get(f"meta.{name}") for name in KEPT_FROM_THE_TARGET}
    expected = dict(KEPT_FROM_THE_TARGET)
    if made == "model":
        # Without a file to begin with it has the facts that offsky looks at.
        expected["telescope"] = found["telescope"]
    assert found == expected


def test_it_counts_the_samples_kept_at_each_pixel(folder: Path) -> None:
    skies = []
    for i in range(12):
        sci = noise(i)
        sci[0, :i] = np.nan
        sci[5, 7] = 1000.0 if i == 4 else 1.0
        skies.append(expose(folder / f"b{i}.fits", sci))
    offsky.average_file(skies, "c.fits", sigma=3.0)
    kept = offsky.clipped_mean(np.stack([pixels(path) for path in skies]))
    np.testing.assert_array_equal(pixels("c.fits", "N_KEPT"), kept.n_kept)
    assert pixels("c.fits", "N_KEPT")[5, 7] == 11
    assert (np.diff(pixels("c.fits", "N_KEPT")[0]) >= 0).all()


FATES = ["used", "used", "dropped", "dropped", "used"]


def table(folder: Path) -> tuple[Path, list[Path]]:
    """Write a target and five backgrounds with different fates."""
    values = {"plain": 1.0, "longer": 2.0, "tilted": 3.0, "elsewhere": 4.0, "part": 5.0}
    more: dict[str, dict[str, Any]] = {
        "longer": {"NGROUPS": 99},
        "tilted": {"GWA_XTIL": 0.4},
        "elsewhere": {"SUBSTRT1": 500},
        "part": {"SUBSTRT1": 5},
    }
    target = expose(folder / "t_rate.fits", 10, keywords=NIRSPEC)
    return target, [
        expose(folder / f"{name}.fits", value, keywords={**NIRSPEC, **more.get(name, {})})
        for name, value in values.items()
    ]


def test_it_lists_every_input_with_its_fate(folder: Path) -> None:
    target, skies = table(folder)
    offsky.subtract_file(target, skies, "r.fits", combined_path="c.fits")
    rows = rows_of("c.fits")
    assert [row["NAME"] for row in rows] == [path.name for path in skies]
    assert [row["FATE"] for row in rows] == FATES
    assert [row["REMARKS"] for row in rows] == [
        "",
        "NGROUPS 99 (not 36)",
        "GWA_XTIL 0.4 differs from t_rate.fits's 0.35",
        "does not overlap (x 500-507, y 1-6)",
        "covers a part only (x 5-12, y 1-6)",
    ]
    levels = [row["LEVEL"] for row in rows]
    np.testing.assert_array_equal(levels, [1.0, 2.0, np.nan, np.nan, 5.0])
    assert [row["N_REJECTED"] for row in rows] == [0] * 5
    assert fits.getval("c.fits", "OFFNBKG") == 3


def test_the_list_tells_the_samples_rejected_and_the_level_of_each(folder: Path) -> None:
    skies = []
    for i in range(10):
        sci = np.full((6, 8), 10.0 * i, dtype=np.float32)
        sci[:3] = 100.0  # all alike here, but for the outliers
        sci[2, : i // 4] = 1e6
        skies.append(expose(folder / f"b{i}.fits", sci))
    outcome = offsky.average_file(skies, "c.fits", sigma=2.0)
    rows = rows_of("c.fits")
    assert tuple(row["N_REJECTED"] for row in rows) == outcome.n_rejected
    assert fits.getval("c.fits", "OFFNREJ") == sum(outcome.n_rejected) > 0
    expected = [np.median(pixels(path)) for path in skies]
    np.testing.assert_allclose([row["LEVEL"] for row in rows], expected)


@pytest.mark.parametrize("made", ["file", "model"])
def test_its_map_and_list_are_kept_when_a_model_is_saved_again(folder: Path, made: str) -> None:
    from stdatamodels.jwst import datamodels

    _, skies = table(folder)
    skies = [skies[0], skies[1], skies[4]]
    if made == "file":
        offsky.average_file(skies, "c0.fits")
    else:
        with offsky.average(skies) as model:
            model.save("c0.fits")
    for i in range(2):
        with datamodels.open(f"c{i}.fits") as model:
            model.validate()
            model.save(f"c{i + 1}.fits")
    np.testing.assert_array_equal(pixels("c2.fits", "N_KEPT"), pixels("c0.fits", "N_KEPT"))
    assert pixels("c2.fits", "N_KEPT").max() == 3
    assert str(rows_of("c2.fits")) == str(rows_of("c0.fits"))
    assert [row["NAME"] for row in rows_of("c2.fits")] == [path.name for path in skies]
    assert fits.getval("c2.fits", "OFFNBKG") == 3
    # And it is a background still.
    assert run("subtract", folder / "t_rate.fits", "c2.fits") == 0


def test_files_and_models_give_one_average(folder: Path) -> None:
    from stdatamodels.jwst import datamodels

    skies = [write_exposure(folder / f"b{i}_rate.fits", sci=noise(i)) for i in range(3)]
    offsky.average_file(skies, "c.fits")
    with ExitStack() as stack:
        models = [stack.enter_context(datamodels.open(path)) for path in skies]
        model = stack.enter_context(offsky.average(models))
        for name, array in (("SCI", model.data), ("ERR", model.err), ("DQ", model.dq)):
            np.testing.assert_array_equal(array, pixels("c.fits", name))
        model.save("m.fits")
    np.testing.assert_array_equal(pixels("m.fits", "N_KEPT"), pixels("c.fits", "N_KEPT"))
    assert str(rows_of("m.fits")) == str(rows_of("c.fits"))
    ours, theirs = fits.getheader("c.fits"), fits.getheader("m.fits")
    for key in ("OFFNBKG", "OFFLEVEL", "OFFNREJ", "INSTRUME", "FILTER", "EXPSTART", "SUBSTRT1"):
        assert ours[key] == theirs[key]
    assert list(ours["HISTORY"]) == list(theirs["HISTORY"])
