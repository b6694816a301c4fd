import copy
import pickle
import subprocess
import sys
import types

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis.extra import numpy as arrays

import bytenorm as bn


def codes(shape, dtype=np.uint8, seed=0):
    kind = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(kind.min, kind.max + 1, shape).astype(dtype)


def per_channel(data, axis):
    """Quantize with scales and zero points that differ from channel to channel.

    The scales are float32 numbers: one that is not is rounded per tensor, and not per channel.
    """
    n = data.shape[axis]
    zero_points = np.arange(n) % 7 - (3 if data.dtype == np.int8 else 0)
    return bn.QuantizedTensor(data, np.linspace(0.1, 2.0, n, dtype=np.float32), zero_points, axis)


def of_axis(data, axis):
    return bn.QuantizedTensor(data, 0.5, 3) if axis is None else per_channel(data, axis)


def same(a, b):
    """Whether two tensors have the same codes, type and quantization."""
    return (
        a.dtype is b.dtype
        and a.axis == b.axis
        and np.array_equal(a.scale, b.scale)
        and np.array_equal(a.zero_point, b.zero_point)
        and np.array_equal(a.data, b.data)
    )


# --- construction ---------------------------------------------------------------------------------------------

MEMORY = {
    "contiguous": lambda: codes((4, 5, 6)),
    "fortran": lambda: np.asfortranarray(codes((4, 5, 6))),
    "transposed": lambda: codes((4, 5, 6)).transpose(1, 2, 0),
    "strided": lambda: codes((8, 5, 18))[::2, :, ::3],
    "reversed": lambda: codes((4, 5, 6))[::-1, :, ::-1],
    "expanded": lambda: np.broadcast_to(codes((5, 1)), (4, 5, 6)),
    "0-d": lambda: np.array(7, np.uint8),
    "1-d": lambda: codes(9),
    "empty": lambda: codes((3, 0, 5)),
    "odd address": lambda: np.frombuffer(bytearray(codes(25)), np.uint8, offset=1).reshape(4, 6),
    "int8": lambda: codes((4, 5), np.int8),
    "8 dimensions": lambda: codes((2, 1, 2, 1, 3, 1, 2, 1)),
}


@pytest.mark.parametrize("name", MEMORY)
def test_data_is_used_as_it_is(name):
    data = MEMORY[name]()
    q = bn.QuantizedTensor(data, 0.5, 3)
    assert type(q.data) is np.ndarray
    assert q.data.__array_interface__["data"][0] == data.__array_interface__["data"][0]
    assert (q.data.shape, q.data.strides, q.data.dtype) == (data.shape, data.strides, data.dtype)
    assert np.shares_memory(q.data, data) == (data.size > 0)
    assert (q.shape, q.ndim) == (data.shape, data.ndim)
    assert q.dtype is (bn.qint8 if data.dtype == np.int8 else bn.quint8)


def test_a_change_of_the_data_is_seen():
    data = codes((3, 4))
    q = bn.QuantizedTensor(data, 0.5, 3)
    data[1, 2] = 77
    assert q.data[1, 2] == 77
    assert q.dequantize()[1, 2] == 37.0


def test_read_only_data_stays_read_only():
    data = codes((3, 4))
    data.flags.writeable = False
    q = bn.QuantizedTensor(data, 0.5, 3)
    assert np.shares_memory(q.data, data)
    assert not q.data.flags.writeable
    assert not q[1:].data.flags.writeable


def test_a_subclass_is_read_as_an_array(tmp_path):
    data = np.memmap(tmp_path / "codes", np.uint8, "w+", shape=(3, 4))
    q = bn.QuantizedTensor(data, 0.5, 3)
    assert type(q.data) is np.ndarray
    assert np.shares_memory(q.data, data)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_torch_memory(dtype):
    data = torch.arange(24, dtype=dtype).reshape(2, 3, 4).permute(2, 0, 1)
    q = bn.QuantizedTensor(data, 0.5, 3)
    assert q.data.ctypes.data == data.data_ptr()
    assert q.data.strides == data.stride()
    data[3, 1, 2] = 99
    assert q.data[3, 1, 2] == 99


class OnlyInterface:
    """Memory that is offered through the array interface and nothing else."""

    def __init__(self, array):
        self._array = array
        self.__array_interface__ = array.__array_interface__


class OnlyDLPack:
    """Memory that is offered through DLPack and nothing else."""

    def __init__(self, array, device=None):
        self._array, self._device = array, device

    def __dlpack__(self, **arguments):
        return self._array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self._device or self._array.__dlpack_device__()


@pytest.mark.parametrize("offer", [OnlyInterface, OnlyDLPack, memoryview])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_memory_of_other_objects(offer, dtype):
    data = codes((3, 4), dtype)[:, ::2]
    q = bn.QuantizedTensor(offer(data), 0.5, 3)
    assert np.shares_memory(q.data, data)
    np.testing.assert_array_equal(q.data, data)


def test_memory_lives_as_long_as_the_tensor():
    q = bn.QuantizedTensor(OnlyDLPack(codes(100000)), 0.5, 3)
    np.testing.assert_array_equal(q.data, codes(100000))


def test_memory_of_a_gpu_is_refused():
    with pytest.raises(TypeError, match=r"data .*memory of the CPU.* 2"):
        bn.QuantizedTensor(OnlyDLPack(codes(4), device=(2, 0)), 0.5, 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_array_behind_it_may_be_reshaped_afterwards():
    data = codes((2, 3))
    q = bn.QuantizedTensor(data, [0.1, 0.2, 0.3], [1, 2, 3], 1)
    want = q.dequantize()
    data.shape = (1, 6)  # in place: another shape for whoever holds this very object
    assert q.shape == (2, 3)
    np.testing.assert_array_equal(q.dequantize(), want)


@pytest.mark.parametrize(
    ("scale", "zero_point"),
    [(0.1, 3), (np.float64(0.1), np.int64(3)), (np.array(0.1), np.array(3)), (torch.tensor(0.5), torch.tensor(3))],
)
def test_scale_and_zero_point_are_numbers(scale, zero_point):
    q = bn.QuantizedTensor(codes(4), scale, zero_point)
    assert (type(q.scale), type(q.zero_point)) == (float, int)
    assert (q.scale, q.zero_point) == (float(scale), 3)
    assert q.axis is None


def test_scale_is_not_rounded_to_float32():
    assert bn.QuantizedTensor(codes(4), 0.1, 3).scale == 0.1
    q = bn.QuantizedTensor(codes(2), [0.1, 0.3], [0, 0], 0)
    assert q.scale.tolist() == [0.1, 0.3]


@pytest.mark.parametrize("axis", [1, -2, np.int64(1)])
@pytest.mark.parametrize(
    "make",
    [list, tuple, np.array, torch.tensor, lambda v: np.repeat(v, 3)[::3], lambda v: np.array(v)[::-1][::-1]],
    ids=["list", "tuple", "array", "torch", "strided", "reversed twice"],
)
def test_per_channel_quantization(axis, make):
    q = bn.QuantizedTensor(codes((2, 3, 4)), make([0.5, 0.25, 2.0]), make([0, 255, 7]), axis)
    assert q.axis == 1
    assert type(q.axis) is int
    assert (q.scale.dtype, q.zero_point.dtype) == (np.float64, np.int64)
    assert (q.scale.tolist(), q.zero_point.tolist()) == ([0.5, 0.25, 2.0], [0, 255, 7])


def test_per_channel_quantization_is_apart_from_what_it_was_made_of():
    scales, zero_points = np.array([0.5, 0.25]), np.array([1, 2])
    q = bn.QuantizedTensor(codes((2, 3)), scales, zero_points, 0)
    scales[:] = zero_points[:] = 9
    assert q.scale.tolist() == [0.5, 0.25]
    assert q.zero_point.tolist() == [1, 2]


@pytest.mark.parametrize("dtype", [">f8", ">f4", "<f2", np.float32, np.longdouble])
def test_per_channel_scales_of_any_float_type(dtype):
    q = bn.QuantizedTensor(codes(3), np.array([0.5, 0.25, 2], dtype), np.array([1, 2, 3], ">i2"), 0)
    assert q.scale.tolist() == [0.5, 0.25, 2.0]
    assert q.zero_point.tolist() == [1, 2, 3]


@pytest.mark.parametrize(("scale", "zero_point"), [(np.empty(0), np.empty(0, np.int64)), ([], []), ((), ())])
def test_per_channel_without_channels(scale, zero_point):
    q = bn.QuantizedTensor(codes((2, 0)), scale, zero_point, 1)
    assert (q.scale.dtype, q.zero_point.dtype) == (np.float64, np.int64)
    assert q.dequantize().shape == (2, 0)
    assert q[1].axis == 0


# --- what it says of itself -----------------------------------------------------------------------------------


def test_accessors_per_tensor():
    data = codes((2, 3), np.int8)
    q = bn.QuantizedTensor(data, 0.1, -3)
    assert q.qscheme() is bn.per_tensor_affine
    assert (q.q_scale(), q.q_zero_point()) == (0.1, -3)
    assert (type(q.q_scale()), type(q.q_zero_point())) == (float, int)
    assert q.int_repr() is q.data


def test_accessors_per_channel():
    q = bn.QuantizedTensor(codes((2, 3)), [0.1, 0.2, 0.3], [4, 5, 6], -1)
    assert q.qscheme() is bn.per_channel_affine
    assert q.q_per_channel_axis() == 1
    assert q.q_per_channel_scales().tolist() == [0.1, 0.2, 0.3]
    assert q.q_per_channel_zero_points().tolist() == [4, 5, 6]
    assert q.q_per_channel_scales().dtype == np.float64
    assert q.q_per_channel_zero_points().dtype == np.int64
    assert q.int_repr() is q.data


@pytest.mark.parametrize("name", ["q_scale", "q_zero_point"])
def test_one_scale_of_a_per_channel_tensor(name):
    with pytest.raises(ValueError, match=rf"{name}\(\).*per_tensor_affine.*per_channel_affine"):
        getattr(per_channel(codes((2, 3)), 1), name)()


@pytest.mark.parametrize("name", ["q_per_channel_scales", "q_per_channel_zero_points", "q_per_channel_axis"])
def test_many_scales_of_a_per_tensor_tensor(name):
    with pytest.raises(ValueError, match=rf"{name}\(\).*per_channel_affine.*per_tensor_affine"):
        getattr(bn.QuantizedTensor(codes(3), 0.5, 3), name)()


@pytest.mark.parametrize("name", ["data", "scale", "zero_point", "axis", "dtype", "shape", "ndim", "unheard_of"])
def test_attributes_cannot_be_set(name):
    q = bn.QuantizedTensor(codes((2, 3)), 0.5, 3)
    with pytest.raises(AttributeError):
        setattr(q, name, 1)
    with pytest.raises(AttributeError):
        delattr(q, name)
    assert same(q, bn.QuantizedTensor(codes((2, 3)), 0.5, 3))


@pytest.mark.filterwarnings("ignore:nanobind")  # it warns and raises
def test_it_cannot_be_constructed_again():
    q = bn.QuantizedTensor(codes((2, 3)), 0.5, 3)
    with pytest.raises(TypeError):
        q.__init__(codes((2, 3)), 0.25, 4)
    assert same(q, bn.QuantizedTensor(codes((2, 3)), 0.5, 3))


@pytest.mark.parametrize("make", [lambda q: q, lambda q: q[1:], copy.copy, copy.deepcopy])
def test_per_channel_arrays_cannot_be_written(make):
    q = make(per_channel(codes((3, 4)), 0))
    for array in (q.scale, q.zero_point, q.q_per_channel_scales(), q.q_per_channel_zero_points()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


# --- copies ---------------------------------------------------------------------------------------------------

TENSORS = {
    "per tensor": lambda: bn.QuantizedTensor(codes((2, 3, 4)), 0.1, 200),
    "int8": lambda: bn.QuantizedTensor(codes((2, 3, 4), np.int8), 0.1, -100),
    "per channel": lambda: per_channel(codes((2, 3, 4)), 1),
    "strided": lambda: per_channel(codes((4, 3, 8), np.int8)[::2, :, ::-2], 2),
    "fortran": lambda: bn.QuantizedTensor(np.asfortranarray(codes((2, 3))), 0.1, 0),
    "0-d": lambda: bn.QuantizedTensor(np.array(7, np.uint8), 0.1, 3),
    "empty": lambda: per_channel(codes((2, 0, 4)), 0),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", TENSORS)
def test_pickle(name, protocol):
    q = TENSORS[name]()
    loaded = pickle.loads(pickle.dumps(q, protocol))
    assert type(loaded) is bn.QuantizedTensor
    assert same(loaded, q)
    assert not np.shares_memory(loaded.data, q.data)
    np.testing.assert_array_equal(loaded.dequantize(), q.dequantize())


def test_pickle_in_another_process():
    q = TENSORS["per channel"]()
    code = (
        "import pickle, sys; q = pickle.load(sys.stdin.buffer); sys.stdout.buffer.write(q.dequantize().tobytes())"
    )
    answer = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(q), capture_output=True, check=True)
    assert answer.stdout == q.dequantize().tobytes()


@pytest.mark.parametrize("name", TENSORS)
def test_copy_shares_the_data(name):
    q = TENSORS[name]()
    copied = copy.copy(q)
    assert copied is not q
    assert same(copied, q)
    assert copied.data.ctypes.data == q.data.ctypes.data
    assert copied.data.strides == q.data.strides


@pytest.mark.parametrize("name", TENSORS)
def test_deepcopy_does_not(name):
    q = TENSORS[name]()
    copied = copy.deepcopy(q)
    assert same(copied, q)
    assert not np.shares_memory(copied.data, q.data)
    if q.data.size:
        copied.data[...] = q.data[...] ^ 1
        assert not same(copied, q)


# --- slices ---------------------------------------------------------------------------------------------------


def check_slice(q, index):
    """Compare a slice with the slice of the real numbers, and see that it is a view."""
    part = q[index]
    assert type(part) is bn.QuantizedTensor
    assert type(part.data) is np.ndarray
    assert part.dtype is q.dtype
    np.testing.assert_array_equal(part.dequantize(), np.asarray(q.dequantize()[index]), strict=True)
    view = q.data[index]
    if part.data.size:
        assert np.shares_memory(part.data, q.data)
        if isinstance(view, np.ndarray):
            assert part.data.strides == view.strides
    if q.axis is None:
        assert (part.axis, part.scale, part.zero_point) == (None, q.scale, q.zero_point)


SLICES = [
    0,
    -1,
    np.int64(1),
    slice(None),
    slice(1, 3),
    slice(None, None, 2),
    slice(None, None, -1),
    slice(2, None, -2),
    slice(5, 2),
    slice(-2, 100),
]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("along", [0, 1, 2])
@pytest.mark.parametrize("item", SLICES, ids=repr)
def test_slice_along_each_axis(item, along, axis, dtype):
    q = of_axis(codes((3, 4, 5), dtype), axis)
    check_slice(q, (slice(None),) * along + (item,))
    check_slice(q, (..., item) + (slice(None),) * (2 - along))
    check_slice(q, (None,) + (slice(None),) * along + (item, None, ...))


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize(
    "index",
    [
        (),
        ...,
        None,
        (None, None),
        (..., None),
        (0, ..., 0),
        (None, ..., None),
        (1, 2, 3),
        (1, 2, 3, None),
        (1, 2, ..., 3),
    ],
    ids=repr,
)
def test_slice_of_the_whole(index, axis):
    check_slice(of_axis(codes((3, 4, 5)), axis), index)


@pytest.mark.thorough
@hypothesis.settings(max_examples=400, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    shape=arrays.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=6),
    choice=hypothesis.strategies.data(),
)
def test_any_slice(shape, choice):
    axis = choice.draw(hypothesis.strategies.sampled_from([None, *range(len(shape))]), "axis")
    index = choice.draw(arrays.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True, max_dims=8), "index")
    check_slice(of_axis(codes(shape), axis), index)


def random_item(rng, n):
    """Return an integer, a slice of any direction, or a None before a slice."""
    bounds = [None, *range(-n - 1, n + 2)]
    a_slice = slice(rng.choice(bounds), rng.choice(bounds), rng.choice([None, 1, 2, 3, -1, -2, -3]))
    return [(int(rng.integers(-n, n)),), (a_slice,), (None, a_slice), (slice(None),)][rng.integers(4)]


def test_random_slices_of_slices():
    rng = np.random.default_rng(1)
    for _ in range(1500):
        shape = tuple(rng.integers(1, 6, rng.integers(1, 5)).tolist())
        q = of_axis(codes(shape), rng.choice([None, *range(len(shape))]))
        for _ in range(2):
            items = [item for n in q.shape if n for item in random_item(rng, n)]
            if 0 in q.shape or rng.random() < 0.3:
                items = [...]
            check_slice(q, tuple(items))
            q = q[tuple(items)]


def test_channel_parameters_follow():
    q = bn.QuantizedTensor(codes((2, 4, 3)), [0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4], 1)
    part = q[None, 1, ::-2]
    assert part.axis == 1
    assert part.scale.tolist() == [0.4, 0.2]
    assert part.zero_point.tolist() == [4, 2]
    assert part.scale.flags.c_contiguous
    one = q[:, -2]
    assert (one.axis, one.scale, one.zero_point) == (None, 0.3, 3)
    assert (type(one.scale), type(one.zero_point)) == (float, int)
    assert q[..., 0].axis == 1
    assert q[0].axis == 0
    assert q[0, ..., None].axis == 0
    assert q[:, 2:2].scale.shape == (0,)


def test_a_slice_is_written_through():
    q = bn.QuantizedTensor(codes((2, 4)), 0.1, 0)
    q[1, 2:].data[...] = 9
    assert q.data[1].tolist()[2:] == [9, 9]


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize(
    "index", [2, -3, (0, 3), (0, 0, 0), (slice(None), 3), (..., 3), (..., 0, ...), (None, 2)], ids=repr
)
def test_index_out_of_range(index, axis):
    with pytest.raises(IndexError):
        of_axis(codes((2, 3)), axis)[index]


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize(
    "index",
    [True, np.True_, [0, 1], np.array([0, 1]), np.array(True), 1.0, "0", (0, [1]), (slice(None), True), b"", {}],
    ids=repr,
)
def test_unsupported_index(index, axis):
    with pytest.raises(TypeError, match="integers, slices, None and"):
        of_axis(codes((2, 3)), axis)[index]


def test_items_cannot_be_set():
    with pytest.raises(TypeError):
        bn.QuantizedTensor(codes((2, 3)), 0.5, 3)[0] = 1


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_len_and_iteration(axis):
    q = of_axis(codes((4, 3)), axis)
    assert len(q) == 4
    rows = list(q)
    assert len(rows) == 4
    for row, real in zip(rows, q.dequantize(), strict=True):
        np.testing.assert_array_equal(row.dequantize(), real)
    assert list(of_axis(codes((0, 3)), None)) == []


def test_a_scalar_has_no_length_and_no_items():
    q = bn.QuantizedTensor(np.array(7, np.uint8), 0.5, 3)
    with pytest.raises(TypeError):
        len(q)
    with pytest.raises(TypeError):
        iter(q)
    with pytest.raises(IndexError):
        q[0]


# --- real numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_numpy_sees_the_real_numbers(axis):
    q = of_axis(codes((3, 4)), axis)
    real = np.asarray(q)
    assert real.dtype == np.float32
    np.testing.assert_array_equal(real, q.dequantize())
    np.testing.assert_array_equal(q + np.float32(1), q.dequantize() + 1)
    assert np.max(q) == q.dequantize().max()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int32, ">f4", object])
def test_numpy_sees_them_in_the_type_it_asks_for(dtype):
    q = bn.QuantizedTensor(codes((3, 4)), 0.5, 3)
    real = np.asarray(q, dtype)
    assert real.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(real, q.dequantize().astype(dtype))
    np.testing.assert_array_equal(q.__array__(dtype), q.dequantize().astype(dtype))


@pytest.mark.parametrize("dtype", [np.uint8, "i1"])
def test_numpy_cannot_have_them_as_bytes(dtype):
    """Codes are bytes and real numbers are not: whoever asks for these has mixed them up."""
    with pytest.raises(TypeError, match=r"\.data"):
        np.asarray(bn.QuantizedTensor(codes((3, 4)), 0.5, 3), dtype)


def test_numpy_cannot_have_them_without_a_copy():
    q = bn.QuantizedTensor(codes((3, 4)), 0.5, 3)
    with pytest.raises(ValueError if int(np.__version__[0]) >= 2 else TypeError, match="copy"):
        np.asarray(q, copy=False)  # NumPy 1 has no such argument
    with pytest.raises(ValueError, match="copy=False"):
        q.__array__(copy=False)
    assert np.array(q, copy=True).tolist() == q.dequantize().tolist()
    assert q.__array__(None, copy=None).tolist() == q.dequantize().tolist()


def test_real_numbers_are_new_each_time():
    q = bn.QuantizedTensor(codes((3, 4)), 0.5, 3)
    assert not np.shares_memory(q.dequantize(), q.dequantize())


def test_members_are_documented():
    undocumented = [
        name
        for name, member in vars(bn.QuantizedTensor).items()
        if not name.startswith("_") and isinstance(member, (types.FunctionType, property)) and not member.__doc__
    ]
    assert undocumented == []
