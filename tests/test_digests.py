"""Every door gives the products it has always given: digests of all that matters in them.

Run this file to rewrite the digests (``python tests/test_digests.py``), and only where results are
meant to change: the difference of ``digests.json`` then shows which do.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from digests import EXTENSIONS, Digest, differences, product_digest, read_digests, write_digests
from doors import AVERAGE_DOORS, DOORS, AverageDoor, Door, on_command_line, root
from plain import run
from scenes import KINDS, Job

pytestmark = pytest.mark.filterwarnings("ignore:.*get_cache_lock:DeprecationWarning")

CLIP = {"sigma": 1.3}
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "offsky": {"profile": "offsky"},
    "sigma": CLIP,
    "maxiters": {**CLIP, "maxiters": 1},
    "no-maxiters": {**CLIP, "maxiters": None},
    "sigma-lower": {**CLIP, "sigma_lower": 1.1},
    "sigma-upper": {**CLIP, "sigma_upper": 1.1},
    "center": {**CLIP, "center": "mean"},
    "min-keep": {"sigma": 1.0, "min_keep": 4},
    "reject-error": {"reject": "error"},
    "reject-mad": {"reject": "mad"},
    "reject-minmax": {"reject": "minmax"},
    "reject-two": {"reject": "minmax", "n_extremes": 2},
    "reject-none": {"reject": "none"},
    "median": {"combine": "median"},
    "median-clipped": {**CLIP, "combine": "median"},
    "by-integrations": {"weight": "integrations"},
    "by-variance": {"weight": "variance"},
    "propagate": {"errors": "propagate"},
    "dq-kept": {"dq": "kept", "bad_bits": 5},
    "dq-all": {"dq": "all", "bad_bits": 5, "bad_fraction": 0.3},
    "uncovered": {"uncovered": "nan"},
    "offset": {"level": "offset"},
    "scale": {"level": "scale"},
    "factor": {"target_scale": 0.9},
    "fit": {"target_scale": "fit"},
    "constant": {"target_offset": -0.3},
    "fit-constant": {"target_offset": "fit"},
    "sources": {"mask_sources": True},
    # Those that meet on the way.
    "offset-variance": {**CLIP, "level": "offset", "weight": "variance"},
    "propagate-median": {"errors": "propagate", "combine": "median"},
    "propagate-fit": {"errors": "propagate", "target_scale": "fit"},
    "propagate-both": {"errors": "propagate", "target_scale": "fit", "target_offset": "fit"},
    "propagate-scale": {"errors": "propagate", "level": "scale"},
    "sources-offset": {"mask_sources": True, "level": "offset"},
    "sources-fit": {"mask_sources": True, "target_scale": "fit"},
    "offsky-factor": {"profile": "offsky", "target_scale": 0.9, "weight": "variance"},
    "offsky-fraction": {"profile": "offsky", "bad_bits": 5, "bad_fraction": 0.3},
    "offsky-sources": {"profile": "offsky", "mask_sources": True, "level": "none"},
}
"""Changes to the default options, by the name of the case."""

PROFILES = ("default", "offsky")
# Quick for every kind of input; the rest is left to the slow tests.
QUICK = (*PROFILES, "sigma", "propagate-median", "fit", "dq-all", "sources-offset")
# What is done with pixels differs between these; other kinds are stored in another way.
QUICK_KINDS = ("images", "cubes", "mixed", "subarray", "parts")
KINDS_ALONE = tuple(kind for kind in KINDS if kind not in ("dithers", "shared"))
AS_IMAGES = ("gz", "compressed", "models", "asdf")
# With products made together there is more to go wrong.
TOGETHER = (*QUICK, "median", "by-variance", "propagate", "uncovered", "offset", "factor")
OPTIONS_OF = (
    dict.fromkeys(KINDS, tuple(OPTIONS))
    | dict.fromkeys((*AS_IMAGES, "float64"), QUICK)
    | dict.fromkeys(("dithers", "shared"), TOGETHER)
)
"""The options that are tried with each kind of input."""
FILE, *OTHERS = DOORS.values()
AVERAGE_FILE, *OTHER_AVERAGES = AVERAGE_DOORS.values()

# Jobs that ask of a door what those of the kind do, to tell before any is written.
_SOME = Path("some.fits")
LIKE = {
    kind: [Job(_SOME.with_suffix(".asdf") if kind == "asdf" else _SOME, (_SOME,))]
    for kind in KINDS
} | {"masked": [Job(_SOME, (_SOME,), (_SOME,))]}

Scenes = Callable[[str], list[Job]]


def needs(options: str) -> None:
    """Skip where a package is missing that these options need."""
    if OPTIONS[options].get("mask_sources"):
        pytest.importorskip("sep", reason="sep is not installed: offsky[sources]")


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    """Inputs of a kind, written when first asked for."""
    made: dict[str, list[Job]] = {}

    def of(kind: str) -> list[Job]:
        if kind not in made:
            made[kind] = KINDS[kind](tmp_path_factory.mktemp(kind))
        return made[kind]

    return of


@pytest.fixture(scope="session")
def expected() -> dict[str, list[Digest]]:
    """The digests kept in the repository."""
    return read_digests()


def products(door: Door, jobs: list[Job], options: str, folder: Path) -> list[Digest]:
    """Make products and return their digests."""
    return [product_digest(made.product) for made in door.make(jobs, folder, OPTIONS[options])]


def products_with_averages(
    door: Door, jobs: list[Job], options: str, folder: Path
) -> tuple[list[Digest], list[Digest]]:
    """Make products and save their averages; return the digests of both."""
    made = door.make(jobs, folder, OPTIONS[options], average=True)
    averages = [each.average for each in made if each.average is not None]
    return [product_digest(each.product) for each in made], list(map(product_digest, averages))


def average_alone(door: AverageDoor, jobs: list[Job], options: str, folder: Path) -> list[Digest]:
    """Average the backgrounds of the first job and return the digest."""
    return [product_digest(door.make(jobs[0], folder, OPTIONS[options]))]


def check(
    case: str, found: list[Digest], expected: list[Digest], *, leave_out: Iterable[str] = ()
) -> None:
    """Fail, naming the case and what differs, unless the digests are those expected."""
    assert len(found) == len(expected), case
    wrong = [
        f"{case}, product {i}: {text}"
        for i, pair in enumerate(zip(found, expected, strict=True))
        for text in differences(*pair, leave_out=leave_out)
    ]
    assert not wrong, "\n".join(wrong)


def case_of(kind: str, options: str, door: Door | AverageDoor, what: str = "") -> str:
    """Return the name of a case in `digests.json`: the same for all doors, with one exception.

    Data models hold float32. The target of a model or a step is rounded to that before anything
    is done, and so are backgrounds given as open models; the files of `offsky.step` and of every
    other door are averaged as the float64 that they are.
    """
    case = f"{what}{kind} {options}"
    return f"{case} {door.name}" if kind == "float64" and door.from_models else case


def cases(
    quick: Callable[[str, str], bool], chosen: Callable[[str, str], bool] = lambda *_: True
) -> list[Any]:
    """Return pairs of kind and options, those that are not quick marked slow."""
    return [
        pytest.param(kind, options, marks=[] if quick(kind, options) else [pytest.mark.slow])
        for kind in KINDS
        for options in OPTIONS_OF[kind]
        if chosen(kind, options)
    ]


@pytest.mark.parametrize(
    ("kind", "options"), cases(lambda kind, options: kind in QUICK_KINDS or options in PROFILES)
)
def test_files(
    scenes: Scenes, expected: dict[str, Any], folder: Path, kind: str, options: str
) -> None:
    needs(options)
    case = f"{kind} {options}"
    check(case, products(FILE, scenes(kind), options, folder), expected[case])


@pytest.mark.parametrize("engine", ["twin"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "options"),
    cases(
        lambda kind, options: kind in QUICK_KINDS and options in QUICK,
        lambda kind, _: kind not in AS_IMAGES,
    ),
)
def test_files_without_the_kernel(
    engine: Any, scenes: Scenes, expected: dict[str, Any], folder: Path, kind: str, options: str
) -> None:
    needs(options)
    case = f"{kind} {options}"
    check(case, products(FILE, scenes(kind), options, folder), expected[case])


def is_quick(door: Door, kind: str, options: str) -> bool:
    """Tell whether a door is tried with these in a quick run."""
    if door.slow:
        return False
    if door.from_models:
        # Opening and saving models takes most of the time.
        kinds = ("images", "asdf", "float64", "no-variances", "one-without-err", "masked")
        return (kind in QUICK_KINDS and options in PROFILES) or (
            kind in kinds and options == "offsky"
        )
    if kind == "images":
        return door.name == "programme" or options in QUICK
    return options == "offsky" or (kind in ("dithers", "shared") and options in QUICK)


def door_cases() -> Iterator[Any]:
    """Yield doors but the first with what each is to do: all options on images, few on others."""
    for door in OTHERS:
        for kind in KINDS:
            for options in OPTIONS_OF[kind]:
                if not door.can(LIKE[kind]):
                    continue
                many = kind in ("images", "dithers", "shared")
                # Starting processes takes most of their time, and what they do is the same.
                wanted = QUICK if many or not door.slow else PROFILES
                if options not in wanted and (door.slow or not many):
                    continue
                marks = [] if is_quick(door, kind, options) else [pytest.mark.slow]
                yield pytest.param(door.name, kind, options, marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize(("door", "kind", "options"), list(door_cases()), indirect=["door"])
def test_doors(
    door: Door, scenes: Scenes, expected: dict[str, Any], folder: Path, kind: str, options: str
) -> None:
    needs(options)
    jobs = scenes(kind)
    case = case_of(kind, options, door)
    # Of an ASDF target models make FITS here, whose extensions are in their usual order.
    other_format = ("extensions",) if door.from_models and kind == "asdf" else ()
    found = products(door, jobs, options, folder)
    check(case, found, expected[case], leave_out=other_format)


def average_cases() -> Iterator[Any]:
    """Yield doors that save averages with what each is to do: all options for the first."""
    for door in DOORS.values():
        for kind in KINDS:
            for options in OPTIONS_OF[kind]:
                if not all(each.can(LIKE[kind], average=True) for each in (FILE, door)):
                    continue
                if options not in PROFILES and (door is not FILE or kind != "images"):
                    continue
                quick = kind == "images" and options in QUICK
                quick |= door is FILE and kind in QUICK_KINDS and options in PROFILES
                marks = [] if quick else [pytest.mark.slow]
                yield pytest.param(door.name, kind, options, marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize(("door", "kind", "options"), list(average_cases()), indirect=["door"])
def test_averages_saved_with_products(
    door: Door, scenes: Scenes, expected: dict[str, Any], folder: Path, kind: str, options: str
) -> None:
    needs(options)
    found, averages = products_with_averages(door, scenes(kind), options, folder)
    case = case_of(kind, options, door)
    check(case, found, expected[case])
    # Those of open models are written as files are, and models are of float32.
    of_kind = "images" if door.name == "model" and kind == "float64" else kind
    case = f"average of {of_kind} {options}"
    by_models = door.from_models and door.name != "model"
    check_averages(case, averages, expected[case], by_models=by_models)


def is_alone(options: str) -> bool:
    """Tell whether an average alone takes these options: none of a subtraction."""
    return not {"target_scale", "target_offset", "uncovered"} & OPTIONS[options].keys()


def alone_cases() -> Iterator[Any]:
    """Yield doors to an average alone with what each is to do."""
    for door in AVERAGE_DOORS.values():
        for kind in KINDS_ALONE:
            for options in OPTIONS_OF[kind]:
                if is_alone(options) and (kind == "images" or options in PROFILES):
                    quick = options == "offsky" or door is AVERAGE_FILE
                    quick &= kind in ("images", "masked", "float64", "subarray")
                    marks = [] if quick else [pytest.mark.slow]
                    yield pytest.param(door.name, kind, options, marks=marks)


@pytest.mark.parametrize(("name", "kind", "options"), list(alone_cases()))
def test_averages_alone(
    scenes: Scenes, expected: dict[str, Any], folder: Path, name: str, kind: str, options: str
) -> None:
    needs(options)
    door = AVERAGE_DOORS[name]
    case = case_of(kind, options, door, "average alone of ")
    found = average_alone(door, scenes(kind), options, folder)
    check_averages(case, found, expected[case], by_models=door.from_models)


def check_averages(
    case: str, found: list[Digest], expected: list[Digest], *, by_models: bool
) -> None:
    """Fail unless averages are those expected; models add their ASDF extension."""
    if by_models:
        expected = [{**each, "extensions": f"{each['extensions']} ASDF"} for each in expected]
    check(case, found, expected)


@pytest.mark.parametrize("options", QUICK)
def test_a_pattern_found_by_headers(
    scenes: Scenes, expected: dict[str, Any], folder: Path, options: str
) -> None:
    needs(options)
    jobs = scenes("dithers")
    arguments = on_command_line(OPTIONS[options])
    exposures = [job.target for job in jobs]
    assert run("run", *exposures, "--from", "dithers", "-o", folder, *arguments) == 0
    found = [product_digest(folder / f"{root(job.target)}_bsub.fits") for job in jobs]
    check(f"dithers {options}", found, expected[f"dithers {options}"])


# What the digests say of each other.


def pixels_of(digests: list[Digest]) -> list[dict[str, Any]]:
    """Return the digests of extensions alone."""
    return [{name: each.get(name) for name in EXTENSIONS} for each in digests]


@pytest.mark.parametrize("kind", AS_IMAGES)
def test_the_format_of_files_changes_no_pixel(expected: dict[str, Any], kind: str) -> None:
    for options in OPTIONS_OF[kind]:
        same = pixels_of(expected[f"images {options}"])
        assert pixels_of(expected[f"{kind} {options}"]) == same, options


def test_an_average_is_the_same_alone(expected: dict[str, Any]) -> None:
    for kind in ("images", "cubes", "mixed", "masked", "one-without-err"):
        for options in PROFILES:
            with_product = pixels_of(expected[f"average of {kind} {options}"])
            assert pixels_of(expected[f"average alone of {kind} {options}"]) == with_product


def test_every_option_changes_something(expected: dict[str, Any]) -> None:
    seen: dict[str, str] = {}
    # With so few samples 3 standard deviations reject nothing; "none" passes is the default.
    for options in OPTIONS.keys() - {"reject-none", "no-maxiters"}:
        found = repr([pixels_of(expected[f"{kind} {options}"]) for kind in ("images", "cubes")])
        assert found not in seen, f"{options} and {seen[found]} give the same"
        seen[found] = options


def compute(folder: Path) -> Iterator[tuple[str, list[Digest]]]:
    """Make every case anew by the first doors, and those that are a door's own."""
    for kind, make in KINDS.items():
        inputs = folder / kind
        inputs.mkdir()
        jobs = make(inputs)
        for options in OPTIONS_OF[kind]:
            out = inputs / options
            yield f"{kind} {options}", products(FILE, jobs, options, out / "file")
            if FILE.can(jobs, average=True) and (kind == "images" or options in PROFILES):
                _, averages = products_with_averages(FILE, jobs, options, out / "average")
                yield f"average of {kind} {options}", averages
            chosen = kind == "images" or options in PROFILES
            if kind in KINDS_ALONE and chosen and is_alone(options):
                alone = average_alone(AVERAGE_FILE, jobs, options, out / "alone")
                yield f"average alone of {kind} {options}", alone
            if kind != "float64" or options not in QUICK:
                continue
            for door in (each for each in OTHERS if each.from_models):
                own = products(door, jobs, options, out / door.name)
                yield case_of(kind, options, door), own
            if options not in PROFILES:
                continue
            for each in (each for each in OTHER_AVERAGES if each.from_models):
                case = case_of(kind, options, each, "average alone of ")
                (one,) = average_alone(each, jobs, options, out / "alone-model")
                yield case, [{**one, "extensions": one["extensions"].removesuffix(" ASDF")}]


def main() -> None:
    """Rewrite the digests."""
    warnings.simplefilter("ignore")
    with (
        TemporaryDirectory() as folder,
        ExitStack() as stack,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        for door in OTHERS:
            if door.from_models:
                door.enter(stack, monkeypatch=monkeypatch, crds_path=Path(folder) / "crds")
        write_digests(dict(compute(Path(folder))))


if __name__ == "__main__":
    main()
