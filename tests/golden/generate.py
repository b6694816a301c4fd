"""Writes batch_norm.json: what torch 2.13 computes, kept for the day when torch no longer does.

Run with torch 2.13.0 on a machine with AVX2: python tests/golden/generate.py
"""

import json
from pathlib import Path

import numpy as np
import torch

TYPES = {"quint8": (torch.quint8, np.uint8), "qint8": (torch.qint8, np.int8)}
CHANNELS = 9  # torch computes groups of 8 with vectors and the rest one by one


def case(rng: np.random.Generator, name: str, relu: bool, ties: bool) -> dict[str, object]:
    """Return the parameters of one norm and its output for all 256 codes in each channel."""
    kind, dtype = TYPES[name]
    codes = np.arange(256).astype(np.uint8).view(dtype)
    limits = np.iinfo(dtype)
    if ties:
        weight = rng.choice([-1.0, -0.5, 0.5, 1.5], CHANNELS)
        bias, mean, var = rng.integers(-32, 33, CHANNELS) / 4, np.zeros(CHANNELS), np.ones(CHANNELS)
        scale, out_scale, eps = 0.5, 0.25, 0.0
    else:
        weight, bias, mean = rng.normal(size=(3, CHANNELS))
        var = rng.uniform(0.01, 2, CHANNELS)
        (scale, out_scale), eps = rng.uniform(0.005, 0.1, 2).tolist(), 1e-5
    zero_point, out_zero_point = rng.integers(limits.min, limits.max + 1, 2).tolist()
    parameters = [p.astype(np.float32) for p in (weight, bias, mean, var)]
    x = torch._make_per_tensor_quantized_tensor(
        torch.from_numpy(np.tile(codes[:, None, None, None], (1, CHANNELS, 1, 1))), scale, zero_point
    )
    operators = torch.ops.quantized
    operator = operators.batch_norm2d_relu if relu else operators.batch_norm2d
    y = operator(x, *map(torch.from_numpy, parameters), eps, out_scale, out_zero_point)
    assert y.dtype == kind
    names = ("weight", "bias", "mean", "var")
    return {
        "dtype": name, "relu": relu, "scale": scale.hex(), "zero_point": zero_point, "eps": eps.hex(),
        "output_scale": out_scale.hex(), "output_zero_point": out_zero_point,
        **{n: [float(v).hex() for v in p] for n, p in zip(names, parameters, strict=True)},
        "output": [y.int_repr().numpy()[:, c, 0, 0].astype(np.uint8).tobytes().hex() for c in range(CHANNELS)],
    }  # fmt: skip


def main() -> None:
    """Write the file beside this one."""
    rng = np.random.default_rng(2013)
    cases = [
        case(rng, n, relu, ties) for n in TYPES for relu in (False, True) for ties in (False, True) for _ in "ab"
    ]
    text = json.dumps({"torch": torch.__version__.split("+")[0], "cases": cases}, indent=1)
    target = Path(__file__).with_name("batch_norm.json")
    beside = target.with_suffix(".new")
    beside.write_text(text + "\n")
    beside.replace(target)


if __name__ == "__main__":
    main()
