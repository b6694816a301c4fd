"""A lowered program in torch's own operators: the same bits, with nothing of ours left in it."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim, export

import bytenorm.torch as bt
from bytenorm.torch.operators.composite import eager, in_bytes, read

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of torch when it copies its own trees

C = 6
OPERATORS = torch.ops.bytenorm
TYPES = (torch.uint8, torch.int8)


def every_code(dtype):
    low = torch.iinfo(dtype).min
    return torch.arange(low, low + 256).to(dtype).expand(2, C, 256).reshape(2, C, 16, 16).clone()


class Program(nn.Module):
    """Each kind of norm once; the first channel of each has no line in the plain one."""

    def __init__(self, output_dtype=torch.uint8, *, relu=False):
        super().__init__()
        random = torch.Generator().manual_seed(0)
        for name, n in (("one", C), ("two", 2 * C)):
            weight, bias, mean = torch.randn(3, n, generator=random)
            weight[0], bias[0], mean[0] = 1.0, 0.0, 0.0
            var = torch.rand(n, generator=random) + 0.5
            var[0] = 1.0
            for key, value in zip(("weight", "bias", "mean", "var"), (weight, bias, mean, var), strict=True):
                self.register_buffer(f"{name}_{key}", value.clone())
        self.register_buffer("scales", torch.linspace(0.01, 0.03, C, dtype=torch.float64))
        self.register_buffer("zero_points", torch.arange(C))
        self.rest = (0.0, 0.04, 7, output_dtype, relu)

    def forward(self, x, y):
        one = (self.one_weight, self.one_bias, self.one_mean, self.one_var, *self.rest)
        two = (self.two_weight, None, self.two_mean, self.two_var, *self.rest)
        normalized, total = OPERATORS.add_batch_norm(x, 0.02, 3, y, 0.02, 9, 0.04, 4, *one)
        return (
            OPERATORS.batch_norm(x, 0.02, 11, *one),
            OPERATORS.batch_norm.per_channel(x, self.scales, self.zero_points, *one),
            OPERATORS.concat_batch_norm([x, y], [0.02, 0.03], [11, 3], *two),
            normalized,
            total,
            OPERATORS.batch_norm(total, 0.04, 4, None, *one[1:]) + 1,
        )


def exported(program, x):
    batch = Dim("batch", min=2)
    return export(program, (x, x.clone()), dynamic_shapes=({0: batch}, {0: batch}))


def is_ours(program):
    return "bytenorm" in str(program.graph)


@pytest.mark.thorough(but=2)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("output_dtype", TYPES)
@pytest.mark.parametrize("relu", [False, True])
def test_the_same_bits(dtype, output_dtype, relu):
    x = every_code(dtype)
    y = x.flip(0, 2, 3)
    program = Program(output_dtype, relu=relu)
    given = exported(program, x)
    before = str(given.graph)
    for made in (bt.to_integers(given), bt.to_integers(given.module())):
        assert not is_ours(made)
        run = made if isinstance(made, nn.Module) else made.module()
        for some in ((x, y), (torch.cat([x, y]), torch.cat([y, x]))):
            for got, want in zip(run(*some), program(*some), strict=True):
                assert got.dtype == want.dtype
                assert torch.equal(got, want)
    assert str(given.graph) == before


@pytest.mark.thorough
def test_other_forms_of_programs(tmp_path, run_python):
    """Decomposed, exported again, compiled; saved, and run where bytenorm is not imported."""
    x = every_code(torch.uint8)
    y = x.flip(0, 2, 3)
    program = Program()
    want = program(x, y)
    given = exported(program, x)
    made = bt.to_integers(given.run_decompositions())
    again = export(bt.to_integers(given.module()), (x, y))
    assert not is_ours(made)
    assert not is_ours(again)
    for run in (made.module(), again.module()):
        assert all(map(torch.equal, run(x, y), want))
    torch.export.save(made, tmp_path / "made.pt2")
    np.savez(tmp_path / "codes.npz", x, y, *want)
    done = run_python(
        f"""
import sys, numpy, torch
x, y, *want = map(torch.from_numpy, numpy.load({str(tmp_path / "codes.npz")!r}).values())
made = torch.export.load({str(tmp_path / "made.pt2")!r}).module()
assert all(map(torch.equal, made(x, y), want)) and "bytenorm" not in sys.modules
"""
    )
    assert done.returncode == 0, done.stderr


class One(Program):
    """A norm, and a neighbour to fuse it with."""

    def forward(self, x):
        one = (self.one_weight, self.one_bias, self.one_mean, self.one_var, *self.rest)
        return OPERATORS.batch_norm(x, 0.0313, 11, *one) // 2


@pytest.mark.thorough
def test_compiled():
    """By Inductor, in one graph, channels last."""
    x = every_code(torch.uint8).contiguous(memory_format=torch.channels_last)
    program = One(relu=True)
    made = bt.to_integers(export(program, (x,)).module())
    assert not any(name.endswith("codes") for name, _ in made.named_parameters())
    with torch.no_grad():
        assert torch.equal(torch.compile(made, fullgraph=True)(x), program(x))


class Scaled(nn.Module):
    """One norm of six channels."""

    def __init__(self):
        super().__init__()
        weight, bias = torch.randn(2, C, generator=torch.Generator().manual_seed(1))
        vectors = (weight, bias, torch.zeros(C), torch.ones(C))
        for name, value in zip(("weight", "bias", "mean", "var"), vectors, strict=True):
            self.register_buffer(name, value.clone())

    def forward(self, x):
        vectors = (self.weight, self.bias, self.mean, self.var)
        return OPERATORS.batch_norm(x, 0.02, 11, *vectors, 0.0, 0.04, 7, torch.int8, False)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rank", [2, 4])
def test_channels_side_by_side(dtype, rank):
    """The constants are bytes of float32, whatever becomes of the module."""
    x = every_code(dtype).permute(0, 2, 3, 1).contiguous()  # channels last
    x = x.flatten(0, 2) if rank == 2 else x.permute(0, 3, 1, 2)
    program = Scaled()
    made = bt.to_integers(export(program, (x,)).module())
    assert [value.dtype for value in made.parameters()] == [torch.uint8]
    loaded = copy.deepcopy(made)
    loaded.load_state_dict(made.state_dict())
    for run in (made, loaded, copy.deepcopy(made).half(), copy.deepcopy(made).to(torch.bfloat16).float()):
        y = run(x)
        assert y.dtype == torch.int8
        assert torch.equal(y, program(x))


@pytest.mark.parametrize("addend", [2**24, -(2**24) - 2, 2**24 + 1, 2**31 - 1])
def test_bytes_only_of_what_float32_holds(addend):
    one = torch.ones(2, dtype=torch.int32)
    vectors = {"multiplier": one, "addend": one * addend, "shift": one}
    packed = in_bytes(vectors)
    assert (packed is not None) == (float(np.float32(addend)) == addend)
    if packed is not None:
        got = read(packed, eager)
        assert all(
            torch.equal(got[name], value) and got[name].dtype == torch.int32 for name, value in vectors.items()
        )


class Computed(Program):
    """A norm whose mean comes with the call, and one that is as usual."""

    def forward(self, x, mean):
        one = (self.one_weight, self.one_bias, mean, self.one_var, *self.rest)
        return OPERATORS.batch_norm(x, 0.02, 11, *one), OPERATORS.batch_norm(
            x, 0.02, 11, *one[:2], self.one_mean, *one[3:]
        )


def test_what_stays():
    x, mean = every_code(torch.uint8), torch.zeros(C)
    given = export(Computed(), (x, mean))
    with pytest.warns(
        bt.LoweringWarning, match=r"^batch_norm stays bytenorm.batch_norm: its mean is not constant$"
    ):
        made = bt.to_integers(given)
    assert len(re.findall(r"bytenorm\.batch_norm", str(made.graph))) == 1
    assert all(map(torch.equal, made.module()(x, mean), Computed()(x, mean)))


def test_bad_input():
    with pytest.raises(TypeError, match=r"^program must be a torch.export.ExportedProgram or a torch.fx.Graph"):
        bt.to_integers(nn.ReLU())
    with pytest.raises(ValueError, match=r"^program must have norms in 8 bits, as lower returns it"):
        bt.to_integers(export(nn.ReLU(), (torch.zeros(2),)))
