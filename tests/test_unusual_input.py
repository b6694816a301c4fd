"""Input of a norm that is unusual, but good."""

import array
import decimal
import fractions

import numpy as np
import pytest
import torch
from good_calls import CHANNELS, VECTORS, OnlyInterface, call_function, codes, filled, good, read_only, ways

import bytenorm as bn


def unaligned(values):
    made = np.frombuffer(bytearray(values.nbytes + 1), values.dtype, offset=1)
    made[...] = values
    assert not made.flags.aligned
    return made


FORMS = {
    "list": lambda v: v.tolist(),
    "tuple": lambda v: tuple(v.tolist()),
    "list of numbers of NumPy": list,
    "float16": lambda v: v.astype(np.float16),
    "float64": lambda v: v.astype(np.float64),
    "longdouble": lambda v: v.astype(np.longdouble),
    "strided": lambda v: np.repeat(v, 3)[::3],
    "strided float64": lambda v: np.repeat(v.astype(np.float64), 3)[::3],
    "reversed": lambda v: v[::-1].copy()[::-1],
    "column": lambda v: np.stack([v, -v], 1)[:, 0],
    "row of a Fortran array": lambda v: np.asfortranarray([v, -v])[0],
    "unaligned": unaligned,
    "unaligned float64": lambda v: unaligned(v.astype(np.float64)),
    "unaligned and strided": lambda v: unaligned(np.repeat(v, 2))[::2],
    "unaligned and byte-swapped": lambda v: unaligned(v.astype(">f4")),
    "read-only": lambda v: read_only(v.copy()),
    "byte-swapped": lambda v: v.astype(">f4"),
    "byte-swapped float64": lambda v: v.astype(">f8"),
    "byte-swapped float16": lambda v: v.astype(">f2"),
    "field of records": lambda v: np.rec.fromarrays([v, v], names="a,b")["a"],
    "torch": torch.from_numpy,
    "torch float64": lambda v: torch.from_numpy(v).double(),
    "torch, strided": lambda v: torch.from_numpy(np.repeat(v, 2))[::2],
    "array": lambda v: array.array("f", v.tolist()),
    "memoryview": memoryview,
    "array interface": OnlyInterface,
}


def half(values):
    """Return float32 values that float16 holds as well."""
    return values.astype(np.float16).astype(np.float32)


@ways
@pytest.mark.parametrize("which", [*[[name] for name in VECTORS], VECTORS], ids=" ".join)
@pytest.mark.parametrize("form", FORMS)
def test_parameters_in_any_form(form, which, call):
    arguments = good()
    arguments.update({name: half(arguments[name]) for name in VECTORS})
    want = call_function(arguments)
    given = {**arguments, **{name: FORMS[form](arguments[name]) for name in which}}
    got = call(given, out := filled())
    np.testing.assert_array_equal(out, want.data)
    assert (got.scale, got.zero_point) == (want.scale, want.zero_point)


@ways
@pytest.mark.parametrize("which", VECTORS)
@pytest.mark.parametrize(
    "expanded",
    [
        lambda value: np.broadcast_to(np.float32(value), CHANNELS),
        lambda value: np.broadcast_to(np.float64(value), CHANNELS),
        lambda value: torch.tensor(value).expand(CHANNELS),
        lambda value: np.lib.stride_tricks.as_strided(np.array([value], np.float32), (CHANNELS,), (0,)),
    ],
    ids=["float32", "float64", "torch", "strides"],
)
def test_expanded_parameters(expanded, which, call):
    want = call_function({**good(), which: np.full(CHANNELS, 0.75, np.float32)})
    np.testing.assert_array_equal(call({**good(), which: expanded(0.75)}).data, want.data)


@ways
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64, np.uint64, list])
def test_whole_numbers_as_parameters(kind, call):
    values = [[1, 2, 3], [4, 0, 1], [3, 2, 1], [1, 4, 9]]
    want = call_function({**good(), **dict(zip(VECTORS, np.array(values, np.float32), strict=True))})
    given = {name: v if kind is list else np.array(v, kind) for name, v in zip(VECTORS, values, strict=True)}
    np.testing.assert_array_equal(call({**good(), **given}).data, want.data)


@ways
def test_parameters_are_rounded_once(call):
    wide = {"mean": np.array([0.1, 1 / 3, 2**24 + 1.0]), "var": np.array([0.1, 1e-50, 7.0])}
    narrow = {name: value.astype(np.float32) for name, value in wide.items()}
    np.testing.assert_array_equal(call({**good(), **wide}).data, call_function({**good(), **narrow}).data)


@ways
@pytest.mark.parametrize(
    "changes",
    [
        {"eps": np.float64(1e-5), "output_scale": np.float64(0.1), "output_zero_point": np.int64(30)},
        {"eps": np.array(1e-5), "output_scale": np.array(0.1), "output_zero_point": np.array(30)},
        {"output_zero_point": np.uint8(30)},
        {"output_zero_point": torch.tensor(30)},
        {"eps": decimal.Decimal("1e-5"), "output_scale": fractions.Fraction(1, 10)},
        {"relu": np.False_, "axis": np.int64(1), "output_dtype": bn.quint8},
        {"axis": -3},
    ],
    ids=str,
)
def test_numbers_of_other_types(changes, call):
    got = call({**good(), **changes})
    np.testing.assert_array_equal(got.data, call_function(good()).data)
    assert (got.scale, got.zero_point) == (0.1, 30)
    assert (type(got.scale), type(got.zero_point)) == (float, int)


LARGEST = float(np.finfo(np.float32).max)


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
@pytest.mark.parametrize("eps", [0, 0.0, -0.0, 1e-60, 1e-45, 1.0, 1e38, LARGEST, 3.4028235e38])
def test_eps_at_its_limits(eps, lists, call):
    arguments = {**good(), "eps": eps}
    want = call_function({**good(), "eps": float(np.float32(eps))}).data
    if lists:
        arguments["var"] = arguments["var"].tolist()
    np.testing.assert_array_equal(call(arguments).data, want)


DATA = {
    "strided": lambda x: np.repeat(np.repeat(x, 2, 3), 3, 0)[::3, :, :, ::2],
    "expanded": lambda x: np.broadcast_to(x[:1], x.shape),
    "reversed": lambda x: x[::-1, ::-1, ::-1, ::-1],
    "odd address": lambda x: np.frombuffer(bytearray(1) + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "read-only": lambda x: read_only(x.copy()),
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "fortran": np.asfortranarray,
    "channels last": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
    "field of records": lambda x: np.rec.fromarrays([x, x], names="a,b")["a"],
    "torch": lambda x: torch.from_numpy(x.copy()),
    "memoryview": memoryview,
}


@ways
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("form", DATA)
def test_data_in_any_form(form, dtype, call):
    x = codes((8, CHANNELS, 9, 11), dtype)
    made = DATA[form](x)
    plain = np.ascontiguousarray(np.asarray(made))
    for axis in (None, 1):
        quantization = (0.05, 12, None) if axis is None else ([0.05, 0.1, 0.2], [12, 0, 100], 1)
        want = call({**good(), "input": bn.QuantizedTensor(plain, *quantization)}).data
        got = call({**good(), "input": bn.QuantizedTensor(made, *quantization)})
        np.testing.assert_array_equal(got.data, want, strict=True)
