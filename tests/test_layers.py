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

# From the outside in; a module may import its own layer and those after it. What is not named
# here is a value or an algorithm, and must know nothing of files, models and commands.
ADAPTERS = {
    "offsky",
    "offsky.__main__",
    "offsky.batch",
    "offsky.cli",
    "offsky.cli_options",
    "offsky.cli_programmes",
    "offsky.demo",
    "offsky.step",
    "offsky.tables",
}
JOBS = {
    "offsky.choices",
    "offsky.filejobs",
    "offsky.groupjob",
    "offsky.modeljobs",
    "offsky.names",
    "offsky.planning",
    "offsky.prepare",
    "offsky.programme",
}
TESTING = {"offsky.testing"}  # builders for tests, benchmarks and the demo: import nothing of ours
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


def layer(module: str) -> int:
    if module in ADAPTERS:
        return 0
    if module in JOBS:
        return 1
    return 2 if module.split(".")[1] == "io" else 3


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


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_inward(module: str) -> None:
    for imported in imports(MODULES[module]):
        if imported.split(".")[0] == "offsky":
            # The package itself is its public names: for adapters alone.
            assert layer(imported) >= layer(module), f"{module} imports {imported}"


@pytest.mark.parametrize("module", [m for m in MODULES if layer(m) == 3 and m not in TESTING])
def test_values_and_algorithms_know_numpy_alone(module: str) -> None:
    import sys

    for imported in imports(MODULES[module]):
        top = imported.split(".")[0]
        known = top in {"offsky", *INNER_THIRD_PARTY} or top in sys.stdlib_module_names
        assert known, f"{module} imports {imported}"


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
        "offsky.cli",
        "offsky.cli_options",
        "offsky.cli_programmes",
    ):
        tops = {name.split(".")[0] for name in imports(MODULES[module], module_level=True)}
        assert tops - set(sys.stdlib_module_names) <= {"click", "offsky"}


def test_only_io_and_testing_know_fits() -> None:
    for module, path in MODULES.items():
        if layer(module) != 2 and module not in {*TESTING, "offsky.demo"}:
            assert not any(name.startswith("astropy") for name in imports(path)), module


def test_the_numeric_c_files_know_neither_python_nor_numpy() -> None:
    # They are not installed, so those of the checkout.
    sources = sorted((ROOT / "src/offsky/_kernel").glob("*.[ch]"))
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
        "ExposureError": ValueError,
        "ExposureMismatchError": ValueError,
        "MissingFileError": FileNotFoundError,
        "OutputError": OSError,
        "OutputExistsError": FileExistsError,
    }.items():
        assert issubclass(getattr(offsky, name), (offsky.OffskyError,))
        assert issubclass(getattr(offsky, name), built_in)
