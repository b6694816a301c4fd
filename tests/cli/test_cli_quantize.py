"""``bytenorm quantize``."""

import re
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import DIGITS, as_json, documented, keys_of
from PIL import Image

from bytenorm import onnx as bno


@pytest.mark.thorough(but=2)
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
