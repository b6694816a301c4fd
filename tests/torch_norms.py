"""Norms on tensors of torch, for several test modules: random ones, and what torch itself makes of them."""

import numpy as np
import torch

DTYPES = [torch.uint8, torch.int8]
LEGACY = {torch.uint8: torch.quint8, torch.int8: torch.qint8}
VECTORS = ("weight", "bias", "mean", "var")
OPERATORS = torch.ops.quantized
RELU = {2: OPERATORS.batch_norm1d_relu, 3: OPERATORS.batch_norm1d_relu, 4: OPERATORS.batch_norm2d_relu,
        5: OPERATORS.batch_norm3d_relu}  # fmt: skip


def codes(rng, shape, dtype=torch.uint8):
    limits = torch.iinfo(dtype)
    kind = np.uint8 if dtype is torch.uint8 else np.int8
    return torch.from_numpy(rng.integers(limits.min, limits.max + 1, shape).astype(kind))


def vectors(rng, channels):
    """Return weight, bias, mean, var."""
    weight, bias, mean = rng.normal(size=(3, channels))
    return tuple(
        torch.from_numpy(a.astype(np.float32)) for a in (weight, bias, mean, rng.uniform(0.05, 3, channels))
    )


def good(channels=3, shape=(4, 3, 5, 2)):
    """Return the arguments of a call that works, by name."""
    rng = np.random.default_rng(1)
    weight, bias, mean, var = vectors(rng, channels)
    return {
        "x": codes(rng, shape),
        "x_scale": 0.05,
        "x_zero_point": 120,
        "weight": weight,
        "bias": bias,
        "mean": mean,
        "var": var,
        "eps": 1e-5,
        "y_scale": 0.1,
        "y_zero_point": 30,
        "output_dtype": torch.uint8,
        "relu": False,
    }


def legacy(x, scale, zero_point):
    """Return a quantized tensor of torch in the same memory layout."""
    made = torch._make_per_tensor_quantized_tensor(x, scale, zero_point)
    if x.dim() > 3 and not x.is_contiguous():
        made = made.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)
    return made


def by_torch(x, scale, zero_point, parameters, eps, y_scale, y_zero_point, *, relu=False):
    """Return the codes that torch's own operator gives, of x's dtype."""
    operator = RELU[x.dim()] if relu else torch.quantized_batch_norm
    return operator(legacy(x, scale, zero_point), *parameters, eps, y_scale, y_zero_point).int_repr()


def layouts(rng, dtype=torch.uint8):
    """Return tensors of codes in every kind of memory layout, by a name; 6 channels."""
    x = codes(rng, (2, 6, 4, 5), dtype)
    return {
        "contiguous": x,
        "channels-last": x.contiguous(memory_format=torch.channels_last),
        "permuted": codes(rng, (5, 2, 6, 4), dtype).permute(1, 2, 3, 0),
        "sliced": codes(rng, (2, 12, 4, 9), dtype)[:, ::2, :, 1:6],
        "expanded": codes(rng, (1, 6, 1, 5), dtype).expand(3, 6, 4, 5),
        "offset": codes(rng, (2, 6, 41), dtype)[:, :, 3:],
        "one pixel": codes(rng, (7, 6, 1, 1), dtype),
        "one pixel, channels-last": codes(rng, (7, 6, 1, 1), dtype).contiguous(memory_format=torch.channels_last),
        "2-D": codes(rng, (9, 6), dtype),
        "2-D, transposed": codes(rng, (6, 9), dtype).t(),
        "3-D": codes(rng, (3, 6, 7), dtype),
        "5-D, channels-last": codes(rng, (2, 6, 3, 2, 5), dtype).contiguous(memory_format=torch.channels_last_3d),
        "7-D": codes(rng, (2, 6, 1, 3, 2, 1, 2), dtype),
        "empty batch": torch.zeros(0, 6, 4, 5, dtype=dtype),
        "empty batch, channels-last": torch.zeros(0, 6, 4, 5, dtype=dtype).contiguous(
            memory_format=torch.channels_last
        ),
        "no pixels": torch.zeros(2, 6, 0, 5, dtype=dtype),
    }
