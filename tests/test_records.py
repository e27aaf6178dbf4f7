"""Records of a programme that something has happened to: the product is made again."""

import json
from pathlib import Path
from typing import Any

import pytest
from plain import expose, pixels, product, run, write_association

CHANGES: dict[str, tuple[str, str]] = {
    "another status": ('"status": "COMPLETE"', '"status": "COMPLETED"'),
    "status is a list": ('"status": "COMPLETE"', '"status": ["COMPLETE"]'),
    "failed": ('"status": "COMPLETE"', '"status": "FAILED"'),
    "an infinite time": ('"elapsed_s": ', '"elapsed_s": 1e999, "was": '),
    "an unknown key": ('"elapsed_s": ', '"was": 1, "elapsed_s": '),
    "no key": ('"n_uncovered": ', '"was": '),
    "a count in words": ('"n_uncovered": ', '"n_uncovered": "some", "was": '),
    "a count beyond 64 bits": ('"n_samples": ', '"n_samples": 1' + "0" * 400 + ', "was": '),
    "counts that are none": ('"n_rejected": [', '"n_rejected": [null, '),
    "backgrounds are a number": ('"backgrounds": [', '"backgrounds": 3, "was": ['),
    "an infinite option": ('"sigma": ', '"sigma": -1e999, "was": '),
    "a nested option": ('"sigma": ', '"sigma": ' + "[" * 40 + "]" * 40 + ', "was": '),
    "nested too deep": ('"sigma": ', '"sigma": ' + "[" * 900 + "]" * 900 + ', "was": '),
    "nested without end": ('"sigma": ', '"sigma": ' + "[" * 100_000),
    "a list": ("{", "[{"),
    "empty": ("{", ""),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_record_with_another_content_is_no_record_of_the_product(
    folder: Path, capsys: Any, how: str
) -> None:
    for i in range(1, 3):
        expose(folder / f"a{i}_rate.fits", float(i))
    write_association(folder / "x_asn.json", product("p", "a1_rate", "a2_rate"))
    assert run("run", "x_asn.json", "-o", "out") == 0
    record = folder / "out" / ".offsky" / "p_bsub.fits.json"
    text = record.read_text()
    old, new = CHANGES[how]
    assert old in text
    record.write_text(text[: text.index("{") + 1] if how == "empty" else text.replace(old, new, 1))
    capsys.readouterr()
    is_readable = how not in ("nested too deep", "nested without end", "a list", "empty")
    status = run("run", "x_asn.json", "-o", "out")
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    summary = json.loads((folder / "out" / "summary.json").read_text())
    (only,) = summary["products"]
    if is_readable:
        assert (status, only["status"], only["made"]) == (0, "COMPLETE", True)
    else:
        # Nothing says any more that the file there is one of ours.
        assert (status, only["status"]) == (1, "FAILED")
        assert "exists already" in only["reason"]
        assert run("run", "x_asn.json", "-o", "out", "--overwrite") == 0
    assert (pixels(folder / "out" / "p_bsub.fits") == -1).all()


def test_a_record_that_nothing_has_happened_to_is_followed(folder: Path, capsys: Any) -> None:
    for i in range(1, 3):
        expose(folder / f"a{i}_rate.fits", float(i))
    write_association(folder / "x_asn.json", product("p", "a1_rate", "a2_rate"))
    # A threshold that JSON has no number for.
    assert run("run", "x_asn.json", "-o", "out", "--sigma", "inf") == 0
    before = json.loads((folder / "out" / "summary.json").read_text())["products"][0]
    assert run("run", "x_asn.json", "-o", "out", "--sigma", "inf") == 0
    after = json.loads((folder / "out" / "summary.json").read_text())["products"][0]
    assert (before["made"], after["made"]) == (True, False)
    assert before["details"] == after["details"]
    assert "sigma" in json.dumps(after["details"]["not_finite"])
