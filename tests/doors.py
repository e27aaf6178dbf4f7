"""The doors: every public way to make products, each used in the same way.

A door is called with jobs, a folder and changes to the options, and returns the files that it
made. What a door cannot do yet is what its `abilities` lack; a new ability is one word there and
a few lines in its `make`.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import plain
import pytest
from programmes import offsky_command
from scenes import Job

import offsky

Changes = Mapping[str, Any]


class DoorError(Exception):
    """A product could not be made; the text is what the door said."""


@dataclass(frozen=True)
class Made:
    """The files of one job; `average` is None where it was not saved."""

    product: Path
    average: Path | None = None


class Door:
    """One way to make products.

    Attributes
    ----------
    name : str
        What tests call it.
    abilities : set of str
        "average" (saves the average too), "masks" (takes masks), "asdf" (takes ASDF).
    from_models : bool
        Whether products are saved by `stdatamodels`, not written by offsky.
    slow : bool
        Whether it starts processes.
    needs : tuple of str
        Packages that it is nothing without.
    """

    name: ClassVar[str]
    abilities: ClassVar[frozenset[str]] = frozenset({"asdf"})
    from_models: ClassVar[bool] = False
    slow: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    def can(self, jobs: Sequence[Job], *, average: bool = False) -> bool:
        """Tell whether it can make all of these."""
        wanted = {"masks"} if any(job.masks for job in jobs) else set()
        wanted |= {"asdf"} if any(job.is_asdf for job in jobs) else set()
        return wanted | ({"average"} if average else set()) <= self.abilities

    def enter(self, stack: ExitStack, **given: Any) -> None:
        """Prepare what it needs around it until the stack is closed."""

    def make(
        self, jobs: Sequence[Job], folder: Path, changes: Changes, *, average: bool = False
    ) -> list[Made]:
        """Make products in a folder, in the order of the jobs.

        Raises
        ------
        DoorError
            If one could not be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return self._make(jobs, folder, changes, average)
        except offsky.OffskyError as error:
            raise DoorError(str(error)) from error

    def _make(
        self, jobs: Sequence[Job], folder: Path, changes: Changes, average: bool
    ) -> list[Made]:
        return [self._make_one(job, folder, changes, average) for job in jobs]

    def _make_one(self, job: Job, folder: Path, changes: Changes, average: bool) -> Made:
        raise NotImplementedError


def root(path: Path) -> str:
    """Return what the names of a target's products begin with."""
    return path.name.split(".")[0].rpartition("_")[0]


def on_command_line(changes: Changes) -> list[str]:
    """Write options as the command line takes them."""
    arguments = []
    for name, value in changes.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            arguments.append(f"--{flag}={'none' if value is None else value}")
    return arguments


def _masks_on_command_line(job: Job) -> list[str]:
    return [f"--mask={mask or 'none'}" for mask in job.masks]


def _run(*arguments: Any) -> None:
    if plain.run(*arguments) != 0:
        raise DoorError("offsky " + " ".join(map(str, arguments)))


def _run_apart(*arguments: Any) -> None:
    done = offsky_command(*arguments)
    if done.returncode != 0:
        raise DoorError(done.stderr)


class FileDoor(Door):
    """`offsky.subtract_file`."""

    name = "file"
    abilities = frozenset({"average", "masks", "asdf"})

    def can(self, jobs: Sequence[Job], *, average: bool = False) -> bool:
        # The average of an ASDF target is not saved.
        return super().can(jobs, average=average) and not (average and jobs[0].is_asdf)

    def _make_one(self, job: Job, folder: Path, changes: Changes, average: bool) -> Made:
        output = folder / f"{root(job.target)}_bsub{'.asdf' if job.is_asdf else '.fits'}"
        combined = folder / f"{root(job.target)}_combinedbackground.fits" if average else None
        offsky.subtract_file(
            job.target, job.backgrounds, output, combined_path=combined, masks=job.masks, **changes
        )
        return Made(output, combined)


class CommandDoor(FileDoor):
    """`offsky subtract` with files."""

    name = "command"

    def _make_one(self, job: Job, folder: Path, changes: Changes, average: bool) -> Made:
        output = folder / f"{root(job.target)}_bsub{'.asdf' if job.is_asdf else '.fits'}"
        more = ["--save-combined"] if average else []
        masks = _masks_on_command_line(job)
        options = on_command_line(changes)
        _run("subtract", job.target, *job.backgrounds, "-o", output, *more, *masks, *options)
        combined = folder / f"{root(job.target)}_combinedbackground.fits"
        return Made(output, combined if average else None)


class AssociationDoor(FileDoor):
    """`offsky.subtract_association`."""

    name = "association"
    abilities = frozenset({"average", "asdf"})

    def _make(
        self, jobs: Sequence[Job], folder: Path, changes: Changes, average: bool
    ) -> list[Made]:
        association = write_association(jobs, folder)
        made = []
        for outcome in offsky.subtract_association(
            association, folder, save_combined=average, allow_outside=True, **changes
        ):
            if isinstance(outcome, offsky.OffskyError):
                raise outcome
            combined = None if outcome.combined is None else Path(outcome.combined)
            made.append(Made(Path(outcome.output), combined))
        return made


class ProgrammeDoor(Door):
    """`offsky run` of an association, in this process."""

    name = "programme"

    def _make(
        self, jobs: Sequence[Job], folder: Path, changes: Changes, average: bool
    ) -> list[Made]:
        association = write_association(jobs, folder)
        options = on_command_line(changes)
        self._command("run", association, "--allow-outside", "-o", folder, *options)
        return [Made(_product_of(job, folder)) for job in jobs]

    def _command(self, *arguments: Any) -> None:
        _run(*arguments)


class WorkersDoor(ProgrammeDoor):
    """`offsky run --workers 2`."""

    name = "workers"
    slow = True

    def _command(self, *arguments: Any) -> None:
        # In a process of its own, with which all that multiprocessing keeps open ends.
        _run_apart(*arguments, "--workers", 2)


class DaskDoor(ProgrammeDoor):
    """`offsky run --dask`, on a cluster of one worker."""

    name = "dask"
    slow = True
    needs = ("distributed",)

    def enter(self, stack: ExitStack, **given: Any) -> None:
        self._address = given["cluster_address"]()

    def _command(self, *arguments: Any) -> None:
        _run_apart(*arguments, "--dask", self._address)


class ModelDoor(Door):
    """`offsky.subtract` with open data models."""

    name = "model"
    abilities = frozenset({"masks", "asdf"})
    from_models = True

    def _make_one(self, job: Job, folder: Path, changes: Changes, average: bool) -> Made:
        output = folder / f"{root(job.target)}_bsub.fits"
        with ExitStack() as stack:
            target, *backgrounds = open_models([job.target, *job.backgrounds], stack)
            result = offsky.subtract(target, backgrounds, masks=job.masks, **changes)
            with result:
                result.save(output)
        return Made(output)


class StepDoor(Door):
    """`BackgroundStep.call`, without CRDS."""

    name = "step"
    abilities = frozenset({"average", "asdf"})
    from_models = True
    needs = ("jwst",)

    def enter(self, stack: ExitStack, **given: Any) -> None:
        monkeypatch = given["monkeypatch"]
        for name in ("CRDS_SERVER_URL", "CRDS_CONTEXT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("CRDS_PATH", os.fspath(given["crds_path"]))
        monkeypatch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", "true")

    def _make_one(self, job: Job, folder: Path, changes: Changes, average: bool) -> Made:
        from offsky.step import BackgroundStep

        as_text = {"bad_bits", "target_scale"}
        result = BackgroundStep.call(
            os.fspath(job.target),
            [os.fspath(path) for path in job.backgrounds],
            save_combined_background=average,
            save_results=True,
            suffix="bsub",
            output_dir=os.fspath(folder),
            **{name: str(each) if name in as_text else each for name, each in changes.items()},
        )
        result.close()
        # stpipe takes the ending of a gzipped target's name for a part of the name.
        start = root(job.target)
        (product,) = folder.glob(f"{start}*_bsub.*")
        combined = next(folder.glob(f"{start}*_combinedbackground.*"), None)
        return Made(product, combined)


def open_models(paths: Sequence[Path], stack: ExitStack) -> list[Any]:
    """Open files as data models, to be closed with the stack."""
    from stdatamodels.jwst import datamodels

    return [stack.enter_context(datamodels.open(path)) for path in paths]


def write_association(jobs: Sequence[Job], folder: Path) -> Path:
    """Write an association of all jobs, its members by their paths from the folder."""
    products = []
    for job in jobs:
        if job.masks:
            raise DoorError("an association has no masks")
        members = [(job.target, "science"), *((each, "background") for each in job.backgrounds)]
        named = [(os.path.relpath(path, folder), kind) for path, kind in members]
        products.append((root(job.target), named))
    return plain.write_association(folder / "jobs_asn.json", *products)


def _product_of(job: Job, folder: Path) -> Path:
    """Find the product that a programme named by itself."""
    (product,) = folder.glob(f"{root(job.target)}_bsub*.*")
    return product


DOORS: dict[str, Door] = {
    door.name: door
    for door in (
        FileDoor(),
        CommandDoor(),
        AssociationDoor(),
        ProgrammeDoor(),
        WorkersDoor(),
        DaskDoor(),
        ModelDoor(),
        StepDoor(),
    )
}
"""All doors by name; the first is what the others are compared with."""


# Doors to an average alone.


class AverageDoor:
    """One way to average backgrounds, of a job whose target is not looked at."""

    name: ClassVar[str]
    from_models: ClassVar[bool] = False

    def make(self, job: Job, folder: Path, changes: Changes) -> Path:
        """Make the average in a folder.

        Raises
        ------
        DoorError
            If it could not be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        output = folder / "average.fits"
        try:
            self._make(job, output, changes)
        except offsky.OffskyError as error:
            raise DoorError(str(error)) from error
        return output

    def _make(self, job: Job, output: Path, changes: Changes) -> None:
        raise NotImplementedError


class AverageFileDoor(AverageDoor):
    """`offsky.average_file`."""

    name = "file"

    def _make(self, job: Job, output: Path, changes: Changes) -> None:
        offsky.average_file(job.backgrounds, output, masks=job.masks, **changes)


class AverageCommandDoor(AverageDoor):
    """`offsky average`."""

    name = "command"

    def _make(self, job: Job, output: Path, changes: Changes) -> None:
        masks = _masks_on_command_line(job)
        _run("average", *job.backgrounds, "-o", output, *masks, *on_command_line(changes))


class AverageModelDoor(AverageDoor):
    """`offsky.average` with open data models."""

    name = "model"
    from_models = True

    def _make(self, job: Job, output: Path, changes: Changes) -> None:
        with ExitStack() as stack:
            backgrounds = open_models(job.backgrounds, stack)
            with offsky.average(backgrounds, masks=job.masks, **changes) as average:
                average.save(output)


AVERAGE_DOORS: dict[str, AverageDoor] = {
    door.name: door for door in (AverageFileDoor(), AverageCommandDoor(), AverageModelDoor())
}
"""All doors to an average by name; the first is what the others are compared with."""


def made_by(door: Door, job: Job, folder: Path, changes: Changes | None = None) -> Path:
    """Make one product of plain files by any door; skip what the door cannot do."""
    if not door.can([job]):
        pytest.skip(f"not through the door {door.name!r}")
    if door.name == "step":
        # stpipe opens no file without its ASDF extension.
        for path in (job.target, *job.backgrounds):
            if path.suffix == ".fits":
                _resave(path)
    (made,) = door.make([job], folder, changes or {})
    return made.product


def _resave(path: Path) -> None:
    from stdatamodels.jwst import datamodels

    with datamodels.open(path) as model:
        model.save(path.with_suffix(".new.fits"))
    path.with_suffix(".new.fits").replace(path)
