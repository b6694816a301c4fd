"""Lowering of programs quantized by export: every spelling becomes the operator, what stays is reported."""

import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401 - registers what torchao writes
from torch.export import Dim, export

import bytenorm as bn
from bytenorm.torch import LoweringWarning, lower, lower_with_report

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # scripted observers, which torch calls deprecated
    import torchao.quantization.quant_primitives  # noqa: F401 - registers its affine operators
    from torchao.quantization.pt2e import move_exported_model_to_eval

# torch warns of its own trees when it copies them.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

q8 = torch.ops.quantized_decomposed
ao = torch.ops.torchao
U8, S8 = torch.uint8, torch.int8
RANGES = {U8: (0, 255), S8: (-128, 127)}
KINDS = {U8: bn.quint8, S8: bn.qint8}
CHANNELS = 5
SHAPES = {1: (2, CHANNELS, 64), 2: (2, CHANNELS, 16, 8), 3: (2, CHANNELS, 4, 4, 8)}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
X, Y = (0.04, 120), (0.03, 90)  # scales and zero points that fit both types, less 128 for int8


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def learned(norm):
    """Return a norm as if it had been trained."""
    with torch.no_grad():
        for name, parameter in norm.named_parameters():
            parameter.normal_(1 if name == "weight" else 0)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.2, 2)
    return norm.eval()


def every_code(shape, dtype=U8):
    """Return codes of a shape: each of the 256 in every channel, if there is room."""
    count = int(np.prod(shape[2:])) * shape[0]
    codes = torch.arange(count).mul(7).remainder(256) - (128 if dtype is S8 else 0)
    return codes.to(dtype).reshape(shape[0], 1, *shape[2:]).expand(shape).contiguous()


def shifted(qparams, dtype):
    scale, zero_point = qparams
    return scale, zero_point - (128 if dtype is S8 else 0)


def dequantized(codes, qparams=X):
    return q8.dequantize_per_tensor(codes, *shifted(qparams, codes.dtype), *RANGES[codes.dtype], codes.dtype)


def quantized(x, dtype=U8, qparams=Y, limits=None):
    return q8.quantize_per_tensor(x, *shifted(qparams, dtype), *(limits or RANGES[dtype]), dtype)


def expected(norm, codes, output_dtype=U8, *, qparams=X, target=Y, relu=False):
    """Return what the library makes of codes."""
    scale, zero_point = shifted(qparams, codes.dtype)
    return bn.quantized_batch_norm(
        bn.QuantizedTensor(codes.numpy(), scale, zero_point),
        None if norm.weight is None else norm.weight.detach().numpy(),
        None if norm.bias is None else norm.bias.detach().numpy(),
        norm.running_mean.numpy(),
        norm.running_var.numpy(),
        norm.eps,
        *shifted(target, output_dtype),
        output_dtype=KINDS[output_dtype],
        relu=relu,
    ).data


class Program(nn.Module):
    """A function with norms: what `forward` is given first are the norms."""

    def __init__(self, function, *norms):
        super().__init__()
        self.function = function
        self.norm, *others = norms
        self.others = nn.ModuleList(others)

    def forward(self, *inputs):
        return self.function(self.norm, *self.others, *inputs)


def targets(program):
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


KINDS_OF_PROGRAMS = {
    "exported": lambda exported, inputs: exported,
    "module": lambda exported, inputs: exported.module(),
    "decomposed": lambda exported, inputs: exported.run_decompositions(),
    "exported again": lambda exported, inputs: export(exported.module(), inputs),
}
BOTH = ("exported", "module")
DECOMPOSED = ("exported", "decomposed")


def lowered(function, norms, *inputs, kinds=BOTH):
    """Return a function lowered in these kinds of programs, and what was exported."""
    exported = export(Program(function, *norms).eval(), inputs)
    made = {}
    for name in kinds:
        program = KINDS_OF_PROGRAMS[name](exported, inputs)
        before = str(program.graph)
        assert re.search(r"aten\.\w*batch_norm", before)
        made[name], outcomes = lower_with_report(program)
        assert str(program.graph) == before
        assert {o.problem for o in outcomes} == {""}, name
        assert not re.search(r"aten\.\w*batch_norm", str(made[name].graph)), name
    return made, exported


def run(program, *inputs):
    return (program if isinstance(program, nn.Module) else program.module())(*inputs)


# The same numbers, in every spelling


@pytest.mark.thorough(but=2)
@pytest.mark.parametrize(
    ("dims", "x_dtype", "y_dtype", "affine"),
    [(1, U8, U8, False), (2, U8, U8, True), (2, U8, S8, True), (2, S8, U8, False), (3, S8, S8, True)],
)
def test_equals_the_library(dims, x_dtype, y_dtype, affine):
    norm = learned(NORMS[dims](CHANNELS, affine=affine, eps=1e-3))
    codes = every_code(SHAPES[dims], x_dtype)
    function = lambda n, c: quantized(n(dequantized(c)).relu(), y_dtype)  # noqa: E731
    made, exported = lowered(function, [norm], codes, kinds=KINDS_OF_PROGRAMS)
    want = expected(norm, codes, y_dtype, relu=True)
    for name, program in made.items():
        assert targets(program) == ["bytenorm.batch_norm.default"], name
        np.testing.assert_array_equal(run(program, codes).numpy(), want, name)
    # torch's own arithmetic in float agrees, but for ties
    steps = np.abs(run(exported, codes).numpy().astype(int) - want)
    assert steps.max() <= 1
    assert steps.mean() < 0.001


def test_vectors_without_space():
    norm, codes = learned(nn.BatchNorm1d(4)), torch.arange(256).to(U8).reshape(64, 4)
    made, _ = lowered(lambda n, c: quantized(n(dequantized(c))), [norm], codes)
    for program in made.values():
        np.testing.assert_array_equal(run(program, codes).numpy(), expected(norm, codes))


def per_tensor_tensors(dequantize):
    def spelled(x, scale, zero_point, low, high, dtype):
        operator = q8.dequantize_per_tensor if dequantize else q8.quantize_per_tensor
        return operator.tensor(x, torch.tensor(scale), torch.tensor(zero_point), low, high, dtype)

    return spelled


def per_tensor_only_tensors(dequantize):
    def spelled(x, scale, zero_point, low, high, dtype):
        operator = q8.dequantize_per_tensor if dequantize else q8.quantize_per_tensor
        numbers = [torch.tensor(n) for n in (scale, zero_point, low, high)]
        return operator.tensor2(x, *numbers, dtype)

    return spelled


def affine_blocks(dequantize):
    def spelled(x, scale, zero_point, low, high, dtype):
        operator = ao.dequantize_affine if dequantize else ao.quantize_affine
        numbers = torch.tensor(scale), torch.tensor(float(zero_point))
        return operator(x, list(x.shape), *numbers, dtype, low, high)

    return spelled


def affine_without_limits(dequantize):
    def spelled(x, scale, zero_point, low, high, dtype):
        operator = ao.dequantize_affine if dequantize else ao.quantize_affine
        return operator(x, list(x.shape), torch.tensor([scale]), torch.tensor([zero_point]), dtype)

    return spelled


SPELLINGS = [per_tensor_tensors, per_tensor_only_tensors, affine_blocks, affine_without_limits]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_per_tensor(spelling):
    norm, codes = learned(nn.BatchNorm2d(CHANNELS)), every_code(SHAPES[2])

    def function(n, c):
        x = spelling(True)(c, *X, 0, 255, U8)
        return spelling(False)(n(x).relu(), *Y, 0, 255, U8)

    exported = export(Program(function, norm).eval(), (codes,))
    want = expected(norm, codes, relu=True, qparams=(float(np.float32(X[0])), X[1]),
                    target=(float(np.float32(Y[0])), Y[1]))  # fmt: skip
    for program in (exported, exported.module()):
        made = lower(program)
        assert targets(made).count("bytenorm.batch_norm.default") == 1
        assert not re.search("quantize", str(made.graph))
        np.testing.assert_array_equal(run(made, codes).numpy(), want)


def channels_decomposed(codes, scale, zero_point):
    return q8.dequantize_per_channel(codes, scale, zero_point, 1, 0, 255, U8)


def channels_without_zero_points(codes, scale, zero_point):
    return q8.dequantize_per_channel(codes, scale, None, 1, 0, 255, U8)


def channels_affine(codes, scale, zero_point):
    return ao.dequantize_affine(codes, [codes.shape[0], 1, *codes.shape[2:]], scale, zero_point, U8, 0, 255)


CHANNELWISE = {
    "int64": (channels_decomposed, (-1,), torch.int64),
    "int32": (channels_decomposed, (-1,), torch.int32),
    "no zero points": (channels_without_zero_points, (-1,), torch.int64),
    "affine": (channels_affine, (-1,), torch.float32),
    "affine, of full rank": (channels_affine, (1, -1, 1, 1), torch.int32),
}


class PerChannel(nn.Module):
    """A norm on an input quantized per channel, as observers leave it: with buffers."""

    def __init__(self, spelling, norm, shape=(-1,), kind=torch.int64, channels=CHANNELS):
        super().__init__()
        self.spelling, self.norm = spelling, norm
        self.register_buffer("scale", torch.linspace(0.01, 0.06, channels).reshape(shape))
        self.register_buffer("zero_point", (torch.arange(channels) * 10 + 100).reshape(shape).to(kind))

    def forward(self, codes):
        return quantized(self.norm(self.spelling(codes, self.scale, self.zero_point)))


@pytest.mark.parametrize("name", CHANNELWISE)
def test_spellings_per_channel(name):
    spelling, shape, kind = CHANNELWISE[name]
    norm, codes = learned(nn.BatchNorm2d(CHANNELS)), every_code(SHAPES[2])
    model = PerChannel(spelling, norm, shape, kind).eval()
    zero_point = np.arange(CHANNELS) * 10 + 100 if name != "no zero points" else np.zeros(CHANNELS, int)
    want = bn.quantized_batch_norm(
        bn.QuantizedTensor(codes.numpy(), model.scale.flatten().numpy(), zero_point, axis=1),
        *(p.detach().numpy() for p in (norm.weight, norm.bias, norm.running_mean, norm.running_var)),
        norm.eps, *Y,
    )  # fmt: skip
    exported = export(model, (codes,))
    for program in (exported, exported.module()):
        made = lower(program)
        assert "bytenorm.batch_norm.per_channel" in targets(made)
        np.testing.assert_array_equal(run(made, codes).numpy(), want.data)


NORM_SPELLINGS = [
    lambda x, w, b, m, v: torch.ops.aten.native_batch_norm(x, w, b, m, v, False, 0.1, 1e-5)[0],
    lambda x, w, b, m, v: torch.ops.aten._native_batch_norm_legit_no_training(x, w, b, m, v, 0.1, 1e-5)[0],
    lambda x, w, b, m, v: torch.ops.aten._batch_norm_no_update(x, w, b, m, v, 0.1, 1e-5)[0],
    lambda x, w, b, m, v: torch.batch_norm(x, w, b, m, v, False, 0.1, 1e-5, False),
    lambda x, w, b, m, v: torch.ops.aten._native_batch_norm_legit(x, w, b, m, v, False, 0.1, 1e-5)[0],
]


@pytest.mark.thorough(but=2)
@pytest.mark.parametrize("compute", NORM_SPELLINGS)
def test_spellings_of_the_norm(compute):
    norm, codes = learned(nn.BatchNorm2d(CHANNELS)), every_code(SHAPES[2])

    def function(n, c):
        x = compute(dequantized(c), n.weight, n.bias, n.running_mean, n.running_var)
        return quantized(x)

    kinds = BOTH if compute is NORM_SPELLINGS[-1] else DECOMPOSED  # which gives new statistics even in evaluation
    made, _ = lowered(function, [norm], codes, kinds=kinds)
    for program in made.values():
        np.testing.assert_array_equal(run(program, codes).numpy(), expected(norm, codes))


ACTIVATIONS = {
    "relu": (torch.relu, 0, np.inf),
    "relu in place": (torch.relu_, 0, np.inf),
    "relu6": (nn.functional.relu6, 0, 6),
    "relu6 in place": (lambda x: nn.functional.relu6(x, inplace=True), 0, 6),
    "hardtanh": (nn.functional.hardtanh, -1, 1),
    "hardtanh in place": (lambda x: nn.functional.hardtanh_(x, -0.5, 2.5), -0.5, 2.5),
    "clamp": (lambda x: x.clamp(-0.25, 3), -0.25, 3),
    "clamp below": (lambda x: x.clamp(min=0.5), 0.5, np.inf),
    "clamp above": (lambda x: x.clamp_max(1.5), -np.inf, 1.5),
    "ceiling beyond the codes": (lambda x: x.clamp(0, 1e6), 0, np.inf),
}


@pytest.mark.thorough(but=5)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    y_dtype = S8 if name == "relu6" else U8
    activation, low, high = ACTIVATIONS[name]
    norm, codes = learned(nn.BatchNorm2d(CHANNELS)), every_code(SHAPES[2])
    function = lambda n, c: quantized(activation(n(dequantized(c))), y_dtype)  # noqa: E731
    kinds = DECOMPOSED if "in place" in name else BOTH
    made, exported = lowered(function, [norm], codes, kinds=kinds)
    limits = quantized(torch.tensor([low, high], dtype=torch.float32), y_dtype)  # torch says which codes these are
    want = np.clip(expected(norm, codes, y_dtype), *limits.numpy())
    assert len(np.unique(want)) > 10
    for kind, program in made.items():
        np.testing.assert_array_equal(run(program, codes).numpy(), want, kind)
        clamps = low not in (0, -np.inf) or limits[1] != torch.iinfo(y_dtype).max
        assert targets(program) == ["bytenorm.batch_norm.default"] + ["aten.clamp.default"] * clamps
    steps = np.abs(run(exported, codes).numpy().astype(int) - want)
    assert steps.max() <= 1
    assert steps.mean() < 0.001


@pytest.mark.parametrize("limits", [(0, 127), (20, 255), (90, 200)])
def test_fewer_codes_than_the_type_has(limits):
    norm, codes = learned(nn.BatchNorm2d(CHANNELS)), every_code(SHAPES[2])
    made, exported = lowered(lambda n, c: quantized(n(dequantized(c)), limits=limits), [norm], codes)
    want = np.clip(expected(norm, codes), *limits)
    for program in made.values():
        np.testing.assert_array_equal(run(program, codes).numpy(), want)
    assert np.abs(run(exported, codes).numpy().astype(int) - want).max() <= 1


# What surrounds a norm


def test_one_tensor_for_many():
    """One q feeds several dq, one dq two norms, and a norm is followed by another."""
    norms = [learned(nn.BatchNorm2d(CHANNELS)) for _ in range(4)]

    def function(a, b, c, d, x):
        codes = quantized(x, qparams=X)
        shared = dequantized(codes)
        first = quantized(a(shared).relu())
        second = quantized(b(shared))
        third = quantized(c(dequantized(codes)))
        fourth = quantized(d(dequantized(first, Y)), S8)
        return first, second, third, fourth, shared.sum()

    x = torch.randn(SHAPES[2]) * 3
    codes = quantized(x, qparams=X)
    first = expected(norms[0], codes, relu=True)
    want = [
        first, expected(norms[1], codes), expected(norms[2], codes),
        expected(norms[3], torch.from_numpy(first), S8, qparams=Y),
    ]  # fmt: skip
    made, exported = lowered(function, norms, x)
    for name, program in made.items():
        assert targets(program).count("bytenorm.batch_norm.default") == 4
        found = run(program, x)
        for i, wanted in enumerate(want):
            np.testing.assert_array_equal(found[i].numpy(), wanted, f"{name}, {i}")
        assert torch.equal(found[4], run(exported, x)[4])


def test_quantized_in_several_ways():
    norm, codes = learned(nn.BatchNorm2d(CHANNELS)), every_code(SHAPES[2])

    def function(n, c):
        x = n(dequantized(c))
        y = torch.relu(x)
        return quantized(y), quantized(y, S8), quantized(x), quantized(x), quantized(x, qparams=(0.05, 90))

    made, _ = lowered(function, [norm], codes)
    want = [
        expected(norm, codes, relu=True), expected(norm, codes, S8, relu=True), expected(norm, codes),
        expected(norm, codes), expected(norm, codes, target=(0.05, 90)),
    ]  # fmt: skip
    for program in made.values():
        assert targets(program) == ["bytenorm.batch_norm.default"] * 4
        for found, wanted in zip(run(program, codes), want, strict=True):
            np.testing.assert_array_equal(found.numpy(), wanted)


def test_layout_stays():
    norm = learned(nn.BatchNorm2d(CHANNELS))
    function = lambda n, c: quantized(n(dequantized(c)).relu())  # noqa: E731
    made, exported = lowered(function, [norm], every_code(SHAPES[2]))
    codes = every_code(SHAPES[2]).contiguous(memory_format=torch.channels_last)
    for program in made.values():
        found = run(program, codes)
        assert found.stride() == codes.stride() == run(exported, codes).stride()
        np.testing.assert_array_equal(found.numpy(), expected(norm, codes, relu=True))


def test_batch_stays_free():
    norm, codes = learned(nn.BatchNorm2d(CHANNELS)), every_code(SHAPES[2])
    program = Program(lambda n, c: quantized(n(dequantized(c))), norm).eval()
    exported = export(program, (codes,), dynamic_shapes={"inputs": ({0: Dim("batch")},)})
    for made in (lower(exported), lower(exported.module())):
        for batch in (2, 7):
            more = every_code((batch, *SHAPES[2][1:]))
            np.testing.assert_array_equal(run(made, more).numpy(), expected(norm, more))


def test_gradients_are_detached_in_the_result_alone():
    norm, codes = learned(nn.BatchNorm2d(CHANNELS)), every_code(SHAPES[2])
    exported = export(Program(lambda n, c: quantized(n(dequantized(c))), norm).eval(), (codes,))
    module = exported.module()
    for program in (exported, module):
        made = lower(program)
        assert torch.is_grad_enabled()
        run(made, codes)
        assert not any(p.requires_grad for p in (made if program is module else made.module()).parameters())
        same = dict(made.named_parameters())["norm.weight"]
        assert same.data_ptr() == dict(program.named_parameters())["norm.weight"].data_ptr()
        assert dict(program.named_parameters())["norm.weight"].requires_grad


def test_saved_loaded_decomposed_and_exported_again(tmp_path):
    norm, codes = learned(nn.BatchNorm2d(CHANNELS)), every_code(SHAPES[2])
    made, _ = lowered(lambda n, c: quantized(n(dequantized(c)).clamp(0, 1)), [norm], codes)
    want = torch.from_numpy(np.clip(expected(norm, codes), 90, 123))
    torch.export.save(made["exported"], tmp_path / "made.pt2")
    for program in (
        torch.export.load(tmp_path / "made.pt2"),
        made["exported"].run_decompositions(),
        export(made["module"], (codes,)),
        lower(made["exported"]),  # there is nothing left to do
    ):
        assert "bytenorm.batch_norm.default" in targets(program)
        assert torch.equal(run(program, codes), want)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # by what Inductor imports
def test_compiles_in_one_graph():
    norm, codes = learned(nn.BatchNorm2d(CHANNELS)), every_code(SHAPES[2])
    made = lower(export(Program(lambda n, c: quantized(n(dequantized(c)).clamp(0, 1)), norm), (codes,)).module())
    compiled = torch.compile(made, fullgraph=True)
    np.testing.assert_array_equal(compiled(codes).numpy(), np.clip(expected(norm, codes), 90, 123))


def test_trained_programs():
    norm, codes = learned(nn.BatchNorm2d(CHANNELS)), every_code(SHAPES[2])
    trained = export(Program(lambda n, c: quantized(n(dequantized(c)).relu()), norm.train()), (codes,)).module()
    assert [o.problem for o in lower_with_report(trained)[1]] == [
        "it normalizes with the statistics of the batch (see move_exported_model_to_eval)"
    ]
    move_exported_model_to_eval(trained)
    np.testing.assert_array_equal(lower(trained)(codes).numpy(), expected(norm, codes, relu=True))


# What stays


def lower_one(program, *inputs):
    """Return the name and the problem of the only norm."""
    exported = export(program, inputs or (every_code(SHAPES[2]),))
    found = []
    for given in (exported, exported.module()):
        made, (outcome,) = lower_with_report(given)
        assert str(made.graph) == str(given.graph)
        found.append((outcome.name, outcome.problem))
    assert found[0] == found[1]
    return found[0]


def changed(norm, **tensors):
    for name, value in tensors.items():
        with torch.no_grad():
            getattr(norm, name).copy_(value)
    return norm


def by_tensors(c):
    """Dequantize with a scale that depends on the input."""
    return q8.dequantize_per_tensor.tensor(c, c.float().mean(), torch.tensor(3), 0, 255, U8)


def by_rows(codes, scale, zero_point):
    return q8.dequantize_per_channel(codes, scale, zero_point, 2, 0, 255, U8)


class QuantizedPerChannel(PerChannel):
    def forward(self, codes):
        x = self.norm(dequantized(codes))
        return q8.quantize_per_channel(x, self.scale, self.zero_point, 1, 0, 255, U8)


def statistics(n, c):
    made = torch.ops.aten.native_batch_norm(
        dequantized(c), n.weight, n.bias, n.running_mean, n.running_var, False, 0.1, 1e-5
    )
    return quantized(made[0]), made[1]


def changed_behind(n, c):
    x = n(dequantized(c))
    y = quantized(x)
    return y, x.mul_(2)


def changed_before(n, c):
    x = dequantized(c)
    y = n(x)
    return quantized(y), x.add_(1)


def both_activations(n, c):
    x = n(dequantized(c))
    return quantized(torch.relu(x)), torch.sigmoid(x)


FLOATS = torch.randn(SHAPES[2])
LEFT = {
    "its input is not quantized": (lambda n, x: quantized(n(x)), FLOATS),
    "its output is not quantized": (lambda n, c: n(dequantized(c)),),
    "its output is also read in float, by an output of the program": (
        lambda n, c: (quantized(y := n(dequantized(c))), y),
    ),
    "its output is also read in float, by sigmoid": (both_activations,),
    "its input is quantized to int16": (
        lambda n, c: quantized(n(q8.dequantize_per_tensor(c, 0.1, 0, -32768, 32767, torch.int16))),
        torch.zeros(SHAPES[2], dtype=torch.int16),
    ),
    "its output is quantized to int32": (
        lambda n, c: q8.quantize_per_tensor(n(dequantized(c)), 0.1, 0, -999, 999, torch.int32),
    ),
    "its input is dequantized to float16": (
        lambda n, c: quantized(
            torch.batch_norm(
                q8.dequantize_per_tensor(c, 0.1, 0, 0, 255, U8, out_dtype=torch.float16),
                n.weight,
                n.bias,
                n.running_mean,
                n.running_var,
                False,
                0.1,
                1e-5,
                False,
            )
        ),
    ),
    "the scale of its input is not constant": (lambda n, c: quantized(n(by_tensors(c))),),
    "the zero point of its input is no whole number": (
        lambda n, c: quantized(
            n(ao.dequantize_affine(c, list(c.shape), torch.tensor(0.1), torch.tensor(1.5), U8, 0, 255))
        ),
    ),
    "its output is also read in float, by clamp": (
        lambda n, c: (quantized(x := n(dequantized(c))), quantized(x.clamp(min=float("nan")))),
    ),
    "its statistics are read, too": (statistics,),
    "its weight is not constant": (
        lambda n, c: quantized(
            torch.batch_norm(
                dequantized(c), n.weight * 2, n.bias, n.running_mean, n.running_var, False, 0.1, 1e-5, False
            )
        ),
    ),
    "its output is changed in place by mul_": (changed_behind,),
    "its input is changed in place by add_": (changed_before,),
}


@pytest.mark.parametrize("problem", LEFT)
def test_what_stays_is_reported(problem):
    function, *inputs = LEFT[problem]
    norm = learned(nn.BatchNorm2d(CHANNELS))
    assert lower_one(Program(function, norm), *inputs) == ("norm", problem)


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        (
            lambda n: PerChannel(by_rows, n, channels=16),
            "its input is quantized along another axis than that of the channels",
        ),
        (lambda n: QuantizedPerChannel(None, n), "its output is quantized per channel"),
    ],
)
def test_channels_that_stay_are_reported(program, problem):
    norm = learned(nn.BatchNorm2d(CHANNELS))
    assert lower_one(program(norm).eval()) == ("norm", problem)


def test_other_numbers_of_channels_are_reported():
    program = PerChannel(channels_decomposed, learned(nn.BatchNorm2d(CHANNELS))).eval()
    made = export(program, (every_code(SHAPES[2]),)).module()
    made.scale = torch.ones(CHANNELS + 1)
    assert lower_with_report(made)[1][0].problem == "its input has 6 scales and 5 zero points"
    made.zero_point = torch.zeros(CHANNELS + 1)
    assert lower_with_report(made)[1][0].problem == "its input has 6 scales, it has 5 channels"


@pytest.mark.parametrize(
    ("norm", "problem"),
    [
        (changed(nn.BatchNorm2d(CHANNELS), weight=torch.tensor([1, 1, np.nan, 1, 1])).eval(), "weight"),
        (changed(nn.BatchNorm2d(CHANNELS), running_var=torch.tensor([1, 1, -1, 1, 1])).eval(), "var"),
        (changed(nn.BatchNorm2d(CHANNELS), bias=torch.full((CHANNELS,), 3e38)).eval(), "intercept"),
        (nn.BatchNorm2d(CHANNELS, track_running_stats=False), "it normalizes with the statistics of the batch"),
    ],
)
def test_norms_that_the_operator_refuses(norm, problem):
    assert problem in lower_one(Program(lambda n, c: quantized(n(dequantized(c))), norm))[1]


def test_bad_quantization_is_left_to_what_computes_it():
    function = lambda n, c: quantized(n(q8.dequantize_per_tensor(c, 1e-60, 0, 0, 255, U8)))  # noqa: E731
    assert "scale" in lower_one(Program(function, learned(nn.BatchNorm2d(CHANNELS))))[1]


def test_norms_in_subgraphs():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = learned(nn.BatchNorm2d(CHANNELS))

        def forward(self, c):
            x = torch.cond(c.sum() > 0, self.norm, lambda y: y + 1, (dequantized(c),))
            return quantized(x)

    _, (outcome,) = lower_with_report(export(Branches().eval(), (every_code(SHAPES[2]),)))
    assert outcome.problem.startswith("it is in the subgraph true_graph")


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")  # by torch's unflatten
def test_preserved_modules_keep_their_norms():
    function = lambda n, c: quantized(n(dequantized(c)))  # noqa: E731
    norm, codes = learned(nn.BatchNorm2d(CHANNELS)), every_code(SHAPES[2])
    exported = export(Program(function, norm), (codes,), preserve_module_call_signature=("norm",))
    made, (outcome,) = lower_with_report(exported)
    assert outcome.problem == "the preserved signature of a module refers to it"
    assert torch.equal(torch.export.unflatten(made)(codes), run(exported, codes))


def test_each_norm_that_stays_is_warned_of():
    norms = [learned(nn.BatchNorm2d(CHANNELS)) for _ in range(3)]
    function = lambda a, b, c, codes: (quantized(a(dequantized(codes))), b(dequantized(codes)), c(FLOATS))  # noqa: E731
    exported = export(Program(function, *norms), (every_code(SHAPES[2]),))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = lower(exported)
    ours = [w for w in caught if issubclass(w.category, LoweringWarning)]
    assert [str(w.message) for w in ours] == [
        "others.0 stays in float: its output is not quantized",
        "others.1 stays in float: its input is not quantized",
    ]
    assert {w.filename for w in ours} == {__file__}
    assert targets(made).count("bytenorm.batch_norm.default") == 1


def test_a_program_without_norms_is_warned_of_and_one_that_is_lowered_is_not():
    codes = (every_code(SHAPES[2]),)
    exported = export(Program(lambda _, x: quantized(dequantized(x)), nn.Identity()), codes)
    with pytest.warns(LoweringWarning, match="the program has no batch norm"):
        made = lower(exported)
    assert targets(made) == targets(exported)
    lowered = lower(
        export(Program(lambda n, x: quantized(n(dequantized(x))), learned(nn.BatchNorm2d(CHANNELS))), codes)
    )
    assert targets(lower(lowered)) == targets(lowered)


# Bad input


def test_float_programs_are_refused():
    exported = export(learned(nn.BatchNorm2d(CHANNELS)), (FLOATS,))
    for program in (exported, exported.module()):
        with pytest.raises(ValueError, match=r"^program must be quantized, got one in float \(prepare_pt2e"):
            lower(program)
    prepared = exported.module()  # with an observer, as prepare_pt2e leaves them
    prepared.add_module("activation_post_process_0", nn.Identity())
    placeholder = next(node for node in prepared.graph.nodes if node.op == "placeholder")
    with prepared.graph.inserting_after(placeholder):
        prepared.graph.call_module("activation_post_process_0", (placeholder,))
    with pytest.raises(ValueError, match=r"got one that is prepared \(convert_pt2e quantizes\)$"):
        lower(prepared)


@pytest.mark.parametrize("program", [nn.BatchNorm2d(3), None, torch.zeros(3)])
def test_what_is_no_program_is_refused(program):
    with pytest.raises(TypeError, match=rf"^program must be .* got {type(program).__name__}$"):
        lower(program)


class WithDropout(nn.Module):
    """A norm in 8 bits and a dropout, beside buffers that are kept out of the state dict."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = learned(nn.BatchNorm2d(CHANNELS)), nn.Dropout(0.5)
        self.register_buffer("passing", torch.ones(1), persistent=False)
        self.plain = torch.zeros(1)

    def forward(self, codes):
        x = self.drop(dequantized(quantized(self.norm(dequantized(codes))), Y)) * self.passing
        return x + self.plain


def train_and_eval(program):
    from torchao.quantization.pt2e import allow_exported_model_train_eval

    return allow_exported_model_train_eval(program)


@pytest.mark.thorough
@pytest.mark.parametrize("again", [lower, lambda p: recalibrated(lower(p))], ids=["lower", "recalibrate"])
def test_what_was_put_on_a_program_stays(again):
    """torchao puts `train` and `eval` on the instance; a copy of a GraphModule leaves out what is there."""
    codes = every_code(SHAPES[2])
    program = export(WithDropout().train(), (codes,)).module()
    norm_to_eval(program)
    train_and_eval(program)
    program.note, program.owner = "by hand", MethodOwner().method
    program.register_forward_hook(lambda module, inputs, output: seen.append(module))
    program.meta["mine"], seen = 1, []
    made = again(program)
    assert (made.note, made.owner, made.meta["mine"]) == ("by hand", program.owner, 1)
    assert made.training == program.training
    assert made.state_dict().keys() == program.state_dict().keys()
    assert dict(made.named_buffers()).keys() == dict(program.named_buffers()).keys()
    made.train()
    assert not torch.equal(made(codes), made(codes))
    assert seen == [made, made]
    made.eval()
    assert torch.equal(made(codes), made(codes))
    assert not torch.equal(program(codes), program(codes))  # which is as it was


def test_a_refusal_of_train_and_eval_stays():
    from torchao.quantization.pt2e.utils import _disallow_eval_train

    program = _disallow_eval_train(export(WithDropout().eval(), (every_code(SHAPES[2]),)).module())
    for made in (lower(program), lower(lower(program))):
        for call in (made.train, made.eval):
            assert call.__self__ is made
            with pytest.raises(NotImplementedError, match="not supported for exported models"):
                call()


class MethodOwner:
    def method(self):
        return 1


def norm_to_eval(program):
    """Leave the dropout in training: what is lowered are norms in evaluation."""
    for node in program.graph.nodes:
        if "batch_norm" in str(node.target):
            node.args = (*node.args[:5], False, *node.args[6:])
    program.recompile()


def recalibrated(program):
    from bytenorm.torch import recalibrate

    return recalibrate(program, [every_code(SHAPES[2])], method="mse")[0]
