import ast
import doctest
import importlib
import importlib.metadata
import importlib.resources
import inspect
import json
import os
import pkgutil
import platform
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import bytenorm as bn
from bytenorm import _config, _core

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(bn.__path__, "bytenorm.")
    if not module.name.endswith(".__main__")  # which runs when it is imported
)
ISAS = bn.show_config()["isas"]

# --- importing it ---------------------------------------------------------------------------------------------

FOREIGN = """
import sys
import numpy
before = set(sys.modules)
{statement}
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(new - set(sys.stdlib_module_names) - {{"numpy"}}))
"""


def test_import_brings_nothing_beyond_numpy(run_python):
    done = run_python(FOREIGN.format(statement="import bytenorm"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["bytenorm"]


def test_use_brings_nothing_beyond_numpy(run_python):
    use = (
        "import numpy as np, bytenorm as bn\n"
        "q = bn.quantize_per_tensor(np.ones((2, 3), np.float32), 0.1, 3, bn.quint8)\n"
        "print(bn.BatchNorm(None, None, [1] * 3, [1] * 3, output_scale=0.1, output_zero_point=0)(q).data.sum(),\n"
        "      file=sys.stderr)\n"
        "try: bn.dequantize([1.0])\n"
        "except TypeError: repr(q), bn.show_config()\n"
        "from bytenorm.calibration import ChannelStatistics\n"
        "ChannelStatistics(3).update(q)"
    )
    done = run_python(FOREIGN.format(statement=use))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["bytenorm"]


def test_an_interrupt_waits_for_numpy(run_python):
    """NumPy makes an ImportError of one that comes while it is imported."""
    code = (
        "import signal, sys\n"
        "class Finder:\n"
        "    def find_spec(name, *_):\n"
        "        if name in ('numpy._core._multiarray_umath', 'numpy.linalg'): signal.raise_signal(2)\n"
        "sys.meta_path.insert(0, Finder)\n"
        "try: import bytenorm\n"
        "except KeyboardInterrupt: print(hasattr(sys.modules['numpy'], 'linalg'), 'bytenorm._core' in sys.modules)"
    )
    done = run_python(code)
    assert (done.stdout, done.stderr) == ("True True\n", "")


# Forks a process for each module. What these modules import of others takes most of the time and is no part of the
# question, so it is there before: the packages alone, and nothing that is imported inside of them on request.
EACH_FIRST = """
import os, sys, traceback
import {foreign}
for module in {modules}:
    if os.fork() == 0:
        code = 1
        try:
            assert not any(name.partition(".")[0] == "bytenorm" for name in sys.modules)
            exec(f"import {{module}}, bytenorm")
            assert bytenorm.get_num_threads() >= 1
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    if os.wait()[1]:
        print(module)
"""
FOREIGN_OF = {
    "cli": "onnx, onnxruntime",
    "dask": "dask, distributed",
    "onnx": "onnx, onnxruntime",
    "report": "onnx, onnxruntime",
    "torch": "torch, sympy",
}
NEEDED = sorted({"numpy", *FOREIGN_OF.values()})


@pytest.mark.thorough
@pytest.mark.parametrize("foreign", NEEDED)
def test_any_module_first(foreign, run_python):
    modules = [module for module in MODULES if FOREIGN_OF.get(module.split(".")[1], "numpy") == foreign]
    done = run_python(EACH_FIRST.format(foreign=foreign, modules=modules), "-W", "ignore", timeout=300)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("option", ["-Werror", "-O", "-OO", "-I"])
def test_import_under_any_option(option, run_python):
    path = str(Path(bn.__file__).parents[1])
    code = (
        f"import sys; sys.path.insert(0, {path!r})\n"
        "import numpy as np, bytenorm as bn\n"
        "q = bn.QuantizedTensor(np.array([[1], [9]], np.uint8), 1.0, 0)\n"
        "print(*bn.quantized_batch_norm(q, None, None, [5.0], [4.0], 0.0, 0.5, 10).data.ravel())"
    )
    done = run_python(code, option)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["6", "14"], "")


# --- the environment ------------------------------------------------------------------------------------------

SHOW = "import json, bytenorm; print(json.dumps(bytenorm.show_config()))"


@pytest.mark.parametrize("isa", ISAS)
def test_isa_is_forced(isa, run_python):
    done = run_python(SHOW, BYTENORM_ISA=isa)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["isa"] == isa


def test_isa_is_the_best_there_is(run_python):
    config = json.loads(run_python(SHOW, BYTENORM_ISA=None).stdout)
    assert config["isa"] == config["isas"][-1]
    assert config["isas"] == ISAS
    known = ["scalar", "avx2", "avx512", "avx512vbmi"]
    assert known[: len(ISAS)] == ISAS  # each of them contains the ones before


@pytest.mark.thorough(but=4)
@pytest.mark.parametrize(
    "value", ["", "avx", "AVX2", " scalar", "scalar ", "avx2,scalar", "neon", "0", "none", "é"]
)
def test_unknown_isa(value, run_python):
    done = run_python("import bytenorm", BYTENORM_ISA=value)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "BYTENORM_ISA" in last
    assert repr(value) in last
    assert all(isa in last for isa in ISAS)


def test_isa_that_the_machine_lacks(monkeypatch):
    monkeypatch.setattr(_core, "isas", lambda: ["scalar"])
    monkeypatch.setenv("BYTENORM_ISA", "avx512vbmi")
    with pytest.raises(ImportError, match=r"^BYTENORM_ISA='avx512vbmi' .* has scalar$"):
        _config._from_environment()


@pytest.mark.parametrize("value", ["1", "2", "3", "64", "1024", "007"])
def test_threads_from_the_environment(value, run_python):
    done = run_python("import bytenorm; print(bytenorm.get_num_threads())", BYTENORM_NUM_THREADS=value)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == int(value)


@pytest.mark.thorough(but=4)
@pytest.mark.parametrize(
    "value",
    ["", "0", "-1", "1025", "99999999999999999999", "2.0", "two", " 2", "2 ", "+2", "1e1", "0x2", "²", "2,4"],
)
def test_bad_threads_from_the_environment(value, run_python):
    done = run_python("import bytenorm", BYTENORM_NUM_THREADS=value)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "BYTENORM_NUM_THREADS" in last
    assert repr(value) in last
    assert "1 to 1024" in last


def test_threads_by_default(run_python):
    code = "import bytenorm; print(bytenorm.get_num_threads())"
    done = run_python(code, BYTENORM_NUM_THREADS=None)
    assert int(done.stdout) == min(8, len(os.sched_getaffinity(0)))
    one = f"import os; os.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}]); " + code
    assert int(run_python(one, BYTENORM_NUM_THREADS=None).stdout) == 1


# --- threads and configuration --------------------------------------------------------------------------------


@pytest.fixture
def threads():
    before = bn.get_num_threads()
    yield
    bn.set_num_threads(before)


@pytest.mark.parametrize("n", [1, 2, 5, 1024, np.int64(3), np.array(4)])
def test_set_num_threads(n, threads):
    assert bn.set_num_threads(n) is None
    assert bn.get_num_threads() == int(n)
    assert type(bn.get_num_threads()) is int
    assert bn.show_config()["num_threads"] == int(n)


@pytest.mark.parametrize("n", [0, -1, 1025, 2**31, 2**70, -(2**70)])
def test_threads_out_of_range(n, threads):
    bn.set_num_threads(2)
    with pytest.raises(ValueError, match=rf"^n must be from 1 to 1024 threads, got {n}$"):
        bn.set_num_threads(n)
    assert bn.get_num_threads() == 2


@pytest.mark.parametrize("n", [2.0, "2", None, True, [2], 2j])
def test_threads_of_another_type(n, threads):
    bn.set_num_threads(2)
    with pytest.raises(TypeError, match=r"^n must be an integer, got "):
        bn.set_num_threads(n)
    assert bn.get_num_threads() == 2


def test_show_config():
    config = bn.show_config()
    assert list(config) == [
        "version",
        "isa",
        "isas",
        "kernels",
        "num_threads",
        "compiler",
        "python",
        "numpy",
        "machine",
    ]
    assert json.loads(json.dumps(config)) == config
    assert config["version"] == bn.__version__
    assert config["isa"] in config["isas"]
    assert config["num_threads"] == bn.get_num_threads()
    assert (config["python"], config["numpy"]) == (platform.python_version(), np.__version__)
    assert platform.machine() in config["machine"]
    assert config["compiler"]


LAYOUTS = {
    *("planes", "rows", "joined", "strided"), *("sum", "exactsum", "exactsums", "average"),
    *("quantize", "dequantize", "planesums", "rowsums"),
}  # fmt: skip


def test_each_kernel_is_named_once():
    kernels = bn.show_config()["kernels"]
    assert len(set(kernels)) == len(kernels) > 0
    for kernel in kernels:
        layout, arithmetic, isa = kernel.split(" ")
        assert layout in LAYOUTS
        assert arithmetic in {"table", "fp32", "fp64", "integer32", "words16", "bytes"}
        assert isa in ISAS


def test_show_config_is_a_copy():
    bn.show_config()["isas"].clear()
    bn.show_config().clear()
    assert bn.show_config()["isas"] == ISAS


# --- names, documentation, types ------------------------------------------------------------------------------

# What other programs are written against: a name more is a decision, a name less a broken promise.
PUBLIC_NAMES = {
    "bytenorm": """
        BatchNorm DType IntegerBatchNorm QScheme QuantizedTensor __version__ add_batch_norm
        concat_batch_norm dequantize get_num_threads per_channel_affine per_tensor_affine qint8
        quantize_per_channel quantize_per_tensor quantize_per_tensor_dynamic quantized_batch_norm quint8
        requantize set_num_threads show_config
    """,
    "bytenorm.calibration": """
        ChannelStatistics OutputQParams choose_output_qparams reestimate
    """,
    "bytenorm.dask": """
        batch_norm statistics
    """,
    "bytenorm.onnx": """
        BatchNormInfo Comparison Dataset ImageInput Inspection LoweringWarning Outcome OutputComparison Profile
        QuantizationReport QuantizationWarning SaturationWarning Timing compare custom_op_library
        digits_model inspect load_model lower lower_with_report measure open_data prepare profile quantize
        quantize_with_report random_feeds register restore save_model session session_options sums_saturate
    """,
    "bytenorm.report": """
        NormReport Report gather page
    """,
    "bytenorm.torch": """
        BNReLU1d BNReLU2d BNReLU3d BatchNorm1d BatchNorm2d BatchNorm3d BatchNormQuantizer LoweringWarning
        Outcome QuantizationReport batch_norm fold_forward from_legacy load_legacy lower lower_with_report migrate
        quantize quantize_with_report quantized_batch_norm recalibrate to_integers to_legacy to_onnx
    """,
}
PUBLIC_MODULES = {"calibration", "cli", "dask", "onnx", "reference", "report", "torch"}


@pytest.mark.parametrize("part", PUBLIC_NAMES)
def test_public_names(part):
    module = importlib.import_module(part)
    assert list(module.__all__) == PUBLIC_NAMES[part].split()
    assert sorted(module.__all__) == list(module.__all__)
    shown = {
        name for name in dir(module) if not name.startswith("_") and not inspect.ismodule(getattr(module, name))
    }
    assert shown == set(module.__all__) - {"__version__"}


def test_modules_of_the_core_are_private():
    names = {module.name for module in pkgutil.iter_modules(bn.__path__)}
    assert {name for name in names if not name.startswith("_")} == PUBLIC_MODULES


DOCUMENTED = [name for name in bn.__all__ if callable(getattr(bn, name))]
PARTS = ["bytenorm", *(f"bytenorm.{part}" for part in ("calibration", "dask", "onnx", "report", "torch"))]
SECTION = re.compile(r"^([A-Z]\w+)\n-+\n(.*?)(?=\n\n[A-Z]\w+\n-+\n|\Z)", re.MULTILINE | re.DOTALL)


def public_names():
    """Return the public functions, classes, methods and properties by their full names, but for those of _core."""
    found = {}
    for part in map(importlib.import_module, PARTS):
        for thing in filter(callable, (getattr(part, name) for name in part.__all__)):
            found[f"{thing.__module__}.{thing.__qualname__}"] = thing
            for kind in getattr(thing, "__mro__", ()):
                if kind.__module__.startswith("bytenorm.") and kind is not _core.Tensor:
                    for name, member in vars(kind).items():
                        if not name.startswith("_") or name == "__call__":
                            method = getattr(member, "__func__", member)
                            if isinstance(method, property) or inspect.isfunction(method):
                                found[f"{kind.__module__}.{kind.__qualname__}.{name}"] = method
    return found


PUBLIC = public_names()
WITH_EXAMPLES = {name: thing for name, thing in PUBLIC.items() if not isinstance(thing, property)}


def test_public_names_are_found():
    """Of each kind one: a function, a method, one of a base class, a property, a class of another part."""
    assert PUBLIC.keys() > {
        "bytenorm._tensors.quantize.requantize",
        "bytenorm._tensors.tensor.QuantizedTensor.q_scale",
        "bytenorm.torch.eager.quantized_norm.QuantizedNorm.from_float",
        "bytenorm._norms.integer_batch_norm.IntegerBatchNorm.unproved",
        "bytenorm.report.results.NormReport",
    }


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name):
    """A sentence; and but for properties an example, every parameter and what comes back."""
    thing = PUBLIC[name]
    documentation = inspect.getdoc(thing)
    assert documentation
    first = documentation.splitlines()[0]
    assert first.endswith(".")
    assert len(first) < 115
    if isinstance(thing, property):
        return
    sections = dict(SECTION.findall(documentation))
    assert sections["Examples"].startswith(">>> ")
    # Who copies an example imports public modules alone.
    assert set(re.findall(r"\bbytenorm\.\w+(?:\.\w+)*(?= import )", sections["Examples"])) <= set(PARTS)
    # Results, which users are given and do not make, have attributes in place of parameters.
    parameters = sections.get("Parameters", "") + "\n" + sections.get("Attributes", "")
    names = set(re.findall(r"\w+", " ".join(re.findall(r"^[^ \n].*", parameters, re.MULTILINE))))
    exception = isinstance(thing, type) and issubclass(thing, Warning)
    signature = inspect.signature(object if exception else thing)
    assert [each for each in signature.parameters if each not in {"self", "cls", *names}] == []
    returns = isinstance(thing, type) or signature.return_annotation in (None, "None", inspect.Signature.empty)
    assert returns or "Returns" in sections


@pytest.mark.parametrize("name", [name for name in MODULES if name != "bytenorm._core"])
def test_every_module_says_what_it_is_for(name):
    assert importlib.import_module(name).__doc__.strip()


@pytest.mark.parametrize("name", ["bytenorm", *MODULES])
def test_doctests(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_doctests_are_found():
    modules = [importlib.import_module(name) for name in MODULES]
    found = [test for module in modules for test in doctest.DocTestFinder().find(module) if test.examples]
    assert WITH_EXAMPLES.keys() - {test.name for test in found} == set()


def test_version():
    assert importlib.metadata.version("bytenorm") == bn.__version__


def test_only_numpy_is_required():
    required = importlib.metadata.requires("bytenorm")
    assert [line for line in required if "extra ==" not in line] == ["numpy>=1.26"]


@pytest.mark.parametrize("name", ["py.typed", "_core.pyi"])
def test_types_are_shipped(name):
    assert importlib.resources.files("bytenorm").joinpath(name).is_file()


def test_the_stub_of_the_native_module_is_complete():
    stub = importlib.resources.files("bytenorm").joinpath("_core.pyi").read_text()
    missing = [name for name in vars(_core) if not name.startswith("_") and name not in stub]
    assert missing == []


REQUIRED = inspect.signature(bn.quantized_batch_norm).parameters["mean"].default
OPERATOR = {
    "input": inspect.Parameter.empty,
    "weight": None,
    "bias": None,
    "mean": REQUIRED,
    "var": REQUIRED,
    "eps": REQUIRED,
    "output_scale": REQUIRED,
    "output_zero_point": REQUIRED,
}
OPTIONS = {"axis": 1, "output_dtype": None, "relu": False, "out": None}


def test_signature_of_the_operator():
    parameters = inspect.signature(bn.quantized_batch_norm).parameters
    assert {name: p.default for name, p in parameters.items()} == {**OPERATOR, **OPTIONS}
    assert list(parameters) == [*OPERATOR, *OPTIONS]
    assert all(parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for name in OPERATOR)
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in OPTIONS)
    assert REQUIRED not in (None, inspect.Parameter.empty)


def test_signature_of_the_prepared_operator():
    parameters = dict(inspect.signature(bn.BatchNorm).parameters)
    empty = inspect.Parameter.empty
    first = {"weight": empty, "bias": empty, "mean": empty, "var": empty}
    rest = {"eps": 1e-5, "output_scale": empty, "output_zero_point": empty, **OPTIONS}
    del rest["out"]
    assert {name: p.default for name, p in parameters.items()} == {**first, **rest}
    assert all(parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for name in first)
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in rest)
    call = inspect.signature(bn.BatchNorm.__call__).parameters
    assert {name: p.default for name, p in call.items()} == {"self": empty, "input": empty, "out": None}


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (bn.quantize_per_tensor, ["input", "scale", "zero_point", "dtype", "rounding"]),
        (bn.quantize_per_tensor_dynamic, ["input", "dtype", "reduce_range", "rounding"]),
        (bn.quantize_per_channel, ["input", "scales", "zero_points", "axis", "dtype", "rounding"]),
        (bn.dequantize, ["q"]),
        (bn.add_batch_norm, ["a", "b", "norm", "sum_scale", "sum_zero_point", "exact_sum", "out", "sum_out"]),
        (bn.concat_batch_norm, ["pieces", "norm", "out"]),
        (bn.requantize, ["q", "scale", "zero_point", "dtype"]),
        (bn.QuantizedTensor, ["data", "scale", "zero_point", "axis"]),
        (bn.set_num_threads, ["n"]),
        (bn.get_num_threads, []),
        (bn.show_config, []),
    ],
)
def test_signatures(function, parameters):
    assert list(inspect.signature(function).parameters) == parameters


def test_public_objects_say_where_they_live():
    for name in DOCUMENTED:
        assert getattr(bn, name).__module__.partition(".")[0] == "bytenorm"
        assert getattr(bn, name).__name__ == name


def test_the_stub_names_what_the_native_module_has():
    stub = ast.parse((Path(bn.__file__).parent / "_core.pyi").read_text())
    named = {node.name for node in stub.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    named |= {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)}
    assert named == {name for name in dir(_core) if not name.startswith("__")}


@pytest.mark.parametrize("variable", ["BYTENORM_ISA", "BYTENORM_NUM_THREADS"])
def test_the_command_says_in_a_line_which_variable_is_wrong(run_python, variable):
    code = "import sys; sys.argv = ['bin/bytenorm', '--version']; import bytenorm.cli"
    for done in (run_python(code, **{variable: "foo"}), run_python("", "-m", "bytenorm", **{variable: "foo"})):
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith(f"bytenorm: error: {variable}='foo' ")


def test_the_oldest_versions_that_are_tried_are_those_that_are_declared():
    root = Path(__file__).resolve().parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = dict(text.split(">=") for text in project["dependencies"] + extras["onnx"] + extras["dask"])
    lines = (root / "tests" / "oldest" / "requirements.txt").read_text().splitlines()
    tried = dict(line.split("==") for line in lines if "==" in line)
    assert tried.keys() == declared.keys()
    for name, version in declared.items():
        assert f"{tried[name]}.".startswith(f"{version}.")
