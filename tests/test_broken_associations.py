"""An association that cannot be followed: one line that names the place in it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plain import expose, product, refused, run, write_association

import offsky
from offsky.io.association import AssociationProduct, read_association


@pytest.fixture
def inputs(folder: Path) -> Path:
    """A folder beside the current one's products."""
    beside = folder / "inputs"
    beside.mkdir()
    for name in ("target", "other", "one", "four"):
        expose(beside / f"{name}_rate.fits")
    return beside


def changed(asn: Path, where: str, value: Any) -> None:
    """Set one entry of an association; DROP takes it out."""
    content = json.loads(asn.read_text())
    *path, last = [int(key) if key.isdigit() else key for key in where.split(".")]
    node = content
    for key in path:
        node = node[key]
    if value == "DROP":
        del node[last]
    else:
        node[last] = value
    asn.write_text(json.dumps(content))


MEMBERS = "products.0.members"
SCIENCE = {"expname": "other_rate.fits", "exptype": "science"}
BROKEN: dict[str, tuple[str, Any, str]] = {
    "no products": ("products", "DROP", "no products"),
    "products are none": ("products", [], "no products"),
    "products are a word": ("products", "first", "no products"),
    "a product that is a list": ("products.0", [], "products[0]: list where an object"),
    "a member that is a name": (
        f"{MEMBERS}.0", "target_rate.fits", "products[0].members[0]: str where an object",
    ),
    "no name": ("products.0.name", "DROP", "products[0].name: None"),
    "an empty name": ("products.0.name", "", "products[0].name: ''"),
    "a name with a folder": ("products.0.name", "../x", "products[0].name: '../x'"),
    "an absolute name": ("products.0.name", "/tmp/x", "products[0].name: '/tmp/x'"),
    "a name no file can have": ("products.0.name", "a\0b", "products[0].name: 'a\\x00b'"),
    "a number for a name": ("products.0.name", 7, "products[0].name: 7"),
    "no members": (MEMBERS, "DROP", "products[0].members: expected a list"),
    "members are none": (MEMBERS, [], "products[0].members: expected a list"),
    "no science": (f"{MEMBERS}.0.exptype", "background", "products[0].members: 0 science"),
    "two science": (f"{MEMBERS}.1", SCIENCE, "products[0].members: 2 science members"),
    "no exptype": (f"{MEMBERS}.1.exptype", "DROP", "products[0].members[1]: no exptype"),
    "no expname": (f"{MEMBERS}.1.expname", "DROP", "products[0].members[1].expname: None"),
    "an expname no file can have": (
        f"{MEMBERS}.1.expname", "a\0b.fits", "products[0].members[1].expname: ",
    ),
    "a long expname": (
        f"{MEMBERS}.1.expname", "x" * 5000, "products[0].members[1].expname: ",
    ),
    "both kinds": (
        f"{MEMBERS}.1.expname", "target_rate.fits",
        "products[0].members: target_rate.fits is both science and background",
    ),
    "both kinds by another spelling": (
        f"{MEMBERS}.1.expname", "./target_rate.fits",
        "products[0].members: target_rate.fits is both science and background",
    ),
    "two products of one name": (
        "products.1.name", "first", "2 products are called 'first'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_association_gives_one_line_that_names_the_place(
    inputs: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    where, value, expected = BROKEN[how]
    asn = write_association(
        inputs / "a_asn.json",
        product("first", "target", "one"),
        product("second", "other", "four"),
    )
    changed(asn, where, value)
    line = refused(capsys, "subtract", asn)
    assert line.startswith(f"offsky: {asn}: ")
    assert expected in line
    # Nothing is begun before everything has been checked.
    assert not list(Path().glob("*.fits"))


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("gone.fits", "gone.fits: no such file"),
        (".", "cannot be read (it is a directory, not a regular file)"),
    ],
)
def test_a_member_that_is_no_file_stops_its_product_alone(
    inputs: Path, capsys: pytest.CaptureFixture[str], member: str, expected: str
) -> None:
    asn = write_association(
        inputs / "a_asn.json",
        product("first", "target", "one"),
        product("second", "other", "four"),
    )
    changed(asn, f"{MEMBERS}.1.expname", member)
    capsys.readouterr()
    assert run("subtract", asn, "--sigma", "0.9") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "offsky: " in line]
    assert line.startswith("offsky: first: ")
    assert expected in line
    assert [path.name for path in Path().glob("*.fits")] == ["second_bsub.fits"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"products: []", b"[" * 100_000, b"[]", b"null", b'"products"', b"7"],
    ids=["empty", "cut short", "bytes", "yaml", "deep", "list", "null", "word", "number"],
)
def test_what_is_no_association_gives_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    asn = folder / "a_asn.json"
    asn.write_bytes(content)
    assert f"{asn}: " in refused(capsys, "subtract", asn)


def test_an_association_that_cannot_be_read_gives_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder_asn.json").mkdir()
    assert "gone_asn.json: no such file" in refused(capsys, "subtract", "gone_asn.json")
    assert "folder_asn.json: cannot be read" in refused(capsys, "subtract", "folder_asn.json")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["products", "members", "name", "expname", "exptype", "other"]), inner
        )
    ),
    max_leaves=12,
)
members = st.fixed_dictionaries(
    {
        "expname": st.sampled_from(["a.fits", "b.fits", "c.fits", "../a.fits"]) | anything,
        "exptype": st.sampled_from(["science", "background", "imprint"]) | anything,
    }
)
products = st.fixed_dictionaries(
    {"name": st.text(max_size=3), "members": st.lists(members, max_size=3) | anything}
)


@settings(max_examples=150)
@given(content=st.fixed_dictionaries({"products": st.lists(products, max_size=3)}) | anything)
@example(
    content={"products": [{"name": "p", "members": [{"expname": "c.fits", "exptype": "science"}]}]}
)
def test_whatever_json_holds_it_is_followed_or_refused_in_one_line(
    tmp_path: Path, content: Any
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.fits").touch()
    asn = tmp_path / "a_asn.json"
    asn.write_text(json.dumps(content))
    try:
        found = read_association(asn)
    except offsky.OffskyError as refusal:
        message = str(refusal)
    else:
        message = "followed"
        assert found
        assert all(isinstance(each, AssociationProduct) for each in found)
        # Members may be missing, which stops their products alone, but never lie elsewhere.
        followed = [path for each in found for path in (each.target, *each.backgrounds)]
        assert all(path.resolve().is_relative_to(tmp_path.resolve()) for path in followed)
    assert message.isprintable()
