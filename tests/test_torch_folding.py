"""Norms of exported float programs disappear into the layers behind them."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from bytenorm.torch import fold_forward

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # scripted observers, which torch calls deprecated
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # torch, of its own trees
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*reduce_range will be deprecated:UserWarning"),
]
U = torch.finfo(torch.float32).eps / 2


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(3)


def norm(dims, channels, *, positive=False, **options):
    made = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims](channels, **options)
    made.running_mean.normal_()
    made.running_var.uniform_(0.3, 2)
    if made.affine:
        with torch.no_grad():
            made.weight.uniform_(0.5, 2)
            made.bias.normal_()
            if not positive:
                made.weight[0] *= -1
    return made.eval()


def norms(program):
    return sum("batch_norm" in str(node.target) for node in program.graph.nodes)


FOLDS = {
    "linear": ((8,), lambda: [nn.Linear(8, 6), nn.ReLU(), norm(1, 6), nn.Linear(6, 4)]),
    "linear without bias": ((8,), lambda: [norm(1, 8, affine=False), nn.Dropout(), nn.Linear(8, 4, bias=False)]),
    "conv1d": ((4, 9), lambda: [norm(1, 4), nn.Conv1d(4, 6, 3)]),
    "conv2d in groups": ((4, 7, 6), lambda: [norm(2, 4), nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False)]),
    "conv3d": ((4, 4, 3, 5), lambda: [norm(3, 4), nn.Conv3d(4, 2, 2)]),
    "average, flatten": ((4, 8, 6), lambda: [norm(2, 4), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(48, 3)]),
    "global average": ((4, 8, 6), lambda: [norm(2, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]),
    "maximum": ((4, 8, 6), lambda: [norm(2, 4, positive=True), nn.MaxPool2d(2, padding=1), nn.Conv2d(4, 3, 2)]),
    "two norms": ((4, 8, 6), lambda: [norm(2, 4), nn.AvgPool2d(2), norm(2, 4), nn.Conv2d(4, 3, 2)]),
}
STAYS = {
    "relu": ((8,), lambda: [norm(1, 8), nn.ReLU(), nn.Linear(8, 4)]),
    "padding": ((4, 7, 6), lambda: [norm(2, 4), nn.Conv2d(4, 6, 3, padding=1)]),
    "same": ((4, 7, 6), lambda: [norm(2, 4), nn.Conv2d(4, 6, 3, padding="same")]),
    "an output": ((8,), lambda: [nn.Linear(8, 8), nn.ReLU(), norm(1, 8)]),
    "maximum of negative gains": ((4, 8, 6), lambda: [norm(2, 4), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2)]),
    "padded average": ((4, 8, 6), lambda: [norm(2, 4), nn.AvgPool2d(2, padding=1), nn.Conv2d(4, 3, 2)]),
    "transposed": ((4, 8, 6), lambda: [norm(2, 4), nn.ConvTranspose2d(4, 3, 2)]),
    "vectors in rows": ((5, 5), lambda: [norm(1, 5), nn.Linear(5, 3)]),
    "left to the flow": ((4, 8, 6), lambda: [nn.Conv2d(4, 4, 3), norm(2, 4), nn.Conv2d(4, 3, 2)]),
}


def programs(network, x):
    exported = export(network, (x,), dynamic_shapes=({0: Dim("n", min=2)},))
    return exported, exported.module()


def running(program):
    return program.module() if isinstance(program, ExportedProgram) else program


def sizes(network):
    """Return the network with all that is added up of one sign: it computes how much there is to round."""
    made = copy.deepcopy(network).double()
    for name, value in made.state_dict().items():
        if value.is_floating_point():
            value.abs_()
            if name.endswith("running_mean"):
                value.neg_()
    return made


@pytest.mark.thorough(but=3)
@pytest.mark.parametrize("what", FOLDS)
def test_it_computes_the_same(what):
    shape, layers = FOLDS[what]
    network, x = nn.Sequential(*layers()).eval(), torch.randn(5, *shape)
    double = network.double()(x.double())
    network.float()
    size = sizes(network)(x.double().abs())
    for program in programs(network, x):
        before = [node.name for node in program.graph.nodes]
        folded = fold_forward(program)
        assert isinstance(folded, ExportedProgram) == isinstance(program, ExportedProgram)
        assert norms(program) and not norms(folded)
        assert [node.name for node in program.graph.nodes] == before
        got = running(folded)(x)
        # Sums of n products are off by n half units of the sum of their sizes: at most 200 in all here.
        assert torch.all((got.double() - double).abs() <= 200 * U * size)
        assert double.abs().max() > 10 * 200 * U * size.max()


@pytest.mark.parametrize("what", STAYS)
def test_it_stays(what):
    shape, layers = STAYS[what]
    for program in programs(nn.Sequential(*layers()).eval(), torch.randn(5, *shape)):
        assert norms(fold_forward(program)) == norms(program) == 1


def test_shared_weights():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.layer = norm(1, 6), nn.Linear(6, 6)

        def forward(self, x):
            return self.layer(x) + self.layer(self.norm(x))

    network, x = Net().eval(), torch.randn(4, 6)
    for program in programs(network, x):
        folded = fold_forward(program)
        assert not norms(folded)
        error = (running(folded)(x) - network(x)).abs()
        assert torch.all(error <= 2 * 40 * U * sizes(network)(x.double().abs()))


def test_in_8_bits():
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), norm(1, 16), nn.Linear(16, 4)).eval()
    x = torch.randn(64, 8)
    want = network(x)
    folded = fold_forward(programs(network, x)[1])
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(folded, quantizer)
    prepared(x)
    made = convert_pt2e(prepared)
    assert not norms(made)
    assert sum("dequantize" in str(n.target) for n in made.graph.nodes) >= 4  # both inputs and both weights
    error = (made(x) - want).pow(2).sum() / want.pow(2).sum()
    assert error < 10**-2.5  # 25 dB


def test_refuses_what_is_no_program():
    with pytest.raises(TypeError, match="program must be"):
        fold_forward(nn.Linear(3, 3))
