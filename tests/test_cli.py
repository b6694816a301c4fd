"""The command: what it prints, its exit codes, and that nothing is left half-written."""

import fcntl
import json
import logging
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import types
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime import quantization as ort_quantization
from PIL import Image

from bytenorm import __version__
from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.cli.console import as_size, for_json
from bytenorm.onnx.measurement import inspection
from bytenorm.onnx.quantization import comparing

DIGITS = bno.digits_model()
COMMANDS = ("inspect", "quantize", "lower", "prepare", "restore", "compare", "bench", "report")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TIMINGS = {"median_ms", "q1_ms", "q3_ms", "fastest_ms"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with data and with models: 8-bit ones of the command, and one that is only quantized."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(7)
    np.savez(folder / "data.npz", image=rng.random((6, 1, 28, 28), dtype=np.float32))
    assert main(["quantize", DIGITS, "--data", f"{folder}/data.npz", "-o", f"{folder}/portable.onnx"]) == 0
    (folder / "stock.onnx").write_bytes(
        parsed(
            """g (uint8[N, 2, 4, 4] x) => (uint8[N, 2, 4, 4] y, float[N, 2, 4, 4] seen)
            <float s = {0.1}, uint8 z = {128}, float[2] w = {1.0, 0.5}, float[2] b = {0.0, 1.0}> {
                a = DequantizeLinear (x, s, z)
                first = BatchNormalization (a, w, b, b, w)
                c = QuantizeLinear (first, s, z)
                d = DequantizeLinear (c, s, z)
                seen = BatchNormalization (d, w, b, b, w)
                y = QuantizeLinear (seen, s, z)
            }"""
        )
    )
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """Work in an empty folder, beside copies of nothing; temporary files go to a folder that is looked at."""
    temporary = tmp_path / "temporary"
    work = tmp_path / "work"
    temporary.mkdir()
    work.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(work)
    yield work
    assert list(temporary.iterdir()) == []


def words(line, **names):
    """Split a command first: the paths that are put in may hold spaces."""
    return [word.format(**names) for word in line.split()]


def parsed(text):
    return onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> {text}').SerializeToString()


@pytest.fixture
def run(capsys):
    """Run the command in this process and return its exit code, stdout and stderr."""

    def call(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        return code, out, err

    return call


@pytest.fixture
def output(run):
    """Run the command, which has to work, and return its stdout."""

    def call(*arguments):
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        return out

    return call


@pytest.fixture
def complaint(run):
    """Run the command, which has to refuse, and return what it says."""

    def call(*arguments):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("bytenorm: error: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert "Traceback" not in err
        return err.removeprefix("bytenorm: error: ").rstrip("\n")

    return call


def as_json(text):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    assert text.startswith("{")
    assert text.endswith("}\n")
    return json.loads(text, parse_constant=refuse)


def documented(capsys, command):
    """Return the words that the help uses for the keys of --json."""
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    return set(re.findall(r"\w+", text[text.index("\n--json:\n") : text.index("\nexamples:\n")]))


def keys_of(value):
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


# --- help and usage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_options_and_examples(command, capsys):
    assert main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"usage: bytenorm {command} ")
    assert f"\nexamples:\n  bytenorm {command} " in out
    assert "--json" in out
    assert max(map(len, out.splitlines())) < 80


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_the_help_can_be_parsed(command, capsys):
    main([command, "--help"])
    examples = capsys.readouterr().out.partition("\nexamples:\n")[2].replace("\\\n", "")
    for line in examples.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "bytenorm"
        code = main([a.replace("model", "no-such-model").replace("stock", "no-such") for a in arguments])
        assert code == 2
        assert "(see bytenorm" not in capsys.readouterr().err  # it is not the usage that is wrong


def test_help_lists_the_commands(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n    {command} " in out
        assert f"\n  bytenorm {command} " in out
    assert "130 interrupted" in out


def test_nothing_is_answered_by_help(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: bytenorm ")


def test_version(output):
    assert output("--version") == f"bytenorm {__version__}\n"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("frobnicate", "invalid choice: 'frobnicate': inspect, quantize, "),
        ("quantise m --data d -o o", "invalid choice: 'quantise': did you mean quantize? (see bytenorm --help)"),
        ("help", "invalid choice: 'help': did you mean --help? (see bytenorm --help)"),
        ("lower m -o o --lowering exct", "argument --lowering: invalid choice: 'exct': did you mean exact?"),
        ("--frob inspect m", "unrecognized arguments: --frob (see bytenorm --help)"),
        ("--json inspect m", "--json goes behind the command, as in bytenorm inspect ... --json"),
        ("inspect m --version", "--version goes in front of the command (see bytenorm inspect --help)"),
        ("inspect", "required: MODEL (see bytenorm inspect --help)"),
        ("inspect a b", "unrecognized arguments: b (see bytenorm inspect --help)"),
        ("inspect a --verbose", "unrecognized arguments: --verbose"),
        ("inspect a --js", "--js: did you mean --json? (see bytenorm inspect --help)"),
        ("quantize m --dta d -o o", "--dta: did you mean --data? (see bytenorm quantize --help)"),
        ("quantize m --data=d --norm=mse -o o", "--norm: did you mean --norm-method?"),
        ("compare a b --limt 3", "--limt: did you mean --limit?"),
        ("lower m -output o", "-output: did you mean --output?"),
        ("statistics --data d --scale 1 --zero-point 0 -o o --schedule x", "did you mean --scheduler?"),
        ("inspect -", "MODEL must be a path, got '-': standard input is not read"),
        ("quantize m --data - -o o", "--data must be a path, got '-'"),
        ("lower m -o -", "-o/--output must be a path, got '-'"),
        ("compare a - --data d", "B must be a path, got '-'"),
        ("bench a -", "MODEL must be a path, got '-'"),
        ("report m --data d --float - -o o", "--float must be a path, got '-'"),
        (
            "quantize a --data b -o c --fail-below nan",
            "argument --fail-below: must be a number of decibels, got 'nan'",
        ),
        ("quantize a --data b -o c --fail-below x", "--fail-below: must be a number of decibels, got 'x'"),
        ("quantize m -o o", "required: --data"),
        ("quantize m --data d", "required: -o/--output"),
        ("quantize m --data d -o o --lowering fast", "argument --lowering: invalid choice: 'fast'"),
        ("quantize m --data d -o o --format qdq", "argument --format: invalid choice: 'qdq': did you mean QDQ?"),
        ("quantize m --data d -o o --activations int4", "argument --activations: invalid choice: 'int4'"),
        ("quantize m --data d -o o --weights float", "argument --weights: invalid choice: 'float'"),
        (
            "quantize m --data d -o o --calibrate-method mean",
            "argument --calibrate-method: invalid choice: 'mean'",
        ),
        ("quantize m --data d -o o --norm-method best", "argument --norm-method: invalid choice: 'best'"),
        ("quantize m --data d -o o --limit many", "argument --limit: invalid int value: 'many'"),
        ("quantize m --data d -o o --mean red", "argument --mean: invalid float value: 'red'"),
        ("quantize m --data d -o o --exclude", "argument --exclude: expected one argument"),
        ("lower m", "required: -o/--output"),
        ("lower m -o o --data d", "unrecognized arguments: --data (see bytenorm lower --help)"),
        ("compare a --data d", "required: B"),
        ("compare a b", "required: --data"),
        ("bench", "required: MODEL"),
        ("bench a --repeats 3 --seconds 1", "argument --seconds: not allowed with argument --repeats"),
    ],
)
def test_usage_that_is_wrong(line, wanted, complaint):
    assert wanted in complaint(*line.split())


def test_json_and_sizes():
    value = {"a": [float("inf"), float("-inf"), float("nan"), 1.5], "b": ({"c": float("nan")}, "x", None, True)}
    assert for_json(value) == {"a": [None, None, None, 1.5], "b": [{"c": None}, "x", None, True]}
    sizes = [0, 999, 1000, 95_403, 276_986, 999_499, 1_000_000, 8_691_665, 25_000_000_000, 10**13]
    assert [as_size(n) for n in sizes] == [
        *("0 B", "999 B", "1 kB", "95.4 kB", "277 kB", "999 kB", "1 MB", "8.69 MB", "25 GB", "10000 GB"),
    ]


def test_completion(run, monkeypatch):
    """The script is shtab's; it is told which arguments are files."""
    seen = {}

    def complete(parser, shell):
        seen.update(parser=parser, shell=shell)
        return "the script\n"

    monkeypatch.setitem(sys.modules, "shtab", types.SimpleNamespace(FILE="a file", complete=complete))
    assert run("--print-completion", "bash") == (0, "the script\n", "")
    (commands,) = (action.choices for action in seen["parser"]._actions if action.dest == "command")
    files = {
        (name, action.dest)
        for name, command in commands.items()
        for action in command._actions
        if getattr(action, "complete", None) == "a file"
    }
    assert files >= {("inspect", "model"), ("bench", "models"), ("compare", "candidate"), ("statistics", "data")}
    assert {name for name, dest in files if dest == "output"} == {
        *("quantize", "lower", "prepare", "restore", "statistics", "report")
    }
    assert ("quantize", "limit") not in files
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, out, err = run("--print-completion", "zsh")
    assert (code, out) == (2, "")
    assert err == 'bytenorm: error: completion needs shtab: pip install "bytenorm[completion]"\n'


# --- inspect ----------------------------------------------------------------------------------------------------


def test_inspect_a_float_model(output):
    lines = output("inspect", DIGITS).splitlines()
    assert lines[0].startswith(f"{DIGITS}: float, ")
    assert lines[-1] == "12 batch norms: 12 in float, 0 in 8 bits; 3 can be folded"
    assert lines[1].split("  ")[0] == "norm"
    assert lines[-2] == "folded: the layer's weights take the norm up, which costs nothing then"
    assert len(lines) == 4 + 12
    (row,) = (line for line in lines if line.startswith("stem/norm "))
    assert re.split(r" {2,}", row) == [
        "stem/norm",
        "24",
        "BatchNormalization + Relu",
        "Conv stem/conv",
        "yes",
    ]


def test_inspect_quantized_models(made, output):
    out = output("inspect", made / "portable.onnx")
    assert "9 batch norms: 0 in float, 9 in 8 bits" in out
    assert len(re.findall(r" 8 bits +-\n", out)) == 9
    out = output("inspect", made / "stock.onnx")
    assert re.search(r"^first +2 .* float, can be lowered +no: it reads the input x$", out, re.MULTILINE)
    assert re.search(r"^seen +2 .* float: its output is also read in float", out, re.MULTILINE)


def test_inspect_as_json(made, output, capsys):
    found = as_json(output("inspect", made / "stock.onnx", "--json"))
    assert found == {
        "model": str(made / "stock.onnx"),
        "in_float": 2,
        "in_8_bits": 0,
        "foldable": 0,
    } | bno.inspect(made / "stock.onnx").to_dict() | {"norms": found["norms"]}
    assert found["norms"] == [dict(norm.__dict__) for norm in bno.inspect(made / "stock.onnx").norms]
    assert keys_of(found) <= documented(capsys, "inspect")


def test_a_model_without_norms(place, output):
    Path("plain.onnx").write_bytes(parsed("g (float[2] x) => (float[2] y) { y = Relu (x) }"))
    assert output("inspect", "plain.onnx").splitlines()[1:] == ["no batch norm found"]
    assert as_json(output("inspect", "plain.onnx", "--json"))["norms"] == []


def test_names_cannot_reach_the_terminal(place, output):
    model = onnx.load_model(DIGITS)
    model.graph.node[0].name = "red\x1b[31m\nnext [bold]line"
    Path("odd.onnx").write_bytes(model.SerializeToString())
    out = output("inspect", "odd.onnx")
    assert r"red\x1b[31m next [bold]line" in out
    assert len(out.splitlines()) == 16
    assert as_json(output("inspect", "odd.onnx", "--json"))["norms"][0]["name"] == model.graph.node[0].name


# --- quantize ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ("", {}),
        ("--lowering exact --limit 4", {"lowering": "exact", "limit": 4}),
        (
            "--format QOperator --activations uint8 --weights uint8 --per-tensor",
            {
                "quant_format": "QOperator",
                "activation_type": "uint8",
                "weight_type": "uint8",
                "per_channel": False,
            },
        ),
        (
            "--norm-method mse --data-statistics --limit 6",
            {"method": "mse", "data_statistics": True, "limit": 6},
        ),
        ("--calibrate-method percentile --reduce-range", {"calibrate_method": "percentile", "reduce_range": True}),
        (
            "--calibrate-method entropy --activations int8",
            {"calibrate_method": "entropy", "activation_type": "int8"},
        ),
        ("--exclude stem/conv --exclude residual1/conv1", {"nodes_to_exclude": ["stem/conv", "residual1/conv1"]}),
    ],
)
def test_quantize_writes_what_the_library_makes(arguments, options, made, place, output):
    out = output("quantize", DIGITS, "--data", made / "data.npz", "-o", "made.onnx", *arguments.split())
    with warnings.catch_warnings():
        # Statistics of noise are not those of digits.
        warnings.simplefilter("ignore" if "data_statistics" in options else "error", bno.QuantizationWarning)
        wanted = bno.quantize(DIGITS, made / "data.npz", **options)
    assert onnx.load_model("made.onnx") == wanted
    assert [path.name for path in place.iterdir()] == ["made.onnx"]
    how = rf"{options.get('quant_format', 'QDQ')} format, lowering {options.get('lowering', 'portable')}: [\w' ]+"
    assert re.search(rf"^written to made\.onnx \({how}\)$", out, re.MULTILINE)
    assert out.endswith(f"\nnext: bytenorm compare {DIGITS} made.onnx --data HELD-OUT\n")
    assert re.search(r"^logits +\d", out, re.MULTILINE)


def test_quantize_tells_what_became_of_each_norm(made, place, output):
    out = output("quantize", DIGITS, "--data", made / "data.npz", "-o", "made.onnx")
    assert re.search(r"^stem/norm +24  folded into Conv stem/conv$", out, re.MULTILINE)
    assert re.search(r"^input/norm +1  runs in 8 bits$", out, re.MULTILINE)
    assert "\n12 batch norms: 3 folded, 9 in 8 bits, 0 left in float\n" in out
    assert "\nsize: 277 kB before, " in out
    out = output(
        "quantize", DIGITS, "--data", made / "data.npz", "-o", "made.onnx", "--force", "--exclude", "input/norm"
    )
    assert re.search(r"^input/norm +1  stays in float: it is excluded$", out, re.MULTILINE)
    assert "\n12 batch norms: 3 folded, 8 in 8 bits, 1 left in float\n" in out


def test_quantize_as_json(made, place, output, capsys):
    arguments = ["quantize", DIGITS, "--data", made / "data.npz", "-o", "made.onnx", "--limit", 5, "--json"]
    found = as_json(output(*arguments))
    assert found["model"] == DIGITS
    assert found["output"] == "made.onnx"
    assert found["samples"] == found["comparison"]["samples"] == 5
    assert found["size_before"] == Path(DIGITS).stat().st_size
    assert found["size_after"] == Path("made.onnx").stat().st_size
    assert (found["folded"], found["in_8_bits"], found["in_float"]) == (3, 9, 0)
    assert [norm["name"] for norm in found["norms"]] == [norm.name for norm in bno.inspect(DIGITS).norms]
    assert found["norms"][1] == {
        "name": "stem/norm",
        "channels": 24,
        "became": "folded",
        "folds_into": "Conv stem/conv",
        "problem": "",
        "pattern": "",
        "unfused": "",
    }
    assert found["few"].startswith("5 samples calibrated the model, and a comparison on the same tells little")
    assert found["calibrate_method"] == "minmax"
    compared = bno.compare(DIGITS, "made.onnx", made / "data.npz", limit=5)
    assert found["comparison"]["outputs"][0]["snr_db"] == pytest.approx(compared.outputs[0].snr_db)
    named = documented(capsys, "quantize") | documented(capsys, "compare")
    assert keys_of(found) <= named


@pytest.mark.thorough
def test_quantize_tells_what_norms_got_from_the_data(made, place, output, capsys):
    arguments = ["quantize", DIGITS, "--data", made / "data.npz", "-o", "made.onnx", "--limit", 5]
    arguments += ["--norm-method", "mse", "--data-statistics"]
    out = output(*arguments)
    number = r"[\d.e-]+"
    assert re.search(rf"^input/norm +{number} +\d+ +{number} +{number} +re-estimated$", out, re.MULTILINE)
    found = as_json(output(*arguments, "--force", "--json"))
    assert (found["norm_method"], found["data_statistics"], found["calibrate_method"]) == ("mse", True, "minmax")
    assert len(found["recalibrated"]) == found["in_8_bits"] == 9
    first = found["recalibrated"][0]
    assert (first["name"], first["method"], first["reestimated"]) == ("input/norm", "mse", True)
    assert keys_of(found) <= documented(capsys, "quantize") | documented(capsys, "compare")
    out = output("quantize", DIGITS, "--data", made / "data.npz", "-o", "other.onnx", "--data-statistics")
    assert re.search(rf"^input/norm +{number} +\d+ +- +- +re-estimated$", out, re.MULTILINE)


def test_images_become_what_the_options_say(place, output, rng):
    Path("pictures").mkdir()
    pixels = rng.integers(0, 256, (3, 28, 28), np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(f"pictures/{i}.png")
    output("quantize", DIGITS, "--data", "pictures", "--mean", 30, "--std", 60, "--rescale", 1, "-o", "made.onnx")
    images = bno.ImageInput(mean=(30,), std=(60,), rescale=1)
    assert onnx.load_model("made.onnx") == bno.quantize(DIGITS, "pictures", images=images)


# --- lower ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lowering", ["portable", "exact", "fused"])
def test_lower_writes_what_the_library_makes(lowering, made, place, output):
    out = output("lower", made / "stock.onnx", "-o", "made.onnx", "--lowering", lowering)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bno.LoweringWarning)
        assert onnx.load_model("made.onnx") == bno.lower(made / "stock.onnx", lowering=lowering)
    alone = ", single: it reads the input x" if lowering == "fused" else ""
    assert re.search(rf"^first +2  runs in 8 bits{alone}$", out, re.MULTILINE)
    assert re.search(r"^seen +2  stays in float: its output is also read in float", out, re.MULTILINE)
    assert "\n2 batch norms: 0 folded, 1 in 8 bits, 1 left in float\n" in out
    assert ("\nsingle: an operator for the norm alone" in out) == (lowering == "fused")
    assert "\nwritten to made.onnx\n" in out
    assert out.endswith(f"\nnext: bytenorm bench {made}/stock.onnx made.onnx\n")


def test_lower_says_that_it_found_nothing_to_do(place, output):
    Path("plain.onnx").write_bytes(
        parsed(
            """g (uint8[N, 2] x) => (float[N, 2] y) <float s = {0.1}, uint8 z = {128}>
            { y = DequantizeLinear (x, s, z) }"""
        )
    )
    out = output("lower", "plain.onnx", "-o", "made.onnx")
    assert "\nno batch norm found\n" in out
    assert out.endswith(
        "\nnothing was lowered: no norm could go into 8 bits, and the model computes what it did\n"
    )
    assert "next:" not in out


def test_lower_as_json(made, place, output, capsys):
    found = as_json(output("lower", made / "stock.onnx", "-o", "made.onnx", "--json"))
    assert (found["in_8_bits"], found["in_float"], found["lowering"]) == (1, 1, "portable")
    assert found["size_after"] == Path("made.onnx").stat().st_size
    assert [norm["became"] for norm in found["norms"]] == ["8-bit", "float"]
    assert found["norms"][1]["problem"].startswith("its output is also read in float")
    assert keys_of(found) <= documented(capsys, "lower")


# --- compare ----------------------------------------------------------------------------------------------------


def test_compare_prints_the_librarys_table(made, output):
    out = output("compare", DIGITS, made / "portable.onnx", "--data", made / "data.npz")
    assert str(bno.compare(DIGITS, made / "portable.onnx", made / "data.npz")) in out
    assert "\non 6 samples\n" in out
    out = output("compare", DIGITS, made / "portable.onnx", "--data", made / "data.npz", "--limit", 1)
    assert "\non 1 sample\n" in out


def test_compare_as_json(made, output, capsys):
    found = as_json(output("compare", DIGITS, DIGITS, "--data", made / "data.npz", "--json"))
    assert found == {
        "reference": DIGITS,
        "candidate": DIGITS,
        "reference_saturates": False,
        "candidate_saturates": False,
        "samples": 6,
        "skipped": [],
        "outputs": [
            {
                "name": "logits",
                "snr_db": None,
                "cosine": 1.0,
                "top1_agreement": 1.0,
                "max_abs_error": 0.0,
                "worst_sample": 0,
                "worst_sample_snr_db": None,
                "problem": "",
                "broken": False,
            }
        ],
    }
    assert keys_of(found) <= documented(capsys, "compare")


# --- bench ------------------------------------------------------------------------------------------------------


def test_bench_prints_a_row_for_each_model(made, output):
    portable = made / "portable.onnx"
    lines = output("bench", DIGITS, portable, portable, "--repeats", 2).splitlines()
    assert re.split(r" {2,}", lines[0].strip()) == [
        "model",
        "median ms",
        "quartiles",
        "speed",
        "norms ms",
        "of all",
        "Transposes",
    ]
    assert [line.partition("  ")[0] for line in lines[1:4]] == [DIGITS, str(portable), f"{portable} (2)"]
    assert " 1.00x " in lines[1]
    assert lines[4].startswith("1 thread, batch 1, random inputs, 2 runs each")
    assert onnxruntime.__version__ in lines[4]


def test_bench_says_when_its_figures_are_not_to_be_quoted(output, monkeypatch):
    from bytenorm.cli.commands import bench

    text = "are too wide to be quoted: give more --seconds"
    for wide, said in ((-1.0, True), (1e9, False)):
        monkeypatch.setattr(bench, "WIDE", wide)
        assert (text in output("bench", DIGITS, "--repeats", 1)) == said


def test_bench_as_json(made, output, capsys):
    found = as_json(output("bench", DIGITS, made / "portable.onnx", "--repeats", 3, "--json"))
    assert (found["threads"], found["batch"], found["data"]) == (1, 1, None)
    first, second = found["models"]
    assert (first["model"], second["model"]) == (DIGITS, str(made / "portable.onnx"))
    assert first["speed"] == 1.0
    assert second["speed"] == pytest.approx(first["median_ms"] / second["median_ms"])
    assert all(model["runs"] == 3 and all(model[name] > 0 for name in TIMINGS) for model in found["models"])
    assert [model["profile"]["norms"] for model in found["models"]] == [9, 9]
    assert second["profile"]["transposes"] <= 4
    operators = {op for model in found["models"] for op in model["profile"]["by_op"]}
    assert "QLinearConv" in operators
    assert keys_of(found) - operators <= documented(capsys, "bench")


def test_bench_on_data(made, output):
    arguments = ["bench", made / "portable.onnx", "--data", made / "data.npz", "--repeats", 1]
    assert f"batch 4, {made}/data.npz, 1 runs each" in output(*arguments, "--batch", 4)
    found = as_json(output(*arguments, "--json"))
    assert (found["batch"], found["data"]) == (1, [str(made / "data.npz")])
    assert as_json(output("bench", DIGITS, "--seconds", 1e-6, "--json"))["models"][0]["runs"] == 5


def test_bench_on_images_makes_batches_of_them(place, output, complaint):
    Path("pictures").mkdir()
    for i, size in enumerate([28, 28, 40]):
        Image.new("L", (size, size), 90 * i).save(f"pictures/{i}.png")
    arguments = ["bench", "--data", "pictures", "--repeats", 1]
    assert "batch 3, pictures" in output(*arguments, DIGITS, "--batch", 3)
    text = "g (float[N, 1, H, W] x) => (float[N, 1, H, W] y) { y = Relu (x) }"
    Path("open.onnx").write_bytes(parsed(text))
    assert "batch 2, pictures" in output(*arguments, "open.onnx", "--batch", 2)
    assert complaint(*arguments, "open.onnx", "--batch", 3) == (
        "--data 'pictures' has samples of several shapes for 'x': (1, 28, 28), (1, 40, 40)"
    )


def test_images_in_colour_for_one_channel(place, made, output, rng):
    colours = rng.integers(0, 256, (28, 28, 3), np.uint8)
    Path("grey").mkdir()
    Image.fromarray(colours).save("colour.png")
    Image.fromarray(colours[..., 0]).save("grey/a.png")
    said = "images in colour are made grey: input 'image' of the model has one channel"
    models = (DIGITS, made / "portable.onnx")
    assert output("compare", *models, "--data", "colour.png").splitlines()[0] == said
    assert said not in output("compare", *models, "--data", "grey")


def test_several_paths_and_folders_by_class(place, made, output, complaint):
    """And the models may stand behind them, as behind one path."""
    rng = np.random.default_rng(3)
    for name in ("pictures/cat/a.png", "pictures/dog/b.png", "more/c.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8)).save(name)
    for name in ("pictures/labels.csv", "pictures/dog/.hidden", "more/x.txt", "more/y.txt", "more/z.txt"):
        Path(name).write_text("foreign")
    skipped = "skipped, of no known kind: 'pictures/labels.csv', 'more/x.txt', 'more/y.txt' and 1 more"
    for line in (
        "compare {digits} {made}/portable.onnx --data pictures more",
        "compare --data pictures more {digits} {made}/portable.onnx",
        "compare {digits} --data pictures more {made}/portable.onnx",
        "compare --data pictures {digits} {made}/portable.onnx --data more/*",
    ):
        arguments = words(line, digits=DIGITS, made=made)
        lines = output(*arguments).splitlines()
        assert (lines[0], lines[-1]) == (skipped, "on 3 samples")
        found = as_json(output(*arguments, "--json"))
        assert len(found["skipped"]) == 4
        assert found["samples"] == 3
    found = as_json(output("bench", DIGITS, "--data", "pictures/*/*.png", "--repeats", 1, "--json"))
    assert (found["data"], found["skipped"]) == (["pictures/*/*.png"], [])
    report = ("report", made / "portable.onnx", "--data", "more/c.png", "pictures", "-o", "page.html", "--json")
    assert as_json(output(*report))["samples"] == 3
    assert "more/c.png, pictures" in Path("page.html").read_text()
    assert complaint("compare", DIGITS, DIGITS, "--data", "more", "more/c.png").startswith(
        "--data 'more/c.png' is named twice"
    )
    for data in ("more/*", "more", "mo*"):
        line = ("quantize", DIGITS, "--data", data, "-o", "more/c.png", "--force")
        assert complaint(*line) == "output 'more/c.png' is a file of the data"


def test_bench_takes_the_batch_of_the_model(place, output, complaint):
    Path("four.onnx").write_bytes(parsed("g (float[4, 3] x) => (float[4, 3] y) { y = Relu (x) }"))
    assert "batch 4, random" in output("bench", "four.onnx", "--repeats", 1)
    assert complaint("bench", "four.onnx", "--batch", 2) == (
        "model 'four.onnx' takes 4 samples at a time, got --batch 2"
    )


# --- bad input --------------------------------------------------------------------------------------------------


@pytest.fixture
def bad(made, place):
    """Fill the folder with what is no model, no data and no place for output."""
    (place / "folder").mkdir()
    (place / "text.onnx").write_text("no model")
    (place / "empty.onnx").write_bytes(b"")
    (place / "truncated.onnx").write_bytes(Path(DIGITS).read_bytes()[:150_000])
    (place / "there.onnx").write_bytes(b"precious")
    (place / "link.onnx").symlink_to("nowhere/at.all")
    model = onnx.load_model(DIGITS)
    model.opset_import[0].version = 99
    (place / "opset.onnx").write_bytes(model.SerializeToString())
    model = onnx.load_model(DIGITS)
    del next(node for node in model.graph.node if node.name == "stem/norm").input[:]
    (place / "invalid.onnx").write_bytes(model.SerializeToString())
    (place / "other.onnx").write_bytes(parsed("g (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }"))
    (place / "open.onnx").write_bytes(parsed("g (float[N, 3, H] pic) => (float[N, 3, H] y) { y = Relu (pic) }"))
    samples = np.load(made / "data.npz")["image"]
    np.savez("nan.npz", image=np.where(samples > 0.5, np.float32(np.nan), samples))
    np.savez("double.npz", image=samples.astype(np.float64))
    np.savez("names.npz", picture=samples, label=samples)
    np.savez("none.npz", image=samples[:0])
    (place / "damaged.npz").write_bytes((made / "data.npz").read_bytes()[:5000])
    return place


Q = "quantize {digits} -o out.onnx --data "


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("inspect missing.onnx", "model 'missing.onnx' does not exist"),
        ("inspect folder", "model 'folder' is a folder: a file is wanted"),
        ("inspect text.onnx", "model 'text.onnx' is no ONNX model, or a damaged one"),
        ("inspect empty.onnx", "model 'empty.onnx' is empty: an ONNX model is wanted"),
        ("inspect truncated.onnx", "model 'truncated.onnx' is no ONNX model"),
        ("inspect opset.onnx", "model 'opset.onnx' has opset 99: "),
        ("inspect invalid.onnx", "model 'invalid.onnx' has a node BatchNormalization 'stem/norm' with 0 inputs"),
        (
            "quantize invalid.onnx -o out.onnx --data {data}",
            "model 'invalid.onnx' has a node BatchNormalization 'stem/norm' with 0 inputs",
        ),
        ("quantize missing.onnx -o out.onnx --data {data}", "model 'missing.onnx' does not exist"),
        ("quantize {stock} -o out.onnx --data {data}", "model '{stock}' is quantized: bytenorm lower takes those"),
        ("quantize {portable} -o out.onnx --data {data}", "model '{portable}': its norms are lowered already"),
        (
            "quantize other.onnx -o out.onnx --data {data}",
            "--data '{data}': input 'x' must fit 'x' (float32 [?, 3]), got shape",
        ),
        (Q + "missing", "--data 'missing' does not exist"),
        (Q + "folder", "--data 'folder' is a folder without files"),
        (Q + "text.onnx", "--data 'text.onnx' is of no known kind"),
        (Q + "nan.npz", "--data 'nan.npz': input 'image' holds nan at "),
        (Q + "double.npz", "--data 'double.npz': input 'image' must be float32, got float64"),
        (Q + "names.npz", "--data 'names.npz': 'image' is missing, 'picture' is unknown, 'label'"),
        (Q + "none.npz", "--data 'none.npz': input 'image' is empty"),
        (Q + "damaged.npz", "--data 'damaged.npz' cannot be read as a .npz file"),
        (Q + "{data} --limit 0", "--limit must be at least 1, got 0"),
        (Q + "{data} --mean 1", "--mean, --std or --rescale are for files of images, --data '{data}' has none"),
        (Q + "{data} --mean 1 2", "--mean must have 1 or 3 numbers, got 2"),
        (Q + "{data} --std 0", "--std must be positive and finite in float32, got 0.0"),
        (Q + "{data} --rescale nan", "--rescale must be positive and finite in float32, got nan"),
        (Q + "{data} --exclude no/such", "--exclude: the model has no node 'no/such'"),
        (
            Q + "{data} --exclude Stem/norn",
            "--exclude: the model has no node 'Stem/norn': did you mean 'stem/norm'?",
        ),
        (Q + "{data} --only-type conv", "--only-type: the quantizer knows no 'conv': did you mean 'Conv'?"),
        (Q + "{data} --only stem/conv --exclude stem/conv", "--only: 'stem/conv' is in --exclude, too"),
        (
            Q + "{data} --extra-option CalibPercentile=99.9 --calibrate-method entropy",
            "--extra-option: CalibPercentile must come with --calibrate-method percentile, got 'entropy'",
        ),
        ("lower {digits} -o out.onnx", "model '{digits}' is in float: bytenorm quantize takes those"),
        ("lower {portable} -o out.onnx", "model '{portable}': its norms are lowered already ('portable')"),
        ("compare missing {digits} --data {data}", "model 'missing' does not exist"),
        ("compare {digits} text.onnx --data {data}", "model 'text.onnx' is no ONNX model"),
        (
            "compare {digits} other.onnx --data {data}",
            "candidate 'other.onnx' must have the reference's inputs 'image'",
        ),
        ("compare {digits} {portable} --data nan.npz", "--data 'nan.npz': input 'image' holds nan at "),
        ("compare {digits} {portable} --data {data} --limit -1", "--limit must be at least 1, got -1"),
        ("bench missing", "model 'missing' does not exist"),
        ("bench {digits} text.onnx", "model 'text.onnx' is no ONNX model"),
        ("bench {digits} other.onnx", "model 'other.onnx' wants 'x' (float32 [?, 3]), the first model is fed 'im"),
        (
            "bench open.onnx",
            "model 'open.onnx': its input 'pic' (float32 [?, 3, ?]) has a size that is not known: ",
        ),
        ("bench {digits} --data {data} --batch 7", "--data '{data}' has 6 samples, a batch has 7"),
        ("bench {digits} --batch 0", "--batch must be at least 1, got 0"),
        ("bench {digits} --threads 0", "--threads must be 1 to "),
        ("bench {digits} --threads 100000", "--threads must be 1 to "),
        ("bench {digits} --seconds 0", "--seconds must be positive and finite, got 0.0"),
        ("bench {digits} --repeats 0", "--repeats must be at least 1, got 0"),
        ("bench {digits} --rescale 1", "--mean, --std or --rescale must come with --data"),
        ("bench {digits} --data double.npz", "--data 'double.npz': input 'image' must be float32, got float64"),
    ],
)
def test_bad_input_is_one_line(line, wanted, bad, made, complaint):
    names = {
        "digits": DIGITS,
        "data": made / "data.npz",
        "stock": made / "stock.onnx",
        "portable": made / "portable.onnx",
    }
    before = contents(bad)
    assert complaint(*words(line, **names)).startswith(wanted.format(**names))
    assert contents(bad) == before


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("command", ["quantize {digits} --data missing", "lower missing"])
@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ("there.onnx", "output 'there.onnx' exists: give --force to replace it"),
        ("folder", "output 'folder' is a folder and is not replaced: a file is wanted"),
        ("new/", "output 'new/' names a folder: a file is wanted"),
        (". --force", "output '.' names a folder: a file is wanted"),
        ("folder --force", "output 'folder' is a folder and is not replaced: a file is wanted"),
        ("link.onnx --force", "output 'link.onnx' is a broken link and is not replaced: a file is wanted"),
        ("no/out.onnx", "output 'no/out.onnx' cannot be written: the folder 'no' does not exist"),
        ("there.onnx/out.onnx", "output 'there.onnx/out.onnx' cannot be written: "),
        ("/proc/out.onnx", "output '/proc/out.onnx' cannot be written: "),
        ("{long}", "output '{long}' cannot be reached: File name too long"),
    ],
)
def test_the_output_is_looked_at_first(command, output, wanted, bad, complaint):
    """The model or the data is not there either: what is said shows what is looked at first."""
    names = {"digits": DIGITS, "long": 300 * "x"}
    before = contents(bad)
    assert complaint(*words(f"{command} -o {output}", **names)).startswith(wanted.format(**names))
    assert contents(bad) == before


def test_force_replaces(made, bad, output):
    output("lower", made / "stock.onnx", "-o", "there.onnx", "--force")
    assert onnx.load_model("there.onnx").graph.node


@pytest.fixture
def readable(made, bad):
    """Return names of commands' inputs, with what each may replace: what is read, by all its names."""
    model, data, folder = bad / "model.onnx", bad / "data.npz", bad / "calibration"
    model.write_bytes((made / "stock.onnx").read_bytes())
    data.write_bytes((made / "data.npz").read_bytes())
    folder.mkdir()
    (folder / "one.npz").write_bytes(data.read_bytes())
    apart = onnx.load_model(DIGITS)
    onnx.save_model(
        apart, bad / "apart.onnx", save_as_external_data=True, location="apart.onnx.data", size_threshold=0
    )
    for name, target in (("link", model), ("link.npz", data), ("linked.data", bad / "apart.onnx.data")):
        (bad / name).symlink_to(target)
    (bad / "hard").hardlink_to(model)
    (bad / "hard.npz").hardlink_to(folder / "one.npz")
    (bad / "late.data").hardlink_to(data)
    return bad


MODEL, DATA, INSIDE, TENSORS = (
    "is the model itself",
    "is the data",
    "is a file of the data",
    "is a file with tensors of the model",
)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("lower model.onnx -o model.onnx", f"output 'model.onnx' {MODEL}"),
        ("lower model.onnx -o ./folder/../model.onnx", f"output './folder/../model.onnx' {MODEL}"),
        ("lower model.onnx -o link", f"output 'link' {MODEL}"),
        ("lower link -o model.onnx", f"output 'model.onnx' {MODEL}"),
        ("lower model.onnx -o hard", f"output 'hard' {MODEL}"),
        ("quantize model.onnx --data data.npz -o model.onnx", f"output 'model.onnx' {MODEL}"),
        ("quantize model.onnx --data data.npz -o hard", f"output 'hard' {MODEL}"),
        ("quantize model.onnx --data data.npz -o ./data.npz", f"output './data.npz' {DATA}"),
        ("quantize model.onnx --data link.npz -o data.npz", f"output 'data.npz' {DATA}"),
        (
            "quantize model.onnx --data calibration -o calibration/one.npz",
            f"output 'calibration/one.npz' {INSIDE}",
        ),
        ("quantize model.onnx --data calibration -o hard.npz", f"output 'hard.npz' {INSIDE}"),
        ("quantize apart.onnx --data data.npz -o apart.onnx.data", f"output 'apart.onnx.data' {TENSORS}"),
        ("quantize apart.onnx --data data.npz -o linked.data", f"output 'linked.data' {TENSORS}"),
        ("lower apart.onnx -o linked", "output 'linked', whose tensors may go to 'linked.data', " + TENSORS),
        (
            "quantize model.onnx --data data.npz -o late",
            f"output 'late', whose tensors may go to 'late.data', {DATA}",
        ),
        ("report model.onnx --data data.npz -o link", f"output 'link' {MODEL}"),
        ("report apart.onnx --data data.npz -o apart.onnx.data", f"output 'apart.onnx.data' {TENSORS}"),
        ("report model.onnx --data calibration -o hard.npz", f"output 'hard.npz' {INSIDE}"),
    ],
)
def test_what_is_read_is_never_replaced(line, wanted, readable, complaint):
    before = contents(readable)
    assert complaint(*line.split(), "--force") == wanted
    assert complaint(*line.split()) == wanted
    assert contents(readable) == before


def test_a_file_that_appears_meanwhile_stays(made, place, complaint, monkeypatch):
    compare = comparing.compare

    def slow(*arguments, **options):
        (place / "out.onnx").write_text("somebody else's")
        return compare(*arguments, **options)

    monkeypatch.setattr(comparing, "compare", slow)
    text = complaint("quantize", DIGITS, "--data", made / "data.npz", "-o", "out.onnx")
    assert text == "output 'out.onnx' exists: give --force to replace it"
    assert (place / "out.onnx").read_text() == "somebody else's"


def test_a_full_disk_leaves_the_old_file(made, bad, complaint, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = contents(bad)
    text = complaint("lower", made / "stock.onnx", "-o", "there.onnx", "--force")
    assert text == "output 'there.onnx' cannot be written: No space left on device"
    assert contents(bad) == before


# --- interruption -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place_of",
    [
        (ort_quantization, "quantize_static"),
        (comparing, "compare"),
        (os, "fsync"),
    ],
    ids=["quantizing", "comparing", "writing"],
)
def test_an_interruption_leaves_nothing(place_of, made, bad, run, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(*place_of, interrupt)
    before = contents(bad)
    arguments = ["quantize", DIGITS, "--data", made / "data.npz", "-o", "there.onnx", "--force"]
    assert run(*arguments) == (130, "", "bytenorm: interrupted\n")
    assert contents(bad) == before


SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


@pytest.fixture
def quantizing(made, bad, run, monkeypatch):
    """Run a function in the middle of a command, which it ends; return the command's code and what it wrote."""

    def call(inside, *options):
        monkeypatch.setattr(ort_quantization, "quantize_static", lambda *_, **__: inside())
        before = contents(bad), {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
        done = run("quantize", DIGITS, "--data", made / "data.npz", "-o", "there.onnx", "--force", *options)
        assert (contents(bad), {number: signal.getsignal(number) for number in before[1]}) == before
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        return done

    return call


def forever():
    while True:
        signal.pause()  # until the next try


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_signals(number, quantizing):
    before = signal.signal(number, lambda *_: None)  # under nohup one is ignored, and stays so
    try:
        done = quantizing(lambda: signal.raise_signal(number))
    finally:
        signal.signal(number, before)
    assert done == (128 + number, "", f"bytenorm: {SIGNALS[number]}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_signals_that_were_ignored(number, quantizing):
    """As a shell starts a command in the background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        done = quantizing(lambda: signal.raise_signal(number))
    finally:
        signal.signal(number, before)
    assert done == (128 + number, "", f"bytenorm: {SIGNALS[number]}\n")


def test_nohup(made, place, output, monkeypatch):
    find_norms = inspection.find_norms

    def hang_up(graph, **options):
        signal.raise_signal(signal.SIGHUP)
        return find_norms(graph, **options)

    monkeypatch.setattr(inspection, "find_norms", hang_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        output("inspect", DIGITS)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_first_signal_counts(quantizing):
    def several():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:  # what cleans up is not disturbed
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            cleaned.append(True)

    cleaned = []
    assert quantizing(several) == (143, "", "bytenorm: terminated\n")
    assert cleaned == [True]


def test_a_signal_waits_for_the_end_of_an_import(quantizing, tmp_path, monkeypatch):
    (tmp_path / "slowly_imported.py").write_text("import signal\nsignal.raise_signal(2)\nwhole = True\n")
    monkeypatch.syspath_prepend(tmp_path)

    def load():
        import slowly_imported

        assert slowly_imported.whole
        forever()

    assert quantizing(load) == (130, "", "bytenorm: interrupted\n")


def test_a_signal_that_is_lost_is_tried_again(quantizing):
    class Finalized:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def lose():
        Finalized()
        forever()

    def make_another_of_it():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    for inside in (lose, make_another_of_it):
        assert quantizing(inside) == (130, "", "bytenorm: interrupted\n")


# --- faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        TypeError("Couldn't build proto file into descriptor pool: out of memory"),  # protobuf's
        RuntimeError("std::bad_alloc"),
    ],
    ids=repr,
)
def test_what_libraries_make_of_too_little_memory(error, run, monkeypatch):
    def fail(_, **_options):
        raise error

    monkeypatch.setattr(inspection, "find_norms", fail)
    code, out, err = run("inspect", DIGITS)
    assert (code, out) == (2, "")
    assert err.startswith("bytenorm: error: ")
    assert err.endswith("not enough memory\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "error", [KeyError("x"), AttributeError("x"), TypeError("x"), AssertionError("x")], ids=repr
)
def test_a_fault_is_one_line(error, run, monkeypatch):
    def fail(_, **_options):
        raise error

    monkeypatch.setattr(inspection, "find_norms", fail)
    code, out, err = run("inspect", DIGITS)
    assert (code, out) == (1, "")
    said = f"{type(error).__name__}: {error}"
    assert err == f"bytenorm: error: a fault of bytenorm or of a library, --traceback says where: {said}\n"
    code, out, err = run("inspect", DIGITS, "--traceback")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert ", in fail\n" in err


@pytest.mark.parametrize("line", ["inspect missing --traceback", "--traceback inspect missing"])
def test_traceback_of_bad_input(line, run):
    code, out, err = run(*line.split())
    assert (code, out) == (2, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("\nbytenorm: error: model 'missing' does not exist\n")


def test_memory_that_is_missing(complaint, monkeypatch):
    def none(_, **_options):
        raise MemoryError

    monkeypatch.setattr(inspection, "find_norms", none)
    assert complaint("inspect", DIGITS) == "not enough memory"


def test_no_folder_of_temporary_files(made, place, output, complaint, monkeypatch):
    def none(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found in ['/nowhere']")

    monkeypatch.setattr(tempfile, "mkdtemp", none)
    output("inspect", DIGITS)
    output("lower", made / "stock.onnx", "-o", "out.onnx")
    text = complaint("quantize", DIGITS, "--data", made / "data.npz", "-o", "other.onnx")
    assert text == "No usable temporary directory found in ['/nowhere']"
    assert [path.name for path in place.iterdir()] == ["out.onnx"]


def test_nobody_reads_the_errors(run, monkeypatch):
    def gone(_):
        raise BrokenPipeError

    monkeypatch.setattr(sys.stderr, "write", gone)
    assert run("inspect", "missing")[0] == 2


def test_the_process_is_left_as_it_was(made, place, output, complaint, monkeypatch):
    monkeypatch.setattr(logging.root.manager, "disable", 7)
    before = warnings.filters[:], logging.root.level, logging.root.manager.disable, logging.root.handlers[:]
    output("quantize", DIGITS, "--data", made / "data.npz", "-o", "out.onnx")
    complaint("quantize", DIGITS, "--data", made / "missing.npz", "-o", "other.onnx")
    after = warnings.filters[:], logging.root.level, logging.root.manager.disable, logging.root.handlers[:]
    assert after == before


def test_remarks_of_libraries_are_not_shown(output, monkeypatch):
    find_norms = inspection.find_norms

    def remark(graph, **options):
        warnings.warn("a library will change", DeprecationWarning, stacklevel=1)
        logging.getLogger("library").error("a library has something to say")
        return find_norms(graph, **options)

    monkeypatch.setattr(inspection, "find_norms", remark)
    output("inspect", DIGITS)


# --- without the extra ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["onnx", "onnxruntime", "rich"])
def test_what_is_missing_is_named(module, complaint, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    assert complaint("inspect", DIGITS) == f'needs {module}: pip install "bytenorm[onnx]"'


def test_help_needs_no_extra(run_python):
    code = f"""
import sys
for name in ("onnx", "onnxruntime", "rich", "PIL"):
    sys.modules[name] = None
from bytenorm.cli import main
assert main(["--version"]) == 0
for command in {COMMANDS}:
    assert main([command, "--help"]) == 0
sys.exit(main(["inspect", "model.onnx"]))
"""
    done = run_python(code)
    assert done.returncode == 2
    assert done.stderr == 'bytenorm: error: needs onnx: pip install "bytenorm[onnx]"\n'
    assert done.stdout.startswith(f"bytenorm {__version__}\nusage: bytenorm inspect")


def test_images_without_pillow(place, complaint, monkeypatch):
    Image.new("L", (28, 28)).save("picture.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    text = complaint("quantize", DIGITS, "--data", "picture.png", "-o", "out.onnx")
    assert text.endswith('images need Pillow: pip install "bytenorm[onnx]"')


# --- as a process -----------------------------------------------------------------------------------------------


def process(*arguments, **options):
    """Run the command as a user does, in a pipe unless told otherwise."""
    environment = {**os.environ, "COLUMNS": "", "FORCE_COLOR": "1"}  # a pipe stays plain whatever rich may think
    command = [sys.executable, "-m", "bytenorm", *map(str, arguments)]
    wanted = {"capture_output": True, "text": True, "timeout": 60, "env": environment} | options
    return subprocess.run(command, check=False, **wanted)


def test_a_whole_job_in_pipes(made, tmp_path):
    model = tmp_path / "small.onnx"
    done = process(
        "quantize", DIGITS, "--data", made / "data.npz", "-o", model, "--calibrate-method", "entropy", "--json"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert as_json(done.stdout)["calibrate_method"] == "entropy"
    done = process("bench", DIGITS, model, "--repeats", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert done.stdout.count("\n") == 4


def test_errors_of_a_process(tmp_path):
    done = process("quantize", DIGITS, "--data", "missing", "-o", tmp_path / "out.onnx")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bytenorm: error: --data 'missing' does not exist\n"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "bad.onnx").write_bytes(parsed("g (float[2] x) => (float[2] y) { y = NoSuchOperator (x) }"))
    done = process("bench", tmp_path / "bad.onnx")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_errors_of_onnx_runtime_are_one_line_too(tmp_path):
    """What fails while it runs is written to stderr by ONNX Runtime itself, unless it is told not to."""
    text = """g (float[N, 3] x) => (float[M, 2] y) <int64[2] shape = {-1, 2}> { y = Reshape (x, shape) }"""
    model, data = tmp_path / "odd.onnx", tmp_path / "odd.npy"
    model.write_bytes(parsed(text))
    np.save(data, np.ones((3, 3), np.float32))
    for arguments in (
        ["quantize", model, "-o", tmp_path / "out.onnx"],
        ["bench", model],
        ["compare", model, model],
    ):
        done = process(*arguments, "--data", data)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("bytenorm: error: ")
        assert done.stderr.count("\n") == 1


def test_a_signal_ends_a_process(made, tmp_path, run_python):
    code = f"""
import os, signal, sys
os.chdir({str(tmp_path)!r})
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts what it runs in the background
from bytenorm.cli import command
sys.argv = ["bytenorm", "quantize", {DIGITS!r}, "--data", {str(made / "data.npz")!r}, "-o", "out.onnx"]
def interrupt(*_):
    signal.raise_signal(signal.SIGINT)  # in this thread: one of another is handled some time later
from bytenorm.onnx.quantizer import reader
reader.Reader.get_next = interrupt
command()
"""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = run_python(code, TMPDIR=str(temporary))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "bytenorm: interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    assert [path.name for path in temporary.iterdir()] in ([], [".ses"])  # ONNX Runtime's, imported before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda number: number.name)
def test_a_process_that_dies_leaves_no_temporary_files(number, tmp_path, run_python):
    code = f"""
import os, sys, tempfile
from bytenorm.cli import command
from bytenorm.onnx.measurement import inspection
def die(_, **_options):
    assert os.listdir({str(tmp_path)!r})
    tempfile.mkdtemp()
    os.kill(os.getpid(), {int(number)})
inspection.find_norms = die
sys.argv = ["bytenorm", "inspect", {DIGITS!r}]
command()
"""
    assert run_python(code, TMPDIR=str(tmp_path)).returncode == -number
    for folder in tmp_path.glob("bytenorm-*"):  # soon
        while folder.exists():
            time.sleep(0.01)


def test_a_reader_that_goes_away():
    read, write = os.pipe()
    os.close(read)
    done = process("inspect", DIGITS, capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_output_that_is_full():
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = process("inspect", DIGITS, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, "bytenorm: error: stdout: No space left on device\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams(closed):
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m bytenorm inspect {shlex.quote(DIGITS)} {closed}",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == (16 if closed == "2>&-" else 0)


# --- on a terminal ----------------------------------------------------------------------------------------------


def on_terminal(width, *arguments, **environment):
    """Run the command on a terminal of its own and return what it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        environment.setdefault(name, None)
    variables = {**os.environ, "TERM": "xterm-256color", **environment}
    command = [sys.executable, "-m", "bytenorm", *map(str, arguments)]
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={name: value for name, value in variables.items() if value is not None},
    ) as child:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not part:
                break
            written += part
    os.close(ours)
    assert child.returncode == 0
    return written.decode()


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_terminal(width, tmp_path):
    model = onnx.load_model(DIGITS)
    for node in model.graph.node:
        node.name = f"/features/denseblock1/[bold]/{node.name}"
    path = tmp_path / "long.onnx"
    path.write_bytes(model.SerializeToString())
    written = on_terminal(width, "inspect", path)
    assert "\x1b[1m" in written  # bold headers
    lines = ESCAPE.sub("", written).splitlines()
    assert max(map(len, lines)) <= width
    table = lines[lines.index(next(line for line in lines if set(line) == {"─"})) + 1 : -1]
    names = "".join(line[:20].strip() for line in table)
    assert names.replace(" ", "").count("/features/denseblo") == 12
    assert len(lines[lines.index(next(line for line in lines if set(line) == {"─"}))]) == width


def test_progress_is_drawn_and_wiped(made, tmp_path):
    written = on_terminal(100, "quantize", DIGITS, "--data", made / "data.npz", "-o", tmp_path / "out.onnx")
    assert "\x1b[?25l" in written  # the cursor is hidden
    assert written.index("\x1b[?25l") < written.index("\x1b[?25h") < written.index("stem/norm")
    assert "12 batch norms: 3 folded, 9 in 8 bits, 0 left in float" in ESCAPE.sub("", written)
    assert "\x1b[2K" in written
