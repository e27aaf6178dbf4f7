"""Tiny products: made without threads, which would take longer to begin than to work."""

import threading
from pathlib import Path

import pytest
from plain import run
from programmes import content, expose

from offsky.combine import blocks
from offsky.io import fits_copy


def test_tiny_products_are_made_without_threads_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for i in range(4):
        expose(inputs, i)
    begun: list[str] = []
    begin = threading.Thread.start
    monkeypatch.setattr(
        threading.Thread, "start", lambda self: (begun.append(self.name), begin(self))[1]
    )

    def made(name: str) -> dict[str, bytes]:
        begun.clear()
        words = ["run", inputs, "--from", "dithers", "-o", tmp_path / name, "--threads", 2]
        assert run(*words) == 0
        return {path.name: content(path) for path in (tmp_path / name).glob("*.fits")}

    on_threads = made("threads")
    assert len(on_threads) == 4
    assert len(begun) > 4
    monkeypatch.setattr(blocks, "_TINY_BYTES", 2**17)
    monkeypatch.setattr(fits_copy, "_LEAST_FLUSH", 2**22)
    monkeypatch.setattr("offsky.engine.make._LARGE", 2**18)
    assert made("none") == on_threads
    # Group by group, one thread may yet show how far it is.
    assert len(begun) <= 1
