"""The checks: silent on clean scenes, and each fault of a known size is found."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from judged import (
    NOISE,
    exposures,
    facts_of,
    findings,
    gathered_of,
    ghost,
    judged_scene,
    product_of,
)

from offsky.measure.checks import CODES, check
from offsky.measure.judged import Judged
from offsky.values.facts import ExposureFacts
from offsky.values.finding import STATES


def plain(seed: int = 0, shape: tuple[int, int] = (128, 128), scatter: float = NOISE) -> Any:
    """Noise alone, whose ERR is right."""
    return np.random.default_rng(seed).normal(0, scatter, shape).astype(np.float32)


def judged_plain(product: np.ndarray, **seen: Any) -> Any:
    about = seen.pop("facts", {})
    return findings(product, facts_of([(5000.0, 0.0)] * 4, errors="propagate", **about), **seen)


@pytest.mark.parametrize("dithers", [False, True])
def test_clean_scenes_raise_no_alarm(dithers: bool) -> None:
    n = 24
    alarms = [
        (seed, each.code, each.finding)
        for seed in range(1000, 1000 + n)
        for each in judged_scene(seed, dithers=dithers).values()
        if each.state in ("failed", "doubtful")
    ]
    # At or under 1 % for each check; of 24 scenes none.
    assert not alarms


@pytest.mark.slow
@pytest.mark.parametrize("dithers", [False, True])
def test_false_alarms_of_each_check_are_at_most_one_per_cent(dithers: bool) -> None:
    n = 300
    alarms = dict.fromkeys(CODES, 0)
    for seed in range(n):
        for each in judged_scene(seed, dithers=dithers).values():
            alarms[each.code] += each.state in ("failed", "doubtful")
    assert max(alarms.values()) <= 0.01 * n, alarms


def test_every_code_has_a_finding_in_order_with_a_state() -> None:
    found = check(Judged(gathered_of(plain()), facts_of([])))
    assert tuple(each.code for each in found) == CODES
    for each in found:
        assert each.state in STATES
        assert each.finding
        assert each.normal
        assert "\n" not in each.finding


def test_a_target_in_its_own_list_is_all_zero() -> None:
    found = judged_plain(np.zeros((64, 64), dtype=np.float32))["OFF101"]
    assert found.state == "failed"
    assert "100.0%" in found.finding
    assert judged_plain(plain())["OFF101"].state == "ok"


@pytest.mark.parametrize(("share", "state"), [(0.05, "doubtful"), (0.2, "failed")])
def test_a_ghost_of_a_known_size_is_found(share: float, state: str) -> None:
    for seed in range(12):
        found = judged_scene(seed, fault=ghost(share), dithers=True)["OFF102"]
        assert found.state == state, (seed, found)
        assert found.numbers["ghost_percent"] == pytest.approx(-100 * share, rel=0.25)


def test_a_ghost_cannot_be_told_of_backgrounds_nearer_than_a_point_source() -> None:
    found = judged_scene(3, dithers=True, step=1.5)["OFF102"]
    assert found.state == "unknown"
    assert "subtracts itself" in found.finding


def test_nods_in_a_slit_have_negatives_on_purpose() -> None:
    facts = {"exp_type": "NRS_FIXEDSLIT", "is_imaging": False, "is_nodded": True}
    found = judged_scene(3, fault=ghost(0.5), dithers=True, facts=facts)["OFF102"]
    assert found.state == "unknown"
    assert "on purpose" in found.finding


def test_without_pointing_a_ghost_is_unknown_and_says_why() -> None:
    facts = facts_of([None], why_no_offsets="the header is silent")
    found = findings(plain(), facts)["OFF102"]
    assert (found.state, found.finding) == ("unknown", "cannot tell: the header is silent")


def test_where_a_ghost_would_not_be_seen_the_check_says_under_which_size() -> None:
    product = plain(1, (128, 128))
    product[40:43, 40:43] += 8 * NOISE
    product[90:93, 80:83] += 8 * NOISE
    found = findings(product, facts_of([(20.0, 15.0)]))["OFF102"]
    assert found.state == "unknown"
    assert "would not be seen here" in found.finding


@pytest.mark.parametrize(("share", "state"), [(0.01, "ok"), (0.05, "doubtful"), (0.5, "failed")])
def test_flags_of_backgrounds_alone_are_counted(share: float, state: str) -> None:
    product = plain()
    dq = np.zeros(product.shape, dtype=np.uint32)
    rng = np.random.default_rng(0)
    dq[rng.random(product.shape) < share] = 1
    before = np.zeros_like(dq)
    before[:2] = 1
    dq[:2] = 1
    found = judged_plain(product, before=product, dq=dq, dq_before=before)["OFF103"]
    assert found.state == state
    expected = np.count_nonzero(dq & ~before & 1) / dq.size
    assert found.numbers["unusable_by_backgrounds"] == pytest.approx(expected)


@pytest.mark.parametrize("factor", [0.8, 1.25])
@pytest.mark.parametrize("propagated", [True, False])
def test_errors_of_another_size_are_found(factor: float, propagated: bool) -> None:
    facts = {"errors": "propagate" if propagated else "none"}

    def scaled(product: np.ndarray, offsets: Any, stars: Any) -> np.ndarray:
        # ERR with the average's error is the root of 1 + 1/4 larger.
        return product * factor / (np.sqrt(1.25) if propagated else 1)

    for seed in range(8):
        assert judged_scene(seed, fault=scaled, facts=facts)["OFF104"].state == "doubtful"


@pytest.mark.parametrize(("n", "expected"), [(1, 1.41), (4, 1.12)])
def test_errors_that_omit_the_average_are_not_the_data_s_fault(n: int, expected: float) -> None:
    found = judged_scene(5, n=n)["OFF104"]
    assert found.state == "ok"
    assert f"{expected:.2f} is expected" in found.finding
    assert "not at fault" in found.finding


def test_without_err_the_errors_are_unknown() -> None:
    assert judged_plain(plain(), err=np.nan)["OFF104"].state == "unknown"


@pytest.mark.parametrize(
    ("level", "state"), [(0.1, "ok"), (0.5, "doubtful"), (-0.5, "doubtful"), (5.0, "failed")]
)
def test_a_level_that_is_left_is_told_in_err(level: float, state: str) -> None:
    found = judged_plain(plain() + np.float32(level * NOISE))["OFF105"]
    assert found.state == state
    assert found.numbers["in_err"] == pytest.approx(level, abs=0.03)


@pytest.mark.parametrize("along", ["rows", "columns"])
def test_stripes_of_three_tenths_of_the_noise_are_found(along: str) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        shape = (256, 1) if along == "rows" else (1, 256)
        stripes = 0.3 * NOISE * rng.standard_normal(shape)
        found = judged_scene(seed, fault=lambda p, *_, s=stripes: p + s)["OFF106"]
        assert found.state == "doubtful", (seed, found)
        assert f"along {along}" in found.finding
        assert found.numbers["stripes"] == pytest.approx(0.3, rel=0.4)


def test_blotches_are_found_unless_they_were_worse_before() -> None:
    rng = np.random.default_rng(2)
    blotches = np.kron(0.3 * NOISE * rng.standard_normal((16, 16)), np.ones((8, 8)))
    product = plain() + blotches.astype(np.float32)
    assert judged_plain(product)["OFF106"].state == "doubtful"
    worse = (product + 3 * blotches).astype(np.float32)
    assert judged_plain(product, before=worse)["OFF106"].state == "ok"
    assert judged_plain(product, before=product)["OFF106"].state == "doubtful"


def test_an_exposure_with_many_rejected_samples_is_suspect() -> None:
    facts = facts_of([(5000.0, 0.0)] * 4)
    usual = findings(plain(), facts)["OFF107"]
    assert usual.state == "ok"
    rejected = (500, 9000, 500, 500)
    backgrounds = tuple(
        replace(each, n_rejected=n) for each, n in zip(facts.backgrounds, rejected, strict=True)
    )
    found = findings(plain(), replace(facts, backgrounds=backgrounds))["OFF107"]
    assert found.state == "doubtful"
    assert "background2_rate.fits" in found.action


@pytest.mark.parametrize(("share", "state"), [(0.0, "ok"), (0.05, "doubtful"), (0.5, "failed")])
def test_uncovered_pixels_with_a_value_are_counted(share: float, state: str) -> None:
    n = 128 * 128
    facts = {"n_uncovered": int(share * n) + 200, "n_no_value": 200}
    found = judged_plain(plain(), before=plain(1), facts=facts)["OFF108"]
    assert found.state == state
    # Without the target nobody knows how many of them have a value in it.
    alone = judged_plain(plain(), facts=facts)["OFF108"].state
    assert alone == ("ok" if state == "ok" else "unknown")
    assert found.numbers["uncovered"] == pytest.approx(share, abs=1e-4)


def test_another_readout_and_another_season_are_doubtful() -> None:
    facts = facts_of([(5000.0, 0.0)] * 3)
    assert findings(plain(), facts)["OFF109"].state == "ok"
    target = replace(facts.target, readout="SLOW, 10 groups")
    assert findings(plain(), replace(facts, target=target))["OFF109"].state == "doubtful"
    exposure = replace(facts.backgrounds[0].exposure, mjd=60100.0)
    backgrounds = (replace(facts.backgrounds[0], exposure=exposure), *facts.backgrounds[1:])
    late = replace(facts, target=replace(facts.target, mjd=60000.0), backgrounds=backgrounds)
    found = findings(plain(), late)["OFF109"]
    assert found.state == "doubtful"
    assert "100.0 days" in found.finding


@pytest.mark.parametrize(
    ("known", "state", "words"),
    [
        ({}, "ok", "once"),
        ({"times_subtracted": 2}, "failed", "subtracted before"),
        ({"subtraction": "none", "status": "SKIPPED"}, "doubtful", "SKIPPED"),
        (
            {"target": ExposureFacts(name="t", master="COMPLETE")},
            "doubtful",
            "master background",
        ),
        ({"target": ExposureFacts(name="t", imprint="COMPLETE")}, "doubtful", "imprint"),
        ({"target": ExposureFacts(name="t", background="COMPLETE")}, "failed", "before"),
    ],
)
def test_subtracted_twice_or_not_at_all(known: dict[str, Any], state: str, words: str) -> None:
    found = judged_plain(plain(), facts=known)["OFF110"]
    assert found.state == state
    assert words in found.finding


def test_a_target_without_sky_looks_subtracted_already() -> None:
    images, offsets, _ = exposures(4)
    product, average = product_of(images)
    twice = (product - average.sci).astype(np.float32)
    found = findings(twice, facts_of(offsets), before=product.astype(np.float32), average=average)
    assert found["OFF110"].state == "doubtful"
    assert "looks subtracted already" in found["OFF110"].finding


@pytest.mark.parametrize("shape", [(3, 4), (1, 200), (25, 341), (6, 8)])
def test_small_products_are_judged_without_a_complaint(shape: tuple[int, int]) -> None:
    for each in judged_plain(plain(0, shape)).values():
        assert each.as_dict()["numbers"] is not None


def test_a_product_without_a_finite_pixel_is_unknown() -> None:
    found = judged_plain(np.full((32, 32), np.nan, dtype=np.float32))
    for code in ("OFF101", "OFF104", "OFF105", "OFF106"):
        assert found[code].state == "unknown"
