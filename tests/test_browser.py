"""Pages in a real browser: opened from disk, used by keys, read by tools.

Needs Playwright's Python package and a Chromium of the system (Debian's `chromium`).
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plain
import pytest
from test_report import HOSTILE, means_of, subtracted

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if os.environ.get("OFFSKY_REQUIRE_BROWSER"):
    import playwright.sync_api as sync_api

    assert _CHROMIUM, "these tests must run here, and there is no Chromium"
else:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium on this machine"),
    # Playwright's own event loop.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window."""
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=_CHROMIUM, args=["--headless", "--no-sandbox"]
        )
        yield browser
        browser.close()


class Seen:
    """A page, with all that it said and asked for."""

    def __init__(self, browser: Any, **how: Any) -> None:
        self.page = browser.new_page(viewport={"width": 1100, "height": 900}, **how)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: Path, fragment: str = "") -> Any:
        self.page.goto(f"file://{path}{fragment}")
        self.page.wait_for_selector("html[data-offsky-state=ready]", timeout=20_000)
        return self.page

    @property
    def readout(self) -> dict[str, Any]:
        """What the readout tells tools."""
        told = dict(self.page.locator("[data-offsky=readout]").evaluate("e => ({...e.dataset})"))
        return {
            key: told[key] if key == "plane" else float(told[key])
            for key in ("plane", "x", "y", "bin", "value", "step")
        }

    def press(self, key: str, plane: str | None = None) -> dict[str, Any]:
        self.page.keyboard.press(key)
        if plane is not None:
            self.page.wait_for_selector(f"[data-offsky=readout][data-plane={plane}]")
        else:
            self.page.wait_for_timeout(200)
        return self.readout

    def is_quiet(self, folder: Path) -> None:
        """Fail if the page said anything, or asked for anything but files of its folder."""
        assert self.said == []
        assert [u for u in self.asked if not u.startswith((f"file://{folder}", "data:"))] == []


@pytest.fixture
def seen(browser: Any) -> Iterator[Seen]:
    """A new page."""
    page = Seen(browser)
    yield page
    page.page.close()


@pytest.fixture
def report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A report of a small product, by means of 2 x 2 pixels."""
    monkeypatch.setattr("offsky.measure.blocks.MOST_BLOCKS", 700)
    return Path(subtracted(folder).report)


def test_a_page_opens_without_a_word_and_asks_for_nothing(report: Path, seen: Seen) -> None:
    seen.open(report)
    seen.page.wait_for_timeout(500)
    seen.is_quiet(report)
    assert seen.page.locator("canvas[data-offsky=picture]").count() == 1


def test_the_readout_is_the_value_of_the_file_within_half_a_step(
    report: Path, seen: Seen, folder: Path
) -> None:
    seen.open(report)
    before, after = plain.pixels("t_rate.fits"), plain.pixels("t_bsub.fits")
    images = {"before": before, "after": after, "average": before - after}
    for key, name in (("1", "before"), ("2", "after"), ("3", "average")):
        expected = means_of(images[name], 2)
        for x, y in ((1, 1), (5, 3), (49, 39), (50, 40), (17, 22)):
            seen.page.evaluate(f"location.hash = 'plane={name}&x={x}&y={y}'")
            seen.page.wait_for_selector(
                f"[data-plane={name}][data-x='{(x - 1) // 2 * 2 + 1}']"
                f"[data-y='{(y - 1) // 2 * 2 + 1}']"
            )
            told = seen.readout
            value = expected[(y - 1) // 2, (x - 1) // 2]
            if np.isnan(value):
                assert np.isnan(told["value"])
            else:
                assert abs(told["value"] - value) <= 0.5 * told["step"] + 1e-6, (name, x, y)
            assert told["bin"] == 2
        assert seen.press(key, name)["plane"] == name
    kept = seen.press("4", "kept")
    assert 0 <= kept["value"] <= 3
    flags = seen.press("5", "flags")
    dq = means_of(plain.pixels("t_bsub.fits", "DQ") != 0, 2)
    assert flags["value"] == dq[int(flags["y"] - 1) // 2, int(flags["x"] - 1) // 2]
    seen.is_quiet(report)


def test_nan_is_told_as_nan(folder: Path, seen: Seen) -> None:
    report = Path(subtracted(folder).report)
    seen.open(report, "#plane=after&x=5&y=4")
    assert seen.page.locator("[data-offsky=readout]").get_attribute("data-value") == "NaN"


def test_b_swaps_before_and_after_once_and_shift_b_goes_on(report: Path, seen: Seen) -> None:
    seen.open(report)
    assert seen.readout["plane"] == "after"
    assert seen.press("b", "before")["plane"] == "before"
    seen.page.wait_for_timeout(1300)
    assert seen.readout["plane"] == "before"
    assert seen.press("b", "after")["plane"] == "after"
    seen.page.evaluate(
        "window.turns = []; new MutationObserver(() => turns.push([performance.now(),"
        " document.querySelector('[data-offsky=readout]').dataset.plane]))"
        ".observe(document.querySelector('[data-offsky=readout]'), {attributeFilter:"
        " ['data-plane']})"
    )
    seen.page.keyboard.press("Shift+B")
    seen.page.wait_for_timeout(3300)
    seen.page.keyboard.press("Shift+B")
    turns = [at for at, _ in seen.page.evaluate("turns")]
    assert len(turns) >= 3
    assert min(np.diff(turns)) > 800
    stopped = seen.readout["plane"]
    seen.page.wait_for_timeout(1300)
    assert seen.readout["plane"] == stopped


def test_blinking_by_itself_respects_those_who_want_less_motion(
    report: Path, browser: Any
) -> None:
    seen = Seen(browser, reduced_motion="reduce")
    seen.open(report)
    seen.page.keyboard.press("Shift+B")
    seen.page.wait_for_timeout(1300)
    assert seen.readout["plane"] == "after"
    assert "less motion" in seen.page.locator("[data-offsky=readout]").text_content()
    seen.page.close()


def test_the_picture_changes_with_the_plane(report: Path, seen: Seen) -> None:
    seen.open(report)
    canvas = seen.page.locator("canvas[data-offsky=picture]")
    pictures = {}
    for key, name in enumerate(("before", "after", "average", "kept", "flags"), 1):
        seen.press(str(key), name)
        seen.page.wait_for_timeout(200)
        pictures[name] = canvas.screenshot()
    assert len(set(pictures.values())) == 5
    whole = pictures["flags"]
    seen.press("+")
    assert canvas.screenshot() != whole
    seen.press("0")
    assert canvas.screenshot() == whole


def test_the_fragment_goes_to_a_pixel_on_load_and_on_change(report: Path, seen: Seen) -> None:
    seen.open(report, "#plane=average&x=12&y=33")
    told = seen.readout
    assert (told["plane"], told["x"], told["y"]) == ("average", 11, 33)
    seen.page.evaluate("location.hash = '#plane=before&x=2&y=2'")
    seen.page.wait_for_selector("[data-offsky=readout][data-plane=before][data-x='1']")
    # Beyond the edge is the edge; another plane is none.
    seen.page.evaluate("location.hash = '#plane=nothing&x=9999&y=-5'")
    seen.page.wait_for_selector("[data-offsky=readout][data-x='49'][data-y='1']")
    assert seen.readout["plane"] == "before"


def test_a_page_is_used_by_the_keyboard_alone(report: Path, seen: Seen) -> None:
    seen.open(report)
    canvas = seen.page.locator("canvas[data-offsky=picture]")
    canvas.focus()
    x = seen.readout["x"]
    assert seen.press("Shift+ArrowRight")["x"] == x + 2
    # Keys belong to a menu while it is used.
    seen.page.locator("#limits").focus()
    seen.page.keyboard.press("b")
    seen.page.wait_for_timeout(200)
    assert seen.readout["plane"] == "after"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_stands_in_the_way_of_people(
    report: Path, browser: Any, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    seen = Seen(browser, color_scheme=scheme)
    seen.open(report)
    seen.page.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true })")
    found = axe.Axe().run(seen.page).response["violations"]
    assert [
        (v["id"], [n["html"] for n in v["nodes"]])
        for v in found
        if v["impact"] in ("serious", "critical")
    ] == []
    seen.page.close()


def test_on_paper_before_and_after_stand_side_by_side_with_all_checks(
    report: Path, seen: Seen
) -> None:
    seen.open(report)
    seen.page.emulate_media(media="print")
    seen.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert seen.page.locator("#static img").evaluate_all(
        "all => all.every(e => e.offsetWidth > 0)"
    )
    assert not seen.page.locator("#canvas").is_visible()
    assert seen.page.locator(".finding").evaluate_all(
        "all => all.length === 10 && all.every(e => e.offsetHeight > 0)"
    )
    assert seen.page.locator("[data-caption]").evaluate_all(
        "all => all.every(e => e.offsetHeight > 0)"
    )


def test_without_scripts_there_is_a_picture(report: Path, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"file://{report}")
    assert page.locator("#static img").count() == 2
    assert page.locator("#static img").first.is_visible()
    assert not page.locator("#viewer").is_visible()
    assert page.locator(".finding").first.count() == 1
    assert page.pdf().startswith(b"%PDF")
    context.close()


@pytest.mark.parametrize("text", [HOSTILE, "\u2028 ', \\", "</script>" * 1000])
def test_hostile_texts_do_nothing(folder: Path, seen: Seen, text: str) -> None:
    from judged import facts_of, gathered_of

    from offsky.report.page import render
    from offsky.reporting.summarize import summarize

    image = np.random.default_rng(0).normal(0, 1, (30, 30)).astype(np.float32)
    facts = facts_of([(3.0, 4.0)], unit=text, exp_type=text)
    summary = summarize(
        gathered_of(image, before=image),
        facts,
        name=text,
        description=((text, text),),
        parameters=((text, text, text),),
        command=text,
    )
    path = folder / "page.html"
    path.write_text(render(summary), encoding="utf-8")
    seen.open(path)
    for key in "12345sb":
        seen.press(key)
    assert seen.page.evaluate("window.hacked") is None
    assert seen.page.locator("#static img").count() == 2
    seen.is_quiet(path)


def test_a_page_and_an_index_are_valid_html(report: Path, folder: Path) -> None:
    html5lib = pytest.importorskip("html5lib", reason="html5lib is not installed")
    from offsky.reporting.indexing import failed_entry, write_index

    index = write_index(folder, [failed_entry("x", "y")])
    for path in (report, index):
        html5lib.HTMLParser(strict=True).parse(path.read_text(encoding="utf-8"))


def entries(n: int) -> list[dict[str, Any]]:
    """Make entries of an index."""
    from offsky.reporting.indexing import failed_entry

    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        entry = failed_entry(f"jw01234{i:05d}_mirimage_bsub.fits", "no reason")
        state = ("ok", "ok", "ok", "doubtful", "failed")[i % 5]
        entry |= {
            "state": state,
            "page": f"jw01234{i:05d}_mirimage_bsub.html",
            "worst": {"code": "OFF105", "title": "Residual level", "state": state, "finding": "x"},
            "filter": ("F770W", "F1000W")[i % 2],
            "detector": "MIRIMAGE",
            "mjd": 60000 + i / 100,
            "n_backgrounds": 4,
            "rejected": float(rng.random()),
            "level_in_err": float(rng.normal()),
            "level": float(rng.normal()),
            "noise": 0.1,
            "err_ratio": 1.0,
            "structure": float(rng.random()),
            "pictures": {kind: f"p{i}.{kind}.png" for kind in ("after", "before", "average")},
        }
        found.append(entry)
    return found


def test_the_index_is_sorted_and_filtered_and_its_address_holds_both(
    folder: Path, seen: Seen
) -> None:
    from offsky.report.png import grey, png
    from offsky.reporting.indexing import write_index

    told = entries(20)
    for entry in told:
        for name in entry["pictures"].values():
            (folder / name).write_bytes(png(grey(np.random.default_rng(0).normal(size=(9, 9)), 1)))
    path = write_index(folder, told, title=HOSTILE)
    page = seen.open(path)
    rows = page.locator("[data-offsky=row]")
    states = rows.evaluate_all("rows => rows.map(row => row.dataset.state)")
    assert states == ["failed"] * 4 + ["doubtful"] * 4 + ["ok"] * 12
    count = page.locator("[data-offsky=count]")
    assert (count.get_attribute("data-shown"), count.get_attribute("data-total")) == ("20", "20")
    page.locator("input[data-offsky=filter]").fill("f770w doubtful")
    assert count.get_attribute("data-shown") == "2"
    assert "filter=f770w+doubtful" in page.url
    page.get_by_role("button", name="level / ERR").click()
    assert "sort=level" in page.url
    seen.page.goto("about:blank")
    seen.open(path, "#filter=F1000W&sort=-level")
    assert count.get_attribute("data-shown") == "10"
    shown = rows.evaluate_all(
        "rows => rows.filter(r => !r.hidden).map(r => Number(r.cells[4].dataset.key))"
    )
    assert shown == sorted(shown, reverse=True)
    assert page.locator("#pictures li").count() == 10
    assert page.evaluate("window.hacked") is None
    # Verdicts are saved to a file, and come back.
    shown_row = page.locator("[data-offsky=row]:not([hidden])").first
    shown_row.locator("[data-verdict]").select_option("flag")
    shown_row.locator("[data-note]").fill("look again")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save verdicts and notes").click()
    saved = folder / "mine.json"
    download.value.save_as(saved)
    assert [each["note"] for each in json.loads(saved.read_text())["products"].values()] == [
        "look again"
    ]
    seen.open(path)
    page.locator("#load").set_input_files(saved)
    page.wait_for_timeout(300)
    notes = page.locator("[data-note]").evaluate_all("all => all.map(e => e.value)")
    assert notes.count("look again") == 1
    seen.is_quiet(folder)


def test_the_index_of_a_thousand_products_is_small(folder: Path, seen: Seen) -> None:
    from offsky.reporting.indexing import write_index

    path = write_index(folder, [{**each, "pictures": {}} for each in entries(1000)])
    assert path.stat().st_size < 5e6
    seen.open(path)
    assert seen.page.locator("[data-offsky=row]").count() == 1000


def test_nothing_serious_stands_in_the_way_of_readers_of_an_index(
    folder: Path, seen: Seen
) -> None:
    from offsky.reporting.indexing import write_index

    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    path = write_index(folder, [{**each, "pictures": {}} for each in entries(6)])
    seen.open(path)
    found = axe.Axe().run(seen.page).response["violations"]
    assert [
        (v["id"], [n["html"] for n in v["nodes"]])
        for v in found
        if v["impact"] in ("serious", "critical")
    ] == []


def test_pages_of_full_frames_are_small(folder: Path, seen: Seen) -> None:
    from judged import facts_of, gathered_of

    import offsky
    from offsky.report.page import render
    from offsky.reporting.summarize import summarize

    rng = np.random.default_rng(0)
    shape = (2048, 2048)
    sky = (20 + rng.normal(0, 0.2, shape) + np.linspace(0, 4, 2048)).astype(np.float32)
    images = [sky + rng.normal(0, 0.2, shape).astype(np.float32) for _ in range(4)]
    average = offsky.clipped_mean(np.stack(images[1:]), sigma=2.0)
    product = images[0] - average.sci
    dq = (rng.random(shape) < 0.05).astype(np.uint32)
    summary = summarize(
        gathered_of(product, before=images[0], average=average, dq=dq, dq_before=dq),
        facts_of([(5000.0, 0.0)] * 3),
        name="full",
        description=(),
    )
    for each in summary.pictures.planes:
        if each.name not in ("kept", "flags"):
            assert each.encoded.scale.step <= summary.after.noise * (1 + 1e-6)
    path = folder / "full.html"
    path.write_text(render(summary), encoding="utf-8")
    assert path.stat().st_size <= 2.0e6
    seen.open(path)
    assert re.fullmatch(
        r"Picture: After, 2048 by 2048 pixels",
        seen.page.locator("#canvas").get_attribute("aria-label"),
    )
