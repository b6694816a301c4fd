"""The documentation site: ``make docs`` builds it from the pages as they are, and from the docstrings.

The source folder is the root of the repository, so that links between pages lead where they lead on a code host.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bytenorm
from bytenorm.cli import main
from bytenorm.cli.arguments.program import COMMANDS

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
API = ROOT / "docs" / "api"  # written here, kept out of the repository
PACKAGES = {
    "bytenorm": "The core: tensors, batch norm, settings. NumPy alone.",
    "bytenorm.calibration": "Statistics of channels, output scales, re-estimation. NumPy alone.",
    "bytenorm.onnx": "Models in ONNX format.",
    "bytenorm.torch": "PyTorch.",
    "bytenorm.dask": "Clusters.",
    "bytenorm.report": "The report, as one page or as numbers.",
}

FIRST = ["docs/quantization", "docs/quantization-norm", "docs/onnx", "docs/onnx-quantize", "docs/onnx-lowerings"]
FIRST += ["docs/onnx-runtimes", "docs/onnx-processors"]
FIRST += ["docs/correction", "docs/command", "docs/torch", "docs/torch-moving", "docs/torch-export"]
FIRST += ["docs/report", "docs/calibration", "docs/calibration-statistics", "docs/cluster"]
FIRST += ["benchmarks/cpus/README", "benchmarks/accuracy"]


def pages(folder: str, *without: str) -> list[tuple[str, str]]:
    """Return the pages of a folder, in the order in which they are best read, then by name."""
    found = {path.relative_to(ROOT).with_suffix("").as_posix() for path in (ROOT / folder).glob("**/*.md")}
    left = sorted(name for name in found if not name.startswith(tuple(f"{folder}/{one}" for one in without)))
    return [
        (_title(name), name)
        for name in sorted(left, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    ]


def _title(name: str) -> str:
    """Return what the navigation calls a page of a kind of CPU; all have one title. Others keep theirs."""
    kind, page = name.split("/")[-2:]
    what = {"measured": "operators", "networks": "networks"}
    return f"{kind}: {what[page]}" if name.startswith("benchmarks/cpus/") and page in what else ""


# What is below a page in the site's navigation; a table of contents in the page would show as code on a code host.
BELOW = {
    "README": [
        ("Tasks", "docs/tasks/README"),
        ("Guide", "docs/guide"),
        ("Reference", "docs/api/index"),
        ("Gallery", "docs/gallery"),
        ("Glossary", "docs/glossary"),
        ("Benchmarks", "benchmarks/README"),
        ("Changes", "CHANGELOG"),
        ("Contributing", "CONTRIBUTING"),
        ("Security", "SECURITY"),
        ("Contents", "docs/README"),
    ],
    "docs/tasks/README": [
        ("Float ONNX model", "docs/tasks/float-onnx"),
        ("Quantized ONNX model", "docs/tasks/quantized-onnx"),
        ("PyTorch model", "docs/tasks/pt2e"),
        ("quint8 code", "docs/tasks/quint8"),
        ("uint8 images", "docs/tasks/uint8-images"),
    ],
    "docs/guide": pages("docs", "README", "guide", "gallery", "glossary", "tasks/"),
    "benchmarks/README": pages("benchmarks", "README"),
}

project = "bytenorm"
version = release = bytenorm.__version__
copyright = "the authors of bytenorm"
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
root_doc = "README"
include_patterns = ["*.md", "docs/**", "benchmarks/**"]

myst_heading_anchors = 4  # as code hosts make them
myst_enable_extensions = ["dollarmath"]

autosummary_generate = False  # write_api does
autodoc_typehints = "none"  # the docstrings say it, in words
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
python_use_unqualified_type_names = True

html_theme = "pydata_sphinx_theme"
html_title = "bytenorm"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "article_header_start": [],  # where one is: the navigation says it, and searches would quote it
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars: dict[str, list[str]] = {name: [] for name in ("docs/README", "docs/gallery", "docs/glossary", "*")}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def public_names(package: str) -> list[str]:
    """Return the names that a package lists."""
    return [name for name in importlib.import_module(package).__all__ if name != "__version__"]


def write_api() -> None:
    """Write a page for each package and for each of its public names."""
    API.mkdir(exist_ok=True)
    wanted = {"index.rst": _index(), "command.rst": _command()}
    listed: list[Any] = []
    for package, text in PACKAGES.items():
        module, names = importlib.import_module(package), public_names(package)
        wanted[f"{package}.rst"] = _package(package, text, names)
        for name in names:
            value = getattr(module, name)
            wanted[f"{package}.{name}.rst"] = _name(
                package, name, value, again=any(value is one for one in listed)
            )
            listed.append(value)
    for old in API.iterdir():
        if old.name not in wanted:
            old.unlink()
    for file, text in wanted.items():
        path = API / file
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # what is as it was is not built again
            path.write_text(text, encoding="utf-8")


def _titled(title: str, *blocks: str) -> str:
    return "\n\n".join([f"{title}\n{'=' * len(title)}", *blocks]) + "\n"


def _directive(name: str, argument: str, options: tuple[str, ...] = (), body: tuple[str, ...] = ()) -> str:
    lines = [f".. {name}:: {argument}".rstrip(), *(f"   {option}" for option in options)]
    return "\n".join([*lines, *([""] if body else []), *(f"   {line}" for line in body)])


def _index() -> str:
    parts = [":doc:`The command <command>`: what each of its commands takes. Words: :doc:`/docs/glossary`."]
    for package, text in PACKAGES.items():
        names = public_names(package)
        parts += [f":doc:`{package}`\n{'-' * (len(package) + 7)}", text, _list_of(package, names)]
    return _titled("Reference", *parts, _directive("toctree", "", (":hidden:",), (*PACKAGES, "command")))


def _command() -> str:
    """Return the page of the command: what each says of itself."""
    parts = ["What ``bytenorm COMMAND --help`` says. How they end: :doc:`/docs/command`."]
    os.environ["COLUMNS"] = "80"  # whatever the terminal has
    for name in [command.name for command in COMMANDS]:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            main([name, "--help"])
        title = f"bytenorm {name}"
        said_lines = tuple(said.getvalue().splitlines())
        parts += [f"{title}\n{'-' * len(title)}", _directive("code-block", "text", (), said_lines)]
    return _titled("The command", *parts)


def _package(package: str, text: str, names: list[str]) -> str:
    return _titled(
        package,
        text,
        _list_of(package, names),
        _directive("toctree", "", (":hidden:",), tuple(f"{name} <{package}.{name}>" for name in names)),
    )


def _list_of(package: str, names: list[str]) -> str:
    """Return a table of names, each with the first line of what it says of itself."""
    listed = _directive("autosummary", "", (":nosignatures:",), tuple(names))
    return f".. currentmodule:: {package}\n\n{listed}"


def _name(package: str, name: str, value: Any, *, again: bool) -> str:
    """Return the page of a name; what another package has too is in the index once."""
    options: tuple[str, ...]
    if inspect.isclass(value):
        what, options = "autoclass", (":members:",)
    elif callable(value):
        what, options = "autofunction", ()
    else:
        what, options = "autodata", (":no-value:",)
    options += (":no-index:",) if again else ()
    return _titled(f"{package}.{name}", f".. currentmodule:: {package}", _directive(what, name, options))


def add_navigation(app: Sphinx, name: str, source: list[str]) -> None:
    """Add what is below a page to its text."""
    if name in BELOW:
        entries = [f"{title} </{page}>" if title else f"/{page}" for title, page in BELOW[name]]
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", *entries, "```", ""])


def lead_to_the_first_page(app: Sphinx, error: Exception | None) -> None:
    """Have the root of the site lead to its first page, which lies in a folder as its source does."""
    first = f"{root_doc}.html"
    lines = [
        "<!doctype html>",
        f'<meta http-equiv="refresh" content="0; url={first}">',
        f'<a href="{first}">Here</a>',
    ]
    Path(app.outdir, "index.html").write_text("\n".join(lines) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Write the pages of the reference before the pages are looked for."""
    app.connect("source-read", add_navigation)
    app.connect("build-finished", lead_to_the_first_page)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, when it is imported
        write_api()
