"""Nodes of the operators as no converter writes them: each is refused in words, in linear time."""

import itertools

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper
from test_onnx_fused import add_model, add_values, codes, concat_model, concat_values, native, said_by

from bytenorm import onnx as bno

ort.set_default_logger_severity(4)


def lying(rng, outputs, **attributes):
    """Return a sum whose attributes say something else than its outputs."""
    made, feed = add_model(*(codes(rng, (2, 3, 4)) for _ in range(2)), add_values(rng, 3))
    node = made.graph.node[0]
    del node.output[:]
    node.output.extend(outputs)
    named = [output for output in made.graph.output if output.name in outputs]
    del made.graph.output[:]
    made.graph.output.extend(named)
    return native(made, **attributes), feed


@pytest.mark.parametrize("outputs", [["y"], ["y", ""]], ids=str)
@pytest.mark.parametrize("exact_sum", [0, 1])
def test_a_sum_that_is_announced_and_has_no_output(rng, outputs, exact_sum):
    made, _ = lying(rng, outputs, with_sum=1, exact_sum=exact_sum)
    assert "attribute with_sum is 1, but the node has no output s" in said_by(lambda: bno.session(made))


def test_a_sum_without_a_name_is_none(rng):
    made, feed = lying(rng, ["y", ""], with_sum=0)
    (y,) = bno.session(made).run(None, feed)
    del made.graph.node[0].output[1]
    np.testing.assert_array_equal(y, bno.session(made).run(None, feed)[0])


def test_a_norm_without_a_name(rng):
    made, _ = lying(rng, ["", "s"], with_sum=1)
    assert "QLinearAddBatchNormalization" in said_by(lambda: bno.session(made))


@pytest.mark.parametrize("piece", [0, 1, 2])
def test_a_piece_without_a_name(rng, piece):
    made, _ = concat_model([codes(rng, (2, 3, 4)) for _ in range(3)], concat_values(rng, (3, 3, 3)))
    made.graph.node[0].input[8 + piece] = ""
    assert "QLinearConcatBatchNormalization" in said_by(lambda: bno.session(native(made)))


HUGE = [(0, 3, 2**40, 2**40), (0, 3, 2**62, 4), (2**40, 3, 0, 2**40)]  # NumPy has no such arrays


@pytest.mark.parametrize("shape", HUGE, ids=str)
def test_empty_tensors_whose_other_dimensions_multiply_beyond_64_bits(rng, shape):
    empty = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8)
    pieces = [codes(rng, (1, 3, 2, 2)) for _ in range(2)]
    models = [
        add_model(*pieces, add_values(rng, 3), exact_sum=exact, shapes={"a": None, "b": None}) for exact in (0, 1)
    ]
    models += [
        concat_model(pieces, concat_values(rng, (3, 3)), pool=pool, shapes={"x_0": None, "x_1": None})
        for pool in (0, 2)
    ]
    for made, feed in models:
        outputs = bno.session(native(made)).run_with_ort_values(None, dict.fromkeys(feed, empty))
        assert all(0 in output.shape() for output in outputs)


def test_more_channels_than_numbers_for_them(rng):
    made, feed = concat_model(
        [codes(rng, (2, 3, 4)) for _ in range(4)],
        concat_values(rng, (3,) * 4),
        shapes=dict.fromkeys(f"x_{i}" for i in range(4)),
    )
    empty = ort.OrtValue.ortvalue_from_shape_and_type((0, 2**62), np.uint8)  # four times: 2^64, which is 0
    session = bno.session(native(made))
    said = said_by(lambda: session.run_with_ort_values(None, dict.fromkeys(feed, empty)))
    assert "the pieces have more than 2^63 - 1 channels together" in said


def test_pieces_are_compared_with_all_before_them(rng):
    values = concat_values(rng, (2,) * 4)
    dims = [(None, 2, None, 5), (None, 2, 4, None), (3, 2, None, None)]
    for order in itertools.permutations(range(3)):
        for wrong, first in (((3, 2, 4, 6), 0), ((3, 2, 5, 5), 1), ((4, 2, 4, 5), 2)):
            shapes = {f"x_{i}": dims[at] for i, at in enumerate(order)} | {"x_3": wrong}
            made, _ = concat_model([codes(rng, (3, 2, 4, 5)) for _ in range(4)], values, shapes=shapes)
            said = said_by(lambda made=made: bno.session(native(made)))
            assert f"x_3 must have the shape of x_{order.index(first)} but for its channels on axis 1" in said


def test_a_hundred_thousand_pieces(rng):
    """Compared pair by pair they would take minutes."""
    count = 100_000
    made, _ = concat_model([codes(rng, (1, 1, 2))], concat_values(rng, (1,)), shapes={"x_0": ["n", 1, 2]})
    node = made.graph.node[0]
    node.input.extend(["x_0"] * (count - 1))
    for tensor in made.graph.initializer:
        if tensor.dims:
            value = np.frombuffer(tensor.raw_data, helper.tensor_dtype_to_np_dtype(tensor.data_type))
            tensor.dims[0] = count
            tensor.raw_data = np.repeat(value, count).tobytes()
    x = codes(rng, (2, 1, 2))
    (y,) = bno.session(native(made)).run(None, {"x_0": x})
    assert y.shape == (2, count, 2)
    assert np.array_equal(y, np.repeat(y[:, :1], count, axis=1))


OUT_OF_MEMORY = """
import resource
import numpy as np
from bytenorm import _core, onnx as bno
from test_onnx_fused import concat_model, concat_values, native
import onnxruntime as ort

ort.set_default_logger_severity(4)
rng = np.random.default_rng(0)
small, large = (np.zeros((16, 1, 2, 2 * half), np.uint8) for half in (64, 2**20))
made, _ = concat_model([small], concat_values(rng, (1,)), pool=2, shapes={"x_0": None})
options = ort.SessionOptions()
options.intra_op_num_threads, options.enable_cpu_mem_arena = 2, False
session = bno.session(native(made), options)
session.run(None, {"x_0": small})
output = large.size // 4
with open("/proc/self/status") as status:
    mapped = 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (mapped + output + 2**20, -1))  # a part of the work needs 4 MiB of its own
try:
    session.run(None, {"x_0": large})
except Exception as error:
    print(str(error)[-40:])
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print(session.run(None, {"x_0": large})[0].shape)
"""


def test_no_memory_in_a_part_of_the_work(run_python):
    done = run_python("import sys; sys.path[:0] = ['tests']\n" + OUT_OF_MEMORY, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.split("\n")[-3].endswith("bytenorm: out of memory")
    assert done.stdout.split("\n")[-2] == "(16, 1, 1, 1048576)"
