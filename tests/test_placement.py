"""Places that keywords do not tell, and what must not change where they are found."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from oracle import model_state
from plain import expose, pixels

import offsky


@pytest.mark.parametrize(
    ("instrument", "shape"), [("MIRI", (1024, 1032)), ("NIRCAM", (2048, 2048))]
)
def test_full_frames_without_keywords_go_with_subarrays(
    folder: Path, instrument: str, shape: tuple[int, int]
) -> None:
    y, x = np.mgrid[: shape[0], : shape[1]]
    nothing = dict.fromkeys(("SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2"))
    whole = expose(folder / "whole.fits", y * 2048 + x, INSTRUME=instrument, keywords=nothing)
    for place in ({"SUBSTRT1": 701, "SUBSTRT2": 901}, {"SUBSTRT1": 1, "SUBSTRT2": 1}):
        sub = expose(folder / "sub.fits", 0, shape=(40, 50), INSTRUME=instrument, keywords=place)
        offsky.subtract_file(sub, [whole], "r.fits", overwrite=True)
        cut = (y * 2048 + x)[place["SUBSTRT2"] - 1 :, place["SUBSTRT1"] - 1 :][:40, :50]
        np.testing.assert_array_equal(pixels("r.fits"), -cut.astype(np.float32))


NAMES = ("xstart", "ystart", "xsize", "ysize")


@pytest.mark.parametrize("shape", [(7, 9), (1024, 1032)])
@pytest.mark.parametrize("given_in", ["neither", "target"])
def test_models_keep_their_metadata_as_it_was(shape: tuple[int, int], given_in: str) -> None:
    from stdatamodels.jwst import datamodels

    with ExitStack() as stack:
        models = []
        for value in (10.0, 1.0, 2.0):
            model = stack.enter_context(datamodels.ImageModel(np.full(shape, value, "f4")))
            model.err, model.dq = model.get_default("err"), model.get_default("dq")
            model.meta.instrument.name = "MIRI"
            models.append(model)
        if given_in == "target":
            for name, value in zip(NAMES, (1, 1, shape[1], shape[0]), strict=True):
                setattr(models[0].meta.subarray, name, value)
        before = [model_state(model) for model in models]
        result = stack.enter_context(offsky.subtract(models[0], models[1:]))
        combined = stack.enter_context(offsky.average(models[1:]))
        assert [model_state(model) for model in models] == before
        np.testing.assert_array_equal(result.data, 8.5)
        np.testing.assert_array_equal(combined.data, 1.5)
        for name in NAMES:
            assert name not in models[1].instance["meta"].get("subarray", {})


@pytest.fixture
def real_crops(shared_data: Path) -> list[Path]:
    """Files that their authors cropped, keywords and VAR arrays left as they were."""
    return sorted((shared_data / "miri_4qpm").glob("jw01277022001*.fits"))


def test_real_cropped_files_share_a_window_with_one_warning(
    folder: Path, real_crops: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    offsky.subtract_file(real_crops[0], real_crops[1:], "r.fits")
    assumed = [each for each in caplog.messages if "taken as the same window" in each]
    assert len(assumed) == 1
    assert "210 rows by 215 columns where SUBSIZE2 and SUBSIZE1 say 224 by 288" in assumed[0]
    np.testing.assert_array_equal(
        pixels("r.fits"), pixels(real_crops[0]) - np.nan_to_num(pixels(real_crops[1])[0])
    )


def test_a_real_cropped_file_beside_a_whole_one_is_refused(
    folder: Path, real_crops: list[Path]
) -> None:
    whole = expose(
        folder / "whole.fits",
        shape=(224, 288),
        DETECTOR="MIRIMAGE",
        FILTER="F1140C",
        EXP_TYPE="MIR_4QPM",
        BUNIT="MJy/sr",
    )
    for files in ((real_crops[0], [whole]), (whole, real_crops[:1])):
        with pytest.raises(offsky.ExposureMismatchError) as error:
            offsky.subtract_file(*files, "r.fits", force=True)
        assert real_crops[0].name in str(error.value)
        assert "whole.fits: 224 rows by 288 columns" in str(error.value)
        assert not Path("r.fits").exists()
