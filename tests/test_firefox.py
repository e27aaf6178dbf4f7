"""Pages in Firefox, opened from disk: what `test_browser.py` asks of Chromium, in short.

Needs a Firefox of the system (Debian's `firefox-esr`) and the package websocket-client.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plain
import pytest
from firefox import FIREFOX, Firefox
from judged import facts_of, gathered_of
from test_report import HOSTILE, means_of, subtracted

from offsky.report.page import render
from offsky.reporting.summarize import summarize

websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FIREFOX is None, reason="no Firefox on this machine"),
]

READOUT = "({...document.querySelector('[data-offsky=readout]').dataset})"
WORDS = "document.querySelector('[data-offsky=readout]').textContent"
COUNT = "({...document.querySelector('[data-offsky=count]').dataset})"


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """A Firefox without a window."""
    with Firefox(tmp_path_factory.mktemp("firefox"), websocket.create_connection) as found:
        yield found


@pytest.fixture
def quiet(firefox: Firefox) -> Iterator[Firefox]:
    """The same; the test fails if a page says anything, or asks for anything elsewhere."""
    firefox.said.clear()
    firefox.asked.clear()
    yield firefox
    assert firefox.said == []
    known = ("file:", "data:", "about:")
    assert [url for url in firefox.asked if not url.startswith(known)] == []


@pytest.fixture
def report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A report of a small product, by means of 2 x 2 pixels."""
    monkeypatch.setattr("offsky.measure.blocks.MOST_BLOCKS", 700)
    return Path(subtracted(folder).report)


def at(firefox: Firefox, plane: str, x: int, y: int) -> dict[str, Any]:
    """Go to a pixel by the fragment; return the readout of its block."""
    firefox.value(f"location.hash = 'plane={plane}&x={x}&y={y}'")
    place = (
        f"[data-plane={plane}][data-x='{(x - 1) // 2 * 2 + 1}'][data-y='{(y - 1) // 2 * 2 + 1}']"
    )
    firefox.wait(f'document.querySelector("{place}")')
    told: dict[str, Any] = firefox.value(READOUT)
    return told


def test_what_a_policy_blocks_is_noticed_in_firefox(folder: Path, firefox: Firefox) -> None:
    path = folder / "blocked.html"
    path.write_text(
        "<!doctype html><html data-offsky-state=ready><meta charset=utf-8>"
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"
        "<script>document.title = 'run'</script>"
    )
    firefox.open(path)
    assert "blocked: script-src-elem" in firefox.said
    assert firefox.value("document.title") == ""


def test_firefox_shows_the_values_of_the_file_within_half_a_step(
    report: Path, quiet: Firefox
) -> None:
    quiet.open(report)
    before, after = plain.pixels("t_rate.fits"), plain.pixels("t_bsub.fits")
    images = {"before": before, "after": after, "average": before - after}
    for name, image in images.items():
        expected = means_of(image, 2)
        for x, y in ((1, 1), (5, 3), (49, 39), (17, 22)):
            told = at(quiet, name, x, y)
            value = expected[(y - 1) // 2, (x - 1) // 2]
            assert told["bin"] == "2"
            if np.isnan(value):
                assert told["value"] == "NaN"
            else:
                off = abs(float(told["value"]) - value)
                assert off <= 0.5 * float(told["step"]) + 1e-6, (name, x, y)


def test_keys_choose_planes_and_swap_them_in_firefox(report: Path, quiet: Firefox) -> None:
    quiet.open(report, "#plane=after&x=11&y=7")
    quiet.wait("document.querySelector('[data-offsky=readout][data-x=\"11\"]')")
    keys = {"1": "before", "b": "after", "3": "average", "4": "kept", "5": "flags", "2": "after"}
    for key, plane in keys.items():
        quiet.press(key)
        quiet.wait(f"document.querySelector('[data-offsky=readout][data-plane={plane}]')")


def test_hostile_texts_do_nothing_in_firefox(folder: Path, quiet: Firefox) -> None:
    image = np.random.default_rng(0).normal(0, 1, (30, 30)).astype(np.float32)
    facts = facts_of([(3.0, 4.0)], unit=HOSTILE, exp_type=HOSTILE)
    summary = summarize(
        gathered_of(image, before=image),
        facts,
        name=HOSTILE,
        description=(("target", HOSTILE),),
        command=HOSTILE,
    )
    path = folder / "hostile.html"
    path.write_text(render(summary), encoding="utf-8")
    quiet.open(path)
    assert HOSTILE in quiet.value("document.body.textContent")
    assert quiet.value("typeof window.hacked") == "undefined"
    assert quiet.value("document.querySelectorAll('img[src=x]').length") == 0


def test_the_filter_of_an_index_is_kept_in_the_fragment_in_firefox(
    folder: Path, quiet: Firefox
) -> None:
    subtracted(folder)
    plain.run("report", "t_bsub.fits", "b1_rate.fits", "-o", folder / "pages")
    index = folder / "pages" / "index.html"
    quiet.open(index)
    assert quiet.value(COUNT)["shown"] == "2"
    quiet.value("document.querySelector('[data-offsky=filter]').focus()")
    quiet.press("bsub")
    quiet.wait("document.querySelector('[data-offsky=count][data-shown=\"1\"]')")
    quiet.wait("location.hash")
    fragment = quiet.value("location.hash")
    quiet.open(index, fragment)
    assert quiet.value(COUNT)["shown"] == "1"
    assert quiet.value("document.querySelector('[data-offsky=filter]').value") == "bsub"


def test_one_sample_is_not_told_as_several_in_firefox(folder: Path, quiet: Firefox) -> None:
    quiet.open(Path(subtracted(folder).report), "#plane=after&x=20&y=20")
    quiet.wait(f"{WORDS}.includes('; 3 samples kept')")
    plain.run("subtract", "t_rate.fits", "b1_rate.fits", "-o", "one.fits", "--report")
    quiet.open(folder / "one.html", "#plane=after&x=20&y=20")
    quiet.wait(f"{WORDS}.includes('; 1 sample kept')")
