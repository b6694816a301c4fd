"""A float network to 8 bits in one call, in PyTorch."""

import importlib
import re
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import bytenorm.torch as bt

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # scripted observers, which torch calls deprecated
    from torchao.quantization.pt2e import quantize_pt2e
    from torchao.quantization.pt2e.quantizer import ComposableQuantizer
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

C = 4


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def trained(norm):
    nn.init.normal_(norm.weight, 1, 0.2)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm


class Network(nn.Module):
    """A norm before a layer, one behind, one whose layer has another reader, and one behind a sum."""

    def __init__(self):
        super().__init__()
        self.first, self.folded, self.beside, self.last = (trained(nn.BatchNorm2d(C)) for _ in range(4))
        self.one, self.two, self.three = (nn.Conv2d(C, C, 3, padding=1) for _ in range(3))
        self.out = nn.Linear(C, 3)

    def forward(self, x):
        x = self.folded(self.one(self.first(x).relu())).relu()
        y = self.two(x)
        y = self.three(y + self.beside(y).relu())
        return self.out(self.last(x + y).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return Network().eval()


@pytest.fixture(scope="module")
def data():
    torch.manual_seed(2)
    return [torch.randn(n, C, 8, 8) for n in (12, 12, 5)]


def snr(network, made, x):
    with torch.no_grad():
        wanted, got = network(x).double(), made(x).double()
    return 10 * torch.log10(wanted.square().sum() / (wanted - got).square().sum()).item()


def test_one_call(network, data):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made, report = bt.quantize_with_report(network, data, fast=True)
    assert report.folded == ("folded",)
    assert report.outcomes == tuple(bt.Outcome(name, "") for name in ("first", "beside", "last"))
    assert report.recalibrated == ()
    assert str(report).splitlines()[0] == "4 batch norms: 1 folded, 3 in 8 bits, 0 left in float"
    for n in (1, 7):  # of any size
        assert made(torch.randn(n, C, 8, 8)).shape == (n, 3)
    whole = torch.cat(data)
    assert snr(network, made, whole) > 25
    assert report.snr_db == pytest.approx((snr(network, made, whole),), abs=0.01)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.thorough
def test_it_is_what_the_steps_make(data, monkeypatch):
    """Without a layer that has two readers, which the steps get wrong; nor their search for norms in training."""
    monkeypatch.setattr(quantize_pt2e, "_fold_conv_bn_qat", lambda model: model)
    net = nn.Sequential(trained(nn.BatchNorm2d(C)), nn.ReLU(), nn.Conv2d(C, C, 3)).eval()
    program = torch.export.export(net, (data[0],), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    rest = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = quantize_pt2e.prepare_pt2e(program.module(), ComposableQuantizer([rest, bt.BatchNormQuantizer()]))
    with torch.no_grad():
        for x in data:
            prepared(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = bt.lower(quantize_pt2e.convert_pt2e(prepared))
    better, norms = bt.recalibrate(wanted, data, method="mse", reestimate=True, reference=program)
    for given, steps in (({"fast": True}, wanted), ({}, better), ({"method": None, "reestimate": False}, wanted)):
        assert torch.equal(bt.quantize(net, data, **given)(data[0]), steps(data[0]))
        assert torch.equal(bt.quantize(program, data, **given)(data[0]), steps(data[0]))
    assert [one.name for one in bt.quantize_with_report(net, data)[1].recalibrated] == [one.name for one in norms]


@pytest.mark.thorough
def test_it_is_brought_nearer(network, data):
    many = [torch.randn(64, C, 8, 8), *data]
    plain, better = (bt.quantize(network, many, fast=fast) for fast in (True, False))
    held_out = torch.randn(200, C, 8, 8)
    assert snr(network, better, held_out) > snr(network, plain, held_out)


class Tied(nn.Module):
    """Two layers of one weight, a norm behind one of them; and a linear layer with two readers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(C, C, 1, 1))
        self.norm, self.vectors, self.linear = (
            trained(nn.BatchNorm2d(C)),
            trained(nn.BatchNorm1d(C)),
            nn.Linear(C, C),
        )

    def forward(self, x):
        x = self.norm(nn.functional.conv2d(x, self.weight)) + nn.functional.conv2d(x, self.weight)
        x = self.linear(x.relu().mean((2, 3)))
        return x + self.vectors(x).relu()


def test_layers_that_others_share(data):
    net = Tied().eval()
    made, report = bt.quantize_with_report(net, data, fast=True)
    assert report.folded == ()
    assert snr(net, made, torch.cat(data)) > 25


def test_norms_that_stay_are_said(data):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.conv, self.odd = (
                trained(nn.BatchNorm2d(C)),
                nn.Conv2d(C, C, 1),
                nn.BatchNorm2d(C).double(),
            )

        def forward(self, x):
            return self.odd(self.conv(self.norm(x)).double())

    net = Odd().eval()
    with pytest.warns(bt.LoweringWarning, match=r"^odd stays in float: "):
        made = bt.quantize(net, data, fast=True)
    kinds = [str(node.target) for node in made.graph.nodes if "batch_norm" in str(node.target)]
    assert kinds == ["bytenorm.batch_norm.default", "aten.batch_norm.default"]
    assert snr(net, made, data[0]) > 25


def test_several_inputs_and_a_quantizer_of_ones_own(data):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.conv = trained(nn.BatchNorm2d(C)), nn.Conv2d(C, C, 1)

        def forward(self, x, y):
            return self.conv(self.norm(x).relu()), x * y

    net = Two().eval()
    rest = x86.X86InductorQuantizer().set_global(
        x86.get_default_x86_inductor_quantization_config(reduce_range=True)
    )
    pairs = [(x, torch.ones(())) for x in data]
    made, report = bt.quantize_with_report(net, pairs, quantizer=rest, fast=True)
    assert len(report.snr_db) == 2
    assert report.snr_db[1] == float("inf")
    quantized = [node for node in made.graph.nodes if "quantized_decomposed.quantize_per" in str(node.target)]
    assert {node.args[4] for node in quantized} == {127, 255}  # of the layer's, and of the norm's
    assert made(*pairs[0])[0].shape == data[0].shape


def test_a_network_of_a_fixed_size(data):
    made = bt.quantize(
        nn.Sequential(trained(nn.BatchNorm2d(C)), nn.Conv2d(C, C, 1)).eval(), [x[:1] for x in data], fast=True
    )
    assert made(data[0][:1]).shape == (1, C, 8, 8)


def test_stages(data):
    net = nn.Sequential(trained(nn.BatchNorm2d(C)), nn.Conv2d(C, C, 1)).eval()
    seen = []
    bt.quantize_with_report(net, data, progress=lambda *stage: seen.append(stage))
    assert seen[:3] == [("calibrating", i, 3) for i in range(3)]
    assert {stage for stage, _, _ in seen[3:]} - {"calibrating"}


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"model": nn.BatchNorm2d(C)}, ValueError, r"model must be in evaluation \(model.eval\(\)\)"),
        ({"model": "net"}, TypeError, "model must be a torch.nn.Module or an ExportedProgram, got str"),
        ({"data": []}, ValueError, "data must hold at least one input, got none"),
        ({"data": torch.ones(2, C, 8, 8)}, TypeError, "data must be a list of inputs, got Tensor"),
        ({"data": iter([1])}, TypeError, "data must be a list, or what else has a length"),
        ({"data": ["x"]}, TypeError, "data must hold tensors or tuples of inputs, got str as item 0"),
        ({"data": [torch.ones(2, n, 8, 8) for n in (C, 3)]}, ValueError, "data: the network cannot run item 1"),
        ({"data": [np.ones((2, C, 8, 8))]}, TypeError, r"data must .* item 0: torch.from_numpy\(array\)$"),
        ({"model": nn.BatchNorm2d(C).eval().double()}, ValueError, "model must be in float32"),
        ({"method": "best"}, ValueError, "method"),
        ({"reestimate": 1}, TypeError, "reestimate"),
        ({"fast": None}, TypeError, "fast"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)  # fmt: skip
def test_wrong_arguments(given, kind, words):
    right = {"model": nn.BatchNorm2d(C).eval(), "data": [torch.ones(2, C, 8, 8)]}
    with pytest.raises(kind, match=f"^{words}"):
        bt.quantize(**{**right, **given})


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(C), nn.Conv2d(C, C, 3)], ids=["norm", "conv"])
@pytest.mark.parametrize(
    ("change", "mend"),
    [
        (lambda x: x.double(), ".float()"),
        (lambda x: x.permute(0, 2, 3, 1), ".permute(0, 3, 1, 2)"),
        (lambda x: x.permute(0, 2, 3, 1).byte(), ".permute(0, 3, 1, 2).float()"),
        (lambda x: x[:, :1], ""),  # nothing that is tried mends it
    ],
    ids=["float64", "nhwc", "nhwc-uint8", "one-channel"],
)  # fmt: skip
def test_data_that_it_cannot_run(layer, change, mend):
    """What came is said, torch's reason, and which small change the network would take; of a later item, too."""
    network = nn.Sequential(layer).eval()
    right = torch.randn(2, C, 8, 9)
    wrong = change(right)
    for number, data in enumerate(([wrong], [right, wrong])):
        with pytest.raises(ValueError, match=r"^data: the network cannot run item") as caught:
            bt.quantize(network, data, fast=True)
        came = f"{str(wrong.dtype).removeprefix('torch.')} of shape {tuple(wrong.shape)}"
        assert str(caught.value).startswith(f"data: the network cannot run item {number} ({came}): ")
        assert str(caught.value).partition("; it can with ")[2] == mend
        assert caught.value.argument == "data"


def test_data_without_samples():
    for shape, mend in (((8, 9, C), ".permute(2, 0, 1)"), ((C, 8, 9), "")):
        with pytest.raises(ValueError, match=rf"it can with {re.escape(mend)}.unsqueeze\(0\)$"):
            bt.quantize(nn.BatchNorm2d(C).eval(), [torch.ones(shape)])


def test_shapes_of_a_program(data):
    program = torch.export.export(nn.BatchNorm2d(C).eval(), (data[0],))
    with pytest.raises(ValueError, match=r"^dynamic_shapes must be None beside a program"):
        bt.quantize(program, data, dynamic_shapes={})


def test_it_needs_torchao(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao", None)
    for name in ("quantize", "quantizer", "torchao"):
        monkeypatch.delitem(sys.modules, f"bytenorm.torch.quantization.{name}", raising=False)
    needed = "bytenorm.torch.quantize and bytenorm.torch.BatchNormQuantizer need torchao: pip install torchao"
    for name in ("quantize", "quantizer"):
        with pytest.raises(ImportError, match=f"^{needed}$"):
            importlib.import_module(f"bytenorm.torch.quantization.{name}")
