"""Scales of what is quantized beside the norms: which belong together, which stay, and what new ones bring."""

import pytest
import torch
from torch import nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401 - registers what torchao writes
from torch.export import Dim, export
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d

from bytenorm.torch import lower, recalibrate
from bytenorm.torch.pt2e.graph import open_program
from bytenorm.torch.recalibration.activations import find_activations

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch, of its own trees

q8 = torch.ops.quantized_decomposed


def quantized(x, scale, zero_point=100, limits=(0, 255)):
    return q8.quantize_per_tensor(x, scale, zero_point, *limits, torch.uint8)


def dequantized(codes, scale, zero_point=100, limits=(0, 255)):
    return q8.dequantize_per_tensor(codes, scale, zero_point, *limits, torch.uint8)


def between(x, scale, zero_point=100, limits=(0, 255)):
    return dequantized(quantized(x, scale, zero_point, limits), scale, zero_point, limits)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def found(function):
    """Return how many quantize each activation, how many are told its scale, and why it stays."""
    x = torch.ones(2, 4, 8, 8)
    program = open_program(export(Function(function).eval(), (x,)).module())
    return [(len(one.writers), len(one.readers), one.problem) for one in find_activations(program)]


INPUT = (1, 0, "it is an input of the program")


@pytest.mark.parametrize(
    ("operators", "groups"),
    [
        (lambda y: between(max_pool2d(y, 2), 0.1), [(2, 2, "")]),
        (lambda y: between(avg_pool2d(y, 2), 0.1), [(1, 1, ""), (1, 1, "")]),
        (lambda y: between(max_pool2d(y, 2), 0.2), [(1, 1, ""), (1, 1, "")]),
        (lambda y: between(torch.cat([y, between(y * 2, 0.1)], 1), 0.1), [(3, 3, "")]),
        (lambda y: between(torch.cat([y, between(y * 2, 0.2)], 1), 0.1), [(2, 2, ""), (1, 1, "")]),
        (lambda y: between(nn.functional.pad(y.chunk(2, 1)[1], [1, 1]), 0.1), [(2, 2, "")]),
    ],
    ids=["max", "average", "other scale", "cat", "cat of another scale", "chunk and pad"],
)
def test_what_is_handed_on_keeps_one_scale(operators, groups):
    assert found(lambda x: operators(between(between(x, 0.3) * 2, 0.1)) + 1) == [INPUT, *groups]


BIAS = torch.ones(4, dtype=torch.int8)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda y: between(y, 0.1), "it is an output of the program"),
        (lambda y: quantized(y, 0.1), "its codes are an output of the program"),
        (lambda y: between(y, 0.1, 0, (0, 127)) + 1, "it is quantized to a part of the codes, 0 to 127"),
        (lambda y: between(y.sigmoid(), 1 / 256, 0) + 1, "its range is known without data"),
        (lambda y: dequantized(quantized(y, 0.1), 0.2) + 1, "its codes are read with another scale"),
        (lambda y: quantized(y, 0.1).float() + 1, "which knows no scale"),
        (lambda y: dequantized(torch.cat([quantized(y, 0.1)] * 2), 0.1) + 1, "which knows no scale"),
        (
            lambda y: conv2d(
                between(y, 0.1),
                torch.ones(4, 4, 1, 1),
                q8.dequantize_per_tensor(BIAS, 0.01, 0, -128, 127, torch.int8),
            ),
            "is in codes of its scale",
        ),
        (
            lambda y: q8.dequantize_per_tensor(
                q8.quantize_per_tensor.tensor(y, y.max(), torch.tensor(0), 0, 255, torch.uint8),
                0.1, 0, 0, 255, torch.uint8,
            ) + 1,
            "its scale is in a tensor",
        ),
    ],
    ids=["output", "codes", "part", "sigmoid", "misread", "unknown", "codes joined", "bias", "tensor"],
)  # fmt: skip
def test_what_keeps_its_scale(function, problem):
    (first, (_, _, says)) = found(lambda x: function(between(x, 0.3) * 2))
    assert first == INPUT
    assert problem in says


def test_weights_are_no_activations():
    weight = torch.ones(4, 4, 1, 1)
    assert found(lambda x: conv2d(between(x, 0.1), between(weight, 0.1))) == [INPUT]


class Pooled(nn.Module):
    """A convolution, an average that a quantizer gave the convolution's scale, and a norm of it."""

    def __init__(self, scale, zero_point=128):
        super().__init__()
        self.zero_point = zero_point
        self.conv, self.norm, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 5)
        self.scale = scale
        with torch.no_grad():
            self.norm.running_var.uniform_(0.01, 0.02)

    def forward(self, x):
        def codes(x, scale, zero_point=self.zero_point):
            return between(x, scale, zero_point) if self.scale else x

        def weight(layer):
            if not self.scale:
                return layer.weight
            made = q8.quantize_per_tensor(layer.weight, 0.01, 0, -128, 127, torch.int8)
            return q8.dequantize_per_tensor(made, 0.01, 0, -128, 127, torch.int8)

        y = codes(conv2d(codes(x, 0.03), weight(self.conv), self.conv.bias, padding=1), self.scale)
        y = codes(avg_pool2d(y, 4), self.scale)
        y = codes(self.norm(y).relu(), 0.03, 0)
        return nn.functional.linear(codes(y.mean((2, 3)), 0.02, 0), weight(self.last), self.last.bias)


def eight_bits(count=64, scale=0.05, zero_point=128):
    torch.manual_seed(0)
    model, x = Pooled(scale, zero_point).eval(), torch.randn(count, 3, 16, 16)
    free = ({0: Dim("batch", min=2)},)
    program = lower(export(model, (x,), dynamic_shapes=free).module())
    reference = Pooled(None).eval()
    reference.load_state_dict(model.state_dict())
    return program, reference, x


def decibels(program, reference, x):
    with torch.no_grad():
        right, made = reference(x), program(x)
    return float(10 * torch.log10(right.square().sum() / (right - made).square().sum()))


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["mse", "minmax", "percentile"])
@pytest.mark.parametrize("reestimate", [False, True])
def test_an_average_gets_a_scale_of_its_own(monkeypatch, method, reestimate):
    monkeypatch.setattr("bytenorm.torch.recalibration.rescaling.FEWEST", 1000)
    program, reference, x = eight_bits()
    state = program.code
    made, report = recalibrate(program, [x], method=method, reestimate=reestimate, reference=reference)
    assert program.code == state
    new = torch.randn(256, 3, 16, 16)
    assert decibels(made, reference, new) > decibels(program, reference, new) + 3
    first, conv, pool, _ = [one for one in report if one.kind == "activation"]
    assert first.problem == "it is an input of the program" and first.scale == 0.03
    assert (conv.name, conv.method, conv.problem) == ("conv2d", method, "")
    assert pool.scale < 0.6 * conv.scale  # of 16 numbers, nearly independent
    with torch.no_grad():
        y = reference.conv(x)
        y = avg_pool2d(y, 4)
    assert pool.scale * 255 <= 1.2 * float(y.max() - y.min())
    (norm,) = [node for node in made.graph.nodes if "bytenorm" in str(node.target)]
    assert norm.args[1:3] == (pool.scale, pool.zero_point)


def test_without_a_reference_only_norms_are_fitted():
    program, _, x = eight_bits()
    _, report = recalibrate(program, [x])
    assert [one.kind for one in report] == ["norm"]


@pytest.mark.thorough
def test_few_numbers_and_few_samples_keep_their_scale():
    program, reference, x = eight_bits()
    _, report = recalibrate(program, [x], reference=reference)
    says = {one.name: one.problem for one in report if one.kind == "activation"}
    # 48 samples that are measured, of 8 channels of 4 x 4 pixels
    assert says["avg_pool2d"] == "6144 numbers on the data: 20000 are needed to tell which are rare"
    _, report = recalibrate(program, [x[:4]], reference=reference)
    problems = {one.problem for one in report if one.kind == "activation"}
    assert "4 samples of data: 8 are needed to judge it" in problems
    assert {one.method for one in report if one.kind == "activation"} == {None}


@pytest.mark.thorough
@pytest.mark.parametrize("zero_point", [128, 120])
def test_a_zero_point_in_the_middle_stays(monkeypatch, zero_point):
    monkeypatch.setattr("bytenorm.torch.recalibration.rescaling.FEWEST", 1000)
    program, reference, x = eight_bits(zero_point=zero_point)
    _, report = recalibrate(program, [x], reference=reference)
    (pool,) = [one for one in report if one.name == "avg_pool2d"]
    assert pool.method == "mse" and (pool.zero_point == 128) == (zero_point == 128)
