"""The rule for weights one lower is what the benchmark's figures decide."""

import math

import numpy as np
import pytest
from benchmarks import amx as benchmark
from benchmarks.amx import Measured, Rule, decide, verdict

from bytenorm import onnx as bno
from bytenorm.onnx.run.amx import LEAST_DEPTH, LEAST_OUTPUTS, weights_for_amx

# Depth, outputs, microseconds as it is and one lower, on a Sapphire Rapids, of ONNX Runtime 1.32 on one thread.
SAPPHIRE_RAPIDS = [
    (512, 128, 234, 158), (1152, 128, 413, 293), (1024, 256, 200, 122), (2304, 256, 374, 203),
    (4608, 512, 515, 272), (256, 64, 390, 550), (64, 256, 422, 767),
]  # fmt: skip


def of(figures):
    return [Measured("", *one) for one in figures]


def test_the_rule_of_the_code_is_what_was_measured():
    rule = decide(of(SAPPHIRE_RAPIDS))
    assert (rule.depth, rule.outputs) == (LEAST_DEPTH, LEAST_OUTPUTS)
    gains = [after / before for depth, _, before, after in SAPPHIRE_RAPIDS if depth >= 512]
    assert math.isclose(rule.mean, np.prod(gains) ** (1 / len(SAPPHIRE_RAPIDS)))
    assert verdict(rule) == "Here these are 512 and 64, the mean 0.70: that of the code."


@pytest.mark.parametrize(
    ("figures", "depth", "outputs"),
    [
        ([(512, 64, 100, 101), (64, 8, 100, 200)], math.inf, math.inf),  # nothing gains
        ([(512, 64, 100, 90), (64, 8, 100, 90)], 64, 8),
        ([(512, 64, 100, 50), (512, 32, 100, 150), (64, 64, 100, 150)], 512, 64),
        ([(512, 64, 100, 50), (1024, 64, 100, 110)], 512, 64),  # together they gain
        ([(512, 64, 100, 95), (1024, 64, 100, 50), (256, 64, 100, 99)], 256, 64),
    ],
)
def test_what_figures_decide(figures, depth, outputs):
    rule = decide(of(figures))
    assert depth == math.inf == rule.depth or (rule.depth, rule.outputs) == (depth, outputs)
    assert rule.mean <= 1


def test_in_words():
    assert verdict(Rule(math.inf, math.inf, 1)) == "Here no convolution should be changed."
    assert (
        verdict(Rule(256, 48, 0.9)) == "Here these are 256 and 48, the mean 0.90: that of the code is 512 and 64."
    )


def test_each_shape_of_the_benchmark_computes_the_same_one_lower():
    """Forced on any machine: the benchmark compares the codes itself, with the numbers of all its shapes."""
    rng = np.random.default_rng(0)
    for channels, outputs, kernel, _ in benchmark.SHAPES[::3]:
        model = benchmark._convolution(rng, channels, outputs, kernel, 7)
        lower = weights_for_amx(model, least_depth=0, least_outputs=0)
        assert (benchmark.moved(model, lower), benchmark.moved(model, model)) == (1, 0)
        x = {"x": rng.integers(0, 256, (1, channels, 7, 7)).astype(np.uint8)}
        codes = [bno.session(made, amx=False).run(None, x)[0] for made in (model, lower)]
        np.testing.assert_array_equal(*codes)
