"""Random calls with one bad argument: a documented error that names it, and nothing written."""

import numpy as np
from random_calls import BYTES, Norm, quantized
from random_memory import arrangement, memory, pick, shape_of

import bytenorm as bn


class Odd:
    """Raises whatever it is asked, for its class too."""

    @property
    def __class__(self):
        raise ZeroDivisionError

    def __repr__(self):
        raise ZeroDivisionError

    def __getattr__(self, name):
        raise ZeroDivisionError(name)


def vectors(n):
    """Return what no parameter may be, of n channels."""
    return (
        np.zeros(n + 1), np.zeros((n, 1)), np.full(n, "a"), np.zeros(n, complex), [None] * n, 3.0, "x",
        np.full(n, np.nan), np.full(n, 1e39), np.zeros(n, bool), object(),
        Odd(),
    )  # fmt: skip


SCALES = (0, -1.0, np.nan, np.inf, 1e-46, 1e39, "x", None, True, [0.1, 0.2], 1j, Odd())
ZERO_POINTS = (256, -129, 1.5, None, "3", True, 10**30, np.float32(3), Odd())
AXES = (9, -9, 1.0, None, "1", True, 10**30, Odd())
FLAGS = (1, 0, None, "yes", np.array([True]), Odd())
KINDS = ("quint8", np.uint8, 8, Odd())
EPSILONS = (-1e-5, np.nan, np.inf, None, "x", 1e39, True, Odd())


def outputs(rng, shape, good, kind, how):
    """Return arrays that cannot take the result of that shape and type."""
    other = np.int8 if good.view.dtype == np.uint8 else np.uint8
    locked = good.view.view()
    locked.flags.writeable = False
    wrong = [
        locked, good.view.view(other), good.view[..., np.newaxis], good.view.tolist(), 5, "x", Odd(),
        good.view.view(np.bool_),
        bn.QuantizedTensor(good.view, 0.123, 3), np.zeros((*shape, 2), good.view.dtype),
    ]  # fmt: skip
    if good.view.size > 1:
        wrong.append(np.lib.stride_tricks.as_strided(good.view, shape, [0] * len(shape)))
    return wrong


def inputs(q):
    """Return what is no input for the norm of this tensor."""
    return (
        q.data, None, 3, "x", q.data.tolist(), q.dequantize(), Odd(), bn.QuantizedTensor(q.data.ravel(), 0.1, 3),
        bn.QuantizedTensor(np.zeros((*q.shape[:-1], q.shape[-1] + 1) * 2, q.data.dtype), 0.1, 3),
    )  # fmt: skip


def refusal(rng):
    """Spoil one argument of a good call."""
    shape = tuple(max(n, 1) for n in shape_of(rng, most_elements=300))
    axis, dtype = int(rng.integers(len(shape))), pick(rng, BYTES)
    how = arrangement(rng, len(shape), axis)
    x, other = memory(rng, shape, dtype, how), memory(rng, shape, dtype, how)
    q, b = quantized(rng, x.view), quantized(rng, other.view)
    op = Norm(rng, shape[axis], axis, len(shape), q.dtype)
    y = memory(rng, shape, op.kind.numpy, how)
    call, name, spoiled = pick(rng, (once, prepared, concat, add, others))(rng, op, q, b, y)
    try:
        result = call()
    except (ValueError, TypeError) as error:
        words = str(error)
        named = name in words.partition("(")[0]
        assert named or words.startswith(("the slope", "the intercept", "the scale")), words
    except Exception as error:
        raise AssertionError(f"a bad {name}, {type(spoiled)}, raises {error!r}") from error
    else:
        raise AssertionError(f"a bad {name}, {type(spoiled)}, is taken: {result!r}")
    assert x.untouched()
    assert other.untouched()
    assert y.untouched()


def once(rng, op, q, b, y):
    channels = q.shape[op.axis]
    values = {
        "input": inputs(q), "weight": vectors(channels), "bias": vectors(channels),
        "mean": (*vectors(channels), None), "var": (*vectors(channels), None, np.full(channels + 1, -1.0)),
        "eps": EPSILONS, "output_scale": SCALES, "output_zero_point": ZERO_POINTS, "axis": AXES, "relu": FLAGS,
        "output_dtype": KINDS, "out": outputs(rng, q.shape, y, op.kind, None),
    }  # fmt: skip
    name = pick(rng, list(values))
    spoiled = pick(rng, values[name])
    good = dict(zip(("weight", "bias", "mean", "var"), op.given, strict=True))
    good |= {
        "input": q, "eps": op.eps, "output_scale": op.scale, "output_zero_point": op.zero_point, "axis": op.axis,
        "relu": op.relu, "output_dtype": op.output_dtype, "out": y.view,
    }  # fmt: skip
    return lambda: bn.quantized_batch_norm(**{**good, name: spoiled}), name, spoiled


def prepared(rng, op, q, b, y):
    name = pick(rng, ("input", "out"))
    spoiled = pick(rng, inputs(q) if name == "input" else outputs(rng, q.shape, y, op.kind, None))
    return lambda: op.prepared(**{"input": q, "out": y.view, name: spoiled}), name, spoiled


def concat(rng, op, q, b, y):
    axis = op.axis % q.ndim
    name = pick(rng, ("pieces", "norm", "out"))
    spoiled = {
        "pieces": ((), {}, None, q, [None], [q.data], [q, q.data], [q, q] if q.shape[axis] else [],
                   [q, q[..., None]], [Odd()], Odd(),
                   [bn.QuantizedTensor(q.data, np.full(q.shape[axis], 0.1), np.zeros(q.shape[axis], int), axis)]),
        "norm": (None, 3, bn.BatchNorm, q), "out": outputs(rng, q.shape, y, op.kind, None),
    }[name]  # fmt: skip
    spoiled = pick(rng, spoiled)
    return (
        lambda: bn.concat_batch_norm(**{"pieces": [q], "norm": op.prepared, "out": y.view, name: spoiled}),
        name,
        spoiled,
    )


def add(rng, op, q, b, y):
    good = {"a": q, "b": b, "norm": op.prepared, "sum_scale": 0.1, "sum_zero_point": 3, "out": y.view}
    values = {
        "a": inputs(q), "b": inputs(q), "norm": (None, 3, q), "sum_scale": SCALES, "sum_zero_point": ZERO_POINTS,
        "exact_sum": FLAGS, "out": outputs(rng, q.shape, y, op.kind, None),
        "sum_out": [o for o in outputs(rng, q.shape, y, op.kind, None) if type(o) is not np.ndarray],
    }  # fmt: skip
    name = pick(rng, list(values))
    spoiled = pick(rng, values[name])
    return lambda: bn.add_batch_norm(**{**good, name: spoiled}), name, spoiled


def others(rng, op, q, b, y):
    """quantize, requantize, the tensor itself."""
    real = np.zeros(q.shape, np.float32)
    name, values, call = pick(
        rng,
        (
            ("scale", SCALES, lambda v: bn.requantize(q, v, 3)),
            ("zero_point", ZERO_POINTS, lambda v: bn.requantize(q, 0.1, v)),
            ("q", inputs(q)[:7], lambda v: bn.requantize(v, 0.1, 3)),
            ("scale", SCALES, lambda v: bn.quantize_per_tensor(real, v, 3, bn.quint8)),
            ("dtype", (*KINDS, None), lambda v: bn.quantize_per_tensor(real, 0.1, 3, v)),
            (
                "input",
                ("x", None, q.data, [[1.0], [2.0, 3.0]], 1j),
                lambda v: bn.quantize_per_tensor(v, 0.1, 3, bn.quint8),
            ),
            ("scale", SCALES, lambda v: bn.QuantizedTensor(q.data, v, 3)),
            ("zero_point", ZERO_POINTS, lambda v: bn.QuantizedTensor(q.data, 0.1, v)),
            (
                "data",
                (real, None, "x", 3, [1, 2], np.zeros(3, np.int16), Odd()),
                lambda v: bn.QuantizedTensor(v, 0.1, 3),
            ),
            ("q", inputs(q)[:7], bn.dequantize),
        ),
    )
    spoiled = pick(rng, values)
    return lambda: call(spoiled), name, spoiled
