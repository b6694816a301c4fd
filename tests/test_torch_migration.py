"""Old models and checkpoints, moved: converted in eager mode, saved, and tensor by tensor."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.ao.nn.intrinsic.quantized as nniq
import torch.ao.nn.quantized as nnq
from torch.ao import quantization
from torch_norms import DTYPES, LEGACY, codes, legacy, vectors

import bytenorm as bn
import bytenorm.torch as bt

pytestmark = pytest.mark.filterwarnings(  # torch's own, in the old stack
    "ignore:.*torch.ao.quantization.*:DeprecationWarning", "ignore:.*reduce_range:UserWarning"
)


class Float(torch.nn.Module):
    """Lone norms: on the input, behind a relu, behind a concatenation, with and without a relu of their own."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = quantization.QuantStub(), quantization.DeQuantStub()
        self.first = torch.nn.BatchNorm2d(4)
        self.conv = torch.nn.Conv2d(4, 6, 3, padding=1)
        self.relu = torch.nn.ReLU()
        self.fused = torch.nn.Sequential(torch.nn.BatchNorm2d(6), torch.nn.ReLU())
        self.again = torch.nn.ModuleList([self.fused])
        self.last = torch.nn.BatchNorm2d(12, eps=1e-3)
        self.sum = torch.ao.nn.quantized.FloatFunctional()
        self.volume = torch.nn.Sequential(torch.nn.BatchNorm3d(12), torch.nn.ReLU())

    def forward(self, x):
        x = self.relu(self.conv(self.first(self.enter(x))))
        x = self.sum.cat([x, self.again[0](x)], dim=1)
        return self.leave(self.volume(self.last(x).unsqueeze(4)))


@pytest.fixture(scope="module")
def converted():
    """A model of torch's eager mode: calibrated, converted, its norms in the legacy modules."""
    torch.manual_seed(3)
    model = Float()
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
            torch.nn.init.normal_(module.weight), torch.nn.init.normal_(module.bias)
            module.running_mean.normal_(), module.running_var.uniform_(0.2, 2)
    model.eval()
    quantization.fuse_modules(model, [["fused.0", "fused.1"], ["volume.0", "volume.1"]], inplace=True)
    model.qconfig = quantization.get_default_qconfig("x86")
    quantization.prepare(model, inplace=True)
    for _ in range(3):
        model(torch.randn(2, 4, 8, 9))
    return quantization.convert(model)


def kinds(model):
    return {name: type(module) for name, module in model.named_modules(remove_duplicate=False)}


def test_a_converted_model_gives_the_same(converted):
    moved = bt.migrate(converted)
    before, after = kinds(converted), kinds(moved)
    expected = {
        "first": (nnq.BatchNorm2d, bt.BatchNorm2d),
        "fused.0": (nniq.BNReLU2d, bt.BNReLU2d),
        "again.0.0": (nniq.BNReLU2d, bt.BNReLU2d),
        "last": (nnq.BatchNorm2d, bt.BatchNorm2d),
        "volume.0": (nniq.BNReLU3d, bt.BNReLU3d),
    }
    assert {name: (before[name], after[name]) for name in expected} == expected
    assert {name for name in before if before[name] is not after[name]} == set(expected)
    assert moved.fused is moved.again[0]
    torch.manual_seed(8)
    for n in (1, 5):
        x = torch.randn(n, 4, 8, 9)
        with torch.no_grad():
            want = converted(x)
        assert torch.equal(moved(x), want)
        assert torch.equal(moved(x.contiguous(memory_format=torch.channels_last)), want)


def test_inplace(converted):
    model = copy.deepcopy(converted)
    assert bt.migrate(model, inplace=True) is model
    assert type(model.last) is bt.BatchNorm2d
    assert bt.migrate(model, inplace=True) is model  # nothing is left to do
    norm = bt.migrate(converted.last)
    assert type(norm) is bt.BatchNorm2d
    assert norm.eps == 1e-3


def test_hooks_stay(converted):
    model, seen = copy.deepcopy(converted), []
    model.last.register_forward_hook(lambda module, inputs, output: seen.append(type(module)))
    model.last.register_forward_pre_hook(lambda module, args, kwargs: seen.append("before"), with_kwargs=True)
    bt.migrate(model)(torch.randn(1, 4, 8, 9))
    assert seen == ["before", bt.BatchNorm2d]


def test_a_model_of_graph_mode():
    """Converted by torch.ao.quantization.quantize_fx: the same modules inside a GraphModule."""
    from torch.ao.quantization import quantize_fx

    torch.manual_seed(5)
    model = torch.nn.Sequential(
        torch.nn.MaxPool2d(2), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.BatchNorm2d(4)
    )
    example = torch.randn(3, 4, 8, 8)
    prepared = quantize_fx.prepare_fx(model.eval(), quantization.get_default_qconfig_mapping("x86"), (example,))
    prepared(example)
    converted = quantize_fx.convert_fx(prepared)
    old = [m for m in converted.modules() if isinstance(m, nnq.BatchNorm2d)]
    moved = bt.migrate(converted)
    new = [m for m in moved.modules() if isinstance(m, bt.BatchNorm2d)]
    assert len(old) == len(new) == 2
    with torch.no_grad():
        assert torch.equal(moved(example), converted(example))


def test_nothing_to_migrate():
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    with pytest.warns(UserWarning, match="^model holds no legacy quantized norm: nothing is replaced$"):
        assert type(bt.migrate(model)[0]) is torch.nn.BatchNorm2d


def test_what_cannot_be_migrated(converted):
    with pytest.raises(TypeError, match=r"^model must be a torch.nn.Module, got dict$"):
        bt.migrate({})
    with pytest.raises(
        TypeError,
        match=r"^model must not be TorchScript, .* got RecursiveScriptModule: make the ",
    ):
        bt.migrate(torch.jit.script(torch.nn.Identity()))
    model = copy.deepcopy(converted)
    model.last.running_var[3] = -1
    with pytest.raises(ValueError, match=r"^last: var\[3\] must not be negative, got -1.0$"):
        bt.migrate(model, inplace=True)
    assert type(model.first) is nnq.BatchNorm2d  # all or nothing
    model.last.running_var[3] = 1
    model.last.scale = torch.tensor([0.0])
    with pytest.raises(ValueError, match=r"^last: scale must be positive"):
        bt.migrate(model)


def test_a_checkpoint(converted, tmp_path):
    torch.save(converted.state_dict(), tmp_path / "model.pt")
    torch.save({"epoch": 3, "model": converted.state_dict(), "other": {}}, tmp_path / "more.pt")
    norms = bt.load_legacy(tmp_path / "model.pt")
    assert set(norms) == {"first", "fused.0", "again.0.0", "last", "volume.0"}
    assert set(bt.load_legacy(str(tmp_path / "more.pt"))) == set(norms)
    x = legacy(codes(np.random.default_rng(1), (2, 12, 5, 5)), 0.1, 50)
    module = bt.BatchNorm2d(12, eps=1e-3)
    module.load_state_dict(norms["last"], strict=True)
    with torch.no_grad():
        want = converted.last(x)
    assert torch.equal(module(x).int_repr(), want.int_repr())
    assert (module.scale, module.zero_point) == (want.q_scale(), want.q_zero_point())


def test_a_checkpoint_in_wrappers(converted, tmp_path):
    path, state = tmp_path / "model.pt", converted.state_dict()
    want = {"first", "fused.0", "again.0.0", "last", "volume.0"}
    wrapped = {f"module.{name}": value for name, value in state.items()}  # of torch.nn.DataParallel
    for saved in (
        {"state": {"model": state}},
        {"state_dict": state, "hyper_parameters": {"lr": 0.1}, "loops": [1, (2, {})]},
        [{"optimizer": {"state": {0: {"step": torch.tensor(1)}}}}, (state, 3)],
        {"model": state, "ema": state},  # the same one
        {5: {"best": [None, state]}},
    ):
        torch.save(saved, path)
        assert set(bt.load_legacy(path)) == want
    torch.save({"model": wrapped}, path)
    assert set(bt.load_legacy(path)) == {f"module.{name}" for name in want}
    itself = {"state": state}
    itself["itself"] = itself
    torch.save(itself, path)
    assert set(bt.load_legacy(path)) == want


def test_a_checkpoint_of_several_models(converted, tmp_path):
    path, state = tmp_path / "model.pt", converted.state_dict()
    ema = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in state.items()}
    ema["last.weight"] = ema["last.weight"] + 1
    torch.save({"model": state, "averages": [{"ema": ema}], "epoch": 1}, path)
    listed = r"model.pt holds quantized norms in 'model' \(5 norms\), 'averages.0.ema' \(5 norms\): give one"
    with pytest.raises(ValueError, match=listed + r" of them as key, none was chosen$"):
        bt.load_legacy(path)
    with pytest.raises(ValueError, match=listed + r" of them as key, got 'ema'$"):
        bt.load_legacy(path, key="ema")
    found = bt.load_legacy(path, key="averages.0.ema")
    assert torch.equal(found["last"]["weight"], ema["last.weight"])
    with pytest.raises(TypeError, match=r"^key must be a str, got int$"):
        bt.load_legacy(path, key=0)


@pytest.mark.thorough
def test_a_torch_without_quantized_tensors(converted, tmp_path, run_python):
    """An old checkpoint holds quantized weights beside its norms: what cannot be read then is said."""
    torch.save(converted.state_dict(), tmp_path / "old.pt")
    (tmp_path / "text.pt").write_text("hello")
    done = run_python(f"""
import torch
for name in dir(torch):
    if name in ("quint8", "qint8", "qint32") or name.startswith(("quantize_per", "_empty_affine", "_make_per_")):
        delattr(torch, name)
import numpy as np, pytest, bytenorm as bn, bytenorm.torch as bt
with pytest.raises(ValueError, match="old.pt holds quantized tensors beside its norms, which"):
    bt.load_legacy({str(tmp_path / "old.pt")!r})
with pytest.raises(ValueError, match="text.pt is no checkpoint of tensors alone"):
    bt.load_legacy({str(tmp_path / "text.pt")!r})
with pytest.raises(RuntimeError, match="^torch .* has no quantized tensors any more"):
    bt.to_legacy(bn.QuantizedTensor(np.zeros((2, 2), np.uint8), 0.5, 1))
""")
    assert done.returncode == 0, done.stderr


class Dangerous:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of the file ran')",)


def test_files_that_are_no_checkpoints(converted, tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.BatchNorm2d(3)).state_dict(), tmp_path / "float.pt")
    for name, saved, seen in (
        ("float", {"a": torch.nn.Sequential(torch.nn.BatchNorm2d(3)).state_dict()},
         "it holds norms that are not quantized, without scale and zero_point: 'a.0'"),
        ("partial", {f"0.{k}": torch.ones(3) for k in ("running_mean", "scale", "zero_point")},
         "it holds norms without running_var: '0'"),
        ("list", [1, 2], "it holds a list"),
        ("empty", {}, "it is empty"),
        ("other", {"epoch": 1, 2: torch.ones(1)}, "it holds 'epoch', '2'"),
    ):  # fmt: skip
        torch.save(saved, tmp_path / f"{name}.pt")
        none = "holds no quantized batch norm: none has running_mean, running_var, scale, zero_point"
        with pytest.raises(ValueError, match=f"{name}.pt {none}; {seen}$"):
            bt.load_legacy(tmp_path / f"{name}.pt")
    torch.save(converted, tmp_path / "whole.pt")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(Dangerous()))
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty.pt").write_bytes(b"")
    for name in ("whole.pt", "code.pt", "text.pt", "empty.pt"):
        with pytest.raises(ValueError, match=f"{name} is no checkpoint of tensors alone, as torch.save") as caught:
            bt.load_legacy(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        bt.load_legacy(tmp_path / "missing.pt")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_there_and_back(rng, dtype):
    for x in (codes(rng, (2, 3, 4), dtype), codes(rng, (0, 3), dtype), codes(rng, (4, 5), dtype).t()):
        t = torch._make_per_tensor_quantized_tensor(x, 0.1, 7)
        q = bt.from_legacy(t)
        assert (q.scale, q.zero_point, q.axis, q.dtype.name) == (0.1, 7, None, str(LEGACY[dtype])[6:])
        np.testing.assert_array_equal(q.data, x)
        np.testing.assert_array_equal(q.dequantize(), t.dequantize())
        back = bt.to_legacy(q)
        assert (back.dtype, back.q_scale(), back.q_zero_point()) == (t.dtype, 0.1, 7)
        assert torch.equal(back.int_repr(), x)


def test_tensors_quantized_per_channel(rng):
    scales, zeros = torch.from_numpy(rng.uniform(0.01, 1, 4)), torch.arange(4)
    t = torch._make_per_channel_quantized_tensor(codes(rng, (3, 4, 5)), scales, zeros, 1)
    q = bt.from_legacy(t)
    assert q.axis == 1
    np.testing.assert_array_equal(q.scale, scales)
    back = bt.to_legacy(q)
    assert torch.equal(back.q_per_channel_scales(), scales)
    assert torch.equal(back.q_per_channel_zero_points(), zeros)
    assert back.q_per_channel_axis() == 1
    assert torch.equal(back.int_repr(), t.int_repr())


def test_converted_tensors_own_their_memory(rng):
    t = torch._make_per_tensor_quantized_tensor(codes(rng, (2, 3)), 0.1, 7)
    q = bt.from_legacy(t)
    back = bt.to_legacy(q)
    q.data[:] = 0
    assert torch.equal(back.int_repr(), t.int_repr())
    assert q.data.flags.writeable


def test_any_array_becomes_a_tensor(rng):
    data = rng.integers(0, 256, (4, 6)).astype(np.uint8)
    fixed = data.copy()
    fixed.flags.writeable = False
    for array in (data[:, ::-1], data[::2, ::3], fixed):
        back = bt.to_legacy(bn.QuantizedTensor(array, 0.1, 3))
        np.testing.assert_array_equal(back.int_repr(), array)


def test_what_cannot_be_converted():
    with pytest.raises(TypeError, match=r"^tensor must be torch.quint8 or torch.qint8, got torch.uint8$"):
        bt.from_legacy(torch.zeros(3, dtype=torch.uint8))
    with pytest.raises(TypeError, match=r"^tensor must be torch.quint8 or torch.qint8, got torch.qint32$"):
        bt.from_legacy(torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint32))
    with pytest.raises(TypeError, match=r"^tensor must be a quantized torch.Tensor, got ndarray$"):
        bt.from_legacy(np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match=r"^scale must be positive"):
        bt.from_legacy(torch._make_per_tensor_quantized_tensor(torch.zeros(3, dtype=torch.uint8), 0.0, 0))
    floats = torch.quantize_per_channel(torch.rand(3, 4), torch.ones(3), torch.zeros(3), 0, torch.quint8)
    with pytest.raises(TypeError, match=r"^tensor must be quantized per_tensor_affine or .*got .*float_qparams$"):
        bt.from_legacy(floats)
    with pytest.raises(TypeError, match=r"^q must be a bytenorm.QuantizedTensor, got ndarray"):
        bt.to_legacy(np.zeros(3, np.float32))


def test_vectors_are_what_they_say(rng):
    """The parameters of a migrated norm are copies, float32, contiguous, no gradient wanted."""
    module = nnq.BatchNorm2d(6)
    weight, bias, mean, var = vectors(rng, 6)
    module.weight = torch.nn.Parameter(torch.stack([weight, weight], 1)[:, 0].double())
    module.bias, module.running_mean, module.running_var = torch.nn.Parameter(bias), mean, var
    moved = bt.migrate(module)
    assert torch.equal(moved.weight, weight)
    for buffer in (moved.weight, moved.bias, moved.running_mean, moved.running_var):
        assert (buffer.dtype, buffer.is_contiguous(), buffer.requires_grad) == (torch.float32, True, False)
    mean.zero_()
    assert moved.running_mean.abs().sum() > 0
