"""Each option is declared in one place, and found in all others; no value of one is a surprise."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

import click
import numpy as np
import pytest
from click.testing import CliRunner

import offsky
from offsky.choices import Changes, choose_options
from offsky.command.options import pixel_options, take_options
from offsky.command.reference import option_table, updated
from offsky.declared import declarations, option
from offsky.effect import Run
from offsky.errors import OffskyError, ParameterError, UnknownOptionError
from offsky.io.cards import Provenance
from offsky.options import PROFILES, Options, profiles, without_effect

PAGE = Path(__file__).parents[1] / "docs" / "options.md"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WithToy(Options):
    """All options and a new one: this is all that it takes."""

    swell: int | Literal["auto"] | None = option(
        0,
        "Reject the N neighbours of a sample that `reject` rejects.",
        ("OFFSWELL", "neighbours rejected"),
        idle=lambda options, run, usual: "reject is none" if options.reject == "none" else None,
        offsky=2,
    )


# In one place


def test_a_new_option_is_one_declaration() -> None:
    @click.command
    @pixel_options_of_toys
    def command(**how: Any) -> None:
        click.echo(repr(take_options(how, WithToy)))

    def run(*words: str) -> str:
        done = CliRunner().invoke(command, words)
        assert done.exit_code == 0, done.output
        return done.output.strip()

    assert run("--swell", "3") == "WithToy(profile 'jwst', swell=3)"
    assert run("--swell", "none", "--profile", "offsky") == "WithToy(profile 'offsky', swell=None)"
    assert (
        run("--swell", "auto", "--sigma", "2")
        == "WithToy(profile 'jwst', sigma=2.0, swell='auto')"
    )
    assert CliRunner().invoke(command, ["--swell", "1.5"]).exit_code == 2
    assert "--swell N|auto" in run("--help")
    assert "that --reject rejects. [default: 0; offsky: 2]" in " ".join(run("--help").split())

    with pytest.raises(ParameterError, match="swell is -1: give a whole number, 0 or more, or"):
        WithToy(swell=-1)
    with pytest.raises(UnknownOptionError, match="did you mean 'swell'"):
        WithToy().changed(swlel=1)
    assert profiles(WithToy)["offsky"] == WithToy(
        swell=2, profile="offsky", **PROFILES["offsky"].differences(Options())
    )
    assert choose_options("jwst", WithToy(), {"swell": 1}).swell == 1

    cards = Provenance(("a", "b", "c"), WithToy(swell=1)).cards()
    assert ("OFFSWELL", 1, "neighbours rejected") in cards
    assert "OFFSWELL" not in {key for key, *_ in Provenance(("a",), WithToy()).cards()}
    idle = WithToy(swell=1, reject="none")
    assert without_effect(idle, 3, subtracts=True) == ["swell = 1 has no effect: reject is none"]
    assert "OFFSWELL" not in {key for key, *_ in Provenance(("a",), idle).cards()}

    row = "| `swell` | whole number, `auto`, none | 0 | 2 | `OFFSWELL` | Reject the N neighbours"
    assert row in option_table(WithToy)


def pixel_options_of_toys(command: Any) -> Any:
    return pixel_options(command, WithToy)


def test_the_step_has_a_new_option_too() -> None:
    pytest.importorskip("jwst", reason="the JWST pipeline is not installed: offsky[jwst]")
    from offsky.step import spec_of

    line = (
        "swell = string(default=None)  # Reject the N neighbours of a sample that reject rejects."
    )
    assert f"\n{line} None: 0; offsky: 2" in spec_of(WithToy)
    assert "swell" not in spec_of(Options)


def test_the_documented_table_is_that_of_the_declarations() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert option_table() in page
    assert updated(page) == page, "run: python -m offsky.command.reference"


def test_type_checkers_are_told_the_same_types() -> None:
    expected = {name: hint for name, hint in get_type_hints(Options).items() if name != "profile"}
    for each in declarations(Options):
        if each.kind == "flags":
            expected[each.name] = expected[each.name] | str
    assert get_type_hints(Changes) == expected


def test_every_option_is_in_the_docstring_and_every_profile_has_all() -> None:
    for each in declarations(Options):
        assert f"    {each.name} : " in str(Options.__doc__)
        assert list(each.values) == list(PROFILES)
        assert each.help.endswith((".", ")."))


# Names


CALLS: dict[str, Any] = {
    "subtract_file": lambda **how: offsky.subtract_file("t.fits", ["b.fits"], "o.fits", **how),
    "average_file": lambda **how: offsky.average_file(["b.fits"], "o.fits", **how),
    "subtract_association": lambda **how: list(offsky.subtract_association("a.json", **how)),
    "subtract": lambda **how: offsky.subtract("t.fits", ["b.fits"], **how),
    "average": lambda **how: offsky.average(["b.fits"], **how),
    "changed": lambda **how: Options().changed(**how),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_unknown_option_names_the_nearest(folder: Path, name: str) -> None:
    call = CALLS[name]
    for kind in (TypeError, ParameterError, UnknownOptionError):
        with pytest.raises(kind) as caught:
            call(n_extrems=2)
        assert str(caught.value) == "unknown option 'n_extrems'; did you mean 'n_extremes'?"
    with pytest.raises(UnknownOptionError, match="unknown option 'zzz'; expected sigma, maxiters"):
        call(zzz=2)


def test_a_parameter_may_be_the_nearest(folder: Path) -> None:
    with pytest.raises(UnknownOptionError, match="'overwrit'; did you mean 'overwrite'"):
        offsky.subtract_file("t.fits", [], "o.fits", overwrit=True)
    with pytest.raises(UnknownOptionError, match="did you mean 'save_combined'"):
        list(offsky.subtract_association("a.json", save_combine=True))
    with pytest.raises(UnknownOptionError, match="did you mean 'sigma'"):
        offsky.subtract_file("t.fits", [], "o.fits", sgima=2)


# Values


class Odd:
    """A value that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError


WRONG = [
    object(),
    {},
    [],
    np.zeros((3, 3)),
    float("nan"),
    "x",
    10**400,
    -(10**400),
    1j,
    Odd(),
    b"1",
]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((each.name, value) for each in declarations(Options) for value in WRONG),
        *((each.name, None) for each in declarations(Options) if not each.may_be_none),
        ("maxiters", 1.5),
        ("maxiters", True),
        ("maxiters", 2**31),
        ("n_extremes", -1),
        ("bad_bits", True),
        ("bad_bits", -1),
        ("mask_sources", 1),
        *(("profile", value) for value in WRONG),
        *(("options", value) for value in WRONG),
        *(("threads", value) for value in [*WRONG, 0, 1.5, True]),
    ],
)
def test_a_wrong_value_is_one_line(folder: Path, name: str, value: Any) -> None:
    for call in CALLS.values():
        if name in ("threads", "options") and call is CALLS["changed"]:
            continue
        if name == "sigma" and value is None:
            continue  # to `subtract`, not given
        if name == "threads" and call is CALLS["subtract_association"]:
            continue  # an outcome of each product
        with pytest.raises(OffskyError) as caught:
            call(**{name: value})
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 200 or name == "bad_bits"


@pytest.mark.parametrize("value", [3, "mask.fits", object(), [3], [None, None], {"a": 1}, [{}]])
def test_wrong_masks_are_one_line(exposures: Any, folder: Path, value: Any) -> None:
    target, files = exposures(None, (None,))
    for call in (
        lambda: offsky.subtract_file(target, files, "o.fits", masks=value),
        lambda: offsky.average_file(files, "o.fits", masks=value),
        lambda: offsky.subtract(target, files, masks=value),
        lambda: offsky.average(files, masks=value),
    ):
        with pytest.raises(OffskyError) as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1


def test_numbers_of_numpy_are_kept_as_python_s() -> None:
    options = Options(
        sigma=np.float32(2.5),
        maxiters=np.int16(3),
        bad_fraction=np.float64(0.5),
    )
    assert options == Options(sigma=2.5, maxiters=3, bad_fraction=0.5)
    assert [type(v) for v in (options.sigma, options.maxiters)] == [float, int]
    assert choose_options("jwst", None, {"bad_bits": np.uint32(4)}).bad_bits == 4


def test_an_infinite_threshold_can_be_recorded() -> None:
    cards = Provenance(("a",) * 9, Options(sigma_upper=float("inf")), run=Run(9, True)).cards()
    assert ("OFFSIGHI", "N/A", "clipping threshold above the centre") in cards


# What people read


def test_options_are_shown_as_their_profile_and_what_differs() -> None:
    assert repr(Options()) == "Options(profile 'jwst')"
    assert repr(PROFILES["offsky"].changed(sigma=4)) == "Options(profile 'offsky', sigma=4)"
    shown = "Options(profile 'jwst', reject='mad', bad_fraction=0.5)"
    assert repr(Options(reject="mad", bad_fraction=0.5)) == shown


@pytest.mark.parametrize("skipped", [False, True])
def test_an_outcome_is_the_summary_that_the_command_prints(
    exposures: Any, folder: Path, skipped: bool
) -> None:
    from offsky.command.main import cli

    target, files = exposures(None, () if skipped else (None, None))
    outcome = offsky.subtract_file(target, files, "o.fits", reject="minmax")
    words = ["subtract", target, *files, "-o", "o.fits", "--overwrite", "--reject", "minmax"]
    printed = CliRunner().invoke(cli, [str(word) for word in words])
    assert printed.exit_code == 0
    assert without_time(str(outcome)) == without_time(printed.stdout.removesuffix("\n"))
    assert skipped or "options:      profile jwst, reject minmax\n" in str(outcome)


def without_time(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("time:")]


@pytest.mark.parametrize("name", [n for n in offsky.__all__ if n not in ("PROFILES",)])
def test_help_is_readable(name: str) -> None:
    public = getattr(offsky, name)
    assert inspect.getdoc(public)
    if isinstance(public, type) and issubclass(public, Exception):
        return
    signature = str(inspect.signature(public))
    for unreadable in (
        "typing.",
        "collections.abc",
        "numpy.",
        "ellipsis",
        "<class",
        " object at ",
    ):
        assert unreadable not in signature, signature
