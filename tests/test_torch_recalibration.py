"""Recalibration of lowered programs: what is chosen, who is told, and what is refused."""

import numpy as np
import pytest
import torch
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
    for x in data:
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
    assert same == norms


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
    made, norms = recalibrate(program, data, reestimate=True, progress=lambda *stage: reports.append(stage))
    assert reports == [(f"norms {n}/2: run", done, 3) for n in (1, 2) for done in range(3)]
    assert all(norm.reestimated for norm in norms)
    assert error(made, model, data) * 10 < error(program, model, data)
    for node, mean, var in zip(operators(made), right[::2], right[1::2], strict=True):
        new = [made.get_buffer(node.args[i].target) for i in (5, 6)]
        torch.testing.assert_close(new[0], mean, rtol=0, atol=0.01)
        torch.testing.assert_close(new[1], var, rtol=0.02, atol=0)
    after = program.state_dict()
    assert after.keys() == made.state_dict().keys() == state.keys()
    assert all(torch.equal(after[name], value) for name, value in state.items())

    kept, norms = recalibrate(program, data, method=None, reestimate=True)
    assert [(norm.scale, norm.zero_point, norm.mse, norm.method) for norm in norms] == [
        (0.1, 0, None, None),
        (0.09, 100, None, None),
    ]
    assert error(kept, model, data) * 10 < error(program, model, data)


def test_a_norm_that_is_used_twice_has_two_statistics():
    model = Model(lambda norm, a, b: (between(norm(between(a, 0.05)), 0.1), between(norm(between(b, 0.05)), 0.1)))
    a, b = images(2)
    made, norms = recalibrate(lowered(model, a, b), [(a, b * 2 + 1)], reestimate=True)
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
            seen[n.name] = super().run_node(n)
            return seen[n.name]

    parts = [ChannelStatistics(CHANNELS) for _ in told]
    total = ChannelStatistics(CHANNELS)
    for x in data:
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
    for x in data:
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
    changed, (norm,) = recalibrate(program, data, reestimate=True)
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
    pixel = x[:1, :, :1, :1]
    single = lowered(model, pixel)
    for given, options, kind, says in [
        ((exported, [x]), {}, TypeError, r"got an ExportedProgram: give its .module\(\)"),
        ((model, [x]), {}, TypeError, "program must be a torch.fx.GraphModule, .* got Model"),
        ((exported.module(), [x]), {}, ValueError, "wanted one with norms in 8 bits"),
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
        ((single, [pixel]), {"reestimate": True}, ValueError, "reestimate: the norm norms.0: "),
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
