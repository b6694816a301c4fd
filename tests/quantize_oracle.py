"""What quantize and dequantize are compared with: torch, or where it is not the specification that is held to it.

On other processors torch's own answers are others.
"""

import importlib.util

import numpy as np

import bytenorm as bn
from bytenorm import reference

torch = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
TORCH = {bn.quint8: torch.quint8, bn.qint8: torch.qint8} if torch else {}
# The rule of the torch at hand. Tests of ours, which is that of 2.13, ask another torch for no codes.
RULE = "torch-2.13" if torch is None or torch.__version__.startswith("2.13.") else "torch-2.14"


def specified(rule, array, scale, zero_point, axis, *rest):
    """Return what the specification says; numbers beyond float32 become infinities there, too."""
    if axis is not None:
        along = [-1 if d == axis else 1 for d in range(array.ndim)]
        scale, zero_point = np.reshape(scale, along), np.reshape(zero_point, along)
    with np.errstate(over="ignore"):
        return rule(array, scale, zero_point, *rest)


def quantized(x, scale, zero_point, dtype, axis=None):
    """Return the codes of an array, rounded to float32."""
    real = np.array(x, np.float32, order="C")
    if torch is None or RULE != "torch-2.13":
        rule = reference.quantize_per_tensor if axis is None else reference.quantize_per_channel
        return specified(rule, real, scale, zero_point, axis, dtype)
    return codes_of_torch(real, scale, zero_point, dtype, axis)


def codes_of_torch(real, scale, zero_point, dtype, axis=None):
    """Return the codes of float32 numbers by the torch at hand."""
    if axis is None:
        q = torch.quantize_per_tensor(torch.from_numpy(real), scale, zero_point, TORCH[dtype])
    else:
        scales = torch.tensor(scale, dtype=torch.float64)
        zero_points = torch.tensor(zero_point, dtype=torch.int64)
        q = torch.quantize_per_channel(torch.from_numpy(real), scales, zero_points, axis, TORCH[dtype])
    return q.int_repr().numpy()


def dequantized(codes, scale, zero_point, axis=None):
    """Return the float32 numbers of codes."""
    if torch is None:
        return specified(reference.dequantize, codes, scale, zero_point, axis)
    stored = torch.from_numpy(codes)
    if axis is None:
        return torch._make_per_tensor_quantized_tensor(stored, scale, zero_point).dequantize().numpy()
    scales, zero_points = torch.tensor(scale), torch.tensor(zero_point)
    return torch._make_per_channel_quantized_tensor(stored, scales, zero_points, axis).dequantize().numpy()
