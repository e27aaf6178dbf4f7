"""The attack: its minimal cases, and whether it notices what it is there to notice."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from conftest import ROOT

import offsky
from offsky.errors import OffskyError

CORPUS = sorted((ROOT / "fuzz" / "corpus").glob("*.json"))


@pytest.fixture(autouse=True)
def fuzz_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the package beside the tests be imported."""
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def try_case(tmp_path: Path) -> Callable[..., Any]:
    """Return what tries a case in a folder of its own."""
    from fuzz.attempt import attempt

    place = tmp_path / "case"
    place.mkdir()
    return lambda case: attempt(case, place)


@pytest.mark.parametrize("path", CORPUS, ids=[path.stem for path in CORPUS])
def test_what_once_failed_does_not_fail_again(path: Path, try_case: Callable[..., Any]) -> None:
    from fuzz.case import load

    verdict = try_case(load(path))
    assert verdict.failure is None


@pytest.mark.parametrize("kind", ["fits", "json", "calls"])
def test_a_seed_always_makes_the_same_cases(kind: str) -> None:
    from fuzz.__main__ import make

    keys = [(kind, 3, number) for number in range(20)]
    assert [make(key) for key in keys] == [make(key) for key in keys]
    assert make((kind, 3, 1)) != make((kind, 4, 1))


def test_a_kept_case_is_the_same_case(tmp_path: Path) -> None:
    from fuzz.__main__ import make
    from fuzz.case import load, save

    case = make(("fits", 3, 1))
    path = save(case, tmp_path / "x.json", "why")
    assert load(path) == case
    assert json.loads(path.read_text())["repeat"] == f"python -m fuzz --repeat {path}"


def undamaged(kind: str = "plain") -> Any:
    """Return a case without any damage."""
    from fuzz.case import Case
    from fuzz.exposures import exposure

    files = {f"e{i}_rate.fits": exposure(i, kind) for i in range(3)}
    call = {"target": "e0_rate.fits", "backgrounds": list(files)[1:], "options": {}}
    return Case("file", files, call)


def test_exposures_without_damage_are_found_right_however_they_are_stored(
    try_case: Callable[..., Any],
) -> None:
    from fuzz.exposures import KINDS

    for kind in KINDS:
        assert try_case(undamaged(kind)).status == "complete", kind


def _wrong_pixel(product: Path) -> None:
    with fits.open(product, mode="update", memmap=False) as hdus:
        hdus["SCI"].data[2, 1] += 0.01


def _wrong_flag(product: Path) -> None:
    with fits.open(product, mode="update", memmap=False) as hdus:
        hdus["DQ"].data = hdus["DQ"].data ^ np.uint32(4)


def _no_sci(product: Path) -> None:
    product.write_bytes(product.read_bytes().replace(b"'SCI     '", b"'SCY     '"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_wrong_pixel, "SCI is not"),
        (_wrong_flag, "DQ is not"),
        (_no_sci, "SCI is not|cannot read the product"),
        (Path.unlink, "no product"),
        (lambda product: (product.parent / "rest").touch(), "left over: rest"),
        (lambda product: (product.parent / "e1_rate.fits").touch(), None),
        (
            lambda product: (product.parent / "e1_rate.fits").write_bytes(b""),
            "has changed|stumbled",
        ),
    ],
)
def test_a_wrong_product_is_noticed(
    monkeypatch: pytest.MonkeyPatch, try_case: Callable[..., Any], spoil: Any, said: str | None
) -> None:
    right = offsky.subtract_file

    def wrong(*given: Any, **more: Any) -> Any:
        outcome = right(*given, **more)
        spoil(Path(str(outcome.output)))
        return outcome

    monkeypatch.setattr(offsky, "subtract_file", wrong)
    verdict = try_case(undamaged())
    if said is None:
        assert verdict.failure is None
    else:
        assert any(each in verdict.failure for each in said.split("|")), verdict


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("x"), "foreign exception: KeyError"),
        (OffskyError("two\nlines"), "not one line"),
        (OffskyError(""), "not one line"),
    ],
)
def test_what_is_no_single_line_of_offsky_is_noticed(
    monkeypatch: pytest.MonkeyPatch, try_case: Callable[..., Any], error: Exception, said: str
) -> None:
    def fail(*given: Any, **more: Any) -> Any:
        raise error

    monkeypatch.setattr(offsky, "subtract_file", fail)
    assert said in str(try_case(undamaged()).failure)


def _crash() -> Any:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang() -> Any:
    time.sleep(600)


def _eat() -> Any:
    kept = np.ones(2**27 + 1)  # more than 1 GB by itself
    return kept.sum() and undamaged()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "said"), [(_crash, "crash: SIGSEGV"), (_hang, "hang"), (_eat, "memory")]
)
def test_trouble_in_a_worker_is_noticed_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, trouble: Callable[[], Any], said: str
) -> None:
    from fuzz import watch

    if trouble is _hang:
        monkeypatch.setattr(watch, "HANG_S", 1.0)
    keys = [("fits", 1, number) for number in range(6)]
    made = watch.tried(keys, lambda key: trouble() if key[2] == 2 else undamaged(), 1)
    found = {each.key[2]: each.verdict for each in made}
    assert sorted(found) == list(range(6))
    assert said in str(found[2].failure)
    assert [found[i].failure for i in (0, 1, 3, 4, 5)] == [None] * 5


def test_every_kind_of_damage_changes_a_file_at_times() -> None:
    from fuzz import damage
    from fuzz.exposures import exposure

    whole = exposure(0, "tiled")
    for hurt, _ in damage.ALL:
        found = set()
        for seed in range(20):
            content = bytearray(whole)
            hurt(Random(seed), content)
            found.add(bytes(content))
        assert found - {whole}, hurt.__name__
