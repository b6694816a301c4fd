"""Tensors and types of torch where bytenorm's are wanted: what is refused, and whose memory may be the output."""

import numpy as np
import pytest
import torch
from good_calls import (
    CHANNELS,
    PATTERN,
    SHAPE,
    VECTORS,
    assert_in_place,
    assert_message,
    assert_out_refused,
    assert_refused,
    codes,
    good,
    label,
    ways,
)
from test_bad_quantize import dynamic, per_channel, per_tensor, requantize, tensor

import bytenorm as bn

BAD = [
    *(({name: torch.ones(3, requires_grad=True)}, TypeError, [name, "grad"]) for name in VECTORS),
    ({"input": torch.ones(SHAPE)}, TypeError, ["input", "QuantizedTensor", "float32"]),
    ({"input": torch.from_numpy(codes())}, TypeError, ["input", "QuantizedTensor", "uint8"]),
    ({"output_dtype": torch.quint8}, TypeError, ["output_dtype", "quint8", "qint8", "torch.quint8"]),
]


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
@pytest.mark.parametrize(("changes", "error", "shown"), BAD, ids=map(label, BAD))
def test_bad(changes, error, shown, lists, call):
    assert_refused(call, changes, error, shown, lists=lists)


REFUSED = [
    *(
        (call, "input", torch.zeros(3, dtype=torch.int32), ["int32"])
        for call in (per_tensor, per_channel, dynamic)
    ),
    *(
        (call, "dtype", torch.qint8, ["torch.qint8", "bytenorm.quint8 or bytenorm.qint8"])
        for call in (per_tensor, per_channel, dynamic, requantize)
    ),
    (tensor, "data", torch.zeros(3), ["float32"]),
]


@pytest.mark.parametrize(("call", "name", "value", "shown"), REFUSED)
def test_refused(call, name, value, shown):
    assert_message(lambda: call(**{name: value}), TypeError, [name, *shown])


def test_dequantize_of_a_tensor():
    with pytest.raises(TypeError, match=r"^q must be a bytenorm.QuantizedTensor, got"):
        bn.dequantize(torch.zeros(3))


def test_messages_say_how_to_wrap_what_came():
    norm = bn.BatchNorm(None, None, [0.0], [1.0], output_scale=0.1, output_zero_point=0)
    legacy = torch.quantize_per_tensor(torch.zeros(2, 1), 0.1, 3, torch.quint8)
    for call in (norm, lambda x: bn.QuantizedTensor(x, 0.1, 3)):
        with pytest.raises(TypeError, match=r"x\.int_repr\(\), x\.q_scale\(\), x\.q_zero_point\(\)"):
            call(legacy)
    for call in (norm, lambda x: bn.quantize_per_tensor(x, 0.1, 3, bn.quint8)):
        with pytest.raises(TypeError, match=r"QuantizedTensor\(codes, scale, zero_point\)"):
            call(torch.zeros(2, 1, dtype=torch.int8))


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
def test_bad_out(lists, call):
    for shape, dtype, shown in (
        (SHAPE, torch.int8, ["dtype", "int8"]),
        ((4, 3), torch.uint8, ["shape", "(4, 3)"]),
    ):
        assert_out_refused(call, torch.full(shape, 7, dtype=dtype), ValueError, shown, lists=lists)


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
def test_in_place(lists, call):
    assert_in_place(call, lambda q: torch.from_numpy(q.data), lists=lists)


@ways
@pytest.mark.parametrize("form", ["contiguous", "channels last", "slice"])
def test_memory_as_out(form, call):
    whole = torch.full((8, CHANNELS, 5, 2), PATTERN, dtype=torch.uint8)
    if form == "channels last":
        whole = whole.contiguous(memory_format=torch.channels_last)
    out = whole[2:6] if form == "slice" else whole[:4]
    want = call(good()).data
    got = call(good(), out)
    assert got.data.ctypes.data == out.data_ptr()
    np.testing.assert_array_equal(out.numpy(), want)
    rest = torch.cat([whole[:2], whole[6:]]) if form == "slice" else whole[4:]
    assert bool((rest == PATTERN).all())
