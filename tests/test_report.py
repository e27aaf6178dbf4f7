"""Planes, pages and their JSON: what is shown is what is in the files."""

import base64
import itertools
import json
import re
import warnings
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import plain
import pytest
from astropy.io import fits
from programmes import offsky_command

import offsky
from offsky.measure.blocks import bin_of, block_means, block_sums, block_union
from offsky.measure.gather import Background, Gathering, Plane
from offsky.measure.scatter import pair_scatter, pair_scatters, row_medians
from offsky.report.charts import nice, ticks
from offsky.report.encode import FILTERS, MISSING, Scale, filtered, packed, scale_for
from offsky.report.markup import resource, tag
from offsky.values.gathered import COUNT, UNUSABLE

HOSTILE = '"><img src=x onerror="window.hacked=1"></script><script>window.hacked=2</script>'


def unpacked(low: str, high: str, shape: tuple[int, int], how: str) -> np.ndarray:
    """Return codes as the page's script finds them, one after the other."""
    parts = [
        np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8).astype(np.uint16)
        for text in (low, high)
    ]
    left = (parts[0] | (parts[1] << 8)).reshape(shape).astype(int)
    if how == "none":
        return left.astype(np.uint16)
    codes = np.zeros(shape, dtype=int)
    for i in range(shape[0]):
        above = codes[i - 1] if i else np.zeros(shape[1], dtype=int)
        if how == "up":
            codes[i] = (left[i] - 2176 + above) & 0xFFF
            continue
        for j in range(shape[1]):
            expected = (above[j] + (codes[i, j - 1] if j else 0)) >> 1
            codes[i, j] = (left[i, j] - 2176 + expected) & 0xFFF
    return codes.astype(np.uint16)


def planes_of(page: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the values and steps of all planes of a page, (rows, columns) of blocks each."""
    told = json.loads(re.search(r'id="offsky-data">(.*?)</script>', page)[1])
    texts = dict(re.findall(r'<script type="text/plain" id="([a-z-]+)">([^<]*)</script>', page))
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, about in told["planes"].items():
        codes = unpacked(
            texts[f"{name}-low"], texts[f"{name}-high"], tuple(told["blocks"]), about["filter"]
        )
        scale = Scale(**about["scale"])
        values = scale.decode(codes)
        near = np.stack(
            [
                scale.decode(np.clip(codes.astype(int) + d, 0, 4094).astype(np.uint16))
                for d in (-1, 0, 1)
            ]
        )
        steps = np.abs(np.diff(near, axis=0)).max(axis=0)
        found[name] = values, steps
    for name, about in told["planes"].items():
        values, steps = found[name]
        for other in about["plus"]:
            values = values + np.nan_to_num(found[other][0], nan=0.0)
        found[name] = values, steps
    return found


def means_of(image: np.ndarray, side: int) -> np.ndarray:
    """Return block means the slow way."""
    ny, nx = image.shape
    found = np.full((-(-ny // side), -(-nx // side)), np.nan)
    for i in range(len(found)):
        for j in range(found.shape[1]):
            block = image[i * side : (i + 1) * side, j * side : (j + 1) * side].astype(float)
            if np.isfinite(block).any():
                found[i, j] = block[np.isfinite(block)].mean()
    return found


def a_summary(folder: Path, **how: Any) -> tuple[str, dict[str, Any]]:
    """Subtract with a report; return the page and its JSON."""
    made = subtracted(folder, **how)
    page = Path(made.report)
    return page.read_text(), json.loads(page.with_suffix(".json").read_text())


def subtracted(folder: Path, **how: Any) -> offsky.Outcome:
    rng = np.random.default_rng(1)
    paths = []
    shape = how.pop("shape", (40, 50))
    header = how.pop("header", {})
    for name in ("t", "b1", "b2", "b3"):
        sci = 5 + rng.normal(0, 0.1, shape)
        sci[..., 3, 4] = np.nan
        dq = (rng.random(shape) < 0.02).astype(np.uint32)
        more = header if name == "t" else {}
        paths.append(plain.expose(folder / f"{name}_rate.fits", sci, dq=dq, keywords=more))
    return offsky.subtract_file(
        paths[0], paths[1:], folder / "t_bsub.fits", report=True, overwrite=True, **how
    )


@pytest.mark.parametrize("side", [2, 3, 5])
def test_sums_and_unions_of_blocks_are_those_of_their_pixels(side: int) -> None:
    rng = np.random.default_rng(side)
    image = rng.normal(3, 1, (4 * side, 6 * side)).astype("f4")
    bits = rng.integers(0, 256, (4 * side - 1, 6 * side - 1)).astype(np.uint8) & 0x91
    bits[: 2 * side, : 2 * side] = 0
    total, union = block_sums(image, side), block_union(bits, side)
    for i in range(4):
        for j in range(6):
            part = slice(i * side, (i + 1) * side), slice(j * side, (j + 1) * side)
            assert total[i, j] == pytest.approx(image[part].sum(dtype=float), rel=1e-12)
            assert union[i, j] == np.bitwise_or.reduce(bits[part], axis=None)


@pytest.mark.parametrize("width", [1, 2, 3, 50, 51])
def test_scatters_of_many_rows_are_those_of_each_alone(width: int) -> None:
    rng = np.random.default_rng(width)
    sci = rng.normal(3, 1, (9, width)).astype("f4")
    err = rng.uniform(0.5, 2, sci.shape).astype("f4")
    sci[rng.random(sci.shape) < 0.2] = np.nan
    sci[0], sci[1, 0], err[2] = np.nan, np.inf, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = [np.median(row[np.isfinite(row)]) for row in sci]
    np.testing.assert_array_equal(row_medians(sci), expected)
    alone = [pair_scatter(row[np.newaxis]) for row in sci]
    np.testing.assert_array_equal(pair_scatters(sci), alone)
    alone = [pair_scatter(sci[i : i + 1], err[i : i + 1]) for i in range(len(sci))]
    np.testing.assert_array_equal(pair_scatters(sci, err), alone)


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_block_means_are_those_of_finite_pixels(side: int) -> None:
    rng = np.random.default_rng(side)
    image = rng.normal(3, 1, (23, 31)).astype(">f4")
    image[rng.random(image.shape) < 0.3] = np.nan
    image[5, 5] = np.inf
    image[:6, :6] = np.nan
    np.testing.assert_allclose(block_means(image, side), means_of(image, side), rtol=1e-6)


def test_what_is_gathered_does_not_depend_on_how_rows_are_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("offsky.measure.blocks.MOST_BLOCKS", 60)
    rng = np.random.default_rng(3)
    sci, before = rng.normal(0, 1, (2, 37, 23)).astype(np.float32)
    sci[rng.random(sci.shape) < 0.1] = np.nan
    dq = (rng.random(sci.shape) < 0.2).astype(np.uint32)
    kept = rng.integers(0, 4, sci.shape).astype(np.uint16)
    assert bin_of(sci.shape) > 2

    def gathered(cuts: list[int]) -> Any:
        gathering = Gathering(sci.shape)
        spans = list(zip([0, *cuts], [*cuts, 37], strict=True))
        for a, b in reversed(spans):
            gathering.see(
                a,
                b,
                Plane(sci[a:b], np.abs(sci[a:b]), dq[a:b]),
                Plane(before[a:b], None, dq[a:b] & 0),
                Background(before[a:b] - sci[a:b], kept[a:b], None, dq[a:b]),
            )
        return gathering.result()

    whole = gathered([])
    np.testing.assert_allclose(whole.after, means_of(sci, whole.bin), rtol=1e-5)
    for cuts in ([5], [1, 2, 3, 17, 36], [11, 12]):
        cut = gathered(cuts)
        for name in ("after", "before", "average", "kept", "flags", "after_samples"):
            np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name), err_msg=name)
        assert cut.n_unusable == whole.n_unusable == np.count_nonzero(dq)


@pytest.mark.parametrize("reach", [1.0, 1e3, 1e7])
@pytest.mark.parametrize("how", FILTERS)
def test_codes_are_off_by_half_a_step_at_most(reach: float, how: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(20, 0.1, (40, 60))
    values[0, :10] = 20 + reach * np.linspace(-1, 1, 10)
    values[5, 5] = np.nan
    values[6, 6] = np.inf
    scale = scale_for(values, 0.1)
    codes = scale.encode(values)
    assert codes[5, 5] == codes[6, 6] == MISSING
    decoded = scale.decode(codes)
    here = codes.astype(int)
    steps = np.stack(
        [np.abs(scale.decode((here + d).astype(np.uint16)) - decoded) for d in (-1, 1)]
    ).max(axis=0)
    known = np.isfinite(values)
    assert (np.abs(decoded - values)[known] <= 0.5 * steps[known] * (1 + 1e-9)).all()
    left = filtered(codes, how)
    assert left.max() <= 0xFFF
    encoded = packed(codes, scale)
    shape = encoded.shape
    np.testing.assert_array_equal(unpacked(encoded.low, encoded.high, shape, encoded.how), codes)


@pytest.mark.parametrize("shape", [(40, 50), (3, 40, 50)])
def test_a_page_shows_what_the_files_have(
    folder: Path, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offsky.measure.blocks.MOST_BLOCKS", 700)
    page, told = a_summary(folder, shape=shape)
    assert told["bin"] == 2
    before, after = plain.pixels(folder / "t_rate.fits"), plain.pixels(folder / "t_bsub.fits")
    if len(shape) == 3:
        before, after = before.mean(axis=0), after.mean(axis=0)
    shown = planes_of(page)
    for name, image in (("before", before), ("after", after)):
        values, steps = shown[name]
        expected = means_of(image, 2)
        np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
        good = np.isfinite(expected)
        assert (np.abs(values - expected)[good] <= 0.5 * steps[good] + 1e-6).all()
    values, steps = shown["average"]
    good = np.isfinite(means_of(before - after, 2))
    assert np.abs(values - means_of(before - after, 2))[good].max() <= 0.5 * steps.max() + 1e-6
    dq = plain.pixels(folder / "t_bsub.fits", "DQ")
    dq = dq if dq.ndim == 2 else np.bitwise_or.reduce(dq, axis=0)
    codes = np.rint(shown["flags"][0] * 4).astype(int)
    np.testing.assert_allclose((codes & COUNT) / 4, means_of(dq != 0, 2))
    np.testing.assert_array_equal((codes & UNUSABLE) != 0, means_of(dq & 1, 2) > 0)
    if len(shape) == 3:
        assert len(told["integration_levels"]) == 3


def test_the_same_inputs_give_the_same_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    first = a_summary(folder, threads=1)
    second = a_summary(folder, threads=3)
    assert first == second
    assert "2023-11-14" in first[0]


def test_json_follows_its_schema(folder: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(resource("report.schema.json"))
    jsonschema.Draft202012Validator.check_schema(schema)
    _, told = a_summary(folder)
    jsonschema.validate(told, schema, cls=jsonschema.Draft202012Validator)
    assert [each["code"] for each in told["checks"]] == [f"OFF{n}" for n in range(101, 111)]


def test_every_figure_of_the_page_is_in_the_json(folder: Path) -> None:
    page, told = a_summary(folder)
    assert told["name"] == "t_bsub.fits"
    assert len(told["backgrounds"]) == 3
    for check in told["checks"]:
        assert tag("p", check["finding"]) in page
    assert told["command"] in page.replace("&#x27;", "'")


class _Elements(HTMLParser):
    """Collects elements and their attributes; fails where they are not closed in order."""

    void = frozenset({"meta", "img", "input", "br", "line", "path", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.void or tag in ("line", "path", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "text", [HOSTILE, "a\u2028b\u202ec", "x" * 10_000, "</title></style><svg onload=alert(1)>"]
)
def test_a_hostile_name_is_text_and_nothing_else(text: str) -> None:
    from judged import facts_of, gathered_of

    from offsky.report.page import render
    from offsky.reporting.summarize import summarize

    image = np.random.default_rng(0).normal(0, 1, (30, 30)).astype(np.float32)
    summary = summarize(
        gathered_of(image, before=image),
        facts_of([], unit=text, exp_type=text),
        name=text,
        description=((text, text),),
        parameters=((text, text, text),),
        command=text,
        counts=((text, text),),
        left_out=(text,),
    )
    page = render(summary)
    parser = _Elements()
    parser.feed(page)
    assert not parser.open
    assert sum(name == "img" for name, _ in parser.elements) == 2
    assert not any(name == "svg" and "onload" in known for name, known in parser.elements)
    scripts = [known for name, known in parser.elements if name == "script"]
    assert sum("type" not in known for known in scripts) == 1
    for _, known in parser.elements:
        assert not any(key.startswith("on") or key == "style" for key in known)
    assert "\u2028" not in page
    assert "\u202e" not in page


def test_pages_are_valid_html(folder: Path) -> None:
    html5lib = pytest.importorskip("html5lib")
    from offsky.reporting.indexing import failed_entry, write_index

    page, _ = a_summary(folder)
    index = write_index(folder, [failed_entry(HOSTILE, HOSTILE)]).read_text()
    for text in (page, index):
        # Raises at the first error of the grammar.
        html5lib.HTMLParser(strict=True).parse(text)
        known = re.findall(r' id="([^"]*)"', text)
        assert len(known) == len(set(known))
        for name in re.findall(r'(?:aria-labelledby|aria-describedby|for|href)="#?([^"]*)"', text):
            assert name in known or name.startswith("./"), name


def test_the_page_allows_its_own_script_and_style_alone(folder: Path) -> None:
    import hashlib

    page, _ = a_summary(folder)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    policy = policy.replace("&#x27;", "'")
    assert "default-src 'none'" in policy
    for kind in ("script", "style"):
        (text,) = re.findall(f"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    for word in ("http://", "https://", "preconnect", "prefetch", "innerHTML", "getImageData"):
        assert word not in page


def test_a_header_that_is_hostile_does_nothing(folder: Path) -> None:
    page, told = a_summary(folder, header={"TARGPROP": '"><img src=x onerror=alert(1)>'})
    assert "<img src=x" not in page
    assert told["description"]["target"] == '"><img src=x onerror=alert(1)>'


@pytest.mark.parametrize("profile", ["jwst", "offsky"])
def test_a_report_changes_no_byte_of_a_product(folder: Path, profile: str) -> None:
    made = subtracted(folder, profile=profile)
    with_report = fits.getdata(folder / "t_bsub.fits"), Path(made.report).stat().st_size
    offsky.subtract_file(
        folder / "t_rate.fits",
        [folder / f"b{i}_rate.fits" for i in (1, 2, 3)],
        folder / "u_bsub.fits",
        profile=profile,
    )
    for name in ("SCI", "ERR", "DQ"):
        one, other = (plain.pixels(folder / f"{x}_bsub.fits", name) for x in "tu")
        np.testing.assert_array_equal(one, other)
    assert with_report[1] > 10_000


def test_a_run_with_a_report_reads_nothing_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offsky.io.source import LocalFile

    reads: dict[str, list[tuple[int, int]]] = {}
    original = LocalFile.read

    def read(self: Any, spans: Any) -> None:
        spans = list(spans)
        known = reads.setdefault(str(self.name), [])
        known += [(offset, offset + len(buffer)) for offset, buffer in spans]
        original(self, spans)

    monkeypatch.setattr(LocalFile, "read", read)
    subtracted(folder)
    assert reads
    for name, spans in reads.items():
        ordered = sorted(span for span in spans if span[0] < span[1])
        for one, following in itertools.pairwise(ordered):
            assert one[1] <= following[0], f"{name}: bytes {following} are read twice"


def test_a_plain_run_imports_no_report(folder: Path) -> None:
    subtracted(folder)
    script = (
        "import sys; sys.argv = ['offsky', 'subtract', 't_rate.fits', 'b1_rate.fits', '-o', "
        "'x.fits']\nfrom offsky.command.main import cli\ntry:\n    cli()\nexcept SystemExit:\n"
        "    pass\n"
        "told = {'offsky.command.report', 'offsky.reporting', 'offsky.reporting.wanted'}\n"
        "print([m for m in sys.modules if 'report' in m and m.startswith('offsky')\n"
        "    and m not in told or m in ('offsky.measure.checks', 'offsky.measure.gather')])"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=folder
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_where_a_report_goes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subtracted(folder)
    names = ("subtract", "t_rate.fits", "b1_rate.fits", "--overwrite", "-o", "x_bsub.fits")
    assert plain.run(*names, "--report") == 0
    assert (folder / "x_bsub.html").exists()
    assert (folder / "x_bsub.json").exists()
    assert plain.run(*names, "--report", "pages") == 0
    assert (folder / "pages" / "x_bsub.html").exists()
    assert plain.run(*names, "--report=mine.html") == 0
    assert (folder / "mine.json").exists()
    # A path that was meant for an argument.
    assert plain.run("subtract", "--report", "t_rate.fits", "b1_rate.fits", "-o", "y.fits") == 2
    (folder / "note.html").write_text("mine")
    kept = plain.run(*names[:3], "-o", "z_bsub.fits", "--report=note.html")
    assert kept == 1
    assert (folder / "note.html").read_text() == "mine"
    assert not (folder / "z_bsub.fits").exists()


def test_a_page_is_written_as_products_are(folder: Path) -> None:
    import os
    import stat

    made = subtracted(folder)
    page = Path(made.report)
    page.chmod(0o640)
    # As long as a name may be, in letters of two bytes.
    long = folder / f"{'ä' * 125}.html"
    for report in (True, long):
        how = {"overwrite": True, "report": report}
        offsky.subtract_file("t_rate.fits", ["b1_rate.fits"], folder / "t_bsub.fits", **how)
    assert stat.S_IMODE(page.stat().st_mode) == 0o640
    assert long.exists()
    for ending in (".html", ".json"):
        odd = folder / f"odd{ending}"
        os.mkfifo(odd)
        with pytest.raises(offsky.OutputError, match="never replaced"):
            offsky.subtract_file(
                "t_rate.fits",
                ["b1_rate.fits"],
                folder / "t_bsub.fits",
                overwrite=True,
                report=folder / "odd.html",
            )
        odd.unlink()


def test_reports_of_products_that_exist(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subtracted(folder, combined_path=folder / "t_combinedbackground.fits")
    away = folder / "away"
    away.mkdir()
    for name in ("t_bsub.html", "t_bsub.json"):
        (folder / name).rename(away / name)
    assert plain.run("report", "t_bsub.fits") == 0
    first = planes_of((away / "t_bsub.html").read_text())
    again = planes_of((folder / "t_bsub.html").read_text())
    assert first.keys() == again.keys()
    for name in ("after", "before", "kept"):
        np.testing.assert_array_equal(first[name][0], again[name][0], err_msg=name)
    # Alone in a folder, without anything that belongs to it.
    (folder / "t_bsub.fits").rename(away / "t_bsub.fits")
    assert plain.run("report", "away/t_bsub.fits", "-o", "away/bare.html") == 0
    told = json.loads((away / "bare.json").read_text())
    assert any("target" in each for each in told["left_out"])
    assert plain.run("report", "away/t_bsub.fits", "-o", "away", "--target-dir", ".") == 0
    told = json.loads((away / "t_bsub.json").read_text())
    assert told["left_out"] == []


def test_an_imprint_that_was_subtracted_first_is_told(folder: Path) -> None:
    rng = np.random.default_rng(4)
    header = {**plain.NIRSPEC, "EXP_TYPE": "NRS_IFU"}
    t, a, b, imprint = (
        plain.expose(folder / f"{name}_rate.fits", rng.normal(5, 0.1, (40, 50)), keywords=header)
        for name in ("t", "a", "b", "i")
    )
    made = offsky.subtract_file(t, [a, b], folder / "t_bsub.fits", imprints=[imprint], report=True)
    told = json.loads(Path(made.report).with_suffix(".json").read_text())
    assert told["counts"]["imprint subtracted from"] == "3 exposures"
    assert f"--imprint={imprint}" in told["command"]
    twice = next(each for each in told["checks"] if each["code"] == "OFF110")
    assert "imprint" not in twice["finding"]


def test_what_an_average_records_is_in_the_report_of_its_product(folder: Path) -> None:
    made = subtracted(folder, combined_path=folder / "t_combinedbackground.fits", profile="offsky")
    first = json.loads(Path(made.report).with_suffix(".json").read_text())
    assert plain.run("report", "t_bsub.fits", "-o", "again.html") == 0
    again = json.loads(Path("again.json").read_text())
    one, other = ({each["code"]: each for each in told["checks"]} for told in (first, again))
    for code in ("OFF108", "OFF109", "OFF110"):
        assert one[code] == other[code]
    # Samples that their flags leave out are counted nowhere in a file: 2 % of them here.
    rejected = [each["OFF107"]["numbers"]["rejected"] for each in (one, other)]
    assert rejected[1] == pytest.approx(rejected[0], rel=0.05)
    assert rejected[0] > 0
    # An average of another run is not this product's.
    other = folder / "other"
    other.mkdir()
    offsky.subtract_file(
        "t_rate.fits",
        ["b1_rate.fits"],
        other / "t_bsub.fits",
        combined_path=folder / "t_combinedbackground.fits",
        overwrite=True,
    )
    assert plain.run("report", "t_bsub.fits", "-o", "again.html") == 0
    left_out = json.loads(Path("again.json").read_text())["left_out"]
    assert any("another run" in each for each in left_out)


def test_a_skipped_product_has_a_page_that_says_so(folder: Path) -> None:
    target = plain.expose(folder / "t_rate.fits", np.random.default_rng(0).normal(5, 1, (30, 30)))
    made = offsky.subtract_file(target, [], folder / "t_bsub.fits", report=True)
    told = json.loads(Path(made.report).with_suffix(".json").read_text())
    states = {each["code"]: each["state"] for each in told["checks"]}
    assert states["OFF110"] == "doubtful"


def test_an_association_gets_pages_and_an_index(folder: Path) -> None:
    subtracted(folder)
    plain.write_association(
        folder / "x_asn.json",
        plain.product("one", "t", "b1", "b2"),
        plain.product("two", "b3", "b1", "b2"),
        plain.product("three", "gone", "b1"),
    )
    made = list(offsky.subtract_association("x_asn.json", folder, report=True))
    assert [Path(each.report).name for each in made[:2]] == ["one_bsub.html", "two_bsub.html"]
    told = json.loads((folder / "index.json").read_text())
    assert {each["name"]: each["state"] for each in told["products"]}["three"] == "failed"
    assert len(told["products"]) == 3


def test_a_run_leaves_an_index_with_the_doubtful_first(folder: Path) -> None:
    subtracted(folder)
    for path in folder.glob("t_bsub*"):
        path.unlink()
    plain.write_association(
        folder / "x_asn.json",
        plain.product("aaa", "t", "b1", "b2", "b3"),
        plain.product("zzz", "gone", "b1"),
    )
    done = offsky_command("run", "x_asn.json", "-o", "p", "--report", cwd=folder)
    assert "p/index.html" in done.stdout, done.stderr
    page = (folder / "p" / "index.html").read_text()
    names = re.findall(r'data-offsky="row" data-state="(\w+)" data-name="([^"]*)"', page)
    assert names[0][0] == "failed"
    assert names[0][1].startswith("zzz")
    assert (folder / "p" / "aaa_bsub.html").exists()
    # A second run makes nothing again, and keeps the index.
    again = offsky_command("run", "x_asn.json", "-o", "p", "--report", cwd=folder)
    assert "made by an earlier run" in again.stdout
    assert re.findall(r'data-name="([^"]*)"', (folder / "p" / "index.html").read_text())


def test_an_outcome_shows_itself_in_a_notebook(folder: Path) -> None:
    made = subtracted(folder)
    shown = made._repr_html_()
    assert f'href="{made.report}"' in shown
    assert "<script" not in shown


def test_every_code_has_a_paragraph_in_the_documentation() -> None:
    from conftest import ROOT

    from offsky.report.codes import paragraphs

    text = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    flat = " ".join(text.split())
    for code, title, words in paragraphs():
        assert f"### {code}: {title}" in text
        assert words in flat, code


def test_a_real_star_that_was_subtracted_already_is_told_so(
    folder: Path, shared_data: Path
) -> None:
    miri = shared_data / "miri_4qpm"
    name = "_mirimage_calints.fits"
    made = offsky.subtract_file(
        miri / f"jw01194015001_04101_00001{name}",
        [
            miri / f"{root}{name}"
            for root in (
                "jw01194019001_02101_00002",
                "jw01277022001_02101_00001",
                "jw01277022001_02101_00002",
            )
        ],
        folder / "star_bsubints.fits",
        force=True,
        report=True,
    )
    told = json.loads(Path(made.report).with_suffix(".json").read_text())
    checks = {each["code"]: each for each in told["checks"]}
    assert "looks subtracted already" in checks["OFF110"]["finding"]
    assert checks["OFF105"]["state"] == "failed"
    assert checks["OFF109"]["state"] == "doubtful"


def test_real_nods_in_a_slit_are_not_blamed_for_their_negatives(
    folder: Path, shared_data: Path
) -> None:
    nods = sorted((shared_data / "nirspec_nod").glob("*.fits"))
    made = offsky.subtract_file(nods[0], nods[1:], folder / "nod_bsub.fits", report=True)
    told = json.loads(Path(made.report).with_suffix(".json").read_text())
    checks = {each["code"]: each for each in told["checks"]}
    assert "on purpose" in checks["OFF102"]["finding"]
    assert checks["OFF105"]["state"] == "ok"
    assert told["shape"] == [25, 341]


@pytest.mark.parametrize("profile", ["jwst", "offsky"])
def test_a_page_says_why_the_scatter_over_err_of_backgrounds_is_not_known(
    folder: Path, profile: str
) -> None:
    page, told = a_summary(folder, profile=profile)
    ratios = [each["err_ratio"] for each in told["backgrounds"]]
    if profile == "jwst":
        assert ratios == [None] * 3
        assert page.count("<td>not read</td>") == 3
        assert "With --profile=offsky or --errors=propagate it is read" in page
    else:
        assert None not in ratios
        assert "not read" not in page


def test_ticks_of_a_chart_have_no_negative_zero() -> None:
    assert next(nice(each) for each in ticks(-0.003, 0.018)) == "0"


def test_a_model_without_backgrounds_has_no_page_and_says_so(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain.expose(folder / "t_rate.fits", np.ones((8, 9)))
    told: list[offsky.Outcome] = []
    with offsky.subtract("t_rate.fits", [], report=True, on_outcome=told.append):
        pass
    assert "t_bsub.fits: no report: nothing was subtracted" in caplog.text
    assert told[0].report is None
    assert not list(folder.glob("*.html"))


def test_the_page_of_a_model_goes_where_it_is_told(folder: Path) -> None:
    subtracted(folder)
    names = ["b1_rate.fits", "b2_rate.fits"]
    told: list[offsky.Outcome] = []
    for report in (True, "mine.html"):
        with offsky.subtract("t_rate.fits", names, report=report, on_outcome=told.append):
            pass
    assert [each.report for each in told] == ["t_bsub.html", "mine.html"]
    assert json.loads(Path("mine.json").read_text())["name"] == "t_bsub.fits"
    Path("mine.html").write_text("my own")
    with pytest.raises(offsky.OffskyError, match=r"mine\.html: exists already and is no report"):
        offsky.subtract("t_rate.fits", names, report="mine.html")
