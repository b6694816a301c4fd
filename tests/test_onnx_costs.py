"""Work that is not done: twice, for what is thrown away, or before it is wanted."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime import quantization as ort_quantization

from bytenorm import onnx as bno
from bytenorm.onnx.lowering import depthwise
from bytenorm.onnx.observation.moments import Watch
from bytenorm.onnx.quantization.quantize import quantize_with_report
from bytenorm.onnx.quantization.tuning import correction
from bytenorm.onnx.quantizer import static_quantizer

DIGITS = bno.digits_model()


def fed(count=8):
    return [{"image": np.random.default_rng(3).random((count, 1, 28, 28), dtype=np.float32)}]


def test_the_search_for_a_channels_numbers_is_made_once(monkeypatch):
    seen = []
    real = depthwise._fit
    monkeypatch.setattr(depthwise, "_fit", lambda *args: seen.append(args[:2]) or real(*args))
    bno.quantize(DIGITS, fed())
    assert seen
    assert len(set(seen)) == len(seen)


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("options", [{}, {"weight_type": "uint8"}, {"activation_type": "int8", "keep_int8": True}])
def test_marks_have_one_scale_and_nothing_comes_of_it(monkeypatch, options):
    given = []
    real = ort_quantization.quantize_static

    def per_channel(*args, extra_options, **others):
        given.append(extra_options["TensorQuantOverrides"])
        return real(*args, extra_options={}, **others)

    made = bno.quantize(DIGITS, fed(), fast=True, **options)
    monkeypatch.setattr(ort_quantization, "quantize_static", per_channel)
    assert bno.quantize(DIGITS, fed(), fast=True, **options) == made
    (overrides,) = given
    assert len(overrides) == 9  # the norms that stay
    assert all(value == [{}] for value in overrides.values())


def network(rank):
    """Return a layer, norms and activations of one rank, with a tensor that is NaN in places, and data."""
    rng = np.random.default_rng(rank)
    sides = [4] * (rank - 2)
    shape = ", ".join(map(str, ["N", 6, *sides]))
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 17]> g (float[{shape}] x) => (float[{shape}] y, float[{shape}] z)
        <float n = {{0.0}}, float k = {{6.0}}> {{
            c = {"Conv" if rank > 2 else "MatMul"} (x, w)
            r = Relu (c)
            a = BatchNormalization (r, g, s, m, v)
            b = Relu (a)
            d = BatchNormalization (b, s, g, m, v)
            e = Clip (d, n, k)
            f = Add (b, e)
            h = BatchNormalization (f, m, s, v, g)
            y = Mul (h, e)
            q = Sqrt (c)
            z = Mul (q, h)
        }}""")
    for node in model.graph.node:
        node.name = node.output[0]
    values = {name: rng.uniform(0.5, 1.5, 6) for name in "gsmv"} | {
        "w": rng.normal(size=(6, 6, *[1] * (rank - 2)))
    }
    model.graph.initializer.extend(numpy_helper.from_array(v.astype(np.float32), n) for n, v in values.items())
    return model, [{"x": rng.normal(size=(3, 6, *sides)).astype(np.float32)} for _ in range(3)]


@pytest.mark.parametrize("quant_format", ["QDQ", "QOperator"])
@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_ranges_are_those_of_the_quantizers_own_calibrator(monkeypatch, rank, quant_format):
    model, data = network(rank)
    made, report = quantize_with_report(model, data, quant_format=quant_format, fast=True)
    assert not [outcome for outcome in report.outcomes if outcome.problem]
    asked = []
    # Then the quantizer finds no ranges, and finds its own.
    monkeypatch.setattr(static_quantizer.StaticQuantizer, "_measure", lambda *args: asked.append(args) or {})
    assert quantize_with_report(model, data, quant_format=quant_format, fast=True)[0] == made
    assert len(asked) == 1


def test_moments_are_found_along_with_ranges(monkeypatch):
    """And are those of a pass of their own: the same corrections come of them."""
    rng = np.random.default_rng(4)
    data = [{"image": rng.random((12, 1, 28, 28), dtype=np.float32)}]
    passes, real = [], correction.measure
    monkeypatch.setattr(correction, "measure", lambda *args: passes.append(len(args[1])) or real(*args))

    def corrections():
        step = quantize_with_report(DIGITS, data)[1].steps[-1]
        assert step.taken
        return [(one.name, one.kind) for one in step.corrections], [one.moved for one in step.corrections]

    names, moved = corrections()
    assert not passes
    monkeypatch.setattr(static_quantizer, "all_that_are_corrected", lambda *_: Watch({}, frozenset()))
    assert corrections() == (names, pytest.approx(moved, rel=1e-3, abs=1e-6))
    assert passes == [len(names)]


def test_a_tensor_that_is_nan_for_some_samples_has_the_range_of_the_others():
    model, data = network(4)
    made, report = quantize_with_report(model, data)  # 9 samples, in two batches where moments are measured
    assert not [outcome for outcome in report.outcomes if outcome.problem]
    for tensor in made.graph.initializer:
        assert np.isfinite(numpy_helper.to_array(tensor)).all()


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_ranges_of_histograms_are_those_of_the_quantizers_own_calibrator(monkeypatch, method):
    model, data = network(4)
    data[1]["x"] *= 3  # a later sample reaches further
    del model.graph.output[-1], model.graph.node[-2:]  # a root of negative numbers: these methods take no NaN
    options = {"calibrate_method": method, "fast": True}
    made = bno.quantize(model, data, **options)
    asked = []
    monkeypatch.setattr(static_quantizer.StaticQuantizer, "_measure", lambda *args: asked.append(args) or {})
    assert bno.quantize(model, data, **options) == made
    assert len(asked) == 1


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_histograms_keep_what_one_sample_makes(monkeypatch, method):
    """An older quantizer too: it is handed one sample at a time, and told to forget it."""
    model, data = network(4)
    asked = []

    def quantize_static(before, behind, reader, *, quant_format, extra_options, **options):
        asked.append(extra_options["CalibStridedMinMax"])
        for start in range(len(reader)):
            reader.set_range(start, start + 1)
            assert [reader.get_next()["x"].shape[0], reader.get_next()] == [1, None]
        raise RuntimeError("seen")

    monkeypatch.setattr(static_quantizer.ort_quantization, "quantize_static", quantize_static)
    with pytest.raises(ValueError, match="seen"):
        bno.quantize(model, data, calibrate_method=method, fast=True)
    assert asked == [1]


def test_the_quantizer_is_imported_when_something_is_quantized(run_python):
    code = f"""
import sys
from bytenorm import onnx as bno
from bytenorm.cli import main
bno.inspect(bno.digits_model())
assert main(["inspect", {str(DIGITS)!r}]) == 0
assert "quantize" in dir(bno)
assert "onnxruntime.quantization" not in sys.modules
bno.quantize
assert "onnxruntime.quantization" in sys.modules
"""
    done = run_python(code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.thorough
@pytest.mark.parametrize("quant_format", ["QDQ", "QOperator"])
def test_memory_that_a_large_model_takes(quant_format, run_python):
    """As one above 2 GiB, with a lower limit in the place of that."""
    code = f"""
import resource
import numpy as np
from onnx import helper, numpy_helper
from bytenorm import onnx as bno
from bytenorm.onnx.model import files
files.LARGEST_FILE = 50_000_000
n, rng, nodes, constants = 2304, np.random.default_rng(1), [], []
for i in range(4):
    constants.append(numpy_helper.from_array(rng.normal(0, 0.02, (n, n)).astype(np.float32), f"k{{i}}"))
    for name in "wbmv":
        constants.append(numpy_helper.from_array(rng.uniform(0.5, 1.5, n).astype(np.float32), f"{{name}}{{i}}"))
    nodes.append(helper.make_node("Gemm", [f"x{{i}}", f"k{{i}}"], [f"g{{i}}"]))
    nodes.append(helper.make_node("Relu", [f"g{{i}}"], [f"r{{i}}"]))
    norm = [f"r{{i}}", *(f"{{name}}{{i}}" for name in "wbmv")]
    nodes.append(helper.make_node("BatchNormalization", norm, [f"n{{i}}"]))
    nodes.append(helper.make_node("Relu", [f"n{{i}}"], [f"x{{i + 1}}"]))
x, y = (helper.make_tensor_value_info(name, 1, ["N", n]) for name in ("x0", "x4"))
graph = helper.make_graph(nodes, "large", [x], [y], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
data = [{{"x0": rng.normal(size=(16, n)).astype(np.float32)}}]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bno.quantize(model, data, quant_format={quant_format!r}, reduce_range=True, compare=True)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (4 * 4 * n * n))
"""
    done = run_python(code, "-W", "ignore")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 7  # beside the model itself; it was 8.3 and 9.5
