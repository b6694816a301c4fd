"""``bytenorm bench``."""

import re
from pathlib import Path

import onnxruntime
import pytest
from command_line import DIGITS, TIMINGS, as_json, documented, keys_of, parsed
from PIL import Image


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


def test_bench_takes_the_batch_of_the_model(place, output, complaint):
    Path("four.onnx").write_bytes(parsed("g (float[4, 3] x) => (float[4, 3] y) { y = Relu (x) }"))
    assert "batch 4, random" in output("bench", "four.onnx", "--repeats", 1)
    assert complaint("bench", "four.onnx", "--batch", 2) == (
        "model 'four.onnx' takes 4 samples at a time, got --batch 2"
    )
