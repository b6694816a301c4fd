"""Norms and sums of codes in torch's own operators on integers: for devices that have no kernel of ours.

Each function writes its operators through `call`: with `eager` they run, a rewriting adds nodes to a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..._dtypes import DType
from ..._norms.batch_norm import BatchNorm
from ..._norms.concat_and_add import add_batch_norm
from ..._tensors.tensor import QuantizedTensor
from .tensor_checks import DTYPES

Call = Callable[..., Any]

_PLAIN = {kind: plain for plain, kind in DTYPES.items()}
_aten = torch.ops.aten


def eager(operator: Any, *given: Any) -> Any:
    """Run an operator."""
    return operator(*given)


def _bytes(codes: Any, dtype: torch.dtype, call: Call) -> Any:
    """Return codes in 8 bits.

    In a graph by way of float32, which holds them: for AVX2 Inductor makes instructions on vectors of both steps,
    and of the step from int32 to bytes a loop over single numbers.
    """
    if call is not eager:
        codes = call(_aten.to.dtype, codes, torch.float32)
    return call(_aten.to.dtype, codes, dtype)


@dataclass(frozen=True, eq=False)
class NormConstants:
    """A norm of one input quantization: three integers a channel, a table for channels that have none.

    Attributes
    ----------
    lowest, highest : int
    dtype : torch.dtype
        Of the result.
    vectors : dict of str to torch.Tensor
        Of C values, on the CPU: "multiplier", "addend" and "shift" of int32. If a channel
        has none, also "proved", and "start" of int64: where the code of input 0 is in "codes", which has 256 C.
    """

    lowest: int
    highest: int
    dtype: torch.dtype
    vectors: dict[str, torch.Tensor]

    @classmethod
    def of(cls, norm: BatchNorm, x_scale: Any, x_zero_point: Any, x_kind: DType) -> NormConstants:
        """Return the constants of a norm; see `BatchNorm.to_integers`."""
        n = norm.to_integers(x_scale, x_zero_point, x_kind, partial=True)
        arrays: dict[str, np.ndarray] = {"multiplier": n.multiplier, "addend": n.addend, "shift": n.shift}
        if not n.proved.all():
            start = 256 * np.arange(len(n.proved)) - x_kind.qmin
            arrays |= {"proved": n.proved, "start": start, "codes": n.codes.ravel()}
        vectors = {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}
        return cls(n.lowest, n.highest, _PLAIN[n.output_dtype], vectors)

    def placed(
        self, dimensions: int, device: torch.device | None = None, start: int = 0, stop: int | None = None
    ) -> dict[str, torch.Tensor]:
        """Return the vectors of some channels on a device, to broadcast against so many dimensions."""
        axes = (1,) * (dimensions - 2)
        return {
            name: (v if name == "codes" else v[start:stop].reshape(-1, *axes)).to(device)
            for name, v in self.vectors.items()
        }

    def apply(self, x: Any, vectors: dict[str, Any], call: Call = eager) -> Any:
        """Return the codes of the norm of `x`; the vectors are those of `placed`, or `read` of their bytes."""
        product = call(_aten.mul.Tensor, call(_aten.to.dtype, x, torch.int32), vectors["multiplier"])
        total = call(_aten.add.Tensor, product, vectors["addend"])
        code = call(_aten.bitwise_right_shift.Tensor, total, vectors["shift"])
        y = _bytes(call(_aten.clamp.default, code, self.lowest, self.highest), self.dtype, call)
        if "codes" not in vectors:
            return y
        place = call(_aten.add.Tensor, call(_aten.to.dtype, x, torch.int64), vectors["start"])
        return call(_aten.where.self, vectors["proved"], y, call(_aten.index.Tensor, vectors["codes"], [place]))


_INTEGERS = ("multiplier", "addend", "shift")


def in_bytes(vectors: dict[str, torch.Tensor]) -> torch.Tensor | None:
    """Return the integers of `NormConstants.placed` as the bytes of float32; None if it does not hold them.

    Where channels lie side by side Inductor reads eight constants of float32 at once, and for AVX2 eight of int32
    by way of memory, which takes twice as long. Bytes stay what they are under `half` and `to(dtype)`.
    """
    integers = torch.stack([vectors[name] for name in _INTEGERS])
    floats = integers.to(torch.float32)
    return floats.view(torch.uint8) if torch.equal(floats.to(torch.int64), integers.to(torch.int64)) else None


def read(packed: Any, call: Call) -> dict[str, Any]:
    """Return the integers of `in_bytes`."""
    # The bytes of another width are a view for Inductor as well: it would read int32 as such, and convert each.
    floats = call(_aten.view.dtype, packed, torch.float32)
    return {
        name: call(_aten.to.dtype, call(_aten.select.int, floats, 0, i), torch.int32)
        for i, name in enumerate(_INTEGERS)
    }


_ROOM = 2**20  # what results may be before they are clamped, in codes: no scale of a network's comes near


@dataclass(frozen=True)
class SumConstants:
    """The sum of two tensors in a third quantization: four integers, or a table of all pairs.

    ``clamp((a * multipliers[0] + b * multipliers[1] + addend) >> shift)``, in int32 or else in int64, for all
    65,536 pairs of codes. If `ties`, an exact half was rounded up and goes down again to an even number of steps.

    Attributes
    ----------
    kind : DType
        Of both inputs and the result.
    zero_point : int
    wide : torch.dtype
    multipliers : tuple of int
    addend, shift : int
    ties : bool
    table : torch.Tensor of 65,536 codes, optional
        Where there are no such integers; the rest means nothing then.
    """

    kind: DType
    zero_point: int
    wide: torch.dtype = torch.int32
    multipliers: tuple[int, int] = (0, 0)
    addend: int = 0
    shift: int = 0
    ties: bool = False
    table: torch.Tensor | None = None

    @classmethod
    def of(cls, kind: DType, a: tuple[float, int], b: tuple[float, int], total: tuple[float, int]) -> SumConstants:
        """Return the constants of a sum, each quantization a scale and a zero point."""
        codes = np.arange(kind.qmin, kind.qmax + 1)
        pairs = np.repeat(codes, 256), np.tile(codes, 256)
        first, second = (
            QuantizedTensor(values.astype(kind.numpy)[np.newaxis, np.newaxis], *quantization)
            for values, quantization in zip(pairs, (a, b), strict=True)
        )
        any_norm = BatchNorm(None, None, [0.0], [1.0], output_scale=1.0, output_zero_point=0)
        _, made = add_batch_norm(first, second, any_norm, sum_scale=total[0], sum_zero_point=total[1])
        wanted = made.data.ravel().astype(np.int64)
        factors = [float(np.float32(scale / total[0])) for scale, _ in (a, b)]
        zeros = (a[1], b[1])
        for wide, bits in ((torch.int32, 31), (torch.int64, 62)):
            found = _plane(wanted, pairs, factors, zeros, total[1], kind, bits)
            if found is not None:
                return cls(kind, total[1], wide, *found)
        return cls(kind, total[1], table=torch.from_numpy(made.data.ravel().copy()))

    def apply(self, a: Any, b: Any, call: Call = eager, table: Any = None) -> Any:
        """Return the codes of the sum; the table, where there is one, on the device of the codes."""
        dtype = _PLAIN[self.kind]
        if self.table is not None:
            row = call(_aten.mul.Scalar, call(_aten.to.dtype, a, torch.int64), 256)
            place = call(_aten.add.Tensor, row, call(_aten.to.dtype, b, torch.int64))
            place = call(_aten.add.Scalar, place, -257 * self.kind.qmin)
            return call(_aten.index.Tensor, table, [place])
        products = [
            call(_aten.mul.Scalar, call(_aten.to.dtype, x, self.wide), multiplier)
            for x, multiplier in zip((a, b), self.multipliers, strict=True)
        ]
        total = call(_aten.add.Scalar, call(_aten.add.Tensor, *products), self.addend)
        code = call(_aten.bitwise_right_shift.Tensor_Scalar, total, self.shift)
        if self.ties:
            rest = call(_aten.bitwise_and.Scalar, total, (1 << self.shift) - 1)
            odd = call(_aten.bitwise_and.Scalar, call(_aten.sub.Scalar, code, self.zero_point), 1)
            down = call(_aten.logical_and.default, call(_aten.eq.Scalar, rest, 0), call(_aten.eq.Scalar, odd, 1))
            code = call(_aten.sub.Tensor, code, call(_aten.to.dtype, down, self.wide))
        return _bytes(call(_aten.clamp.default, code, self.kind.qmin, self.kind.qmax), dtype, call)


def _plane(
    wanted: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    factors: list[float],
    zeros: tuple[int, int],
    zero_point: int,
    kind: DType,
    bits: int,
) -> tuple[tuple[int, int], int, int, bool] | None:
    """Return multipliers, addend, shift and ties that give all pairs in so many bits; None if none do."""
    largest = 256 * sum(factors) + 512
    if largest > _ROOM:
        return None
    shift = bits - int(np.ceil(np.log2(largest)))
    scaled = [factor * 2.0**shift for factor in factors]
    one, other = (round(value) for value in scaled)
    product = pairs[0] * one + pairs[1] * other
    low = (wanted[wanted > kind.qmin] << shift) - product[wanted > kind.qmin]
    high = (wanted[wanted < kind.qmax] + 1 << shift) - 1 - product[wanted < kind.qmax]
    least, most = (int(low.max()) if len(low) else -(1 << bits)), (int(high.min()) if len(high) else 1 << bits)
    half_up = (1 << shift >> 1) + (zero_point << shift) - zeros[0] * one - zeros[1] * other
    for addend, ties in ((min(max(half_up, least), most), False), (half_up, True)):
        sums = product + addend
        if max(abs(product).max(), abs(sums).max(), abs(addend)) >> bits:
            continue
        made = sums >> shift
        if ties:
            made = made - ((sums & (1 << shift) - 1 == 0) & (made - zero_point & 1 == 1))
        if (np.clip(made, kind.qmin, kind.qmax) == wanted).all():
            return (one, other), addend, shift, ties
    return None
