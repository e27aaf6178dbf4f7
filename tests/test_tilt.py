"""NIRSpec's grating wheel: backgrounds of another tilt are not used."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from plain import NIRSPEC, expose, in_memory, pixels, rows_of, run

import offsky
from offsky.options import Options
from offsky.selection.choose import choose_backgrounds
from offsky.selection.suitability import Policy


@pytest.mark.parametrize("keyword", ["GWA_XTIL", "GWA_YTIL"])
@pytest.mark.parametrize("step", [2e-8, -2e-8, 0.1, None])
def test_one_of_four_with_another_tilt_is_dropped_and_named(
    folder: Path, caplog: pytest.LogCaptureFixture, keyword: str, step: float | None
) -> None:
    target = expose(folder / "t.fits", 10, keywords=NIRSPEC)
    backgrounds = [expose(folder / f"b{i}.fits", 1, keywords=NIRSPEC) for i in range(4)]
    tilt = None if step is None else NIRSPEC[keyword] + step
    expose(backgrounds[2], 50, keywords={**NIRSPEC, keyword: tilt})
    outcome = offsky.subtract_file(target, backgrounds, "r.fits", combined_path="c.fits")
    reason = f"{keyword} {tilt} differs from t.fits's {NIRSPEC[keyword]}"
    assert outcome.dropped == (("b2.fits", reason),)
    assert (pixels("r.fits") == 9).all()
    assert fits.getval("r.fits", "OFFNBKG") == 3
    assert f"b2.fits  dropped  {reason}" in caplog.text
    assert [row["FATE"] for row in rows_of("c.fits")] == ["used", "used", "dropped", "used"]


def tilts(x: float | None, y: float | None = 0.13) -> dict[str, Any]:
    return {"instrument": "NIRSPEC", "gwa_xtilt": x, "gwa_ytilt": y}


@pytest.mark.parametrize(
    ("ours", "theirs", "used"),
    [
        (tilts(0.35), tilts(0.35 + 9e-9), True),
        (tilts(0.35), tilts(0.35 - 9e-9), True),
        (tilts(0.35), tilts(0.35 + 1.1e-8), False),
        (tilts(None, None), tilts(None, None), True),
        (tilts(None), tilts(None), True),
        (tilts(0.35), tilts(None), False),
        (tilts(None), tilts(0.35), False),
        (tilts(0.0), tilts(None), False),
        (tilts(0.35), tilts(float("nan")), False),
        ({**tilts(1.0), "instrument": "MIRI"}, {**tilts(2.0), "instrument": "MIRI"}, True),
    ],
)
def test_tilts_agree_within_1e_8_and_unknown_ones_with_each_other(
    ours: dict[str, Any], theirs: dict[str, Any], used: bool
) -> None:
    for policy in (Policy(), Policy(force=True), Policy(all_or_nothing_tilt=True)):
        choice = choose_backgrounds(
            in_memory("t", **ours), [in_memory("b", **theirs)], policy=policy, options=Options()
        )
        assert (len(choice.used) == 1) == used


def test_all_or_nothing_drops_every_background_and_says_why() -> None:
    target = in_memory("t", **tilts(0.35))
    backgrounds = [in_memory(f"b{i}", **tilts(0.35 + 2e-8 * (i == 1))) for i in range(3)]
    choice = choose_backgrounds(
        target, backgrounds, policy=Policy(all_or_nothing_tilt=True), options=Options()
    )
    assert choice.used == ()
    assert [name for name, _ in choice.dropped] == ["b0", "b1", "b2"]
    reasons = [reason for _, reason in choice.dropped]
    assert reasons[0] == reasons[2] == "GWA tilt of another background differs"
    assert reasons[1].startswith("GWA_XTIL 0.35")


def test_only_where_every_tilt_differs_the_target_is_skipped(folder: Path) -> None:
    target = expose(folder / "t_rate.fits", 10, keywords=NIRSPEC)
    others = [
        expose(folder / f"b{i}.fits", 1, keywords={**NIRSPEC, "GWA_YTIL": 0.2}) for i in range(2)
    ]
    assert run("subtract", target, *others) == 0
    assert fits.getval("t_bsub.fits", "S_BKDSUB") == "SKIPPED"
    assert (pixels("t_bsub.fits") == 10).all()


def test_real_nods_share_their_tilt(shared_data: Path, folder: Path) -> None:
    first, *others = sorted((shared_data / "nirspec_nod").glob("*.fits"))
    tilt = fits.getval(first, "GWA_XTIL")
    moved = Path(shutil.copy(others[0], folder / "moved.fits"))
    fits.setval(moved, "GWA_XTIL", value=tilt + 2e-8)
    outcome = offsky.subtract_file(first, [moved, others[1]], "r.fits")
    assert outcome.backgrounds == (others[1].name,)
    assert outcome.dropped[0][0] == "moved.fits"
    assert offsky.subtract_file(first, others, "both.fits").dropped == ()


def test_those_that_are_left_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    # Eight are enough at 3 sigma; one of them is dropped.
    names = [f"b{i}" for i in range(8)]
    backgrounds = [in_memory(name, **tilts(0.3 if name == "b3" else 0.35)) for name in names]
    choose_backgrounds(
        in_memory("t", **tilts(0.35)), backgrounds, policy=Policy(), options=Options()
    )
    assert "with 7 backgrounds no sample can be farther than 2.96" in caplog.text
