"""The promises of docs/reliability.md name tests that are there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"


def promises() -> list[tuple[str, str]]:
    rows = re.findall(r"^\| (.+\.) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [(promise, tests) for promise, tests in rows]


@pytest.mark.parametrize(("promise", "tests"), promises())
def test_each_promise_names_tests_that_are_there(promise: str, tests: str) -> None:
    named = re.findall(r"`(\w+\.py)::(\w+)`", tests)
    assert named, promise
    for file, test in named:
        text = (TESTS / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {test}\(", text, re.MULTILINE), f"{file}::{test}"


def test_no_row_is_without_a_promise_and_a_test() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    n_heads = sum(row == "| promise | test |" for row in rows)
    assert len(rows) - n_heads == len(promises()) > 20
