"""Odd and bad arguments, each given to every way to call a norm: the right codes, or an error that names it.

``python tests/test_torch_bad_calls.py`` counts them.
"""

import decimal
import fractions
import re
import sys
import warnings

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import bytenorm as bn
import bytenorm.torch as bt

# --- objects that answer oddly ----------------------------------------------------------------------------------


class Class:
    """Asked for its class, it raises."""

    __class__ = property(lambda self: 1 / 0)


def raising(*names, error=SystemError):
    """Return an object of which all these special methods raise."""

    def method(self, *_, **__):
        raise error("on purpose")

    return type("Hostile", (), dict.fromkeys(names, method))()


def answering(**answers):
    """Return an object of which these special methods answer with these things."""
    return type("Odd", (), {name: lambda self, *_, _a=answer, **__: _a for name, answer in answers.items()})()


HOSTILE = {
    "class raises": Class(),
    "repr raises": raising("__repr__", "__array__", "__float__", "__index__"),
    "array raises": raising("__array__"),
    "array raises memory": raising("__array__", error=MemoryError),
    "dlpack raises": raising("__dlpack__", "__dlpack_device__"),
    "dlpack answers": answering(__dlpack__=1, __dlpack_device__=(1, 0)),
    "device answers": answering(__dlpack__=1, __dlpack_device__="cpu"),
    "array answers": answering(__array__="no array"),
    "len negative": answering(__len__=-1),
    "len huge": answering(__len__=2**62),
    "attributes raise": raising("__getattr__", error=RuntimeError),
    "attributes raise always": raising("__getattribute__", error=RuntimeError),
    "float raises": raising("__float__", "__index__"),
    "float answers": answering(__float__="1.0", __index__="1"),
    "object": object(),
    "type": int,
    "function": len,
    "generator": (i for i in ()),
    "string": "1.0",
    "bytes": b"\x01",
    "complex": 1 + 2j,
    "dict": {0: 1.0},
    "set": {1.0},
    "ellipsis": ...,
    "NotImplemented": NotImplemented,
    "slice": slice(3),
    "dtype": torch.float32,
}


def shrunk(tensor, size=1, start=0):
    tensor = tensor.clone()[start:]
    tensor.untyped_storage().resize_(size)
    return tensor


def quietly(make, *given, **named):
    """Return a tensor of a kind that torch warns of."""
    with warnings.catch_warnings(action="ignore"):
        return make(*given, **named)


class Plain(torch.Tensor):
    """A subclass that changes nothing."""


def cut(array, **flags):
    for name, value in flags.items():
        setattr(array.flags, name, value)
    return array


# --- vectors ----------------------------------------------------------------------------------------------------

V = np.array([0.5, 1.5, 2.0], np.float32)  # a good one for each of the four
T = torch.from_numpy(V)
WIDE = np.array([V, V + 1]).T
IN_ITSELF = [1.0, 2.0]
IN_ITSELF.append(IN_ITSELF)
RIGHT_VECTORS = {  # as V
    "list": V.tolist(),
    "tuple": tuple(V.tolist()),
    "float64": V.astype(np.float64),
    "float16": V.astype(np.float16),
    "big endian": V.astype(">f4"),
    "longdouble": V.astype(np.longdouble),
    "strided": np.repeat(V, 2)[::2],
    "reversed": V[::-1].copy()[::-1],
    "column": WIDE[:, 0],
    "read-only": cut(V.copy(), writeable=False),
    "unaligned": np.frombuffer(b"\0" + V.tobytes(), np.uint8)[1:].view(np.float32),
    "memoryview": memoryview(V),
    "subclass": V.view(type("Sub", (np.ndarray,), {})),
    "record field": np.array([(v,) for v in V], [("a", "f4")])["a"],
    "tensor float64": T.double(),
    "tensor half": T.half(),
    "tensor bfloat16": T.bfloat16(),
    "tensor strided": torch.stack([T, T], 1)[:, 0],
    "tensor offset": torch.cat([T, T])[3:],
    "lazy sign": torch.complex(T, -T).conj().imag,
    "lazy sign twice": torch._neg_view(torch._neg_view(T)),
    "real of a conjugate": torch.complex(T, T).conj().real,
    "parameter": torch.nn.Parameter(T.clone(), requires_grad=False),
    "buffer": torch.nn.Buffer(T.clone()),
    "tensor of a subclass": T.as_subclass(Plain),
    "of inference mode": torch.inference_mode()(T.clone)(),
    "tensor as a range": torch.stack([T, T])[1:].flatten(),
    "strided backwards": np.repeat(V[::-1], 2)[::-2],
    "bytes": memoryview(V.tobytes()).cast("f"),
}
BAD_VECTORS = {
    "NaN": np.array([0.5, np.nan, 2.0], np.float32),
    "inf": np.array([0.5, 1.5, np.inf], np.float32),
    "-inf": [0.5, -np.inf, 2.0],
    "beyond float32": [1e39, 1.5, 2.0],
    "beyond int64": [2**70, 1, 2],
    "two": V[:2],
    "four": np.ones(4, np.float32),
    "none in it": [],
    "0-d": np.float32(1.5),
    "a number": 1.5,
    "2-D": V[None],
    "(3, 1)": V[:, None],
    "bools": np.array([True, True, False]),
    "bools in a list": [True, False, True],
    "strings": ["a", "b", "c"],
    "numbers as strings": ["1.0", "2.0", "3.0"],
    "complex": V + 0j,
    "objects": V.astype(object),
    "None in it": [1.0, None, 2.0],
    "structured": np.zeros(3, [("a", "f4")]),
    "dates": np.zeros(3, "M8[s]"),
    "durations": np.zeros(3, "m8[s]"),
    "masked": np.ma.array(V, mask=[0, 1, 0]),
    "ragged": [[1.0], [1.0, 2.0], [3.0]],
    "nested": [[1.0, 2.0, 3.0]],
    "tensor two": T[:2],
    "tensor 2-D": T[None],
    "tensor 0-d": T[0],
    "tensor NaN": torch.tensor([0.5, float("nan"), 2.0]),
    "tensor inf": torch.tensor([0.5, float("inf"), 2.0], dtype=torch.float64),
    "tensor beyond float32": torch.tensor([1e39, 1.0, 1.0], dtype=torch.float64),
    "tensor complex": torch.complex(T, T),
    "tensor conjugate": torch.complex(T, T).conj(),
    "tensor bool": T.bool(),
    "tensor meta": T.to("meta"),
    "tensor sparse": T.to_sparse(),
    "tensor mkldnn": T.to_mkldnn(),
    "tensor bits": torch.zeros(3, dtype=torch.uint8).view(torch.bits8),
    "storage of one byte": shrunk(T),
    "storage of nothing": shrunk(T, 0),
    "storage one byte short": shrunk(T, 11),
    "requires a gradient": T.clone().requires_grad_(),
    "made of what requires a gradient": T.clone().requires_grad_() * 1,
    "tensor of nothing": T[:0],
    "tensor CSR": quietly(T[None].to_sparse_csr),
    "tensor nested": quietly(torch.nested.nested_tensor, [T]),
    "tensor jagged": quietly(torch.nested.nested_tensor, [T], layout=torch.jagged),
    "tensor complex half": quietly(T.to, torch.complex32),
    "parameter without a shape": torch.nn.UninitializedParameter(),
    "buffer without a shape": torch.nn.parameter.UninitializedBuffer(),
    "storage beyond an offset": shrunk(torch.cat([T, T]), 12, 3),
    "storage": T.untyped_storage(),
    "one in itself": IN_ITSELF,
    "size": torch.Size([1, 2]),
    "module": torch.nn.Identity(),
}

# --- numbers ----------------------------------------------------------------------------------------------------

RIGHT_NUMBERS = {  # as 2
    "int": 2,
    "float": 2.0,
    "float64": np.float64(2),
    "float16": np.float16(2),
    "0-d": np.array(2.0),
    "int8": np.int8(2),
    "uint64": np.uint64(2),
    "decimal": decimal.Decimal(2),
    "fraction": fractions.Fraction(2),
    "float subclass": type("F", (float,), {})(2.0),
    "int subclass": type("I", (int,), {})(2),
    "tensor": torch.tensor(2.0),
    "tensor float64": torch.tensor(2.0, dtype=torch.float64),
    "tensor int64": torch.tensor(2),
    "tensor uint8": torch.tensor(2, dtype=torch.uint8),
    "tensor (1,)": torch.tensor([2.0]),
    "tensor (1, 1)": torch.tensor([[2]]),
    "parameter": torch.nn.Parameter(torch.tensor([2.0]), requires_grad=False),
    "lazy sign": torch._neg_view(torch.tensor(-2.0)),
}
BAD_NUMBERS = {
    "None": None,
    "NaN": float("nan"),
    "inf": float("inf"),
    "-inf": -float("inf"),
    "negative": -1.0,
    "huge negative": -(2**70),
    "beyond a float": 10**400,
    "string": "2",
    "complex": 2 + 0j,
    "list": [2.0],
    "tuple": (2,),
    "two": np.array([2.0, 2.0]),
    "string of NumPy": np.str_("2"),
    "date": np.datetime64(2, "s"),
    "duration": np.timedelta64(2, "s"),
    "void": np.zeros(1, "V4")[0],
    "object array": np.array(2, object),
    "tensor of two": torch.tensor([2.0, 2.0]),
    "tensor of none": torch.tensor([]),
    "tensor NaN": torch.tensor(float("nan")),
    "tensor meta": torch.tensor(2.0, device="meta"),
    "tensor complex": torch.tensor(2 + 1j),
    "signaling": decimal.Decimal("sNaN"),
}
BAD_SCALES = BAD_NUMBERS | {"zero": 0.0, "denormal": 1e-45, "beyond float32": 1e39, "tiny": 1e-320}
BAD_EPS = BAD_NUMBERS | {"beyond float32": 1e39}
BAD_ZERO_POINTS = BAD_NUMBERS | {
    "beyond a byte": 256,
    "beyond int64": 2**63,
    "far beyond int64": 2**200,
    "half": 2.5,
    "half of NumPy": np.float64(2.5),
    "float": 2.0,
    "tensor half": torch.tensor(2.5),
    "fraction": fractions.Fraction(5, 2),
    "decimal": decimal.Decimal("2.5"),
}

# --- inputs -----------------------------------------------------------------------------------------------------

CODES = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5)
RIGHT_INPUTS = {
    "channels-last": CODES.contiguous(memory_format=torch.channels_last),
    "strided": torch.stack([CODES, CODES], -1)[..., 0],
    "offset": torch.cat([CODES, CODES])[2:],
    "transposed": CODES.transpose(2, 3).contiguous().transpose(2, 3),
    "parameter": torch.nn.Parameter(CODES.clone(), requires_grad=False),
    "of a subclass": CODES.as_subclass(Plain),
    "of inference mode": torch.inference_mode()(CODES.clone)(),
    "lazy sign twice": torch._neg_view(torch._neg_view(CODES)),
}
BAD_INPUTS = {
    "None": None,
    "1-D": CODES[0, 0, 0],
    "0-d": CODES[0, 0, 0, 0],
    "two channels": CODES[:, :2],
    "float": CODES.float(),
    "bool": CODES.bool(),
    "int64": CODES.long(),
    "int32": CODES.int(),
    "uint16": CODES.to(torch.uint16),
    "complex": CODES.float() + 0j,
    "65 dimensions": CODES.reshape(2, 3, 4, 5, *[1] * 61),
    "sparse": CODES.to_sparse(),
    "storage of one byte": shrunk(CODES),
    "storage one byte short": shrunk(CODES, CODES.numel() - 1),
    "bits": CODES.view(torch.bits8),
    "float8": CODES.view(torch.float8_e4m3fn),
    "uint64": CODES.to(torch.uint64),
    "nested": quietly(torch.nested.nested_tensor, [CODES[0]]),
    "jagged": quietly(torch.nested.nested_tensor, [CODES[0, 0]], layout=torch.jagged),
    "no channels": CODES[:, :0],
    "storage of nothing": shrunk(CODES, 0),
    "storage beyond an offset": shrunk(torch.cat([CODES, CODES]), 200, 2),
    "mkldnn": CODES.float().to_mkldnn(),
}

GOOD = {"x": CODES, "x_scale": 2.0, "x_zero_point": 2, "weight": V, "bias": V, "mean": V, "var": V, "eps": 2.0,
        "y_scale": 2.0, "y_zero_point": 2}  # fmt: skip
CALLED = {  # in messages, wherever the argument is given
    "x": ("x", "input", "data", "pieces"),
    "x_scale": ("x_scale", "scale", "scales", "a_scale", "input_scale", "input.q_scale()"),
    "x_zero_point": (
        "x_zero_point",
        "zero_point",
        "zero point",
        "zero_points",
        "a_zero_point",
        "input_zero_point",
        "input.q_zero_point()",
    ),
    "y_scale": ("y_scale", "output_scale", "scale"),
    "y_zero_point": ("y_zero_point", "output_zero_point", "zero_point"),
    "mean": ("mean", "running_mean"),
    "var": ("var", "running_var"),
}
VECTORS = ("weight", "bias", "mean", "var")


def tensors(call):
    """Return a call whose good vectors are tensors: what torch's dispatcher takes."""
    return {n: T if n in VECTORS and v is V else v for n, v in call.items()}


def core(x, x_scale, x_zero_point, weight, bias, mean, var, eps, y_scale, y_zero_point):
    q = bn.QuantizedTensor(x, x_scale, x_zero_point)
    return bn.quantized_batch_norm(q, weight, bias, mean, var, eps, y_scale, y_zero_point).data


def prepared(x, x_scale, x_zero_point, weight, bias, mean, var, eps, y_scale, y_zero_point):
    norm = bn.BatchNorm(weight, bias, mean, var, eps=eps, output_scale=y_scale, output_zero_point=y_zero_point)
    return norm(bn.QuantizedTensor(x, x_scale, x_zero_point)).data


def function(**call):
    return bt.batch_norm(**tensors(call)).numpy()


def operator(**call):
    return torch.ops.bytenorm.batch_norm(*tensors(call).values(), torch.uint8, False).numpy()


def of_legacy_tensors(x, x_scale, x_zero_point, **rest):
    q = torch._make_per_tensor_quantized_tensor(x, x_scale, x_zero_point)
    rest["output_scale"], rest["output_zero_point"] = rest.pop("y_scale"), rest.pop("y_zero_point")
    return bt.quantized_batch_norm(q, **rest).int_repr().numpy()


def of_our_tensors(x, x_scale, x_zero_point, **rest):
    rest["output_scale"], rest["output_zero_point"] = rest.pop("y_scale"), rest.pop("y_zero_point")
    return bt.quantized_batch_norm(bn.QuantizedTensor(x, x_scale, x_zero_point), **rest).data


def module(x, x_scale, x_zero_point, weight, bias, mean, var, eps, y_scale, y_zero_point):
    norm = bt.BatchNorm2d(
        3, eps, scale=y_scale, zero_point=y_zero_point, input_scale=x_scale, input_zero_point=x_zero_point
    )
    vectors = zip(("weight", "bias", "running_mean", "running_var"), (weight, bias, mean, var), strict=True)
    for name, vector in vectors:
        setattr(norm, name, torch.from_numpy(vector) if vector is V else vector)
    return norm(x).numpy()


def prepared_with(weight, bias, mean, var, eps, y_scale, y_zero_point):
    return bn.BatchNorm(weight, bias, mean, var, eps=eps, output_scale=y_scale, output_zero_point=y_zero_point)


def core_concat(x, x_scale, x_zero_point, *rest, **named):
    return bn.concat_batch_norm([bn.QuantizedTensor(x, x_scale, x_zero_point)], prepared_with(*rest, **named)).data


def core_add(x, x_scale, x_zero_point, *rest, **named):
    """Add zeros: the sum's codes are those of x."""
    a = bn.QuantizedTensor(x, x_scale, x_zero_point)
    b = bn.QuantizedTensor(np.full_like(a.data, a.zero_point), a.scale, a.zero_point)
    norm = prepared_with(*rest, **named)
    return bn.add_batch_norm(a, b, norm, sum_scale=a.scale, sum_zero_point=a.zero_point)[0].data


def concat_operator(x, x_scale, x_zero_point, **rest):
    pieces = [x], [x_scale], [x_zero_point]
    values = tensors(rest).values()
    return torch.ops.bytenorm.concat_batch_norm(*pieces, *values, torch.uint8, False).numpy()


def add_operator(x, x_scale, x_zero_point, **rest):
    b = torch.full_like(CODES, 2), 2.0, 2, 2.0, 2
    values = tensors(rest).values()
    return torch.ops.bytenorm.add_batch_norm(
        x, x_scale, x_zero_point, *b, *values, torch.uint8, False
    )[0].numpy()  # fmt: skip


WAYS = (
    core, prepared, core_concat, core_add, function, operator, concat_operator, add_operator, of_legacy_tensors,
    of_our_tensors, module,
)  # fmt: skip
OPERATORS = (operator, concat_operator, add_operator)  # torch's dispatcher stands before them

# What a way cannot be given: torch's own constructor stands before it, or its modules take tensors alone.
BEFORE = {of_legacy_tensors: ("x", "x_scale", "x_zero_point")}

BAD = [
    *((name, "bad", key, value) for name in VECTORS for key, value in (BAD_VECTORS | HOSTILE).items()),
    *(("eps", "bad", key, value) for key, value in (BAD_EPS | HOSTILE).items()),
    *((n, "bad", key, value) for n in ("x_scale", "y_scale") for key, value in (BAD_SCALES | HOSTILE).items()),
    *(
        (n, "bad", key, value)
        for n in ("x_zero_point", "y_zero_point")
        for key, value in (BAD_ZERO_POINTS | HOSTILE).items()
    ),
    *(("x", "bad", key, value) for key, value in (BAD_INPUTS | HOSTILE).items()),
]
ODD = [
    *((name, "odd", key, value) for name in VECTORS for key, value in RIGHT_VECTORS.items()),
    *(
        (name, "odd", key, value)
        for name in ("eps", "x_scale", "y_scale", "x_zero_point", "y_zero_point")
        for key, value in RIGHT_NUMBERS.items()
    ),
    *(("x", "odd", key, value) for key, value in RIGHT_INPUTS.items()),
]

# torch's dispatcher makes an int of these before the operator is asked: a fraction is cut off.
CUT_BY_TORCH = {"tensor half", "fraction", "decimal", "tensor NaN", "tensor complex"}


def outcome(way, call, name):
    """Return the codes, or the error's type and message."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of torch, about tensors that it converts
            return way(**call)
    except (TypeError, ValueError, RuntimeError) as error:
        return error


def is_clear(error, name, way):
    """Whether an error is of the promised kinds and names the argument."""
    if way in OPERATORS and isinstance(error, NotImplementedError):
        return True  # no kernel of ours: the dispatcher names the operator and the backend
    if way in OPERATORS and "uninitialized parameter in bytenorm." in str(error):
        return True  # the class of these parameters says so before the operator is asked
    if way in (core_add, add_operator) and name == "x" and re.match("(a|b) (must|needs|and b have) ", str(error)):
        return True
    kinds = (TypeError, ValueError)
    if way in OPERATORS or "gradient" in str(error):  # the dispatcher's own, and the one that is promised
        kinds += (RuntimeError,)
    names = "|".join(map(re.escape, CALLED.get(name, (name,))))
    return isinstance(error, kinds) and re.search(rf"(?<!\w)({names})(?!\w)", str(error))


def bad(way):
    """Return how many bad calls were made in a way, and what is wrong with how they ended."""
    tried, wrong = 0, []
    for name, _, key, value in BAD:
        if name in BEFORE.get(way, ()):
            continue
        if way in OPERATORS and "zero_point" in name and key in CUT_BY_TORCH:
            continue
        if way in OPERATORS and key == "object array":  # read as the number in it, by torch
            continue
        if key in HOSTILE and way in (*OPERATORS, module):  # torch itself asks them first
            continue
        if name in ("weight", "bias") and value is None:
            continue
        found = outcome(way, GOOD | {name: value}, name)
        tried += 1
        if not isinstance(found, Exception):
            wrong.append(f"silent: {name}, {key}: {found!r}"[:300])
        elif not is_clear(found, name, way):
            wrong.append(f"unclear: {name}, {key}: {found!r}"[:300])
    return tried, wrong


def odd(way):
    """Return how many odd calls were made in a way, how many of them were taken, and what is wrong with them."""
    right, wrong = way(**GOOD), []
    np.testing.assert_array_equal(right, core(**GOOD))
    tried = taken = 0
    for name, _, key, value in ODD:
        if name in BEFORE.get(way, ()):
            continue
        found = outcome(way, GOOD | {name: value}, name)
        tried += 1
        if isinstance(found, Exception):
            if not is_clear(found, name, way):
                wrong.append(f"unclear: {name}, {key}: {found!r}"[:300])
            continue
        taken += 1
        if not np.array_equal(found, right):
            wrong.append(f"silent: {name}, {key}: {found!r}"[:300])
    return tried, taken, wrong


def taken_by_torch():
    """Return how many of the arguments above ``torch.ops.quantized.batch_norm2d`` takes, and which ours do not."""
    x = torch._make_per_tensor_quantized_tensor(CODES, 2.0, 2)
    order = ("weight", "bias", "mean", "var", "eps", "y_scale", "y_zero_point")
    refused, taken = [], 0
    for name, _, key, value in ODD:
        if name not in order or (
            name == "y_zero_point" and not isinstance(value, (int, np.integer, torch.Tensor))
        ):
            continue  # a zero point is an integer; of floats, tensors of whole numbers are
        call = tensors(GOOD | {name: value})
        try:
            with torch.no_grad():
                theirs = torch.ops.quantized.batch_norm2d(x, *(call[n] for n in order)).int_repr().numpy()
        except Exception:  # as it likes: what matters is what it takes
            continue
        if np.array_equal(theirs, core(**GOOD)):
            taken += 1
            ours = outcome(of_legacy_tensors, call, name)
            if isinstance(ours, Exception) or not np.array_equal(ours, theirs):
                refused.append(f"refused: {name}, {key}: {ours!r}")
    return taken, refused


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_bad_arguments_are_refused_by_name(way):
    tried, wrong = bad(way)
    assert wrong == []
    assert tried >= 150


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_odd_arguments_are_right_or_refused_by_name(way):
    _, taken, wrong = odd(way)
    assert wrong == []
    assert taken >= 60


def test_what_torch_takes_with_right_results_is_taken():
    taken, refused = taken_by_torch()
    assert refused == []
    assert taken > 40


def hidden(tensor):
    """Return a tensor of which torch keeps the numbers elsewhere, as inside functionalize: it has no address."""
    return torch._to_functional_tensor(tensor.clone())


HIDDEN = {"x": hidden(CODES), "mean": hidden(T), "weight": hidden(T), "bias": hidden(T), "var": hidden(T)}


@pytest.mark.parametrize("name", HIDDEN)
def test_tensors_that_torch_keeps_elsewhere(name):
    """NumPy takes memory of its own for them, with whatever is in it."""
    call = GOOD | {name: HIDDEN[name]}
    for way in (core, prepared, core_concat, core_add, of_our_tensors):
        found = outcome(way, call, name)
        assert is_clear(found, name, way)
        assert "no memory that can be read" in str(found)
    rest = *tensors(call).values(), torch.uint8, False
    for made in (bt.batch_norm(*rest), torch.ops.bytenorm.batch_norm(*rest)):
        assert torch._is_functional_tensor(made)
        np.testing.assert_array_equal(torch._from_functional_tensor(made).numpy(), core(**GOOD))


@pytest.mark.parametrize("name", ["x", "mean", "weight"])
def test_tensors_of_zeros_alone(name):
    """torch keeps none of them."""
    like = CODES if name == "x" else T
    lazy, plain = torch._efficientzerotensor(like.shape, dtype=like.dtype), torch.zeros_like(like)
    want = function(**GOOD | {name: plain})
    for way in (function, operator, module, concat_operator, add_operator):
        np.testing.assert_array_equal(way(**GOOD | {name: lazy}), want)
    for way in (core, prepared, core_concat, core_add):
        assert is_clear(outcome(way, GOOD | {name: lazy}, name), name, way)


def test_tensors_without_numbers_among_others():
    """A tensor that is only traced, where its numbers are wanted."""
    traced = FakeTensorMode().from_tensor(T)
    for way in (core, of_legacy_tensors, of_our_tensors):
        assert is_clear(outcome(way, GOOD | {"mean": traced}, "mean"), "mean", way)


def main():
    """Count all calls above, and what is wrong with how they ended."""
    calls, wrong = 0, []
    for way in WAYS:
        (tried, first), (more, taken, second) = bad(way), odd(way)
        print(f"{way.__name__:18}{tried:5} bad calls, {more:4} odd ones, {taken:4} of them taken")
        calls += tried + more
        wrong += [f"{way.__name__}: {line}" for line in first + second]
    taken, refused = taken_by_torch()
    print(f"of {taken} that torch's operator takes with the right result {len(refused)} are refused")
    print(*wrong, *refused, sep="\n", end="\n" if wrong + refused else "")
    kinds = [sum(f"{kind}: " in line for line in wrong) for kind in ("silent", "unclear")]
    print(f"{calls} calls: 0 crashes, {kinds[0]} silent, {kinds[1]} unclear, {len(refused)} refused though valid")
    return bool(wrong + refused)


if __name__ == "__main__":
    sys.exit(main())
