import numpy as np
import pytest
import torch

import bytenorm as bn

SHAPES = [
    (),
    (0,),
    (2, 0, 3),
    (1,),
    (6,),
    (7,),
    (33,),
    (1, 1),
    (3, 4),
    (2, 20),
    (4, 1, 3),
    (2, 3, 4),
    (2, 2, 2, 2),
    (2, 1, 3, 1, 2),
    (1, 2, 1, 2, 1, 2),
    (1000,),
    (1001,),
    (0, 2000),
    (1, 1001),
    (1001, 1),
    (6, 200),
    (7, 200),
    (200, 6),
    (200, 7),
    (11, 12, 13),
    (6, 6, 6, 6),
    (7, 6, 5, 7),
    (2, 3, 4, 5, 13),
]
SCALES = [
    1.0,
    2.0,
    0.5,
    0.1,
    0.2,
    1.5,
    100.0,
    12345.678,
    1e6,
    1e9,
    1e30,
    1e38,
    1e-3,
    2.5e-4,
    1e-5,
    1e-20,
    1e-37,
    1 / 3,
]


@pytest.fixture(scope="module", autouse=True)
def one_thread_of_torch():
    """Keep torch's threads from spinning beside other tests: its answers are small here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def codes(rng, shape, dtype, few=False):
    kind = np.iinfo(dtype)
    return rng.integers(kind.min, kind.min + 3 if few else kind.max + 1, shape).astype(dtype)


def torch_text(data, scale, zero_point, axis=None):
    """Return how torch prints the same tensor, under our names."""
    stored = torch.from_numpy(np.array(data))
    if axis is None:
        made = torch._make_per_tensor_quantized_tensor(stored, scale, zero_point)
    else:
        made = torch._make_per_channel_quantized_tensor(
            stored, torch.asarray(scale, dtype=torch.float64), torch.asarray(zero_point, dtype=torch.int64), axis
        )
    return repr(made).replace("torch.", "bytenorm.")


def collapsed(text):
    return " ".join(text.split())


def check(data, scale, zero_point, axis=None):
    q = bn.QuantizedTensor(data, scale, zero_point, axis)
    assert collapsed(repr(q)) == collapsed(torch_text(data, scale, zero_point, axis))
    assert str(q) == repr(q)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_per_tensor(shape, dtype):
    rng = np.random.default_rng(0)
    for scale in (1.0, 0.1, 1e-5, 700.0):
        check(codes(rng, shape, dtype), scale, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("shape", [s for s in SHAPES if s], ids=str)
def test_per_channel(shape, dtype):
    rng = np.random.default_rng(1)
    for axis, n in enumerate(shape):
        for lowest, highest in ((0.1, 0.3), (1e-6, 1e-3), (1.0, 50.0)):
            check(
                codes(rng, shape, dtype),
                rng.uniform(lowest, highest, n).astype(np.float32).astype(float),
                rng.integers(0, 128, n),
                axis,
            )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("few", [False, True])
def test_scales(scale, few):
    rng = np.random.default_rng(2)
    for dtype in (np.uint8, np.int8):
        for zero_point in (0, 7, 127):
            for n in (1, 2, 5, 40):
                check(codes(rng, n, dtype, few), scale, zero_point)


def test_random_quantization():
    rng = np.random.default_rng(3)
    for _ in range(600):
        shape = tuple(rng.integers(1, 6, rng.integers(0, 5)).tolist())
        dtype = rng.choice([np.uint8, np.int8])
        data = codes(rng, shape, dtype, few=rng.random() < 0.3)
        check(data, float(np.exp(rng.uniform(-85, 85))), int(rng.integers(0, 128)))


def test_random_quantization_per_channel():
    rng = np.random.default_rng(4)
    for _ in range(300):
        shape = tuple(rng.integers(1, 6, rng.integers(1, 5)).tolist())
        axis = int(rng.integers(len(shape)))
        middle, width = rng.uniform(-60, 60), rng.choice([0.1, 2, 12])
        scales = np.exp(rng.uniform(middle - width, middle + width, shape[axis])).astype(np.float32).astype(float)
        data = codes(rng, shape, rng.choice([np.uint8, np.int8]), few=rng.random() < 0.3)
        check(data, scales, rng.integers(0, 128, shape[axis]), axis)


@pytest.mark.parametrize(
    "data",
    [
        np.zeros(5),
        np.full((2, 3), 7),
        np.array([0, 1]),
        np.array([6, 7, 8]),
        np.array([7, 107]),
        np.array([7, 107, 109]),
        np.array(7),
        np.array(8),
    ],
    ids=str,
)
@pytest.mark.parametrize("scale", [1.0, 0.01, 0.1, 0.25, 1e-4, 9.9e-5, 10.0, 1000.0, 1e8, 1.01e8])
def test_where_the_mode_changes(data, scale):
    check(data.astype(np.uint8), scale, 7)


@pytest.mark.parametrize("largest", [999.0, 999.5, 1000.0, 1000.5, 1001.0])
@pytest.mark.parametrize("unit", [1.0, 0.5, 2.0**-10, 2.0**16])
def test_where_the_largest_is_a_thousand_times_the_smallest(largest, unit):
    check(np.array([[8, 8], [8, 7]], np.uint8), np.array([unit, largest * unit]), np.array([7, 7]), 0)


@pytest.mark.parametrize("data", [[0], [255], [0, 255], [5, 6, 255], [0, 1, 2, 3]], ids=str)
@pytest.mark.parametrize("scale", [1e38, 3e38, 1.5e36])
@pytest.mark.parametrize("zero_point", [0, 5, 255])
def test_numbers_beyond_float32(data, scale, zero_point):
    check(np.array(data, np.uint8), scale, zero_point)


@pytest.mark.parametrize("axis", [0, 1])
def test_views_are_printed_as_they_are_indexed(axis):
    data = codes(np.random.default_rng(5), (8, 6), np.uint8)[::-2, 1::2]
    check(data, 0.1, 3)
    check(data.T, 0.1, 3)
    check(data, [0.125, 0.5, 0.25, 1.0][: data.shape[axis]], [1, 2, 3, 4][: data.shape[axis]], axis)


def test_print_options_of_numpy_change_nothing():
    q = bn.QuantizedTensor(np.arange(5, dtype=np.uint8), 1 / 3, 0)
    usual = repr(q)
    with np.printoptions(precision=1, linewidth=20, suppress=True, threshold=2, legacy="1.13"):
        assert repr(q) == usual


# The documented page: qx = quantize_per_tensor(rand(2, 2, 2, 2), 1.5, 3, quint8), then
# quantized_batch_norm(qx, ones(2), zeros(2), rand(2), rand(2), 0.00001, 0.2, 2).
DOCUMENTED = np.array([1, 1, 10, 1, 0, 0, 0, 5, 1, 1, 1, 1, 5, 0, 5, 0], np.uint8).reshape(2, 2, 2, 2)


def test_documented_text_to_the_last_space():
    q = bn.QuantizedTensor(DOCUMENTED, 0.2, 2)
    assert repr(q) == (
        "tensor([[[[-0.2000, -0.2000],\n"
        "          [ 1.6000, -0.2000]],\n"
        "\n"
        "         [[-0.4000, -0.4000],\n"
        "          [-0.4000,  0.6000]]],\n"
        "\n"
        "\n"
        "        [[[-0.2000, -0.2000],\n"
        "          [-0.2000, -0.2000]],\n"
        "\n"
        "         [[ 0.6000, -0.4000],\n"
        "          [ 0.6000, -0.4000]]]], size=(2, 2, 2, 2), dtype=bytenorm.quint8,\n"
        "       quantization_scheme=bytenorm.per_tensor_affine, scale=0.2, zero_point=2)"
    )


@pytest.mark.parametrize("seed", range(20))
def test_documented_call_prints_what_torch_prints(seed):
    torch.manual_seed(seed)
    x, mean, var = torch.rand(2, 2, 2, 2), torch.rand(2), torch.rand(2)
    qx = torch.quantize_per_tensor(x, 1.5, 3, torch.quint8)
    want = torch.quantized_batch_norm(qx, torch.ones(2), torch.zeros(2), mean, var, 0.00001, 0.2, 2)
    ours = bn.quantize_per_tensor(x.numpy(), 1.5, 3, bn.quint8)
    got = bn.quantized_batch_norm(
        ours, np.ones(2, np.float32), np.zeros(2, np.float32), mean.numpy(), var.numpy(), 0.00001, 0.2, 2
    )
    assert repr(ours) == repr(qx).replace("torch.", "bytenorm.")
    assert repr(got) == repr(want.contiguous()).replace("torch.", "bytenorm.")
