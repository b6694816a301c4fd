"""Every native entry, with memory that it cannot have: test_out_of_memory.py runs this below failing_new.cpp.

The first, the second, the third ... time that the library asks for memory it gets none, once or from then on: a
MemoryError, or the right result, and the same objects give the right one afterwards.
"""

import ctypes
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
from test_onnx_fused import add_model, add_values, codes, concat_model, concat_values, native

import bytenorm as bn
from bytenorm import _core
from bytenorm import onnx as bno
from bytenorm.calibration import ChannelStatistics

MOST = 400  # calls for memory in one call of ours

hook = ctypes.CDLL(None)
hook.watch.argtypes = ctypes.c_size_t, ctypes.c_size_t
hook.fail.argtypes = ctypes.c_long, ctypes.c_bool
hook.fail_no_more.restype = ctypes.c_long


def watch(library):
    lines = Path("/proc/self/maps").read_text().splitlines()
    ends = [int(n, 16) for line in lines if line.endswith(library) for n in line.split()[0].split("-")]
    hook.watch(min(ends), max(ends))


C = 20
rng = np.random.default_rng(3)
data = codes(rng, (2, C, 12, 13))
a, b = (bn.QuantizedTensor(x, 0.03, 7) for x in (data, data[::-1].copy()))
last = bn.QuantizedTensor(np.moveaxis(np.ascontiguousarray(np.moveaxis(data, 1, -1)), -1, 1), 0.03, 7)
per_channel = bn.QuantizedTensor(data, rng.uniform(0.01, 0.1, C), rng.integers(0, 256, C), 1)
parameters = *rng.normal(size=(3, C)).astype(np.float32), rng.uniform(0.5, 2, C).astype(np.float32)
reals = rng.normal(size=data.shape).astype(np.float32)
kind = {"output_scale": 0.05, "output_zero_point": 100, "output_dtype": bn.quint8}
sums = {"sum_scale": 0.07, "sum_zero_point": 9}


def norm(times=1):
    return bn.BatchNorm(*(np.concatenate([v] * times) for v in parameters), **kind)


def statistics(*, histogram):
    gathered = ChannelStatistics(C, histogram=histogram)
    gathered.update(a)
    return gathered.sum.astype(float)


def prepared(made, q):
    return made(q).data


def joined(made, pieces):
    return bn.concat_batch_norm(pieces, made).data


def added(*arguments, **named):
    made = bn.add_batch_norm(*arguments, **named)
    return np.concatenate([q.data for q in made]) if isinstance(made, tuple) else made.data


ENTRIES = {  # each makes objects of its own, and returns the call
    "a norm": lambda: lambda: norm().weight,
    "once": lambda: lambda: bn.quantized_batch_norm(a, *parameters, 1e-5, 0.05, 100).data,
    "once, last": lambda: lambda: bn.quantized_batch_norm(last, *parameters, 1e-5, 0.05, 100).data,
    "prepared": lambda: partial(prepared, norm(), a),
    "prepared, last": lambda: partial(prepared, norm(), last),
    "per channel": lambda: partial(prepared, norm(), per_channel),
    "concat": lambda: partial(joined, norm(2), [a, b]),
    "concat, last": lambda: partial(joined, norm(2), [last, last]),
    "concat of both": lambda: partial(joined, norm(2), [last, a]),
    "add": lambda: partial(added, a, b, norm(), **sums),
    "add of both": lambda: partial(added, a, last, norm(), **sums),
    "exact": lambda: partial(added, a, b, norm()),
    "exact, last": lambda: partial(added, last, last, norm(), exact_sum=True, **sums),
    "exact of both": lambda: partial(added, last, b, norm(), exact_sum=True, **sums),
    "requantize": lambda: lambda: bn.requantize(per_channel, 0.2, 3).data,
    "requantize, last": lambda: lambda: bn.requantize(last, 0.2, 3).data,
    "dequantize": lambda: lambda: bn.dequantize(per_channel),
    "quantize": lambda: lambda: bn.quantize_per_tensor(reals, 0.02, 100, bn.quint8).data,
    "tensor": lambda: lambda: bn.QuantizedTensor(data, per_channel.scale, per_channel.zero_point, 1).scale,
    "sums": lambda: lambda: statistics(histogram=False),
    "histogram": lambda: lambda: statistics(histogram=True),
}


def fails_well(name, make, refusal, uses=2):
    """Let each call for memory fail, of the first use and of the second, which prepares more; return how many."""
    want = make()()
    for on in (False, True):
        for after in range(MOST):
            call = make()
            hook.fail(after, on)
            for _ in range(uses):
                try:
                    got = call()
                except refusal as error:
                    assert refusal is MemoryError or "bytenorm: out of memory" in str(error), (name, after, error)
                else:
                    assert np.array_equal(got, want), (name, after)
            asked = hook.fail_no_more()
            for _ in range(uses):
                assert np.array_equal(call(), want), (name, after)
            if asked <= after:
                break
        else:
            raise AssertionError(f"{name} asks for memory {MOST} times")
    return after


def sessions():
    """Return calls of models, by name: making a session is half of them."""
    images, pixels = (2, C, 12, 20), (2, 12, 20, C)
    models = {
        f"{name} of nodes": made
        for name, made in {
            "add": add_model(*(codes(rng, images) for _ in range(2)), add_values(rng, C)),
            "exact": add_model(*(codes(rng, images) for _ in range(2)), add_values(rng, C), exact_sum=1),
            "concat": concat_model([codes(rng, images)] * 3, concat_values(rng, (C,) * 3)),
            "pooled": concat_model(
                [codes(rng, pixels)] * 3, concat_values(rng, (C,) * 3), pool=2, channels_last=1
            ),
        }.items()
    }
    ort.set_default_logger_severity(4)

    def entry(model, feed):
        model = native(model)
        session = bno.session(model)

        def make():
            return lambda: np.concatenate([bno.session(model).run(None, feed)[0], session.run(None, feed)[0]])

        return make

    return {name: entry(*made) for name, made in models.items()}


total = 0
watch(Path(_core.__file__).name)
_core.set_bytes_a_thread(64)
for threads, isa in ((4, _core.isas()[-1]), (1, "scalar")):
    bn.set_num_threads(threads)
    _core.select_isa(isa)
    total += sum(fails_well(name, make, MemoryError) for name, make in ENTRIES.items())
watch(Path(bno.custom_op_library()).name)
total += sum(fails_well(name, make, Exception, uses=1) for name, make in sessions().items())
print(total)
