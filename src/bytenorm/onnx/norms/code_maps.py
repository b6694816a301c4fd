"""What the library makes of a norm: a channel has only 256 inputs, so of each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import bytenorm as bn

if TYPE_CHECKING:
    import numpy.typing as npt

    from .norm import QuantizedNorm

    Codes = npt.NDArray[np.int64]


def every_code(site: QuantizedNorm) -> tuple[Codes, Codes]:
    """Return all codes that a norm can read, and the codes that it makes of them, less their zero point.

    Parameters
    ----------
    site : QuantizedNorm
        Its activation is left out.

    Returns
    -------
    x, y : numpy.ndarray
        int64, of the shapes (256,) and (channels, 256).

    Raises
    ------
    ValueError
        If a slope or intercept is more than float32 holds.
    """
    p, source, target = site.parameters, site.source, site.target
    lowest = -128 if source.signed else 0
    codes = np.arange(lowest, lowest + 256)
    scale, zero_point = (
        np.broadcast_to(numbers.ravel(), p.channels) for numbers in (source.scale, source.zero_point)
    )
    read = np.broadcast_to(codes.astype(source.zero_point.dtype), (1, p.channels, 256))
    step, offset = target.scalars
    made = bn.quantized_batch_norm(
        bn.QuantizedTensor(read, scale.astype(np.float64), zero_point.astype(np.int64), axis=1),
        p.scale,
        p.B,
        p.input_mean,
        p.input_var,
        p.epsilon,
        step,
        offset,
        output_dtype=bn.qint8 if target.signed else bn.quint8,
    )
    return codes, made.data[0].astype(np.int64) - offset
