"""A fixed set of results and its digest, the same on every processor, instruction set, Python and NumPy.

Needs NumPy alone. Numbers are drawn from the bits of a generator whose stream NumPy keeps, by sums and products
that are exact or rounded once; what it makes is hashed in the order of `results`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

import bytenorm as bn
from bytenorm import _core
from bytenorm.calibration import ChannelStatistics

DIGEST = "036a005d75967fd6"

KINDS = {"quint8": bn.quint8, "qint8": bn.qint8}
SHAPES = ((2, 64, 9, 9), (3, 5, 7, 11), (1, 130, 16, 16), (9, 33), (1, 3, 96, 100), (2, 48, 7, 7), (0, 4, 3))
LAYOUTS = ("first", "last", "strided", "reversed")


class Drawn:
    """Numbers from the bits of a generator."""

    def __init__(self) -> None:
        self._bits = np.random.PCG64(16)

    def real(self, low: float, high: float, *shape: int) -> np.ndarray:
        """Return numbers between two others."""
        raw = self._bits.random_raw(int(np.prod(shape, dtype=np.int64)))
        return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53 * (high - low) + low).reshape(shape)

    def codes(self, shape: tuple[int, ...], kind: bn.DType, layout: str = "first") -> np.ndarray:
        """Return all kinds of codes, the channels first in memory, or last, or neither."""
        raw = self._bits.random_raw(int(np.prod(shape, dtype=np.int64)))
        data = (raw >> np.uint64(56)).astype(np.uint8).reshape(shape).view(kind.numpy)
        if layout == "last":
            return np.moveaxis(np.ascontiguousarray(np.moveaxis(data, 1, -1)), -1, 1)
        if layout == "strided":
            return np.repeat(data, 2, -1)[..., ::2]
        return data[..., ::-1] if layout == "reversed" else data

    def norm(self, channels: int, *, relu: bool = False, output_dtype: bn.DType | None = None) -> bn.BatchNorm:
        """Return a norm; of every third channel the results are ties."""
        weight, bias, mean = self.real(-1.5, 1.5, 3, channels)
        var = self.real(0.1, 2.0, channels)
        weight[::3], bias[::3], mean[::3], var[::3] = 0.5, 0.25, 0.0, 1.0
        return bn.BatchNorm(
            weight, bias, mean, var, eps=0.0, output_scale=0.0625, output_zero_point=100, relu=relu,
            output_dtype=output_dtype,
        )  # fmt: skip


def norms(drawn: Drawn) -> Iterator[np.ndarray]:
    """Give norms of layouts and types, with relu and without; twice, for what is prepared the second time."""
    for shape in SHAPES:
        for source in KINDS.values():
            for output, relu in ((bn.quint8, False), (bn.qint8, True)):
                norm = drawn.norm(shape[1], relu=relu, output_dtype=output)
                for layout in LAYOUTS:
                    codes = drawn.codes(shape, source, layout)
                    yield norm(bn.QuantizedTensor(codes, 0.0625, 12)).data
                    yield norm(bn.QuantizedTensor(codes, 0.0625, 12)).data
                scales = drawn.real(0.01, 0.1, shape[1])
                zero_points = np.arange(shape[1]) % 100
                yield norm(bn.QuantizedTensor(drawn.codes(shape, source), scales, zero_points, axis=1)).data
        yield bn.quantized_batch_norm(
            bn.QuantizedTensor(drawn.codes(shape, bn.quint8), 0.03, 120), None, None,
            drawn.real(-1, 1, shape[1]), drawn.real(0.1, 2, shape[1]), 1e-5, 0.04, 100,
        ).data  # fmt: skip


def joined(drawn: Drawn) -> Iterator[np.ndarray]:
    """Give norms of sums, rounded and exact, with the sum and without it, and of concatenations."""
    for kind in KINDS.values():
        for shape in ((2, 64, 5, 5), (1, 33, 9, 10), (3, 7, 16, 4)):
            for layout in ("first", "last", "strided"):
                norm = drawn.norm(shape[1], relu=shape[1] == 33)
                a = bn.QuantizedTensor(drawn.codes(shape, kind, layout), 0.0625, 12)
                b = bn.QuantizedTensor(drawn.codes(shape, kind, layout), 0.047, 99)
                for exact in (False, True):
                    for q in bn.add_batch_norm(a, b, norm, sum_scale=0.08, sum_zero_point=90, exact_sum=exact):
                        yield q.data
                yield bn.add_batch_norm(a, b, norm).data
                both = drawn.norm(2 * shape[1], output_dtype=kind)
                yield bn.concat_batch_norm([a, b], both).data


def averages(drawn: Drawn) -> Iterator[np.ndarray]:
    """Give averages of 2 x 2 pixels, by the best kernel of the selected set."""
    sets = _core.isas()[: _core.isas().index(_core.isa()) + 1]
    named = [name for name in _core.kernel_names() if name[0] == "Average" and name[2] in sets]
    _, arithmetic, isa = max(named, key=lambda name: sets.index(name[2]))
    for kind in KINDS.values():
        for pixels, channels in ((3, 64), (2, 45), (5, 3)):
            made = np.empty((pixels, channels), kind.numpy)
            _core.run_average_kernel(arithmetic, isa, drawn.codes((2, 2 * pixels, channels), kind), made)
            yield made


def conversions(drawn: Drawn) -> Iterator[np.ndarray]:
    """Give codes of numbers by every rounding, numbers of codes, and codes of codes."""
    for kind in KINDS.values():
        for dtype in (np.float32, np.float64):
            real = drawn.real(-9, 9, 4, 33, 5).astype(dtype)
            real[0, :8] = np.round(real[0, :8] * 16) / 16  # ties
            scales, zero_points = drawn.real(0.01, 0.1, 33), np.arange(33) % 64
            for rounding in ("torch-2.13", "torch-2.14", "quantized_decomposed", "onnx"):
                for scale in (0.0625, 0.0713):
                    for data in (real, real[..., ::-1]):
                        yield bn.quantize_per_tensor(data, scale, 9, kind, rounding=rounding).data
                yield bn.quantize_per_channel(real, scales, zero_points, 1, kind, rounding=rounding).data
            for reduce_range in (False, True):
                q = bn.quantize_per_tensor_dynamic(real, kind, reduce_range)
                yield from (q.data, np.array([q.scale, q.zero_point], np.float64))
        for q in (
            bn.QuantizedTensor(drawn.codes((3, 33, 7), kind), 0.0713, 40),
            bn.QuantizedTensor(drawn.codes((3, 33, 7), kind, "last"), scales, zero_points, axis=1),
        ):
            yield q.dequantize()
            yield bn.requantize(q, 0.0625, 30).data
            yield bn.requantize(q, 0.021, 30, bn.qint8).data


def statistics(drawn: Drawn) -> Iterator[np.ndarray]:
    """Give what is counted of channels; sums are whole numbers of any size, hence their digits."""
    for kind in KINDS.values():
        for layout in LAYOUTS:
            found = ChannelStatistics(65)
            for images in (2, 1):
                found.update(bn.QuantizedTensor(drawn.codes((images, 65, 6, 7), kind, layout), 0.0625, 12))
            yield np.frombuffer(repr([int(n) for n in (*found.sum, *found.sum_of_squares)]).encode(), np.uint8)
            counts = found.histogram
            assert counts is not None
            yield from (a.astype(np.int64) for a in (counts, found.minimum, found.maximum))
            yield from (found.mean(), found.var(), found.var(unbiased=True))


def results() -> Iterator[np.ndarray]:
    """Give everything that is hashed, in its order."""
    drawn = Drawn()
    for kind in (norms, joined, averages, conversions, statistics):
        yield from kind(drawn)


def digest() -> str:
    """Return the digest of the results of the selected instruction set."""
    made = hashlib.sha256()
    for array in results():
        made.update(repr(array.shape).encode())
        made.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return made.hexdigest()[:16]
