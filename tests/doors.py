"""The doors: every public way to make products, each used in the same way.

A door is called with jobs, a folder, changes to the options, and how else it is to work, and
returns the files that it made with their outcomes. What a door cannot do is what its `abilities`
lack; a new ability is one word there, a field of `How`, and a few lines in its `_make`.
"""

import io
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
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
class How:
    """How a door is to work, beside options; a door takes no notice of what it cannot do."""

    average: bool = False
    by_name: bool = False  # masks of doors that take them by position too
    mask_dir: Path | None = None
    memory: str | None = None
    threads: int | None = None
    overwrite: bool = False
    force: bool = False
    progress: Callable[[int, int], None] | None = None
    report: Path | None = None  # a folder for pages

    def named(self) -> dict[str, Any]:
        """Return what the functions of offsky take, by its names."""
        names = ("mask_dir", "memory", "threads", "progress", "report")
        given = {name: each for name in names if (each := getattr(self, name)) is not None}
        return (
            given
            | ({"overwrite": True} if self.overwrite else {})
            | ({"force": True} if self.force else {})
        )

    def on_command_line(self) -> list[Any]:
        """Return the same as arguments."""
        words = [
            f"--{name.replace('_', '-')}" for name in ("overwrite", "force") if getattr(self, name)
        ]
        words += [
            f"--{name.replace('_', '-')}={getattr(self, name)}"
            for name in ("mask_dir", "memory", "threads", "report")
            if getattr(self, name) is not None
        ]
        return words


@dataclass(frozen=True)
class Made:
    """The files of one job; `average` is None where it was not saved.

    `outcome` is the `Outcome` as a dictionary, with lists where JSON has them.
    """

    product: Path
    average: Path | None = None
    outcome: Mapping[str, Any] | None = None


class Door:
    """One way to make products.

    Attributes
    ----------
    name : str
        What tests call it.
    abilities : set of str
        "average" (saves the average too), "masks" (takes masks by name), "positions" (takes
        them by position), "asdf" (takes ASDF), "progress" (takes a callable), "reads" (reads
        its files in this process, so that it can be counted), "many" (makes several products at
        a time), "reports" (writes a page of each product).
    from_models : bool
        Whether products are saved by `stdatamodels`, not written by offsky.
    slow : bool
        Whether it starts processes.
    needs : tuple of str
        Packages that it is nothing without.
    """

    name: ClassVar[str]
    abilities: ClassVar[frozenset[str]] = frozenset({"asdf", "average", "masks"})
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
        self,
        jobs: Sequence[Job],
        folder: Path,
        changes: Changes,
        how: How = How(),
        *,
        average: bool = False,
    ) -> list[Made]:
        """Make products in a folder, in the order of the jobs.

        Raises
        ------
        DoorError
            If one could not be made.
        """
        made = []
        for each in self.make_each(
            jobs, folder, changes, replace(how, average=how.average | average)
        ):
            if isinstance(each, DoorError):
                raise each
            made.append(each)
        return made

    def make_each(
        self,
        jobs: Sequence[Job],
        folder: Path,
        changes: Changes,
        how: How = How(),
    ) -> list[Made | DoorError]:
        """Make products in a folder; where one could not be made, return what was said."""
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return self._make(jobs, folder, changes, how)
        except (DoorError, offsky.OffskyError) as error:
            return [DoorError(str(error)) for _ in jobs]

    def _make(
        self, jobs: Sequence[Job], folder: Path, changes: Changes, how: How
    ) -> list[Made | DoorError]:
        made: list[Made | DoorError] = []
        for job in jobs:
            try:
                made.append(self._make_one(job, folder, changes, how))
            except (DoorError, offsky.OffskyError) as error:
                made.append(DoorError(str(error)))
        return made

    def _make_one(self, job: Job, folder: Path, changes: Changes, how: How) -> Made:
        raise NotImplementedError

    def warnings(self, caplog: pytest.LogCaptureFixture) -> list[str]:
        """Return the warnings of its last work, as a user sees them."""
        return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


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


def masks_by_name(jobs: Sequence[Job]) -> dict[str, Path]:
    """Return the masks of jobs by the names of their backgrounds."""
    return {
        background.name: mask
        for job in jobs
        for background, mask in zip(job.backgrounds, job.masks, strict=False)
        if mask is not None
    }


def _masks(job: Job, how: How) -> Any:
    return masks_by_name([job]) if how.by_name else job.masks


def _masks_on_command_line(job: Job, how: How = How()) -> list[str]:
    if how.by_name:
        return _named_on_command_line([job])
    return [f"--mask={mask or 'none'}" for mask in job.masks]


def _named_on_command_line(jobs: Sequence[Job]) -> list[str]:
    return [f"--mask={name}={mask}" for name, mask in masks_by_name(jobs).items()]


def run_and_read(*arguments: Any) -> Any:
    """Run a command with ``--json`` in this process; return what it printed.

    Raises
    ------
    DoorError
        With what it said, where it printed nothing.
    """
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        status = plain.run(*arguments, "--json")
    return _printed(output.getvalue(), errors.getvalue(), status)


def _printed(output: str, errors: str, status: int) -> Any:
    if not output.strip():
        raise DoorError(f"exit status {status}: {errors}")
    return json.loads(output)


class FileDoor(Door):
    """`offsky.subtract_file`."""

    name = "file"
    abilities = frozenset(
        {"average", "masks", "positions", "asdf", "progress", "reads", "reports"}
    )

    def can(self, jobs: Sequence[Job], *, average: bool = False) -> bool:
        # No digest is kept of the average of an ASDF target.
        return super().can(jobs, average=average) and not (average and jobs[0].is_asdf)

    def _make_one(self, job: Job, folder: Path, changes: Changes, how: How) -> Made:
        ending = ".asdf" if job.is_asdf else ".fits"
        output = folder / f"{root(job.target)}_bsub{ending}"
        combined = folder / f"{root(job.target)}_combinedbackground{ending}"
        outcome = offsky.subtract_file(
            job.target,
            job.backgrounds,
            output,
            combined_path=combined if how.average else None,
            masks=_masks(job, how),
            imprints=job.imprints,
            **how.named(),
            **changes,
        )
        return Made(output, combined if how.average else None, as_json(outcome))


class CommandDoor(FileDoor):
    """`offsky subtract` with files."""

    name = "command"
    abilities = FileDoor.abilities - {"progress"}

    def _make_one(self, job: Job, folder: Path, changes: Changes, how: How) -> Made:
        output = folder / f"{root(job.target)}_bsub{'.asdf' if job.is_asdf else '.fits'}"
        outcome = run_and_read(
            "subtract",
            job.target,
            *job.backgrounds,
            *("-o", output),
            *(["--save-combined"] if how.average else []),
            *_masks_on_command_line(job, how),
            *(f"--imprint={imprint}" for imprint in job.imprints),
            *how.on_command_line(),
            *on_command_line(changes),
        )
        combined = outcome["combined"]
        return Made(output, None if combined is None else Path(combined), outcome)


class AssociationDoor(FileDoor):
    """`offsky.subtract_association`."""

    name = "association"
    abilities = frozenset({"average", "masks", "asdf", "progress", "reads", "many", "reports"})

    def _make(
        self, jobs: Sequence[Job], folder: Path, changes: Changes, how: How
    ) -> list[Made | DoorError]:
        association = write_association(jobs, folder)
        made: list[Made | DoorError] = []
        for outcome in offsky.subtract_association(
            association,
            folder,
            save_combined=how.average,
            allow_outside=True,
            masks=masks_by_name(jobs),
            **how.named(),
            **changes,
        ):
            if isinstance(outcome, offsky.OffskyError):
                made.append(DoorError(str(outcome)))
                continue
            combined = None if outcome.combined is None else Path(outcome.combined)
            made.append(Made(Path(outcome.output or ""), combined, as_json(outcome)))
        return made


class ProgrammeDoor(Door):
    """`offsky run` of an association, in this process."""

    name = "programme"
    abilities = frozenset({"average", "masks", "asdf", "reads", "many", "reports"})

    def _make(
        self, jobs: Sequence[Job], folder: Path, changes: Changes, how: How
    ) -> list[Made | DoorError]:
        summary = self._command(
            "run",
            write_association(jobs, folder),
            "--allow-outside",
            *("-o", folder),
            *(["--save-combined"] if how.average else []),
            *_named_on_command_line(jobs),
            *how.on_command_line(),
            *on_command_line(changes),
        )
        return [
            DoorError(product["reason"])
            if product["status"] == "FAILED"
            else self._made(folder / product["output"], product["details"])
            for product in summary["products"]
        ]

    def _made(self, output: Path, details: Mapping[str, Any]) -> Made:
        combined = details["combined"]
        return Made(output, None if combined is None else Path(combined), details)

    def _command(self, *arguments: Any) -> Any:
        return run_and_read(*arguments)


class _ApartDoor(ProgrammeDoor):
    """A programme whose command runs in a process of its own."""

    abilities = ProgrammeDoor.abilities - {"reads"}
    slow = True
    said = ""

    def _command(self, *arguments: Any) -> Any:
        # With the process ends all that multiprocessing keeps open.
        done = offsky_command(*arguments, *self._workers(), "--json")
        self.said = done.stderr
        return _printed(done.stdout, done.stderr, done.returncode)

    def _workers(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def warnings(self, caplog: pytest.LogCaptureFixture) -> list[str]:
        start = "WARNING: "
        lines = self.said.splitlines()
        return [line.removeprefix(start) for line in lines if line.startswith(start)]


class WorkersDoor(_ApartDoor):
    """`offsky run --workers 2`."""

    name = "workers"

    def _workers(self) -> tuple[Any, ...]:
        return "--workers", 2


class DaskDoor(_ApartDoor):
    """`offsky run --dask`, on a cluster of one worker."""

    name = "dask"
    needs = ("distributed",)

    def enter(self, stack: ExitStack, **given: Any) -> None:
        self._address = given["cluster_address"]()

    def _workers(self) -> tuple[Any, ...]:
        return "--dask", self._address


class ModelDoor(Door):
    """`offsky.subtract` with open data models."""

    name = "model"
    abilities = frozenset({"average", "masks", "positions", "asdf", "progress", "reports"})
    from_models = True

    def _make_one(self, job: Job, folder: Path, changes: Changes, how: How) -> Made:
        output = folder / f"{root(job.target)}_bsub.fits"
        combined = folder / f"{root(job.target)}_combinedbackground.fits"
        outcomes: list[offsky.Outcome] = []
        with ExitStack() as stack:
            target, *backgrounds = open_models([job.target, *job.backgrounds], stack)
            result = offsky.subtract(
                target,
                backgrounds,
                masks=_masks(job, how),
                imprints=open_models(job.imprints, stack),
                combined_path=combined if how.average else None,
                on_outcome=outcomes.append,
                **how.named(),
                **changes,
            )
            with result:
                result.save(output)
        return Made(output, combined if how.average else None, as_json(outcomes[0]))


class StepDoor(Door):
    """`BackgroundStep.call`, without CRDS."""

    name = "step"
    abilities = frozenset({"average", "masks", "asdf", "progress", "reports"})
    from_models = True
    needs = ("jwst",)

    def enter(self, stack: ExitStack, **given: Any) -> None:
        monkeypatch = given["monkeypatch"]
        for name in ("CRDS_SERVER_URL", "CRDS_CONTEXT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("CRDS_PATH", os.fspath(given["crds_path"]))
        monkeypatch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", "true")
        self._monkeypatch = monkeypatch

    def _make_one(self, job: Job, folder: Path, changes: Changes, how: How) -> Made:
        from offsky.step import BackgroundStep

        as_text = {"bad_bits", "target_scale", "target_offset"}
        more = {name: str(each) if name in as_text else each for name, each in changes.items()}
        if how.mask_dir is not None:
            more["mask_dir"] = os.fspath(how.mask_dir)
        if how.report is not None:
            more["report"] = os.fspath(how.report)
        more |= {name: each for name, each in how.named().items() if name in ("memory", "threads")}
        masks = [f"{name}={mask}" for name, mask in masks_by_name([job]).items()]
        if how.progress is not None:
            self._monkeypatch.setattr(BackgroundStep, "progress", staticmethod(how.progress))
        with outcomes_logged() as outcomes:
            # Imprints are members of an association.
            given: tuple[Any, ...] = (os.fspath(job.target), list(map(os.fspath, job.backgrounds)))
            if job.imprints:
                members = [
                    {"expname": os.fspath(path.absolute()), "exptype": kind}
                    for path, kind in members_of(job)
                ]
                given = ({"products": [{"name": root(job.target), "members": members}]},)
            result = BackgroundStep.call(
                *given,
                save_combined_background=how.average,
                save_results=True,
                suffix="bsub",
                output_dir=os.fspath(folder),
                **({"masks": masks} if masks else {}),
                **more,
            )
            result.close()
        # stpipe takes the ending of a gzipped target's name for a part of the name.
        start = root(job.target)
        (product,) = folder.glob(f"{start}*_bsub.*")
        combined = next(folder.glob(f"{start}*_combinedbackground.*"), None)
        return Made(product, combined, as_json(outcomes[0]))


@contextmanager
def outcomes_logged() -> Iterator[list[offsky.Outcome]]:
    """Collect the outcomes that the step logs."""
    found: list[offsky.Outcome] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            args = record.args if isinstance(record.args, tuple) else ()
            found.extend(each for each in args if isinstance(each, offsky.Outcome))

    logger, handler = logging.getLogger("offsky.step"), Collect()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield found
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def as_json(outcome: offsky.Outcome) -> dict[str, Any]:
    """Return an outcome as JSON has it."""
    return dict(json.loads(json.dumps(outcome.as_dict())))


def open_models(paths: Sequence[Path], stack: ExitStack) -> list[Any]:
    """Open files as data models, to be closed with the stack."""
    from stdatamodels.jwst import datamodels

    return [stack.enter_context(datamodels.open(path)) for path in paths]


def members_of(job: Job) -> list[tuple[Path, str]]:
    """Return the members of a product of an association."""
    members = [(job.target, "science"), *((each, "background") for each in job.backgrounds)]
    return members + [(each, "imprint") for each in job.imprints]


def write_association(jobs: Sequence[Job], folder: Path) -> Path:
    """Write an association of all jobs, its members by their paths from the folder."""
    products = []
    for job in jobs:
        named = [(os.path.relpath(path, folder), kind) for path, kind in members_of(job)]
        products.append((root(job.target), named))
    return plain.write_association(folder / "jobs_asn.json", *products)


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

    def make(
        self,
        job: Job,
        folder: Path,
        changes: Changes,
        how: How = How(),
    ) -> Path:
        """Make the average in a folder.

        Raises
        ------
        DoorError
            If it could not be made.
        """
        made = self.make_told(job, folder, changes, how)
        return made.product

    def make_told(
        self,
        job: Job,
        folder: Path,
        changes: Changes,
        how: How = How(),
        name: str = "average.fits",
    ) -> Made:
        """Make the average in a file of a folder; return it with its outcome."""
        folder.mkdir(parents=True, exist_ok=True)
        output = folder / name
        try:
            return Made(output, None, self._make(job, output, changes, how))
        except offsky.OffskyError as error:
            raise DoorError(str(error)) from error

    def _make(self, job: Job, output: Path, changes: Changes, how: How) -> dict[str, Any]:
        raise NotImplementedError


class AverageFileDoor(AverageDoor):
    """`offsky.average_file`."""

    name = "file"

    def _make(self, job: Job, output: Path, changes: Changes, how: How) -> dict[str, Any]:
        masks = _masks(job, how)
        return as_json(
            offsky.average_file(
                job.backgrounds,
                output,
                masks=masks,
                imprints=job.imprints,
                **how.named(),
                **changes,
            )
        )


class AverageCommandDoor(AverageDoor):
    """`offsky average`."""

    name = "command"

    def _make(self, job: Job, output: Path, changes: Changes, how: How) -> dict[str, Any]:
        outcome: dict[str, Any] = run_and_read(
            "average",
            *job.backgrounds,
            *("-o", output),
            *_masks_on_command_line(job, how),
            *(f"--imprint={imprint}" for imprint in job.imprints),
            *how.on_command_line(),
            *on_command_line(changes),
        )
        return outcome


class AverageModelDoor(AverageDoor):
    """`offsky.average` with open data models."""

    name = "model"
    from_models = True

    def _make(self, job: Job, output: Path, changes: Changes, how: How) -> dict[str, Any]:
        outcomes: list[offsky.Outcome] = []
        given = {name: each for name, each in how.named().items() if name != "overwrite"}
        with ExitStack() as stack:
            backgrounds = open_models(job.backgrounds, stack)
            with offsky.average(
                backgrounds,
                masks=_masks(job, how),
                imprints=open_models(job.imprints, stack),
                on_outcome=outcomes.append,
                **given,
                **changes,
            ) as average:
                average.save(output)
        return as_json(outcomes[0])


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
