"""The house of the Python code: imports go one way, folders and modules stay small enough to be read."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import bytenorm

SOURCE = Path(bytenorm.__file__).resolve().parent
MOST_MODULES = 12  # in a folder
MOST_LINES = 350  # in a module


def name_of(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


PATHS = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def inner(tree: ast.Module, name: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the modules of the package that a module imports anywhere, for its annotations too."""
    package = name if PATHS[name].name == "__init__.py" else name[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            origin = (*base, *(node.module.split(".") if node.module else ()))
            wanted = [(*origin, alias.name) for alias in node.names if alias.name != "_core"]  # not of Python
            found = [one if one in PATHS else one[:-1] for one in wanted]
        else:
            continue
        yield from (one for one in found if one in PATHS and one != name)


IMPORTS = {name: set(inner(ast.parse(path.read_text("utf-8")), name)) for name, path in PATHS.items()}


def circle(arrows: dict[tuple[str, ...], set[tuple[str, ...]]]) -> list[str]:
    """Return the names of a circle that arrows make, none if there is none."""
    done: set[tuple[str, ...]] = set()
    way: list[tuple[str, ...]] = []

    def walk(name: tuple[str, ...]) -> list[tuple[str, ...]]:
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return []
        way.append(name)
        for other in sorted(arrows[name]):
            if found := walk(other):
                return found
        way.pop()
        done.add(name)
        return []

    for name in arrows:
        if found := walk(name):
            return [".".join(one) for one in found]
    return []


def folders(depth: int) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """Return which folders use which, those of one depth below the package; an `__init__` is of none of them."""
    made: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for name, others in IMPORTS.items():
        if PATHS[name].name == "__init__.py":
            continue
        own = made.setdefault(name[: min(len(name) - 1, depth)], set())
        for other in others:
            if PATHS[other].name != "__init__.py":
                own.add(other[: min(len(other) - 1, depth)])
    return {name: {other for other in others if other != name and other in made} for name, others in made.items()}


def test_modules_are_found():
    assert ("bytenorm", "reference") in PATHS
    assert len(PATHS) > 150
    assert ("bytenorm", "_checks") in IMPORTS[("bytenorm", "_norms", "batch_norm")]


def test_a_circle_is_found():
    assert circle({("a",): {("b",)}, ("b",): {("c",)}, ("c",): {("b",)}}) == ["b", "c"]
    assert circle({("a",): {("b",), ("c",)}, ("b",): {("c",)}, ("c",): set()}) == []


def test_no_module_imports_itself_on_a_way_round():
    assert circle(IMPORTS) == []


@pytest.mark.parametrize("depth", [3, 4])
def test_folders_use_each_other_one_way(depth):
    """The modules of the package itself are the core's lowest: they are left out where they are one folder."""
    arrows = folders(depth)
    del arrows[("bytenorm",)]
    assert circle({name: others - {("bytenorm",)} for name, others in arrows.items()}) == []


def test_the_core_knows_none_of_the_parts():
    core = [
        name
        for name in PATHS
        if len(name) > 1 and (name[1] == "reference" or (name[1].startswith("_") and name[1] != "__main__"))
    ]
    assert {
        other[1] for name in core for other in IMPORTS[name] if len(other) > 1 and not other[1].startswith("_")
    } == set()


@pytest.mark.parametrize("folder", sorted({path.parent for path in PATHS.values()}), ids=lambda path: path.name)
def test_folders_are_small(folder):
    modules = [path.name for path in folder.glob("*.py") if not path.name.startswith("__")]
    assert len(modules) <= MOST_MODULES, modules


REASON = "\nLong, for it is "  # in the docstring of a module that is longer


@pytest.mark.parametrize("name", PATHS, ids=".".join)
def test_long_modules_say_why(name):
    text = PATHS[name].read_text("utf-8")
    assert (REASON in (ast.get_docstring(ast.parse(text)) or "")) == (len(text.splitlines()) > MOST_LINES)


# Modules whose plain errors are no caller's argument's. A file is named where its reader is called;
# what an object cannot do; what ends a process, or a library beside this one, says.
PLAIN = {
    "_files.npy",
    "_files.npz",
    "_norms.batch_norm",
    "_norms.integer_batch_norm",
    "_signatures",
    "_tensors.tensor",
    "calibration.statistics",
    "onnx.data.images",
    "onnx.disguise.prepare_and_restore",
    "onnx.graph.graph",
    "onnx.measurement.profile",
    "onnx.quantization.tuning.norm_scales",
    "onnx.quantization.tuning.notes",
    "onnx.run.apart",
    "onnx.run.openvino_runs",
    "onnx.run.other_process",
}


@pytest.mark.parametrize("name", PATHS, ids=".".join)
def test_errors_of_arguments_carry_them(name):
    """Others than these are made by `_errors`, with the argument's name."""
    tree = ast.parse(PATHS[name].read_text("utf-8"))
    raised = [
        node.exc.func for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    ]
    plain = [one for one in raised if isinstance(one, ast.Name) and one.id in ("ValueError", "TypeError")]
    assert bool(plain) == (".".join(name[1:]) in PLAIN)


ROOT = Path(__file__).resolve().parents[1]
PUBLIC = {
    "bytenorm",
    *(f"bytenorm.{part}" for part in ("calibration", "dask", "onnx", "reference", "report", "torch")),
}
SHOWN = [*ROOT.glob("examples/*.py"), *ROOT.glob("docs/**/*.md"), ROOT / "README.md"]


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_shown_imports_public_names(path):
    """Who copies it depends on nothing that may move."""
    text = path.read_text("utf-8")
    froms = re.findall(r"^ *from (bytenorm[\w.]*) import (?:\(([^)]*)\)|(.*))", text, re.MULTILINE)
    modules = {module for module, *_ in froms} | set(re.findall(r"^ *import (bytenorm[\w.]*)", text, re.MULTILINE))
    assert modules <= PUBLIC
    names = {name for _, *listed in froms for name in re.findall(r"(\w+)(?: as \w+)?(?:,|$)", "".join(listed))}
    assert not [name for name in names if name.startswith("_") and name != "__version__"]
