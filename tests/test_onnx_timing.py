"""Timing and profiles: what is run, what is counted, which nodes are a norm's. No test looks at a time."""

import gc
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization as ort_quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from bytenorm import onnx as bno
from bytenorm.onnx.measurement.feeds import random_feeds, session_options
from bytenorm.onnx.measurement.profile import Profile, norm_groups, profile, summarize
from bytenorm.onnx.measurement.timing import FEWEST_ROUNDS, measure

DIGITS = bno.digits_model()
NORMS = 12  # of the digits network
LEFT = 9  # of them cannot be folded
BLOCKED = "com.microsoft.nchwc"  # the domain of the operators of ONNX Runtime's blocked layout


class Run:
    """A session that only counts."""

    def __init__(self, log, name):
        self._log, self._name = log, name

    def run(self, outputs, feeds):
        self._log.append((self._name, outputs, feeds))


def message_of(call, error=ValueError):
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert type(caught.value) is error
    assert "\n" not in text
    return text


def model_of(text):
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> {text}')


def constant(name, shape, rng):
    return numpy_helper.from_array(rng.random(shape, dtype=np.float32) + np.float32(0.5), name)


@pytest.fixture(scope="module")
def stock():
    """Return the digits network as ONNX Runtime's own quantizer leaves it."""
    return quantized(DIGITS, {"image": np.random.default_rng(3).random((4, 1, 28, 28), dtype=np.float32)})


def quantized(model, feeds, form="QDQ", byte="QUInt8"):
    class Reader(ort_quantization.CalibrationDataReader):
        batches = iter([feeds])

        def get_next(self):
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared, path = Path(folder, "prepared.onnx"), Path(folder, "stock.onnx")
        quant_pre_process(model, prepared)
        ort_quantization.quantize_static(
            prepared,
            path,
            Reader(),
            quant_format=ort_quantization.QuantFormat[form],
            activation_type=ort_quantization.QuantType[byte],
            per_channel=True,
        )
        return onnx.load_model(path)


def written_out(rng, channels, *, convolution):
    """Return a network with a norm that is written as Mul and Add."""
    last = "y" if convolution else "positive"
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 6, 6]) for name in ("x", last))
    nodes = [
        helper.make_node("MaxPool", ["x"], ["pooled"], "pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["pooled", "gain"], ["scaled"], "scale"),
        helper.make_node("Add", ["scaled", "shift"], ["normalized"], "shift"),
        helper.make_node("Relu", ["normalized"], ["positive"], "relu"),
        helper.make_node("Conv", ["positive", "weight"], ["y"], "conv"),
    ]
    constants = [constant("gain", (channels, 1, 1), rng), constant("shift", (channels, 1, 1), rng)]
    if convolution:
        constants.append(constant("weight", (channels, channels, 1, 1), rng))
    else:
        nodes.pop()
    graph = helper.make_graph(nodes, "graph", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


# --- options and inputs -----------------------------------------------------------------------------------------


def test_options_are_one_thread_and_all_optimizations():
    options = session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert session_options(3).intra_op_num_threads == 3


def test_a_number_of_threads_that_is_none():
    assert message_of(lambda: session_options(0)) == "threads must be at least 1, got 0"
    assert message_of(lambda: session_options(1.5), TypeError).startswith("threads must be an integer")


def test_random_inputs_fit_the_model_and_are_the_same_every_time():
    feeds = random_feeds(DIGITS)
    assert list(feeds) == ["image"]
    assert feeds["image"].shape == (1, 1, 28, 28)
    assert feeds["image"].dtype == np.float32
    assert feeds["image"].min() < 0 < feeds["image"].max()
    np.testing.assert_array_equal(random_feeds(DIGITS)["image"], feeds["image"])
    assert random_feeds(DIGITS, batch=5)["image"].shape == (5, 1, 28, 28)
    assert not np.array_equal(random_feeds(DIGITS, seed=1)["image"], feeds["image"])


FLOATS = {"FLOAT": np.float32, "DOUBLE": np.float64, "FLOAT16": np.float16}
BYTES = {"UINT8": np.uint8, "INT8": np.int8}
FEW = {"UINT16": np.uint16, "INT32": np.int32, "INT64": np.int64, "BOOL": np.bool_}


@pytest.mark.parametrize(("kind", "dtype"), [*(FLOATS | BYTES | FEW).items()])
@pytest.mark.parametrize("shape", [[1], ["N", 3], []])
def test_random_inputs_are_never_all_zeros(kind, dtype, shape):
    x, y = (helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape) for name in "xy")
    model = helper.make_model(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y]))
    for seed in range(300):  # a byte alone is 0 once in 256 times
        x = random_feeds(model, seed=seed)["x"]
        assert x.dtype == dtype
        assert x.any()
        assert kind not in FEW or set(x.ravel().tolist()) <= {0, 1}


def test_random_bytes_take_every_code():
    model = model_of("g (uint8[2, 3000] x, int8[6000] z) => (uint8[2, 3000] y) { y = Identity (x) }")
    feeds = random_feeds(model)
    assert (feeds["x"].min(), feeds["x"].max()) == (0, 255)
    assert (feeds["z"].min(), feeds["z"].max()) == (-128, 127)


@pytest.mark.parametrize("shape", ["1, 3, H, 8", "N, 3, 8, W"])
def test_an_input_whose_size_is_open(shape):
    model = model_of(f"g (float[{shape}] picture) => (float[{shape}] y) {{ y = Identity (picture) }}")
    text = message_of(lambda: random_feeds(model))
    assert text.startswith("model: its input 'picture' (float32 [")
    assert text.endswith("has a size that is not known: real data must be given")


def test_a_batch_of_nothing():
    assert message_of(lambda: random_feeds(DIGITS, batch=0)) == "batch must be at least 1, got 0"


# --- side by side -----------------------------------------------------------------------------------------------


def test_sessions_take_turns():
    log = []
    feeds = {"x": 1}
    names = ["one", "two", "three"]
    took = measure({n: Run(log, n) for n in names}, feeds, repeats=6, dropped=2)
    assert list(took) == names
    assert {timing.runs for timing in took.values()} == {6}
    assert {(outputs, id(fed)) for _, outputs, fed in log} == {(None, id(feeds))}
    called = [name for name, *_ in log]
    assert called[:3] == names  # once to see that they run
    turns = called[3:]
    assert len(turns) == 3 * 2 * (2 + 6)
    rounds = [turns[i : i + 6] for i in range(0, len(turns), 6)]
    for one in rounds:
        assert one[::2] == one[1::2]  # a run that does not count, then one that does
        assert set(one) == set(names)
    assert len({tuple(one) for one in rounds}) > 1  # in no fixed order


def test_quantiles_are_in_order():
    timing = measure({"a": Run([], "a")}, {}, repeats=20)["a"]
    assert 0 < timing.fastest_ms <= timing.q1_ms <= timing.median_ms <= timing.q3_ms
    assert set(timing.to_dict()) == {"median_ms", "q1_ms", "q3_ms", "fastest_ms", "runs"}


def test_seconds_are_enough_for_some_rounds():
    timing = measure({"a": Run([], "a")}, {}, seconds=1e-9)["a"]
    assert timing.runs == FEWEST_ROUNDS


def test_progress_is_told():
    told = []
    measure({"a": Run([], "a")}, {}, repeats=3, dropped=2, progress=lambda *told_: told.append(told_))
    assert told == [(0, 3), (0, 3), (1, 3), (2, 3), (3, 3)]
    told.clear()
    measure({"a": Run([], "a"), "b": Run([], "b")}, {}, seconds=0.001, progress=lambda *told_: told.append(told_))
    assert told == sorted(told)
    assert told[-1] == (0.002, 0.002)


def test_garbage_is_collected_afterwards_even_after_an_error():
    class Fails(Run):
        def run(self, *_):
            assert not self._log or not gc.isenabled()
            self._log.append(0)
            if len(self._log) == 4:
                raise RuntimeError("third run")

    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="third run"):
        measure({"a": Fails([], "a")}, {}, repeats=9)
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"seconds": 0}, "seconds must be positive and finite, got 0.0"),
        ({"seconds": float("nan")}, "seconds must be positive and finite, got nan"),
        ({"seconds": float("inf")}, "seconds must be positive and finite, got inf"),
    ],
)
def test_how_long_is_checked(options, wanted):
    assert message_of(lambda: measure({"a": Run([], "a")}, {}, **options)) == wanted


def test_a_session_that_cannot_run_is_named():
    sessions = {"good": Run([], "good"), "digits.onnx": bno.session(DIGITS, session_options())}
    text = message_of(lambda: measure(sessions, {"wrong": np.zeros(1)}, repeats=1))
    assert text.startswith("sessions['digits.onnx']: ONNX Runtime cannot run it: ")


# --- profiles summed up -----------------------------------------------------------------------------------------


def run_event(start, length):
    return {"cat": "Session", "name": "model_run", "ts": start, "dur": length}


def node_event(name, op, start, length):
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": length, "args": {"op_name": op}}


def test_medians_of_nodes_are_summed_up():
    events = [{"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 9}]
    runs = [(9000, 9000, 9000), (1000, 5000, 100), (3000, 4000, 100), (2000, 6000, 400)]
    for i, (norm, conv, transpose) in enumerate(runs, 1):
        start = 100_000 * i
        events += [
            node_event("n", "BatchNormalization", start + 10, norm),
            node_event("c", "Conv", start + 20_000, conv),
            {"cat": "Node", "name": "c_fence_before", "ts": start + 20_000, "dur": 7, "args": {"op_name": "Conv"}},
            node_event("t1", "Transpose", start + 40_000, transpose),
            node_event("t2", "Transpose", start + 50_000, transpose),
            run_event(start, 60_000),
        ]
    found = summarize(events, [{"n"}], dropped=1)
    assert found == Profile(
        total_ms=pytest.approx(2 + 5 + 0.1 + 0.1),
        norms_ms=2.0,
        norms=1,
        transposes_ms=pytest.approx(0.2),
        transposes=2,
        by_op={"Conv": 5.0, "BatchNormalization": 2.0, "Transpose": pytest.approx(0.2)},
    )
    assert list(found.by_op) == ["Conv", "BatchNormalization", "Transpose"]
    assert found.norms_share == pytest.approx(2 / 7.2)
    assert found.to_dict()["norms_share"] == found.norms_share


def test_a_loop_counts_what_runs_in_it_once():
    events = []
    for start in (0, 1000, 2000):
        events += [node_event("body", "Add", start + 10 * i, 5) for i in range(4)]
        events += [node_event("loop", "Loop", start, 90), run_event(start, 100)]
    events += [node_event("rare", "Relu", 2080, 8)]  # in a branch that is taken in the last run only
    found = summarize(events, [])
    assert found.by_op == {"Add": 0.02, "Relu": 0.0}
    assert found.total_ms == 0.02
    assert found.norms_share == 0.0


def test_a_node_of_two_norms_counts_once():
    events = [node_event("dq", "DequantizeLinear", 0, 1000), node_event("a", "X", 1000, 2000), run_event(0, 5000)]
    found = summarize(events, [{"dq", "a"}, {"dq"}])
    assert (found.norms, found.norms_ms) == (2, 3.0)


def test_a_profile_of_another_graph():
    events = [node_event("a", "Conv", 0, 1000), run_event(0, 5000)]
    assert message_of(lambda: summarize(events, [{"b"}])) == (
        "the profile has no node 'b', which is in the executed graph"
    )


def test_a_profile_of_a_model_without_nodes_in_it():
    assert summarize([run_event(0, 10)], []).norms_share == 0.0


# --- which nodes are a norm's -----------------------------------------------------------------------------------


def groups_of(text, shapes=(), written_out=()):
    graph = model_of(text).graph
    for node in graph.node:
        node.name = node.output[0]
    return norm_groups(graph.node, dict(shapes), written_out)


def test_a_norm_between_conversions():
    assert groups_of(
        """g (uint8[1, 8, 4, 4] x, float s, uint8 z, int8[8] w, float[8] v) => (uint8[1, 8, 4, 4] y) {
            real = DequantizeLinear (x, s, z)
            weight = DequantizeLinear (w, s)
            other = DequantizeLinear (x, s, z)
            normalized = BatchNormalization (real, weight, v, v, v)
            y = QuantizeLinear (normalized, s, z)
            unrelated = Relu (other)
            codes = QuantizeLinear (unrelated, s, z)
        }"""
    ) == [{"real", "weight", "normalized", "y"}]


@pytest.mark.parametrize("activation", ["Relu (normalized)", "Clip (normalized, s)"])
def test_a_norm_with_an_activation_between_conversions(activation):
    assert groups_of(
        f"""g (uint8[1, 8, 4, 4] x, float s, uint8 z, float[8] v) => (uint8[1, 8, 4, 4] y) {{
            real = DequantizeLinear (x, s, z)
            normalized = BatchNormalization (real, v, v, v, v)
            active = {activation}
            y = QuantizeLinear (active, s, z)
        }}"""
    ) == [{"real", "normalized", "active", "y"}]


def test_a_norm_in_float_is_alone():
    assert groups_of(
        """g (float[1, 8, 4, 4] x, float[8] v) => (float[1, 8, 4, 4] y) {
            normalized = BatchNormalization (x, v, v, v, v)
            y = Relu (normalized)
        }"""
    ) == [{"normalized"}]


def conv(op, inputs, shape, group, name="conv"):
    node = helper.make_node(op, inputs, ["y"], name, group=group)
    return norm_groups([node], {"w": shape})


@pytest.mark.parametrize(("op", "inputs"), [("QLinearConv", [*"xabw"]), ("Conv", [*"xw"]), ("FusedConv", [*"xw"])])
def test_a_depthwise_convolution_of_one_pixel_is_a_norm(op, inputs):
    assert conv(op, inputs, [8, 1, 1, 1], 8) == [{"conv"}]
    assert conv(op, inputs, [8, 1, 1], 8) == [{"conv"}]
    assert conv(op, inputs, [8, 1, 3, 3], 8) == []
    assert conv(op, inputs, [8, 1, 1, 3], 8) == []
    assert conv(op, inputs, [8, 8, 1, 1], 1) == []
    assert conv(op, inputs, [8, 1, 1, 1], 4) == []
    assert conv(op, inputs, [8, 1], 8) == []
    assert conv(op, [*inputs[:-1], "unknown"], [8, 1, 1, 1], 8) == []
    assert conv(op, ["x"], [8, 1, 1, 1], 8) == []


def test_a_product_in_the_blocked_layout_is_part_of_a_norm_if_the_source_says_so():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["blocked"], "scaled_mul_nchwc", group=8, domain=BLOCKED),
        helper.make_node("ReorderOutput", ["blocked"], ["scaled"], "reorder", domain=BLOCKED),
        helper.make_node("Add", ["scaled", "v"], ["y"], "shift"),
    ]
    shapes = {"w": [8, 1, 1, 1], "v": [8, 1, 1]}
    assert norm_groups(nodes, shapes) == []
    names = ["scale", "scaled_mul_nchwc", "shift", "y_mul_nchwc"]
    assert norm_groups(nodes, shapes, [names]) == [{"scaled_mul_nchwc", "shift"}]


def test_a_convolution_of_one_channel_is_a_norm_in_8_bits_only():
    assert conv("QLinearConv", list("xabw"), [1, 1, 1, 1], 1) == [{"conv"}]
    assert conv("Conv", list("xw"), [1, 1, 1, 1], 1) == []


def test_the_operator_and_the_clip_behind_it():
    nodes = [
        helper.make_node("QLinearBatchNormalization", ["x"], ["a"], "norm", domain="bytenorm"),
        helper.make_node("Clip", ["a"], ["b"], "norm/Clip"),
        helper.make_node("QLinearConv", ["b"], ["y"], "conv"),
    ]
    assert norm_groups(nodes, {}) == [{"norm", "norm/Clip"}]


def test_arithmetic_is_a_norm_if_the_source_says_so():
    text = """g (float[1, 8, 4, 4] x, float[8, 1, 1] v) => (float[1, 8, 4, 4] y) {
        scaled = Mul (x, v)
        y = Add (scaled, v)
    }"""
    assert groups_of(text) == []
    assert groups_of(text, written_out=[["scaled", "y"], ["gone"]]) == [{"scaled", "y"}]


# --- profiles of real runs --------------------------------------------------------------------------------------


def executed(model, tmp_path):
    """Return the operators that ONNX Runtime executes, by the graph that it saves."""
    options = session_options()
    options.optimized_model_filepath = str(tmp_path / "executed.onnx")
    bno.session(model, options)
    return [node.op_type for node in onnx.load_model(tmp_path / "executed.onnx").graph.node]


def consistent(found):
    assert 0 <= found.norms_ms <= found.total_ms
    assert found.total_ms == pytest.approx(sum(found.by_op.values()))
    assert found.transposes_ms == pytest.approx(found.by_op.get("Transpose", 0.0))


def test_profile_of_a_float_model(tmp_path):
    found = profile(DIGITS, random_feeds(DIGITS), runs=2, dropped=1)
    consistent(found)
    assert found.norms == LEFT  # the others are part of convolutions
    assert set(found.by_op) == set(executed(DIGITS, tmp_path))


def test_profile_of_the_stock_model(stock, tmp_path):
    found = profile(stock, random_feeds(stock), runs=2, dropped=1)
    consistent(found)
    ops = executed(stock, tmp_path)
    assert found.norms == ops.count("BatchNormalization") >= LEFT
    assert found.transposes == ops.count("Transpose") > 4
    conversions = found.by_op["DequantizeLinear"] + found.by_op["QuantizeLinear"]
    assert found.by_op["BatchNormalization"] < found.norms_ms < found.by_op["BatchNormalization"] + conversions


@pytest.mark.parametrize("lowering", ["portable", "exact"])
def test_profile_of_a_lowered_model(stock, lowering, tmp_path):
    lowered = bno.lower(stock, lowering=lowering)
    found = profile(lowered, random_feeds(lowered), runs=2, dropped=1)
    consistent(found)
    ops = executed(lowered, tmp_path)
    assert "BatchNormalization" not in ops
    assert found.norms == len(bno.inspect(lowered).norms) >= LEFT
    assert found.transposes == ops.count("Transpose") <= 4
    if lowering == "exact":
        assert found.norms_ms == pytest.approx(found.by_op["QLinearBatchNormalization"])


@pytest.mark.parametrize("channels", [3, 16])
def test_profile_of_a_norm_written_as_arithmetic(rng, channels):
    """16 channels fill the blocks of any CPU for which ONNX Runtime has a blocked layout, and 3 those of none."""
    model = written_out(rng, channels, convolution=False)
    found = profile(model, random_feeds(model), runs=2)
    consistent(found)
    assert found.norms == 1
    product = {"Mul", "Conv"} & set(found.by_op)
    assert product == {"Mul"} or (channels == 16 and product == {"Conv"})
    assert found.norms_ms == pytest.approx(found.by_op[product.pop()] + found.by_op["Add"])


def test_profile_of_a_quantized_norm_written_as_arithmetic(rng):
    model = written_out(rng, 8, convolution=True)
    feeds = random_feeds(model)
    for form in ("QDQ", "QOperator"):
        in_8_bits = profile(quantized(model, feeds, form), feeds, runs=2)
        assert in_8_bits.norms == 1
        assert in_8_bits.norms_ms == pytest.approx(in_8_bits.by_op["QLinearMul"] + in_8_bits.by_op["QLinearAdd"])
    converting = profile(quantized(model, feeds, byte="QInt8"), feeds, runs=2)
    assert converting.norms == 1
    assert converting.norms_ms > converting.by_op["Mul"] + converting.by_op["Add"]


def test_nodes_without_names_are_told_apart(stock, tmp_path):
    wanted = profile(stock, random_feeds(stock), runs=1)
    nameless = onnx.ModelProto()
    nameless.CopyFrom(stock)
    for node in nameless.graph.node:
        node.name = ""
    before = nameless.SerializeToString()
    path = tmp_path / "nameless.onnx"
    path.write_bytes(before)
    for model in (nameless, str(path)):
        found = profile(model, random_feeds(stock), runs=1)
        assert (found.norms, found.transposes, set(found.by_op)) == (
            wanted.norms,
            wanted.transposes,
            set(wanted.by_op),
        )
    assert nameless.SerializeToString() == before
    assert path.read_bytes() == before


def test_a_profile_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    profile(DIGITS, random_feeds(DIGITS), runs=1)
    with pytest.raises(ValueError, match="cannot run it"):
        profile(DIGITS, {}, runs=1)
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_model(tmp_path):
    broken = model_of("g (float[2] x) => (float[3] y) { y = NoSuchOperator (x) }")
    path = tmp_path / "broken.onnx"
    path.write_bytes(broken.SerializeToString())
    assert message_of(lambda: profile(str(path), {})).startswith(
        f"model {str(path)!r}: ONNX Runtime cannot load it: "
    )
    assert message_of(lambda: profile(broken, {})).startswith("model: ONNX Runtime cannot load it: ")
    assert message_of(lambda: profile(DIGITS, {})).startswith(f"model {DIGITS!r}: ONNX Runtime cannot run it: ")
    assert message_of(lambda: profile(DIGITS, {}, runs=0)) == "runs must be at least 1, got 0"
    missing = str(tmp_path / "missing.onnx")
    assert message_of(lambda: profile(missing, {}), FileNotFoundError) == f"model {missing!r} does not exist"
