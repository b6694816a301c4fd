"""The documentation is true: every snippet runs, every link leads somewhere, every name exists."""

import doctest
import importlib
import importlib.util
import inspect
import re
import shlex
import warnings
from pathlib import Path

import pytest

import bytenorm as bn
from bytenorm.cli import main
from bytenorm.cli.arguments.program import parse

ROOT = Path(__file__).resolve().parent.parent
EXECUTED = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TASKS = sorted((ROOT / "docs" / "tasks").glob("[!R]*.md"))
PAGES = sorted({*ROOT.glob("*.md"), *EXECUTED, *(ROOT / "benchmarks").rglob("*.md")})

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# What pages call the packages, besides their own names.
SHORT = {
    "bytenorm": "bn",
    "bytenorm.calibration": "bc",
    "bytenorm.dask": "bd",
    "bytenorm.onnx": "bno",
    "bytenorm.report": "br",
    "bytenorm.torch": "bt",
}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ELSEWHERE = ("http://", "https://", "mailto:")


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(path):
    """Return the line, the language and the text of each block of code of a page."""
    text = path.read_text(encoding="utf-8")
    return [(text.count("\n", 0, match.start(2)) + 1, match[1], match[2]) for match in FENCE.finditer(text)]


def python_blocks(path):
    """Return the Python blocks of a page with the line each begins on."""
    return [(line, text) for line, language, text in blocks(path) if language == "python"]


def commands(text):
    """Return the arguments of each `bytenorm` in a block of shell."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.startswith("bytenorm ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def without_code(text):
    return FENCE.sub("", text)


def anchors(path):
    """Return the anchors of a page's headings as code hosts make them."""
    headings = re.findall(r"^#+ +(.+)$", without_code(path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(autouse=True)
def threads_as_before():
    before = bn.get_num_threads()
    yield
    bn.set_num_threads(before)


def run_examples(source, namespace, path, line):
    """Run a block of `>>>` examples; what it defines stays in the namespace."""
    test = doctest.DocTestParser().get_doctest(source, namespace, path.name, str(path), line - 1)
    report = []
    failed, _ = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append, clear_globs=False)
    assert not failed, "".join(report)
    namespace.update(test.globs)


def run(source, namespace, path, line):
    if ">>>" in source:
        run_examples(source, namespace, path, line)
    else:
        # Empty lines in front, so that a traceback shows the line of the page.
        exec(compile("\n" * (line - 1) + source, str(path), "exec"), namespace)


@pytest.mark.thorough
@each([path for path in EXECUTED if path not in TASKS])
def test_every_snippet_runs(path):
    """The blocks of a page run in order and share their names, as a reader would paste them."""
    namespace = {"__name__": "snippets"}
    for line, source in python_blocks(path):
        run(source, namespace, path, line)


@pytest.mark.thorough
@each(TASKS)
def test_a_task_is_done_by_its_page_alone(path, tmp_path, monkeypatch, capsys):
    """Python and commands, in one empty folder; what a page says that they print is what they print."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "snippets"}
    with warnings.catch_warnings():  # some pages filter them
        for line, language, source in blocks(path):
            if language == "python":
                run(source, namespace, path, line)
            elif language == "sh":
                for arguments in commands(source):
                    assert main(arguments) == 0, (line, arguments)
            else:
                printed = capsys.readouterr().out
                assert doctest.OutputChecker().check_output(source, printed, OPTIONS), (line, printed)


@each(PAGES)
def test_every_command_is_understood(path):
    for _, language, text in blocks(path):
        for arguments in commands(text) if language == "sh" else []:
            parse([word for word in arguments if word != "…"])


@each(PAGES)
def test_every_relative_link_leads_somewhere(path):
    for link in LINK.findall(without_code(path.read_text(encoding="utf-8"))):
        if link.startswith(ELSEWHERE):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


@each(PAGES)
def test_every_name_exists(path):
    text = path.read_text(encoding="utf-8")
    # All before any: each of the others becomes a name of the first.
    modules = {package: importlib.import_module(package) for package in SHORT}
    for package, short in SHORT.items():
        for name in re.findall(rf"(?<![\w.])(?:{short}|{re.escape(package)})\.([A-Za-z_]\w*)", text):
            found = hasattr(modules[package], name) or importlib.util.find_spec(f"{package}.{name}")
            assert found, f"{package}.{name}"


def test_the_site_has_every_package():
    """What has public names has pages of them: docs/conf.py writes one for each name of these."""
    public = {
        f"bytenorm.{path.parent.name}"
        for path in (ROOT / "src" / "bytenorm").glob("[!_]*/__init__.py")
        if re.search(r"^__all__ = ", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    text = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    assert set(re.findall(r'^    "(bytenorm[\w.]*)": ', text, re.MULTILINE)) == {"bytenorm", *public}


def test_every_public_name_has_a_page_with_an_example(tmp_path, monkeypatch):
    """The examples run in tests/test_package.py."""
    spec = importlib.util.spec_from_file_location("conf", ROOT / "docs" / "conf.py")
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    monkeypatch.setattr(conf, "API", tmp_path)
    conf.write_api()
    for package in conf.PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            if name != "__version__":
                assert (tmp_path / f"{package}.{name}.rst").is_file()
                assert "\n>>> " in inspect.getdoc(getattr(module, name)), name
                assert f"   {name} <{package}.{name}>" in (tmp_path / f"{package}.rst").read_text(encoding="utf-8")


def test_there_is_something_to_check():
    """A page that is renamed or a fence that is spelt otherwise would make the tests above pass on nothing."""
    snippets = {path.relative_to(ROOT).as_posix(): len(python_blocks(path)) for path in EXECUTED}
    for page in (
        "README.md",
        "docs/quantization.md",
        "docs/quantization-norm.md",
        "docs/numerics.md",
        "docs/numerics-fused.md",
        "docs/numerics-onnx.md",
        "docs/numerics-quantize.md",
        "docs/kernels.md",
        "docs/kernels-measured.md",
        "docs/calibration.md",
        "docs/calibration-statistics.md",
        "docs/cluster.md",
        "docs/onnx.md",
        "docs/onnx-lowerings.md",
        "docs/onnx-processors.md",
        "docs/onnx-runtimes.md",
        "docs/correction.md",
        "docs/report.md",
        "docs/torch.md",
        "docs/torch-export.md",
        "docs/torch-moving.md",
        "docs/operator.md",
        "docs/integers.md",
        "docs/tasks/float-onnx.md",
        "docs/tasks/quantized-onnx.md",
        "docs/tasks/pt2e.md",
        "docs/tasks/quint8.md",
        "docs/tasks/uint8-images.md",
    ):
        assert snippets.get(page), f"{page} has no snippet"
