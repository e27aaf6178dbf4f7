"""Sources: bytes at given places, few files open, and whether an input is still the same."""

import gzip
import io
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offsky.errors import ExposureError, MissingFileError
from offsky.io import source as source_module
from offsky.io.fits import FitsExposure
from offsky.io.source import LocalFile, TemporaryCopy, open_source
from offsky.testing import write_exposure
from offsky.values.exposure import Scratch, Wanted

CONTENT = bytes(range(256)) * 50


@pytest.fixture(params=["plain", "gzipped"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of known bytes, plain and gzipped in turn."""
    path = tmp_path / "input"
    zipped = request.param == "gzipped"
    path.write_bytes(gzip.compress(CONTENT) if zipped else CONTENT)
    return path


@pytest.fixture
def source(path: Path) -> Iterator[LocalFile | TemporaryCopy]:
    """The file, opened."""
    with closing(open_source(path)) as opened:
        yield opened


def test_a_source_has_the_size_of_what_is_read_and_the_stamp_of_what_was_named(
    path: Path, source: Any
) -> None:
    status = path.stat()
    assert source.size == len(CONTENT)
    assert source.name == str(path)
    assert source.stamp == (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns,
    )  # fmt: skip


pieces = st.lists(
    st.tuples(st.integers(0, len(CONTENT)), st.lists(st.integers(0, 300), max_size=6)), max_size=6
)


@given(pieces=pieces, most=st.integers(1, 4), most_bytes=st.integers(1, 500))
def test_spans_are_filled_with_their_bytes_however_few_come_at_a_time(
    source: Any, pieces: Any, most: int, most_bytes: int
) -> None:
    spans, expected = [], []
    for start, lengths in pieces:
        for length in lengths:
            end = min(start + length, len(CONTENT))
            spans.append((start, memoryview(bytearray(end - start))))
            expected.append(CONTENT[start:end])
            start = end

    def short(fd: int, buffers: list[memoryview], offset: int) -> int:
        assert 0 < len(buffers) <= most
        n_read = 0
        for buffer in buffers:
            piece = buffer[: most_bytes - n_read]
            n_read += real(fd, [piece], offset + n_read)
        return n_read

    real = os.preadv
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "_MOST_BUFFERS", most)
        patch.setattr(os, "preadv", short)
        source.read(spans)
    assert [bytes(memory) for _, memory in spans] == expected


def test_neighbours_are_read_by_one_system_call(
    source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = os.preadv

    def count(fd: int, buffers: list[memoryview], offset: int) -> int:
        calls.append((offset, sum(map(len, buffers))))
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", count)
    memory = memoryview(bytearray(100))
    source.read([(5, memory[:10]), (15, memory[10:40]), (90, memory[40:50]), (100, memory[50:])])
    assert calls == [(5, 40), (90, 60)]
    assert bytes(memory) == CONTENT[5:45] + CONTENT[90:150]


def test_bytes_beyond_the_end_are_an_error_that_says_where(source: Any) -> None:
    memory = memoryview(bytearray(10))
    with pytest.raises(ExposureError, match=rf"the file ended at byte {len(CONTENT)} while") as e:
        source.read([(len(CONTENT) - 4, memory)])
    assert str(e.value).startswith(f"{source.name}: ")
    assert source.peek(len(CONTENT) - 4, 10) == CONTENT[-4:]
    assert source.peek(len(CONTENT) + 4, 10) == b""


@pytest.mark.parametrize("system_copies", [True, False])
def test_spans_are_copied_to_their_places(
    source: Any, tmp_path: Path, system_copies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(*given: Any) -> int:
        raise OSError("not between these file systems")

    if not system_copies:
        monkeypatch.setattr(os, "copy_file_range", no)
        monkeypatch.setattr(source_module, "_COPY_BYTES", 1000)
    with (tmp_path / "copy").open("w+b", buffering=0) as file:
        source.copy(100, 7000, file.fileno(), 20)
        with pytest.raises(ExposureError, match="the file ended"):
            source.copy(len(CONTENT) - 4, 10, file.fileno(), 8000)
    copied = (tmp_path / "copy").read_bytes()
    assert copied[:7020] == bytes(20) + CONTENT[100:7100]


@given(st.data())
def test_a_view_reads_as_a_file_does_and_views_do_not_move_each_other(
    source: Any, data: st.DataObject
) -> None:
    views, files = [source.view(), source.view()], [io.BytesIO(CONTENT), io.BytesIO(CONTENT)]
    for _ in range(data.draw(st.integers(1, 12))):
        which = data.draw(st.integers(0, 1))
        view, file = views[which], files[which]
        if data.draw(st.booleans()):
            whence = data.draw(st.sampled_from([os.SEEK_SET, os.SEEK_END]))
            offset = data.draw(st.integers(0, len(CONTENT)))
            offset = -offset if whence == os.SEEK_END else offset
            assert view.seek(offset, whence) == file.seek(offset, whence)
        else:
            n_bytes = data.draw(st.integers(0, 5000))
            assert view.read(n_bytes) == file.read(n_bytes)
        assert view.tell() == file.tell()


CHANGES: dict[str, Callable[[Path], object]] = {
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "touched": lambda path: os.utime(path, ns=(1, 1)),
    "replaced": lambda path: path.with_name("new").rename(path),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", CHANGES)
def test_an_input_that_changed_by_its_name_is_an_error(path: Path, source: Any, how: str) -> None:
    source.check_unchanged()
    path.with_name("new").write_bytes(path.read_bytes())
    os.utime(path.with_name("new"), ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    CHANGES[how](path)
    with pytest.raises(ExposureError) as caught:
        source.check_unchanged()
    assert str(caught.value) == (
        f"{path}: changed while it was read; run again when it is finished"
    )


def test_a_link_is_followed_to_tell_whether_the_input_is_the_same(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(CONTENT)
    link.symlink_to(real)
    with closing(open_source(link)) as source:
        source.check_unchanged()
        os.utime(real, ns=(1, 1))
        with pytest.raises(ExposureError, match="link: changed"):
            source.check_unchanged()


def test_what_cannot_be_opened_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="gone: no such file; check the name"):
        open_source(tmp_path / "gone")
    with pytest.raises(
        ExposureError, match=r"cannot be read \(it is a directory, not a regular file\)"
    ):
        open_source(tmp_path)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(CONTENT)[:-20])
    with pytest.raises(ExposureError, match=r"cut.gz: cannot be unzipped .*; fetch it again"):
        open_source(tmp_path / "cut.gz")


@pytest.mark.parametrize("nints", [None, 3])
def test_all_planes_of_a_block_of_rows_are_read_by_one_call(
    tmp_path: Path, nints: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (6, 5) if nints is None else (nints, 6, 5)
    sci = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    path = write_exposure(tmp_path / "a.fits", sci=sci, err=sci + 1000, dq=7)
    calls = []
    read = LocalFile.read

    def count(self: LocalFile, spans: Any) -> None:
        calls.append(len(spans))
        read(self, spans)

    monkeypatch.setattr(LocalFile, "read", count)
    with FitsExposure(path) as exposure:
        rows = exposure.read_rows(2, 5, Scratch(), Wanted())
    assert calls == [3 * (nints or 1)]
    np.testing.assert_array_equal(rows.sci, sci[..., 2:5, :])
    np.testing.assert_array_equal(rows.err, sci[..., 2:5, :] + 1000)
    np.testing.assert_array_equal(rows.dq ^ np.uint32(rows.dq_flip), 7)
