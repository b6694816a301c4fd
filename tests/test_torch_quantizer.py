"""The quantizer of batch norms in torchao's export flow: what it annotates, alone and with others."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.export import Dim, export

from bytenorm.torch.pt2e.lower import lower_with_report
from bytenorm.torch.quantization.quantizer import BatchNormQuantizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # scripted observers, which torch calls deprecated
    from torchao.quantization.pt2e import (
        FusedMovingAvgObsFakeQuantize,
        HistogramObserver,
        MinMaxObserver,
        move_exported_model_to_eval,
        quantize_pt2e,
    )
    from torchao.quantization.pt2e.quantizer import ComposableQuantizer
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # torch, of its own trees
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*reduce_range will be deprecated:UserWarning"),
]

CHANNELS = 3
INPUTS = {1: (4, CHANNELS, 9), 2: (4, CHANNELS, 8, 8), 3: (4, CHANNELS, 4, 4, 4)}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


@pytest.fixture
def convert(monkeypatch):
    """convert_pt2e without its search for patterns of training.

    It makes that wherever a norm is left in the graph. It takes half a minute, and finds nothing behind a
    preparation that was not for training.
    """
    monkeypatch.setattr(quantize_pt2e, "_fold_conv_bn_qat", lambda model: model)
    return quantize_pt2e.convert_pt2e


class Model(nn.Module):
    """Layers and what is done with them."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def norm(dims=2, channels=CHANNELS, **options):
    """Return a norm as if it had been trained."""
    made = NORMS[dims](channels, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
        made.running_mean.normal_()
        made.running_var.uniform_(0.2, 2)
    return made


def x86_quantizer(**options):
    return x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config(**options))


def annotations(model, *inputs, quantizer=None, train=False):
    """Return which nodes read a quantized tensor and which make one, by the names in the graph."""
    exported = export(model.train(train), inputs).module()
    (quantizer or BatchNormQuantizer()).annotate(exported)
    found = {
        node.name: node.meta["quantization_annotation"]
        for node in exported.graph.nodes
        if "quantization_annotation" in node.meta
    }
    reads = {name: [x.name for x in a.input_qspec_map] for name, a in found.items() if a.input_qspec_map}
    return reads, [name for name, a in found.items() if a.output_qspec is not None]


# What is annotated


@pytest.mark.parametrize(
    ("activation", "last"),
    [
        (lambda x: x, "batch_norm"),
        (torch.relu, "relu"),
        (torch.relu_, "relu_"),
        (nn.functional.relu6, "relu6"),
        (nn.functional.hardtanh, "hardtanh"),
        (nn.ReLU6(), "hardtanh"),
        (lambda x: x.clamp(0, 6), "clamp"),
        (torch.sigmoid, "batch_norm"),
    ],
)
def test_activations(activation, last):
    model = Model(lambda m, x: activation(m.norm(x)), norm=norm())
    reads, makes = annotations(model, torch.randn(INPUTS[2]))
    assert reads == {"batch_norm": ["inputs_0"]}
    assert makes == [last]


def test_decomposed_programs():
    model = Model(lambda m, x: m.norm(x).relu(), norm=norm())
    program = export(model.eval(), (torch.randn(INPUTS[2]),)).run_decompositions().module()
    BatchNormQuantizer().annotate(program)
    specs = {node.name: node.meta.get("quantization_annotation") for node in program.graph.nodes}
    assert specs["_native_batch_norm_legit_no_training"].input_qspec_map
    assert specs["relu"].output_qspec is not None
    assert specs["getitem"].output_qspec is None


def test_several_readers():
    model = Model(
        lambda m, x: (torch.relu(y := m.first(x)), y.sum(), torch.relu(z := m.second(x)), z),
        first=norm(), second=norm(affine=False),
    )  # fmt: skip
    reads, makes = annotations(model, torch.randn(INPUTS[2]))
    assert list(reads) == ["batch_norm", "batch_norm_1"]
    assert reads["batch_norm"] == reads["batch_norm_1"]
    assert makes == ["batch_norm", "batch_norm_1"]


def test_norms_behind_convolutions_are_left_to_the_flow():
    convolution = nn.Conv2d(CHANNELS, CHANNELS, 1)
    model = Model(lambda m, x: m.norm(m.convolution(x)).relu(), convolution=convolution, norm=norm())
    x = torch.randn(INPUTS[2])
    for train in (False, True):
        assert annotations(model, x, train=train) == ({}, [])
    bare = Model(lambda m, x: m.norm(m.convolution(x)), convolution=convolution, norm=norm(affine=False))
    assert annotations(bare, x, train=True) == ({"batch_norm": ["conv2d"]}, ["batch_norm"])
    twice = Model(lambda m, x: (m.norm(y := m.convolution(x)), y), convolution=convolution, norm=norm())
    assert annotations(twice, x, train=True) == ({"batch_norm": ["conv2d"]}, ["batch_norm"])


def test_other_types_are_left():
    model = Model(lambda m, x: m.norm(x), norm=norm()).to(torch.bfloat16)
    assert annotations(model, torch.randn(INPUTS[2], dtype=torch.bfloat16)) == ({}, [])


# The flow


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_all_norms_run_in_8_bits(dims, convert):
    model = Model(
        lambda m, x: m.third(m.first(x).relu() + m.second(x)).clamp(-1, 1),
        first=norm(dims), second=norm(dims, affine=False), third=norm(dims),
    )  # fmt: skip
    x = torch.randn(INPUTS[dims])
    program = export(model.eval(), (x,), dynamic_shapes={"inputs": ({0: Dim("batch", min=2)},)}).module()
    prepared = quantize_pt2e.prepare_pt2e(program, BatchNormQuantizer(observer=MinMaxObserver))
    for _ in range(3):
        prepared(torch.randn(INPUTS[dims]))
    converted = convert(prepared)
    lowered, outcomes = lower_with_report(converted)
    assert [(o.name, o.problem) for o in outcomes] == [("first", ""), ("second", ""), ("third", "")]
    quantizers = [node for node in converted.graph.nodes if "quantize_per_tensor" in str(node.target)]
    scale = next(node.args[1] for node in reversed(quantizers))
    with torch.no_grad():
        steps = ((lowered(x) - converted(x)) / scale).abs()
        assert steps.max() < 1.01
        assert (steps > 0.5).float().mean() < 0.01
        assert (lowered(x) - model(x)).abs().max() < 0.1


def observers(prepared):
    """Return the observer of each tensor, by the name of the node that makes it."""
    modules = dict(prepared.named_modules())
    found = {}
    for node in prepared.graph.nodes:
        if node.op == "call_module" and "activation_post_process" in node.target:
            found[node.args[0].name] = modules[node.target]
    return found


@pytest.mark.parametrize("first", [True, False])
def test_composed_with_the_quantizer_of_the_rest(first, convert):
    """In either order; what both quantize has one observer."""
    model = Model(
        lambda m, x: m.after(torch.cat([m.conv(m.before(x).relu()), x], 1)).relu().mean((2, 3)),
        before=norm(), conv=nn.Conv2d(CHANNELS, 5, 3, padding=1), after=norm(channels=5 + CHANNELS),
    )  # fmt: skip
    x = torch.randn(INPUTS[2])
    both = [x86_quantizer(), BatchNormQuantizer()]
    program = export(model.eval(), (x,)).module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        prepared = quantize_pt2e.prepare_pt2e(program, ComposableQuantizer(both[::-1] if first else both))
    found = observers(prepared)
    assert {"relu", "relu_1", "cat"} <= set(found)
    assert all(isinstance(found[name], HistogramObserver) for name in ("relu", "relu_1", "cat"))
    prepared(x)
    converted = convert(prepared)
    conv = next(node for node in converted.graph.nodes if node.target is torch.ops.aten.conv2d.default)
    dequantize = conv.args[0]
    quantize = dequantize.args[0]
    assert quantize.args[0].name == "relu"
    assert [o.problem for o in lower_with_report(converted)[1]] == ["", ""]


@pytest.mark.thorough
def test_compiled_norms_join_the_channels_last_chain(convert):
    """No copy between a norm and the 8-bit convolutions around it; Inductor copies small constants."""
    from torch._inductor import config as inductor
    from torch._inductor.utils import run_and_get_code

    model = Model(
        lambda m, x: m.last(m.norm(m.first(x).relu()).relu()),
        first=nn.Conv2d(CHANNELS, 16, 3), norm=norm(channels=16), last=nn.Conv2d(16, 16, 3),
    )  # fmt: skip
    x = torch.randn(INPUTS[2])
    # 7 bits of weights: without VNNI, oneDNN adds pairs of products in 16 bits, too few for 2 * 255 * 127.
    config = x86.get_default_x86_inductor_quantization_config()
    config = replace(config, weight=replace(config.weight, quant_min=-64, quant_max=63))
    rest = x86.X86InductorQuantizer().set_global(config)
    quantizer = ComposableQuantizer([rest, BatchNormQuantizer()])
    prepared = quantize_pt2e.prepare_pt2e(export(model.eval(), (x,)).module(), quantizer)
    prepared(x)
    lowered, (outcome,) = lower_with_report(convert(prepared))
    assert not outcome.problem
    with torch.no_grad(), inductor.patch(freezing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Inductor's own code
        found, (code,) = run_and_get_code(torch.compile(lowered, fullgraph=True), x)
        torch.testing.assert_close(found, lowered(x), rtol=0, atol=0.05)
    between = code.partition("def call(")[2].split("qconv_pointwise.tensor(")[1]
    assert "torch.ops.bytenorm.batch_norm.default(" in between
    assert "cpp_fused" not in between


def test_without_it_norms_stay_in_float():
    model = Model(lambda m, x: m.conv(m.norm(x).relu()), norm=norm(), conv=nn.Conv2d(CHANNELS, 5, 3))
    program = export(model.eval(), (torch.randn(INPUTS[2]),)).module()
    reads, _ = annotations(model, torch.randn(INPUTS[2]), quantizer=x86_quantizer())
    assert list(reads) == ["conv2d"]
    assert "batch_norm" not in observers(quantize_pt2e.prepare_pt2e(program, x86_quantizer()))


@pytest.mark.thorough
def test_training():
    """The norm behind a convolution merges with it; the other one is trained between fake quantizers."""
    model = Model(
        lambda m, x: m.merged(m.conv(m.alone(x))).relu(),
        alone=norm(), conv=nn.Conv2d(CHANNELS, CHANNELS, 1), merged=norm(),
    )  # fmt: skip
    x = torch.randn(INPUTS[2])
    program = export(model.train(), (x,)).module()
    prepared = quantize_pt2e.prepare_qat_pt2e(program, BatchNormQuantizer(is_qat=True))
    found = observers(prepared)
    alone, merged = (n for n in prepared.graph.nodes if n.target is torch.ops.aten.batch_norm.default)
    assert isinstance(found[alone.name], FusedMovingAvgObsFakeQuantize)
    assert merged.name not in found
    assert alone.args[5] and merged.args[5]  # still in training
    prepared(x).square().mean().backward()
    assert prepared.alone.weight.grad.abs().max() > 0


@pytest.mark.thorough
def test_trained_norms_are_lowered(convert):
    model = Model(lambda m, x: m.norm(x).relu(), norm=norm())
    x = torch.randn(INPUTS[2])
    prepared = quantize_pt2e.prepare_qat_pt2e(
        export(model.train(), (x,)).module(), BatchNormQuantizer(is_qat=True)
    )
    optimizer = torch.optim.SGD(prepared.parameters(), lr=0.1)
    for _ in range(3):
        prepared(x).square().mean().backward()
        optimizer.step()
    move_exported_model_to_eval(prepared)
    converted = convert(prepared)
    lowered, (outcome,) = lower_with_report(converted)
    assert (outcome.name, outcome.problem) == ("norm", "")
    scale = max(node.args[1] for node in converted.graph.nodes if "quantize_per_tensor" in str(node.target))
    with torch.no_grad():
        assert (lowered(x) - converted(x)).abs().max() < 1.01 * scale


# Options


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (torch.uint8, 0, 255, HistogramObserver)),
        ({"dtype": torch.int8}, (torch.int8, -128, 127, HistogramObserver)),
        ({"quant_max": 127}, (torch.uint8, 0, 127, HistogramObserver)),
        ({"dtype": torch.int8, "quant_min": -127}, (torch.int8, -127, 127, HistogramObserver)),
        ({"observer": MinMaxObserver}, (torch.uint8, 0, 255, MinMaxObserver)),
        ({"observer": MinMaxObserver.with_args(eps=0.1)}, (torch.uint8, 0, 255, MinMaxObserver)),
    ],
)
def test_options(options, expected):
    program = export(norm().eval(), (torch.randn(INPUTS[2]),)).module()
    found = observers(quantize_pt2e.prepare_pt2e(program, BatchNormQuantizer(**options)))
    assert len(found) == 2
    for observer in found.values():
        assert (observer.dtype, observer.quant_min, observer.quant_max, type(observer)) == expected
        assert observer.qscheme == torch.per_tensor_affine


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"dtype": torch.quint8}, ValueError, r"dtype must be torch.uint8 or torch.int8, got torch.quint8"),
        ({"dtype": "uint8"}, ValueError, r"dtype must be torch.uint8 or torch.int8, got uint8"),
        ({"is_qat": 1}, TypeError, r"is_qat must be a bool, got int"),
        ({"quant_min": 0.0}, TypeError, r"quant_min must be an int, got float"),
        ({"quant_max": True}, TypeError, r"quant_max must be an int, got bool"),
        ({"quant_max": 256}, ValueError, r"quant_min and quant_max must be a range within 0 to 255, got 0 to 256"),
        ({"quant_min": 9, "quant_max": 9}, ValueError, r"quant_min and quant_max must be .*, got 9 to 9"),
        ({"dtype": torch.int8, "quant_min": -129}, ValueError, r".* within -128 to 127, got -129 to 127"),
    ],
)
def test_bad_options(options, error, says):
    with pytest.raises(error, match=f"^{says}$"):
        BatchNormQuantizer(**options)
