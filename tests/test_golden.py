"""What torch 2.13 computed, kept in golden/: against exact arithmetic, and against every instruction set."""

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import bytenorm as bn
from bytenorm import _core

CASES = json.loads((Path(__file__).parent / "golden" / "batch_norm.json").read_text())["cases"]


@pytest.fixture(params=CASES, ids=lambda c: f"{c['dtype']}{'-relu' * c['relu']}-{c['output_zero_point']}")
def case(request):
    return request.param


def numbers(case, name):
    return [float.fromhex(v) for v in case[name]]


def to_float32(value):
    """Round a rational number to float32, half to even, with integers only."""
    if value == 0:
        return Fraction(0)
    size, exponent = abs(value), 0
    while size >= 2:
        size, exponent = size / 2, exponent + 1
    while size < 1:
        size, exponent = size * 2, exponent - 1
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    return round(value / unit) * unit


def square_root_to_float32(value):
    """Round the square root of a float32 to float32, from an integer root with 200 bits behind the point."""
    square = int(value * 4**200)
    root = math.isqrt(square)
    rest = root * root != square  # half a unit more: the true root lies between root and root + 1
    return to_float32(Fraction(2 * root + rest, 2 * 2**200))


def test_exact_arithmetic_gives_the_same(case):
    """Every rounding of the contract in rational numbers, sharing no line with the reference."""
    scale, out_scale = (Fraction(float.fromhex(case[n])) for n in ("scale", "output_scale"))
    ratio = Fraction(float(scale) / float(out_scale))
    eps = to_float32(Fraction(float.fromhex(case["eps"])))
    lowest = -128 if case["dtype"] == "qint8" else 0
    for c, output in enumerate(case["output"]):
        weight, bias, mean, var = (Fraction(numbers(case, n)[c]) for n in ("weight", "bias", "mean", "var"))
        inv = to_float32(1 / square_root_to_float32(to_float32(var + eps)))
        slope = to_float32(Fraction(float(to_float32(inv * weight) * ratio)))
        constant = to_float32(bias - to_float32(to_float32(mean * inv) * weight))
        intercept = to_float32(Fraction(float(constant / out_scale)))
        for byte, have in enumerate(bytes.fromhex(output)):
            code = byte - 256 * (lowest < 0 and byte > 127)
            q = round(to_float32(slope * (code - case["zero_point"]) + intercept)) + case["output_zero_point"]
            least = case["output_zero_point"] if case["relu"] else lowest
            assert min(max(q, least), lowest + 255) % 256 == have, (c, code)


@pytest.mark.parametrize("isa", _core.isas())
def test_every_instruction_set_gives_the_same(case, isa):
    dtype = getattr(bn, case["dtype"])
    want = np.array([list(bytes.fromhex(o)) for o in case["output"]], np.uint8).view(dtype.numpy)
    codes = np.tile(np.arange(256, dtype=np.uint8).view(dtype.numpy), (len(want), 1))
    before = _core.isa()
    _core.select_isa(isa)
    try:
        norm = bn.BatchNorm(
            *(numbers(case, n) for n in ("weight", "bias", "mean", "var")),
            eps=float.fromhex(case["eps"]), output_scale=float.fromhex(case["output_scale"]),
            output_zero_point=case["output_zero_point"], relu=case["relu"], axis=0,
        )  # fmt: skip
        for data in (codes, np.asfortranarray(codes)):
            x = bn.QuantizedTensor(data, float.fromhex(case["scale"]), case["zero_point"])
            for _ in range(3):
                np.testing.assert_array_equal(norm(x).data, want)
    finally:
        _core.select_isa(before)
