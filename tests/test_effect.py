"""Options without an effect: said so, true, and without a card in the products."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from averages import combine_rows
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import offsky
from offsky.combine.rule import exposure_weights
from offsky.command.main import cli
from offsky.declared import declarations
from offsky.effect import Run
from offsky.errors import ParameterError
from offsky.io.cards import Provenance
from offsky.options import PROFILES, Options, idle_options, without_effect
from offsky.values.exposure import Rows

# Levels, sources and what is done to the target are not the kernel's.
OF_THE_AVERAGE = {
    "sigma": (0.5, 1.0, 2.0, 3.0, 5.0),
    "maxiters": (None, 0, 1, 2),
    "reject": ("sigma", "error", "mad", "minmax", "none"),
    "sigma_lower": (None, 1.0, 2.0, 5.0),
    "sigma_upper": (None, 1.0, 2.0, 5.0),
    "err_scale": ("trust", "measure"),
    "n_extremes": (0, 1, 2, 5),
    "min_keep": (0, 1, 2, 3, 9),
    "center": ("median", "mean"),
    "combine": ("mean", "median"),
    "weight": ("equal", "integrations"),
    "errors": ("none", "propagate"),
    "dq": ("or", "kept", "all"),
    "bad_bits": (0, 1, 4),
    "bad_fraction": (None, 0.0, 0.5, 1.0),
}


@st.composite
def options_of_the_average(draw: Any) -> Options:
    changes = {name: draw(st.sampled_from(values)) for name, values in OF_THE_AVERAGE.items()}
    if changes["combine"] == "median":
        changes["weight"] = "equal"
    return PROFILES[draw(st.sampled_from(list(PROFILES)))].changed(**changes)


def backgrounds(n_integrations: tuple[int, ...], seed: int) -> list[Rows]:
    """Make rows with outliers, bad samples, unknown errors, ties and signed zeros."""
    rng = np.random.default_rng(seed)
    made = []
    for n in n_integrations:
        shape = (12, 20) if n == 1 else (n, 12, 20)
        sci = rng.normal(0.0, 1.0, shape)
        sci[rng.random(shape) < 0.1] += 50.0
        sci[rng.random(shape) < 0.05] -= 50.0
        tied = rng.random(shape) < 0.2
        sci[tied] = np.round(sci[tied]) * rng.choice([0.0, -0.0, 1.0], tied.sum())
        sci[rng.random(shape) < 0.05] = np.nan
        err = rng.uniform(0.5, 2.0, shape)
        err[rng.random(shape) < 0.05] = np.nan
        dq = rng.choice([0, 0, 0, 1, 4, 5, 2**31], shape)
        made.append(
            Rows(
                sci.astype(np.float32),
                err.astype(np.float32),
                dq.astype(np.uint32),
                var_poisson=(err**2).astype(np.float32),
                var_rnoise=np.full(shape, 0.1, np.float32),
            )
        )
    return made


def averaged(rows: list[Rows], options: Options, n_integrations: tuple[int, ...]) -> list[Any]:
    weights = exposure_weights(options, n_integrations)
    average = combine_rows(rows, options, weights)
    planes = (average.sci, average.err, average.dq, average.n_kept)
    return [*planes, average.n_rejected, average.var_poisson, average.var_rnoise]


def set_back(options: Options, names: Any) -> Options:
    """Return options with some of them as in the profile."""
    return options.changed(**{name: getattr(PROFILES[options.profile], name) for name in names})


# True


@settings(max_examples=300, deadline=None)
@given(
    options_of_the_average(),
    st.lists(st.sampled_from([1, 1, 1, 2, 4]), min_size=1, max_size=6),
    st.integers(0, 3),
)
def test_options_without_effect_may_all_be_set_back(
    options: Options, numbers: list[int], seed: int
) -> None:
    n_integrations = tuple(numbers)
    idle = idle_options(options, Run(len(numbers), True, n_integrations))
    rows = backgrounds(n_integrations, seed)
    one = averaged(rows, options, n_integrations)
    other = averaged(rows, set_back(options, idle), n_integrations)
    for a, b in zip(one, other, strict=True):
        if "weight" in idle and a is not None and a.dtype.kind == "f":
            # The same weight for all of them is another way to add up, and to round.
            np.testing.assert_allclose(a, b, rtol=1e-6)
        elif a is None or b is None:
            assert a is b
        else:
            np.testing.assert_array_equal(a, b, err_msg=str(idle))
            # A zero has its sign too; that of a NaN depends on how it was made.
            known = ~np.isnan(a) if a.dtype.kind == "f" else slice(0)
            np.testing.assert_array_equal(np.signbit(a[known]), np.signbit(b[known]))


@settings(max_examples=100, deadline=None)
@given(options_of_the_average(), st.integers(1, 6), st.booleans())
def test_less_is_said_where_the_integrations_are_not_known(
    options: Options, n: int, subtracts: bool
) -> None:
    unknown = idle_options(options, Run(n, subtracts))
    for numbers in ((1,) * n, (2,) * n, (9, *(1,) * (n - 1))):
        known = idle_options(options, Run(n, subtracts, numbers))
        assert unknown.keys() <= known.keys() | {"weight"}


# Said


def said(n: int = 5, *, subtracts: bool = True, **changes: Any) -> list[str]:
    """Return what is said of options, for images."""
    n_integrations = changes.pop("n_integrations", (1,) * n)
    begun = PROFILES[changes.pop("profile", "jwst")]
    options = begun.changed(**changes)
    return without_effect(options, n, subtracts=subtracts, n_integrations=n_integrations)


def names(sentences: list[str]) -> list[str]:
    return [sentence.split(" ")[0] for sentence in sentences]


@pytest.mark.parametrize(
    ("changes", "idle"),
    [
        ({"bad_bits": 4, "bad_fraction": 0.5}, ["bad_bits", "bad_fraction"]),
        ({"bad_bits": 4, "bad_fraction": 0.5, "dq": "all"}, []),
        ({"bad_bits": 0, "bad_fraction": 0.5, "dq": "all"}, ["bad_fraction"]),
        ({"bad_fraction": 1.0, "dq": "kept"}, ["bad_fraction"]),
        ({"reject": "none", "sigma": 2, "maxiters": 3}, ["sigma", "maxiters"]),
        ({"reject": "none", "maxiters": 0, "min_keep": 9}, ["maxiters", "min_keep"]),
        ({"reject": "minmax", "sigma": 2, "maxiters": 3}, ["sigma", "maxiters"]),
        ({"reject": "minmax", "maxiters": 0}, ["reject"]),
        ({"reject": "minmax", "sigma_lower": 2, "center": "mean"}, ["sigma_lower", "center"]),
        ({"reject": "minmax", "min_keep": 1}, ["min_keep"]),
        ({"reject": "minmax", "n_extremes": 2}, []),
        ({"reject": "minmax", "n_extremes": 2, "n": 4}, ["n_extremes"]),
        ({"reject": "minmax", "n_extremes": 5, "n": 4, "n_integrations": (9, 1, 1, 1)}, []),
        ({"n_extremes": 2}, ["n_extremes"]),
        ({"sigma": 4, "sigma_lower": 2, "sigma_upper": 3}, ["sigma"]),
        ({"sigma": 4, "sigma_lower": 4, "sigma_upper": 5}, ["sigma_lower"]),
        ({"reject": "mad", "sigma_lower": 2, "center": "mean", "min_keep": 1}, []),
        ({"reject": "error", "sigma_upper": 2, "center": "mean", "maxiters": 5}, ["center"]),
        ({"profile": "offsky", "sigma": 2, "sigma_lower": 2}, []),
        ({"profile": "offsky", "sigma": 2, "sigma_lower": None}, []),
        ({"err_scale": "measure"}, ["err_scale"]),
        ({"err_scale": "measure", "reject": "error"}, []),
        ({"grow": 1.5, "reject": "mad"}, ["grow"]),
        ({"grow": 1.5, "reject": "error", "n": 1, "n_integrations": (5,)}, ["grow"]),
        ({"profile": "offsky", "grow": None}, []),
        ({"profile": "offsky", "min_keep": 0}, ["min_keep"]),
        ({"maxiters": 0, "sigma": 2, "reject": "mad"}, ["sigma", "reject"]),
        ({"min_keep": 9}, ["min_keep"]),
        ({"min_keep": 5, "reject": "mad", "sigma": 2}, ["sigma", "reject"]),
        ({"min_keep": 9, "n_integrations": None}, []),
        ({"min_keep": 9, "n_integrations": (10, 1, 1, 1, 1)}, []),
        ({"combine": "median"}, []),
        ({"combine": "median", "n": 2}, ["combine"]),
        ({"weight": "integrations"}, ["weight"]),
        ({"weight": "integrations", "n_integrations": (2, 1, 1, 1, 1)}, []),
        ({"weight": "variance"}, []),
        ({"weight": "variance", "level": "scale", "n": 1}, ["weight", "level"]),
        ({"sigma": 2, "n": 1}, ["sigma"]),
        ({"sigma": 2, "n": 1, "n_integrations": (5,)}, []),
        ({"sigma": 2, "n": 1, "n_integrations": None}, []),
        ({"uncovered": "nan", "target_scale": 2.0, "errors": "propagate"}, []),
        (
            {"uncovered": "nan", "target_scale": 2.0, "errors": "propagate", "subtracts": False},
            ["uncovered", "target_scale"],
        ),
        ({"profile": "offsky", "n": 1}, []),
        ({"profile": "offsky", "dq": "or", "n": 1}, []),
        ({"sigma": 2, "n": 0}, []),
    ],
)
def test_an_option_without_effect_has_one_sentence(
    changes: dict[str, Any], idle: list[str]
) -> None:
    assert names(said(**changes)) == idle


def test_sentences_say_why() -> None:
    assert said(reject="minmax", sigma=2) == [
        "sigma = 2 has no effect: reject is minmax, which has no thresholds"
    ]
    assert said(bad_bits=4) == [
        "bad_bits = 4 has no effect: dq is or, which leaves no flagged sample out"
    ]
    assert said(min_keep=9) == [
        "min_keep = 9 is above the 5 samples that a pixel can have: all are kept and nothing is "
        "rejected"
    ]


# Warned of, and recorded


def test_it_is_warned_of_once_and_has_no_card(
    exposures: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target, files = exposures()
    changes = {"reject": "minmax", "sigma": 2.0, "maxiters": 5, "sigma_lower": 4.0, "min_keep": 2}
    offsky.subtract_file(target, files, tmp_path / "o.fits", **changes)
    for name in ("sigma", "maxiters", "sigma_lower"):
        assert sum(text.startswith(f"{name} = ") for text in caplog.messages) == 1
    header = fits.getheader(tmp_path / "o.fits")
    assert (header["OFFSIGMA"], header["OFFMAXIT"]) == (2.0, 5)
    assert (header["OFFREJCT"], header["OFFMINKP"]) == ("minmax", 2)
    assert "OFFSIGLO" not in header
    with offsky.subtract(target, files, **changes) as model:
        model.save(tmp_path / "model.fits")
    again = fits.getheader(tmp_path / "model.fits")
    assert {key for key in again if key.startswith("OFF")} == {
        key for key in header if key.startswith("OFF")
    }


def test_min_keep_above_all_samples_keeps_its_card() -> None:
    options = Options(min_keep=9, reject="mad")
    cards = {key for key, *_ in Provenance(("a", "b"), options, run=Run(2, True, (1, 1))).cards()}
    assert "OFFMINKP" in cards
    assert "OFFREJCT" not in cards


def test_an_average_alone_has_no_card_of_the_subtraction(exposures: Any, tmp_path: Path) -> None:
    _, files = exposures()
    how = Options(uncovered="nan", target_scale="fit", combine="median")
    offsky.average_file(files, tmp_path / "a.fits", options=how)
    header = fits.getheader(tmp_path / "a.fits")
    assert not {"OFFUNCOV", "OFFSCALE", "OFFSCERR"} & set(header)
    assert header["OFFCOMB"] == "median"


@pytest.mark.parametrize("changes", [{"uncovered": "nan"}, {"target_scale": 1.0}])
def test_an_average_alone_refuses_options_of_the_subtraction(
    exposures: Any, tmp_path: Path, changes: dict[str, Any]
) -> None:
    _, files = exposures()
    ((name, value),) = changes.items()
    with pytest.raises(ParameterError, match=f"{name} is an option of the subtraction"):
        offsky.average_file(files, tmp_path / "a.fits", **changes)
    with pytest.raises(ParameterError, match=f"{name} is an option of the subtraction"):
        offsky.average(files, **changes)
    option = f"--{name.replace('_', '-')}"
    words = ["average", *map(str, files), "-o", str(tmp_path / "a.fits"), option, str(value)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert f"{option} is for the subtraction" in done.output
    assert not (tmp_path / "a.fits").exists()
    # A profile is a whole, of which the average takes its part.
    offsky.average_file(files, tmp_path / "a.fits", profile="offsky")


def test_profiles_are_never_warned_of() -> None:
    for options in PROFILES.values():
        for n in (1, 2, 9):
            for subtracts in (True, False):
                assert without_effect(options, n, subtracts=subtracts) == []
    assert {each.name for each in declarations(Options) if each.idle is None} == {
        "errors",
        "dq",
        "mask_good_is",
        "mask_sources",
    }
