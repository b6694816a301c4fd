"""Memory for the output of a norm: what is refused, and what overlaps."""

import numpy as np
import pytest
from good_calls import (
    PATTERN,
    SHAPE,
    VECTORS,
    OnlyInterface,
    assert_in_place,
    assert_out_refused,
    codes,
    filled,
    good,
    is_over,
    read_only,
    ways,
)

import bytenorm as bn

BAD_OUT = {
    "another shape": (lambda: filled((4, 3, 5, 3)), ValueError, ["shape", "(4, 3, 5, 2)", "(4, 3, 5, 3)"]),
    "another order": (lambda: filled((4, 5, 2, 3)), ValueError, ["shape", "(4, 5, 2, 3)"]),
    "fewer dimensions": (lambda: filled((4, 3, 10)), ValueError, ["shape", "(4, 3, 10)"]),
    "more dimensions": (lambda: filled((1, *SHAPE)), ValueError, ["shape", "(1, 4, 3, 5, 2)"]),
    "0-d": (lambda: filled(()), ValueError, ["shape", "()"]),
    "int8": (lambda: filled(SHAPE, np.int8), ValueError, ["dtype", "uint8", "int8"]),
    "float32": (lambda: filled(SHAPE, np.float32), ValueError, ["dtype", "uint8", "float32"]),
    "uint16": (lambda: filled(SHAPE, np.uint16), ValueError, ["dtype", "uint8", "uint16"]),
    "bool": (lambda: np.ones(SHAPE, bool), ValueError, ["dtype", "uint8", "bool"]),
    "read-only": (lambda: read_only(filled()), ValueError, ["read-only"]),
    "expanded": (lambda: np.broadcast_to(filled((1, 3, 5, 2)), SHAPE), ValueError, []),
    "list": (lambda: filled().tolist(), TypeError, ["list"]),
    "number": (lambda: 171, TypeError, ["int"]),
    "text": (lambda: "out", TypeError, ["str"]),
    "bytes": (lambda: bytes(120), TypeError, ["bytes"]),
    "masked": (lambda: np.ma.masked_array(filled()), TypeError, ["masked"]),
    "another scale": (lambda: bn.QuantizedTensor(filled(), 0.2, 30), ValueError, ["0.1", "0.2"]),
    "nearly the scale": (
        lambda: bn.QuantizedTensor(filled(), float(np.float32(0.1)), 30),
        ValueError,
        ["0.1", "0.10000000149"],
    ),
    "another zero point": (lambda: bn.QuantizedTensor(filled(), 0.1, 31), ValueError, ["30", "31"]),
    "another type": (
        lambda: bn.QuantizedTensor(filled(SHAPE, np.int8), 0.1, 30),
        ValueError,
        ["bytenorm.quint8", "bytenorm.qint8"],
    ),
    "per channel": (
        lambda: bn.QuantizedTensor(filled(), [0.1] * 3, [30] * 3, 1),
        ValueError,
        ["per channel"],
    ),
    "tensor of another shape": (lambda: bn.QuantizedTensor(filled((4, 3)), 0.1, 30), ValueError, ["(4, 3)"]),
    "read-only tensor": (lambda: bn.QuantizedTensor(read_only(filled()), 0.1, 30), ValueError, ["read-only"]),
}


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
@pytest.mark.parametrize("name", BAD_OUT)
def test_bad_out(name, lists, call):
    make, error, shown = BAD_OUT[name]
    assert_out_refused(call, make(), error, shown, lists=lists)


OVERLAPS_ITSELF = {
    "rows repeated": lambda m: np.lib.stride_tricks.as_strided(m, (4, 3), (0, 1)),
    "columns repeated": lambda m: np.lib.stride_tricks.as_strided(m, (4, 3), (3, 0)),
    "sliding": lambda m: np.lib.stride_tricks.as_strided(m, (4, 3), (1, 1)),
    "one byte shared": lambda m: np.lib.stride_tricks.as_strided(m, (4, 3), (2, 1)),
    "interleaved and met": lambda m: np.lib.stride_tricks.as_strided(m, (4, 3), (2, 3)),
    "backwards": lambda m: np.lib.stride_tricks.as_strided(m[12:], (4, 3), (-2, 1)),
}


@ways
@pytest.mark.parametrize("name", OVERLAPS_ITSELF)
def test_out_that_overlaps_itself(name, call):
    memory = np.full(64, PATTERN, np.uint8)
    arguments = {**good(), "input": bn.QuantizedTensor(codes((4, 3)), 0.05, 120)}
    with pytest.raises(ValueError, match=r"^out must not overlap itself.*\(4, 3\)"):
        call(arguments, OVERLAPS_ITSELF[name](memory))
    assert (memory == PATTERN).all()


NEARLY_OVERLAPS_ITSELF = {
    "interleaved": lambda m: np.lib.stride_tricks.as_strided(m, (4, 3), (2, 9)),
    "interleaved, far": lambda m: np.lib.stride_tricks.as_strided(m, (4, 3), (3, 4)),
    "one row": lambda m: np.lib.stride_tricks.as_strided(m, (1, 3), (0, 1)),
    "backwards": lambda m: np.lib.stride_tricks.as_strided(m[12:], (4, 3), (-3, 1)),
}


@ways
@pytest.mark.parametrize("name", NEARLY_OVERLAPS_ITSELF)
def test_out_that_just_does_not_overlap_itself(name, call):
    memory = np.full(64, PATTERN, np.uint8)
    out = NEARLY_OVERLAPS_ITSELF[name](memory)
    assert len({out[i : i + 1, j : j + 1].ctypes.data for i, j in np.ndindex(out.shape)}) == out.size
    arguments = {**good(), "input": bn.QuantizedTensor(codes(out.shape), 0.05, 120)}
    want = call(arguments).data
    assert is_over(call(arguments, out), out)
    np.testing.assert_array_equal(out, want)


# Views of one buffer of 40 bytes for input and output, which share some bytes but not all alike.
PARTLY = {
    "one byte further": (lambda m: m[:30].reshape(10, 3), lambda m: m[1:31].reshape(10, 3)),
    "one row further": (lambda m: m[:30].reshape(10, 3), lambda m: m[3:33].reshape(10, 3)),
    "one row back": (lambda m: m[3:33].reshape(10, 3), lambda m: m[:30].reshape(10, 3)),
    "last byte": (lambda m: m[:18].reshape(6, 3), lambda m: m[17:35].reshape(6, 3)),
    "reversed": (lambda m: m[:30].reshape(10, 3), lambda m: m[:30].reshape(10, 3)[::-1]),
    "channels reversed": (lambda m: m[:30].reshape(10, 3), lambda m: m[:30].reshape(10, 3)[:, ::-1]),
    "transposed": (lambda m: m[:9].reshape(3, 3), lambda m: m[:9].reshape(3, 3).T),
    "same start, other strides": (lambda m: m[:15].reshape(5, 3), lambda m: m[:30].reshape(5, 6)[:, :3]),
    "every second row": (lambda m: m[:30].reshape(10, 3)[::2], lambda m: m[:15].reshape(5, 3)),
    "interleaved with one met": (lambda m: m[:36].reshape(6, 6)[:, ::2], lambda m: m[1:37].reshape(6, 6)[:, 1::2]),
}


@ways
@pytest.mark.parametrize("name", PARTLY)
def test_out_that_overlaps_the_input_partly(name, call):
    memory = codes(40)
    before = memory.copy()
    make_input, make_out = PARTLY[name]
    arguments = {**good(), "input": bn.QuantizedTensor(make_input(memory), 0.05, 120)}
    out = make_out(memory)
    for given in (out, bn.QuantizedTensor(out, 0.1, 30)):
        with pytest.raises(ValueError, match=r"^out must be the input's own memory or apart .* overlap"):
            call(arguments, given)
    np.testing.assert_array_equal(memory, before)


APART = {
    "halves of the columns": lambda m: (m.reshape(6, 32)[:, :16], m.reshape(6, 32)[:, 16:]),
    "halves, the other way": lambda m: (m.reshape(6, 32)[:, 16:], m.reshape(6, 32)[:, :16]),
    "every second row": lambda m: (m.reshape(12, 16)[::2], m.reshape(12, 16)[1::2]),
    "every second byte": lambda m: (m.reshape(6, 32)[:, ::2], m.reshape(6, 32)[:, 1::2]),
    "backwards": lambda m: (m.reshape(6, 32)[::-1, :16], m.reshape(6, 32)[:, 16:]),
    "one behind the other": lambda m: (m[:96].reshape(6, 16), m[96:].reshape(6, 16)),
    "channels of images": lambda m: (m.reshape(2, 32, 3)[:, :16], m.reshape(2, 32, 3)[:, 16:]),
}


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
@pytest.mark.parametrize("name", APART)
def test_input_and_out_interleave_but_share_nothing(name, lists, call):
    memory = codes(192)
    x, out = APART[name](memory)
    rng = np.random.default_rng(2)
    arguments = {**good(), "input": bn.QuantizedTensor(x, 0.05, 120)}
    for vector in VECTORS:
        arguments[vector] = rng.uniform(0.5, 2, 16).astype(np.float32)
    if lists:
        arguments["var"] = arguments["var"].tolist()
    before = x.copy()
    want = call({**arguments, "input": bn.QuantizedTensor(before, 0.05, 120)}).data
    assert is_over(call(arguments, out), out)
    np.testing.assert_array_equal(out, want)
    np.testing.assert_array_equal(x, before)


IN_PLACE = {
    "itself": lambda q: q.data,
    "a view": lambda q: q.data[...],
    "another array over it": lambda q: np.frombuffer(q.data, np.uint8).reshape(q.shape),
    "a tensor over it": lambda q: bn.QuantizedTensor(q.data, 0.1, 30),
}


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name, lists, call):
    assert_in_place(call, IN_PLACE[name], lists=lists)


@ways
def test_in_place_of_the_other_type(call):
    arguments = {**good(), "output_dtype": bn.qint8}
    want = call(arguments).data
    q = bn.QuantizedTensor(codes(), 0.05, 120)
    got = call({**arguments, "input": q}, q.data.view(np.int8))
    assert got.dtype is bn.qint8
    np.testing.assert_array_equal(q.data.view(np.int8), want)


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
def test_in_place_where_an_axis_of_length_one_has_any_stride(lists, call):
    q = bn.QuantizedTensor(codes((1, 3, 5)), 0.05, 120)
    out = np.lib.stride_tricks.as_strided(q.data, (1, 3, 5), (77, 5, 1))
    arguments = {**good(), "input": q}
    want = call(arguments).data
    if lists:
        arguments["mean"] = arguments["mean"].tolist()
    np.testing.assert_array_equal(call(arguments, out).data, want)


@ways
@pytest.mark.parametrize("shape", [(0, 3), (4, 3, 0), (0, 3, 0, 2)])
def test_an_empty_out(shape, call):
    out = np.empty(shape, np.uint8)
    arguments = {**good(), "input": bn.QuantizedTensor(np.empty(shape, np.uint8), 0.05, 120)}
    got = call(arguments, out)
    assert is_over(got, out)
    assert (got.scale, got.zero_point) == (0.1, 30)
    apart = np.lib.stride_tricks.as_strided(np.empty(1, np.uint8), shape, (0,) * len(shape))
    assert is_over(call(arguments, apart), apart)


@ways
def test_other_memory_as_out(call):
    memory = filled()
    got = call(good(), OnlyInterface(memory))
    assert np.shares_memory(got.data, memory)
    np.testing.assert_array_equal(memory, call(good()).data)


@ways
def test_memory_of_a_file(tmp_path, call):
    codes().tofile(tmp_path / "in")
    x = np.memmap(tmp_path / "in", np.uint8, "r", shape=SHAPE)
    out = np.memmap(tmp_path / "out", np.uint8, "w+", shape=SHAPE)
    got = call({**good(), "input": bn.QuantizedTensor(x, 0.05, 120)}, out)
    assert np.shares_memory(got.data, out)
    out.flush()
    want = call(good()).data
    np.testing.assert_array_equal(np.fromfile(tmp_path / "out", np.uint8).reshape(SHAPE), want)
    with pytest.raises(ValueError, match=r"^out must be writable"):
        call(good(), x)
