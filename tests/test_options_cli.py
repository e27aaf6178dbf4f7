"""Every option on the command line and in Python, and what products and summaries say of it."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_type_hints

import click
import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner

import offsky
from offsky.choices import Changes, FurtherChanges, choose_options
from offsky.command.main import cli
from offsky.command.options import take_options
from offsky.declared import declarations
from offsky.errors import ParameterError
from offsky.flags import flag_bits
from offsky.io.cards import Provenance
from offsky.options import PROFILES, Options
from offsky.programme.plan_json import render_plan
from offsky.programme.plan_reader import parse_plan

NAMES = [field.name for field in fields(Options) if field.name != "profile"]
# Keyword and comment of each option whose card is not in every product.
OPTION_CARDS = {
    each.name: (each.keyword, each.comment) for each in declarations(Options) if not each.always
}
LIMITS = {"sigma_lower", "sigma_upper"}
# They matter to the subtraction alone.
OF_SUBTRACTION = {"uncovered", "target_scale", "target_offset"}

# For each option what to say, and what that means.
SAID: dict[str, tuple[str, Any]] = {
    "sigma": ("2.5", 2.5),
    "maxiters": ("4", 4),
    "reject": ("minmax", "minmax"),
    "sigma_lower": ("5", 5.0),
    "sigma_upper": ("2", 2.0),
    "err_scale": ("measure", "measure"),
    "grow": ("2", 2.0),
    "n_extremes": ("2", 2),
    "min_keep": ("2", 2),
    "center": ("mean", "mean"),
    "combine": ("median", "median"),
    "weight": ("integrations", "integrations"),
    "errors": ("propagate", "propagate"),
    "dq": ("all", "all"),
    "bad_bits": ("JUMP_DET,1,OUTLIER", 4 + 1 + 16),
    "bad_fraction": ("0.25", 0.25),
    "uncovered": ("nan", "nan"),
    "level": ("offset", "offset"),
    "target_scale": ("0.5", 0.5),
    "target_offset": ("-0.25", -0.25),
    "mask_sources": ("", True),
    "mask_good_is": ("1", "1"),
}

# The median has no weights; everything else goes together.
TOGETHER = {name: value for name, (_, value) in SAID.items() if name != "combine"}


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def words(*names: str) -> list[str]:
    """Return the command line that gives these options their values in `SAID`."""
    said = [[option(name), SAID[name][0]] if SAID[name][0] else [option(name)] for name in names]
    return [word for each in said for word in each]


def taken(*arguments: str, command: str = "average") -> Options:
    """Return the options that a command understands."""
    found = cli.commands[command]
    inputs = ["a.fits"] if command != "average" else ["a.fits", "-o", "b.fits"]
    context = found.make_context("offsky", [*inputs, *arguments])
    return take_options(context.params, subtracts=command != "average")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def header_of(path: Path) -> fits.Header:
    with fits.open(path) as hdus:
        return hdus[0].header.copy()


# The table


def test_the_table_has_every_option() -> None:
    assert [each.name for each in declarations(Options)] == NAMES == list(SAID)
    assert {each.name for each in declarations(Options) if each.of_subtraction} == OF_SUBTRACTION
    assert {*OPTION_CARDS, "sigma", "maxiters"} == set(NAMES)
    assert set(get_type_hints(Changes)) == set(NAMES)
    assert set(get_type_hints(FurtherChanges)) == set(NAMES) - {"sigma", "maxiters"}


@pytest.mark.parametrize("command", ["subtract", "average", "plan", "run"])
@pytest.mark.parametrize("name", NAMES)
def test_every_command_takes_every_option(command: str, name: str) -> None:
    assert taken(command=command) == Options()
    refused = command == "average" and name in OF_SUBTRACTION
    assert (option(name) in run(command, "--help").output) is not refused
    if not refused:
        assert taken(*words(name), command=command) == Options(**{name: SAID[name][1]})


# What is said


def test_an_option_not_given_is_the_profile_s() -> None:
    assert taken("--profile", "offsky") == PROFILES["offsky"]
    assert taken("--profile", "offsky", "--sigma", "9") == PROFILES["offsky"].changed(sigma=9.0)
    assert taken("--profile", "offsky", "--reject", "none").reject == "none"
    assert taken("--profile", "offsky", "--no-mask-sources").mask_sources is False


def test_none_is_a_value_where_it_means_something() -> None:
    assert taken("--maxiters", "none", "--bad-fraction", "None") == Options()
    assert taken("--target-scale", "fit", command="subtract") == Options(target_scale="fit")
    with pytest.raises(click.BadParameter):
        taken("--min-keep", "none")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--reject", "sigmaclip"],
        ["--profile", "mine"],
        ["--n-extremes", "1.5"],
        ["--target-scale", "half"],
        ["--level", "yes"],
        ["--sigma-lower", "low"],
    ],
)
def test_a_wrong_word_is_wrong_usage(wrong: list[str]) -> None:
    result = run("average", "a.fits", "-o", "b.fits", *wrong)
    assert result.exit_code == 2
    assert wrong[0] in result.output


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--bad-bits", "DO_NOT_USE,NO_SUCH_FLAG"], "'NO_SUCH_FLAG' is no flag"),
        (["--bad-bits", str(2**32)], "32 bits"),
        (["--bad-fraction", "2"], "bad_fraction is 2"),
        (["--sigma", "0"], "sigma is 0"),
        (["--sigma-upper", "-1"], "sigma_upper is -1"),
        (["--n-extremes", "-1"], "n_extremes is -1"),
        (["--target-scale", "nan"], "target_scale is nan"),
    ],
)
@pytest.mark.parametrize("command", ["subtract", "average", "plan", "run"])
def test_a_wrong_value_is_one_line(command: str, wrong: list[str], message: str) -> None:
    if command == "average" and wrong[0] == "--target-scale":
        return  # wrong usage, whatever the value
    inputs = ["a.fits", "-o", "b.fits"]
    result = run(
        command, *inputs, *(["--from", "dithers"] if command in ("plan", "run") else []), *wrong
    )
    assert result.exit_code == 1
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_flags_are_those_of_stdatamodels() -> None:
    from stdatamodels.jwst.datamodels.dqflags import pixel

    from offsky.arrays import DO_NOT_USE

    assert pixel["DO_NOT_USE"] == Options().bad_bits == DO_NOT_USE
    for name, bit in pixel.items():
        assert flag_bits(name) == flag_bits(f" {name.lower()} ") == flag_bits(str(bit)) == bit
    assert flag_bits("1,4, DO_NOT_USE") == 5
    assert flag_bits("") == 0
    assert flag_bits(7) == 7


# In Python


def test_a_profile_or_options_and_changes() -> None:
    assert choose_options("jwst", None, {}) == Options()
    assert choose_options("jwst", Options(sigma=2), {"maxiters": 3}) == Options(
        sigma=2, maxiters=3
    )
    chosen = choose_options("offsky", None, {"bad_bits": "JUMP_DET"}, sigma=4.0, maxiters=None)
    assert chosen == PROFILES["offsky"].changed(bad_bits=4, sigma=4.0)
    with pytest.raises(ParameterError, match="profile is 'mine'"):
        choose_options("mine", None, {})
    with pytest.raises(ParameterError, match="both given"):
        choose_options("offsky", Options(), {})


def test_options_mean_the_same_in_every_function(exposures: Any, tmp_path: Path) -> None:
    target, backgrounds = exposures()
    how: dict[str, Any] = {"sigma": 1.5, "maxiters": 2, "center": "mean"}
    outputs = [tmp_path / f"{i}.fits" for i in range(3)]
    offsky.subtract_file(target, backgrounds, outputs[0], **how)
    offsky.subtract_file(target, backgrounds, outputs[1], options=Options(**how))
    said = ["--sigma", 1.5, "--maxiters", 2, "--center", "mean"]
    assert run("subtract", target, *backgrounds, "-o", outputs[2], *said).exit_code == 0
    with (
        offsky.subtract(target, backgrounds, **how) as one,
        offsky.subtract(target, backgrounds, 1.5, 2, center="mean") as two,
        offsky.subtract(target, backgrounds, options=Options(**how)) as three,
    ):
        for path in outputs:
            for model in (one, two, three):
                np.testing.assert_array_equal(fits.getdata(path, "SCI"), model.data)
    with (
        offsky.average(backgrounds, **how) as one,
        offsky.average(backgrounds, 1.5, 2, options=Options(center="mean")) as two,
    ):
        np.testing.assert_array_equal(one.data, two.data)


# What is recorded


def test_the_header_names_the_profile_and_what_differs(exposures: Any, tmp_path: Path) -> None:
    target, backgrounds = exposures(None, (None, 2, None, 3, None, None))
    output, combined = tmp_path / "o_bsub.fits", tmp_path / "target_combinedbackground.fits"
    others = [name for name in TOGETHER if name not in ("level", "mask_sources", "reject")]
    for reject, idle in (
        ("mad", {"n_extremes", "err_scale", "grow"}),
        ("minmax", {*LIMITS, "center", "err_scale", "grow"}),
    ):
        said = ["--reject", reject, *words(*others), "--save-combined", "--overwrite"]
        result = run("subtract", target, *backgrounds, "-o", output, *said)
        assert result.exit_code == 0, result.output
        for path in (output, combined):
            header = header_of(path)
            assert header["OFFPROF"] == "jwst"
            assert header["OFFSIGMA"] == 2.5
            assert header["OFFMAXIT"] == 4
            assert header["OFFREJCT"] == reject
            for name in set(others) & set(OPTION_CARDS):
                keyword, comment = OPTION_CARDS[name]
                assert (keyword in header) is (name not in idle), name
                if name not in idle:
                    assert header[keyword] == SAID[name][1], name
                    assert header.comments[keyword] == comment
            assert "correlated" in str(header["HISTORY"])


def test_a_default_product_has_one_card_more(exposures: Any, tmp_path: Path) -> None:
    target, backgrounds = exposures()
    offsky.subtract_file(target, backgrounds, tmp_path / "o.fits")
    header = header_of(tmp_path / "o.fits")
    assert header["OFFPROF"] == "jwst"
    assert not {keyword for keyword, _ in OPTION_CARDS.values()} & set(header)
    assert "correlated" not in str(header["HISTORY"])


def test_a_profile_keeps_its_name_whatever_is_changed() -> None:
    for name, options in PROFILES.items():
        assert choose_options(name, None, {}).profile == name == options.profile
        assert options.beyond_profile() == {}
    # All that makes the one the other: still what was asked for.
    for name, other in (("jwst", "offsky"), ("offsky", "jwst")):
        changes = PROFILES[other].differences(PROFILES[name])
        chosen = choose_options(name, None, changes)
        assert chosen == PROFILES[other]
        assert (chosen.profile, chosen.beyond_profile()) == (name, changes)
    options = PROFILES["offsky"].changed(level="none", bad_fraction=None)
    cards = {key: value for key, value, _ in Provenance((), options).cards()}
    assert (cards["OFFPROF"], cards["OFFMATCH"]) == ("offsky", "none")
    assert "OFFERRS" not in cards
    assert not {"OFFPROF"} & {keyword for keyword, _ in OPTION_CARDS.values()}


def test_none_is_written_as_a_word() -> None:
    options = Options(sigma_lower=2.0)
    assert ("OFFSIGLO", 2.0) in [card[:2] for card in Provenance((), options).cards()]
    written = Provenance((), options).cards()
    assert all(value is not None for key, value, _ in written if key != "OFFLEVEL")


def test_keywords_are_unlike_jwst_s_and_fit_the_header() -> None:
    import re

    import stdatamodels

    schemas = Path(stdatamodels.__file__).parent.rglob("*.y*ml")
    theirs = {
        keyword
        for path in schemas
        for keyword in re.findall(r"fits_keyword:\s*['\"]?([A-Z0-9_-]+)", path.read_text())
    }
    assert len(theirs) > 300
    extreme = Options(**TOGETHER)
    keywords = [key for key, _, _ in Provenance(("a",), extreme).cards()]
    # Those of rejection by ERR have no effect beside minmax, and no card.
    assert len(set(keywords)) == len(keywords) >= len(TOGETHER) - 2
    assert not theirs & set(keywords)
    for key, value, comment in Provenance(("a",), extreme).cards():
        assert len(key) <= 8
        card = fits.Card(key, value, comment)
        assert len(card.image) == 80
        assert card.comment == comment
    for line in Provenance(("a",), extreme).history():
        assert len(line) <= 72


def test_every_keyword_is_documented() -> None:
    docs = Path(__file__).parents[1] / "docs"
    pages = [docs / name for name in ("products.md", "options.md")]
    documented = "".join(page.read_text(encoding="utf-8") for page in pages)
    extreme = Options(**{**TOGETHER, "target_scale": "fit", "target_offset": "fit"})
    for keyword, _, _ in Provenance(("a",), extreme).cards():
        assert f"`{keyword}`" in documented, keyword
    for keyword, _ in OPTION_CARDS.values():
        assert f"`{keyword}`" in documented, keyword


def test_names_in_the_header_survive_stdatamodels(exposures: Any, tmp_path: Path) -> None:
    from stdatamodels.jwst import datamodels

    target, backgrounds = exposures()
    output, again = tmp_path / "o_bsub.fits", tmp_path / "again_bsub.fits"
    offsky.subtract_file(target, backgrounds, output, errors="propagate", combine="median")
    with datamodels.open(output) as model:
        model.validate()
        model.save(again)
    with offsky.subtract(target, backgrounds, errors="propagate", combine="median") as model:
        model.save(tmp_path / "model_bsub.fits")
    before = header_of(output)
    for path in (again, tmp_path / "model_bsub.fits"):
        header = header_of(path)
        for keyword in ("OFFPROF", "OFFERRS", "OFFCOMB", "OFFSIGMA"):
            assert header[keyword] == before[keyword], path
            assert header.comments[keyword] == before.comments[keyword]
        assert "correlated" in str(header["HISTORY"])


def test_the_summary_and_json_tell_the_options(exposures: Any, tmp_path: Path) -> None:
    target, backgrounds = exposures()
    arguments = ("subtract", target, *backgrounds, "-o", tmp_path / "o.fits", "--overwrite")
    assert "options:      profile jwst\n" in run(*arguments).output
    changed = run(*arguments, "--bad-bits", "JUMP_DET", "--uncovered", "nan")
    assert "options:      profile jwst, bad_bits 4, uncovered nan\n" in changed.output
    assert "1 pixel without a sample, set to NaN" in changed.output
    told = json.loads(run(*arguments, "--json", "--sigma", "2").stdout)
    assert told["options"] == {**asdict(Options()), "sigma": 2.0}
    assert told["options"]["profile"] == "jwst"


# Plans


def test_plans_carry_the_options(exposures: Any, tmp_path: Path) -> None:
    target, backgrounds = exposures()
    plan = tmp_path / "plan.json"
    everything = words(*TOGETHER)
    said = ["plan", target, *backgrounds, "--from", "dithers", "-o", plan]
    assert run(*said, *everything).exit_code == 0
    read = parse_plan(plan.read_text(), "plan")
    wanted = Options(**TOGETHER)
    assert {product.options for product in read.products} == {wanted}
    assert render_plan(read, offsky.__version__) == plan.read_text()

    refused = run("run", plan, "--profile", "offsky")
    assert refused.exit_code == 2
    assert "--profile is settled in the plan" in refused.output
    assert "--weight is settled" in run("run", plan, "--weight", "equal").output


def test_options_left_out_of_a_plan_are_the_jwst_profile_s(exposures: Any, tmp_path: Path) -> None:
    target, backgrounds = exposures()
    plan = tmp_path / "plan.json"
    run("plan", target, *backgrounds, "--from", "dithers", "-o", plan, "--profile", "offsky")
    content = json.loads(plan.read_text())
    for product in content["products"]:
        assert product["options"]["profile"] == "offsky"
        product["options"] = {"sigma": 2.0, "maxiters": None}
    read = parse_plan(json.dumps(content), "plan")
    assert {product.options for product in read.products} == {Options(sigma=2.0)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mask_sources", "no"),
        ("mask_sources", 1),
        ("n_extremes", 1.5),
        ("n_extremes", True),
        ("sigma", "3"),
        ("sigma", True),
        ("sigma_lower", "low"),
        ("bad_bits", "DO_NOT_USE"),
        ("target_scale", "twice"),
        ("target_scale", None),
        ("reject", None),
        ("level", ["offset"]),
    ],
)
def test_options_of_the_wrong_kind_are_refused(
    exposures: Any, tmp_path: Path, name: str, value: Any
) -> None:
    target, backgrounds = exposures()
    plan = tmp_path / "plan.json"
    run("plan", target, *backgrounds, "--from", "dithers", "-o", plan)
    content = json.loads(plan.read_text())
    content["products"][0]["options"][name] = value
    with pytest.raises(ParameterError, match=rf"products\[0\]\.options.*{name}"):
        parse_plan(json.dumps(content), "plan")
