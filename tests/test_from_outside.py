"""A new kind of input, kind of output, method or option is added in one place, from outside.

The toy option is in tests/test_declarations.py.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plain
import pytest
from astropy.io import fits
from plain import product, write_association

import offsky
from offsky import declared
from offsky.combine import planes
from offsky.combine.planes import add_method, average_by_mean
from offsky.errors import ParameterError
from offsky.io import files as readers
from offsky.io import product as forms
from offsky.options import Options
from offsky.subtraction import TargetRows, subtract_rows
from offsky.values.exposure import Scratch, Wanted
from offsky.values.in_memory import ArrayExposure
from offsky.values.metadata import Metadata

SHAPE = (12, 10)


class NpzReader:
    """Exposures in NumPy's own format."""

    endings = (".npz",)

    def accepts(self, given: Any) -> bool:
        return isinstance(given, str | os.PathLike) and Path(given).suffix == ".npz"

    def open(self, given: Any, *, variances: bool) -> ArrayExposure:
        path = Path(given)
        with np.load(path) as arrays:
            metadata = Metadata(
                instrument="MIRI",
                bkgdtarg=bool(arrays["start"] > 0),
                start_time=float(arrays["start"]),
                unit="DN/s",
            )
            return ArrayExposure(
                path.name, arrays["sci"], arrays["err"], arrays["dq"], metadata,
                path.resolve(), path=path,
            )  # fmt: skip


class NpzForm:
    """Products in NumPy's own format."""

    endings = (".npz",)

    def suits(self, target: Any, path: Path, how: Any) -> bool:
        return path.suffix == ".npz"

    def held_bytes(self, target: Any, how: Any) -> int:
        return int(np.prod(target.shape)) * 12

    def begin(self, target: Any, part: Any, how: Any, provenance: Any) -> "NpzWriter":
        return NpzWriter(target, part, how)


class NpzWriter:
    """A product that is being made."""

    def __init__(self, target: Any, part: Any, how: Any) -> None:
        self.target, self.part, self.how = target, part, how
        whole = target.read_rows(0, target.shape[-2], Scratch(), Wanted(err=True))
        self.arrays = {"sci": whole.sci.copy(), "dq": whole.dq.copy(), "err": whole.err.copy()}
        self.cards: list[Any] = []

    def copy_rest(self) -> None:
        """Nothing else is in such a file."""

    def subtract(self, first: int, last: int, average: Any, rows: Any) -> Any:
        if rows is None:
            rows = self.target.read_rows(first, last, Scratch(), Wanted())
        before = TargetRows(rows.sci, rows.dq)
        out = TargetRows(self.arrays["sci"][first:last], self.arrays["dq"][first:last])
        return subtract_rows(before, average, self.how, out=out)

    def finish(self, provenance: Any) -> None:
        self.cards = [] if provenance is None else provenance.cards()

    def publish(self) -> Path:
        with self.part.file.open("wb") as file:
            np.savez(file, cards=np.array([f"{k} = {v}" for k, v, _ in self.cards]), **self.arrays)
        return self.part.publish()  # type: ignore[no-any-return]

    def abandon(self) -> None:
        self.part.abandon()


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offsky with another reader."""
    monkeypatch.setattr(readers, "READERS", [NpzReader(), *readers.READERS])


@pytest.fixture
def form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offsky with another writer."""
    monkeypatch.setattr(forms, "FORMS", [NpzForm(), *forms.FORMS])


def write_npz(path: Path, value: float, start: float = 0.0) -> Path:
    np.savez(
        path,
        sci=np.full(SHAPE, value, np.float32) + np.arange(SHAPE[1], dtype=np.float32),
        err=np.full(SHAPE, 0.1, np.float32),
        dq=np.zeros(SHAPE, np.uint32),
        start=start,
    )
    return path


@pytest.fixture
def exposures(folder: Path) -> list[Path]:
    return [
        write_npz(folder / f"{n}_rate.npz", v, v)
        for n, v in zip("abcd", (9, 1, 2, 6), strict=True)
    ]


# A reader


@pytest.mark.usefixtures("reader")
def test_a_reader_makes_its_files_backgrounds_of_every_door(
    folder: Path, exposures: list[Path]
) -> None:
    target = plain.expose(folder / "t_rate.fits", 10.0, shape=SHAPE)
    _, *backgrounds = exposures
    expected = 10.0 - 3.0 - np.arange(SHAPE[1])
    outcome = offsky.subtract_file(target, backgrounds, "r.fits")
    assert outcome.backgrounds == tuple(path.name for path in backgrounds)
    np.testing.assert_allclose(plain.pixels("r.fits")[3], expected)
    assert plain.run("subtract", target, *backgrounds, "-o", "c.fits") == 0
    np.testing.assert_array_equal(plain.pixels("c.fits"), plain.pixels("r.fits"))
    association = folder / "a_asn.json"
    members = [("t_rate.fits", "science"), *((path.name, "background") for path in backgrounds)]
    write_association(association, ("first", members))
    (made,) = offsky.subtract_association(association)
    assert isinstance(made, offsky.Outcome)
    np.testing.assert_array_equal(plain.pixels(made.output or ""), plain.pixels("r.fits"))
    assert plain.run("run", association, "-o", "out") == 0
    np.testing.assert_array_equal(plain.pixels("out/first_bsub.fits"), plain.pixels("r.fits"))
    with offsky.subtract(target, backgrounds) as model:
        np.testing.assert_array_equal(model.data, plain.pixels("r.fits"))
    offsky.average_file(backgrounds, "average.fits")
    np.testing.assert_allclose(plain.pixels("average.fits")[3], 3.0 + np.arange(SHAPE[1]))


@pytest.mark.usefixtures("reader")
def test_a_reader_s_files_are_masked_by_name_and_checked_for_changes(
    folder: Path, exposures: list[Path]
) -> None:
    target = plain.expose(folder / "t_rate.fits", 10.0, shape=SHAPE)
    mask = np.zeros(SHAPE)
    mask[0] = 1
    outcome = offsky.subtract_file(
        target, exposures[1:3], "r.fits", masks={exposures[1].name: mask}, combined_path="a.asdf"
    )
    assert outcome.n_masked == (SHAPE[1], 0)
    np.testing.assert_allclose(plain.pixels("r.fits")[0], 8 - np.arange(SHAPE[1]))


# A writer


@pytest.mark.usefixtures("reader", "form")
def test_a_writer_makes_the_products_of_its_targets(folder: Path, exposures: list[Path]) -> None:
    target, *backgrounds = exposures
    offsky.subtract_file(target, backgrounds)
    with np.load("a_bsub.npz") as made:
        np.testing.assert_allclose(made["sci"], 9 - 3)
        assert "OFFNBKG = 3" in list(made["cards"])
    with pytest.raises(offsky.OutputExistsError):
        offsky.subtract_file(target, backgrounds)
    Path("a_bsub.npz").unlink()
    for i, path in enumerate(exposures):
        write_npz(path, float(i + 1), float(i))
    # A folder is searched for what the reader takes.
    assert plain.run("run", folder, "--from", "dedicated", "-o", "dedicated") == 0
    with np.load("dedicated/a_bsub.npz") as made:
        np.testing.assert_allclose(made["sci"], 1 - 3)
    association = folder / "a_asn.json"
    members = [(p.name, "science" if i == 0 else "background") for i, p in enumerate(exposures)]
    write_association(association, ("first", members))
    assert plain.run("subtract", association, "-o", "out_a", "--profile", "offsky") == 1
    Path("out_a").mkdir()
    assert plain.run("subtract", association, "-o", "out_a") == 0
    assert plain.run("run", association, "-o", "out", "--save-combined") == 0
    for folder_name in ("out_a", "out"):
        with np.load(Path(folder_name) / "first_bsub.npz") as made:
            np.testing.assert_allclose(made["sci"], 1 - 3)
    assert fits.getheader("out/first_combinedbackground.fits")["OFFNBKG"] == 3
    assert plain.run("run", association, "-o", "out", "--save-combined") == 0


@pytest.mark.usefixtures("reader", "form")
def test_a_writer_takes_the_rows_of_a_pass(folder: Path, exposures: list[Path]) -> None:
    names = [path.name for path in exposures]
    products = [
        (
            path.stem,
            [(path.name, "science"), *((n, "background") for n in names if n != path.name)],
        )
        for path in exposures
    ]
    write_association(folder / "a_asn.json", *products)
    outcomes = list(offsky.subtract_association("a_asn.json"))
    assert all(isinstance(each, offsky.Outcome) for each in outcomes)
    with np.load("d_bsub.npz") as made:
        np.testing.assert_allclose(made["sci"], 6 - 4)
    assert not list(folder.glob(".*part*"))


# A method of averaging


def average_by_maximum(
    them: Any, numbers: Any, rule: Any, first: int, last: int, out: Any
) -> tuple[int, int]:
    """Take the largest sample."""
    counts = average_by_mean(them, numbers, rule, first, last, out)
    samples = np.stack([plane[first:last] for plane in them.sci])
    out.sci[first:last] = np.nanmax(samples, axis=0)
    return counts


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Offsky with another method of averaging."""
    monkeypatch.setattr(planes, "METHODS", dict(planes.METHODS))
    monkeypatch.setattr(declared, "_JOINED", dict(declared._JOINED))
    declared._declarations.cache_clear()
    add_method("maximum", average_by_maximum)
    yield
    monkeypatch.undo()
    declared._declarations.cache_clear()


@pytest.mark.usefixtures("method")
def test_a_method_is_a_choice_of_combine_through_every_door(folder: Path) -> None:
    target = plain.expose(folder / "t_rate.fits", 10.0, shape=SHAPE)
    values = zip(("x_rate", "y_rate", "z_rate"), (1.0, 2.0, 6.0), strict=True)
    backgrounds = [plain.expose(folder / f"{name}.fits", v, shape=SHAPE) for name, v in values]
    how: dict[str, Any] = {"combine": "maximum"}
    offsky.subtract_file(target, backgrounds, "r.fits", **how)
    np.testing.assert_array_equal(plain.pixels("r.fits"), 4.0)
    assert fits.getheader("r.fits")["OFFCOMB"] == "maximum"
    association = write_association(
        folder / "a_asn.json", product("first", "t", "x", "y", "z"), product("second", "x", "y")
    )
    made = list(offsky.subtract_association(association, **how))
    assert [type(each) for each in made] == [offsky.Outcome] * 2
    np.testing.assert_array_equal(plain.pixels("first_bsub.fits"), 4.0)
    with offsky.subtract(target, backgrounds, **how) as model:
        np.testing.assert_array_equal(model.data, 4.0)
    with offsky.average(backgrounds[:2], **how) as average:
        np.testing.assert_array_equal(average.data, 2.0)


@pytest.mark.usefixtures("method")
def test_a_method_is_named_where_choices_are_named() -> None:
    with pytest.raises(ParameterError, match="give one of mean, median, maximum"):
        Options(combine="minimum")  # type: ignore[arg-type]
    pytest.importorskip("jwst")
    from offsky.step import spec_of

    assert "combine = option('mean', 'median', 'maximum', default=None)" in spec_of()


def test_without_the_method_its_name_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"give one of mean, median$"):
        Options(combine="maximum")  # type: ignore[arg-type]
