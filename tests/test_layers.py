"""Imports point inward: read from the sources, nothing is run."""

import ast
from pathlib import Path

import pytest

import offsky

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(offsky.__file__).parent
MODULES = {
    ".".join(("offsky", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# From the ground up: a module may import its own room and those before it.
ROOMS = (
    "errors",
    "units",
    "arrays",
    "arguments",
    "given",
    "flags",
    "sizes",
    "effect",
    "declared",
    "options",
    "values",
    "kernel",
    "combine",
    "subtraction",
    "selection",
    "choices",
    "outcome",
    "product_outcome",
    "stopping",
    "measure",
    "report",
    "io",
    "engine",
    "reporting",
    "models",
    "files",
    "programme",
    "step",
    "stpipe_entry",
    "command",
    "__main__",
)
# Values and algorithms: they must know nothing of files, models and commands.
PURE = ROOMS[: ROOMS.index("measure")]
# Builders for tests, benchmarks and the demo: they import nothing of ours.
TESTING = {"offsky.simulation", "offsky.testing"}
INNER_THIRD_PARTY = {"numpy"}
HEAVY = {
    "asdf",
    "distributed",
    "gwcs",
    "jwst",
    "matplotlib",
    "rich",
    "scipy",
    "sep",
    "stdatamodels",
    "stpipe",
}


def room(module: str) -> str:
    """Return the folder or the single module of the package that a module is in."""
    return module.split(".")[1] if "." in module else "offsky"


def floor(module: str) -> int:
    # The package itself is its public names: for nobody inside.
    return len(ROOMS) if room(module) == "offsky" else ROOMS.index(room(module))


def imports(path: Path, *, module_level: bool = False) -> set[str]:
    """Return the modules that a file imports; those for type checkers alone are left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if module_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            name = str(node.module)
            found.update(
                f"{name}.{alias.name}" if f"{name}.{alias.name}" in MODULES else name
                for alias in node.names
            )
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def test_every_file_is_in_a_room() -> None:
    rooms = {room(module) for module in MODULES} - {"offsky"}
    assert rooms == {*ROOMS, *(room(module) for module in TESTING)}


@pytest.mark.parametrize(
    "module", sorted(MODULES.keys() - TESTING - {"offsky", "offsky.command.demo"})
)
def test_imports_point_down(module: str) -> None:
    for imported in imports(MODULES[module]):
        if imported.split(".")[0] == "offsky":
            assert floor(imported) <= floor(module), f"{module} imports {imported}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    inside = {
        module: {name for name in imports(path) if name in MODULES}
        for module, path in MODULES.items()
    }
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for imported in sorted(inside[module]):
                walk(imported, (*way, module))
            done.add(module)

    for module in MODULES:
        walk(module, ())


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) in PURE])
def test_values_and_algorithms_know_numpy_alone(module: str) -> None:
    import sys

    # The table of names, where a name is given; units, where their texts differ.
    lazy = {"offsky.flags": {"stdatamodels"}, "offsky.units": {"astropy"}}
    for imported in imports(MODULES[module]):
        top = imported.split(".")[0]
        known = {"offsky", *INNER_THIRD_PARTY, *lazy.get(module, ())}
        assert top in known or top in sys.stdlib_module_names, f"{module} imports {imported}"


# offsky.step is nothing without jwst; nothing imports it.
@pytest.mark.parametrize("module", [m for m in MODULES if m != "offsky.step"])
def test_heavy_packages_are_imported_only_when_needed(module: str) -> None:
    tops = {name.split(".")[0] for name in imports(MODULES[module], module_level=True)}
    assert not tops & HEAVY


def test_nothing_is_imported_at_the_start_of_the_command_but_click() -> None:
    import sys

    for module in (
        "offsky",
        "offsky.__main__",
        "offsky.command",
        "offsky.command.main",
        "offsky.command.options",
        "offsky.command.programmes",
    ):
        tops = {name.split(".")[0] for name in imports(MODULES[module], module_level=True)}
        assert tops - set(sys.stdlib_module_names) <= {"click", "offsky"}


def test_only_io_and_testing_know_fits() -> None:
    for module, path in MODULES.items():
        if room(module) != "io" and module not in {*TESTING, "offsky.command.demo"}:
            assert not any(name.startswith("astropy.io") for name in imports(path)), module


def test_the_numeric_c_files_know_neither_python_nor_numpy() -> None:
    # They are not installed, so those of the checkout.
    sources = sorted((ROOT / "src/offsky/kernel/c").glob("*.[ch]"))
    assert sources
    for source in sources:
        text = source.read_text(encoding="utf-8")
        assert "numpy" not in text.replace("NumPy", "").lower() or source.name == "binding.c"
        assert ("Python.h>" in text) == (source.name == "binding.c"), source.name


def test_every_public_name_is_there_and_documented() -> None:
    for name in offsky.__all__:
        assert getattr(offsky, name).__doc__, name
    assert offsky.__version__
    assert set(dir(offsky)) >= set(offsky.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = offsky.no_such_name


def test_errors_are_one_tree_and_also_the_built_ins_that_fit() -> None:
    for name, built_in in {
        "ParameterError": ValueError,
        "UnknownOptionError": TypeError,
        "ExposureError": ValueError,
        "ExposureMismatchError": ValueError,
        "MissingFileError": FileNotFoundError,
        "OutputError": OSError,
        "OutputExistsError": FileExistsError,
    }.items():
        assert issubclass(getattr(offsky, name), (offsky.OffskyError,))
        assert issubclass(getattr(offsky, name), built_in)
