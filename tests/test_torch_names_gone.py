"""`bytenorm.torch` on a torch that has lost names: those of quantized tensors, which will go, and private ones."""

import pytest

# All that goes with quantized tensors. What torch itself has imported by then stays as it is.
QUANTIZED_GONE = """
import importlib.abc, sys, torch, torch.export
class Gone(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch.ao" or name.startswith("torch.ao."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
for name in [name for name in sys.modules if name == "torch.ao" or name.startswith("torch.ao.")]:
    del sys.modules[name]
del torch.ao
for name in dir(torch):
    if name.startswith(("quantize", "quint", "qint", "per_tensor", "per_channel", "_empty_affine", "_make_per_",
                        "_empty_per_channel_affine", "dequantize")):
        delattr(torch, name)
class Nothing:
    def __getattr__(self, name): raise AttributeError(name)
torch.ops.quantized = Nothing()
@property
def lost(self): raise AttributeError("lost")
"""
ARGUMENTS = """
x = torch.tensor([[[[1, 3, 9]]]], dtype=torch.uint8)
rest = (torch.zeros(1), torch.ones(1), 0.0, 0.5, 7)
norm = bt.BatchNorm2d(1, eps=0.0, scale=0.5, zero_point=7, input_scale=1.0, input_zero_point=0)
"""


@pytest.mark.thorough
@pytest.mark.parametrize("attributes", [False, True])
def test_a_torch_without_quantized_tensors(attributes, run_python):
    """As PyTorch announces it: plain tensors go on, and so do tensors of ours; the rest says what is missing."""
    attributes_gone = """
for name in ("is_quantized", "qscheme", "q_scale", "q_zero_point", "int_repr", "dequantize"):
    setattr(torch.Tensor, name, lost)
"""
    done = run_python(f"""
{QUANTIZED_GONE}
import numpy as np, pytest, bytenorm as bn, bytenorm.torch as bt
{ARGUMENTS}
exported = torch.export.export(norm, (x,)).module()
{attributes_gone if attributes else ""}
signed = bt.batch_norm(x.to(torch.int8), 1.0, 0, None, None, *rest, torch.uint8)
for y in (norm(x), bt.batch_norm(x, 1.0, 0, None, None, *rest), exported(x), signed,
          torch.as_tensor(norm(bn.QuantizedTensor(x.numpy(), 1.0, 0)).data)):
    assert y.flatten().tolist() == [9, 13, 25], y
float_norm = torch.nn.BatchNorm2d(1, eps=0.0).eval()
assert torch.equal(bt.BatchNorm2d.from_float(float_norm, 0.5, 7, input_scale=1.0, input_zero_point=0)(x), norm(x))
with pytest.raises(TypeError, match="^input must be a tensor of torch.quint8"):
    bt.quantized_batch_norm(x, None, None, *rest)
with pytest.raises(TypeError, match="^tensor must be torch.quint8"):
    bt.from_legacy(x)
with pytest.raises(RuntimeError, match="^torch .* has no quantized tensors any more: the codes are q.data"):
    bt.to_legacy(bn.QuantizedTensor(x.numpy(), 1.0, 0))
with pytest.raises(RuntimeError, match="^torch .* has no legacy quantized norms any more, which migrate"):
    bt.migrate(torch.nn.Sequential(float_norm))
assert type(bt.migrate(torch.nn.Sequential(norm), inplace=True)[0]) is bt.BatchNorm2d
for name in ("quantize", "BatchNormQuantizer"):
    with pytest.raises(ImportError, match="^bytenorm.torch.quantize and .* need torchao, and the one here cannot"):
        getattr(bt, name)
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.thorough
def test_programs_of_a_torch_without_quantized_tensors(run_python):
    """Conversions are operators by name, whoever defines them then."""
    done = run_python(f"""
{QUANTIZED_GONE}
import numpy as np, pytest, bytenorm as bn, bytenorm.torch as bt
library = torch.library.Library("quantized_decomposed", "DEF")
rest = "float scale, int zero_point, int quant_min, int quant_max, ScalarType dtype"
for name in ("quantize", "dequantize"):
    library.define(f"{{name}}_per_tensor(Tensor input, {{rest}}) -> Tensor")
def quantize(x, scale, zero_point, low, high, dtype):
    return torch.clamp(torch.round(x / scale) + zero_point, low, high).to(dtype)
library.impl("quantize_per_tensor", quantize, "CompositeExplicitAutograd")
library.impl("dequantize_per_tensor", lambda codes, scale, zero_point, low, high, dtype:
             (codes.to(torch.float32) - zero_point) * scale, "CompositeExplicitAutograd")
q = torch.ops.quantized_decomposed
class Part(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)
    def forward(self, codes):
        x = q.dequantize_per_tensor(codes, 0.02, 128, 0, 255, torch.uint8)
        return q.quantize_per_tensor(self.norm(x).relu(), 0.01, 0, 0, 255, torch.uint8)
part = Part().eval()
part.norm.running_mean.uniform_(-1, 1); part.norm.running_var.uniform_(0.5, 2)
codes = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
program = torch.export.export(part, (codes,))
lowered = bt.lower(program)
assert "bytenorm.batch_norm" in lowered.graph_module.code
y = lowered.module()(codes)
of = part.norm
wanted = bn.quantized_batch_norm(
    bn.QuantizedTensor(codes.numpy(), 0.02, 128), *(v.detach().numpy() for v in (of.weight, of.bias)),
    of.running_mean.numpy(), of.running_var.numpy(), of.eps, 0.01, 0, relu=True)
assert np.array_equal(y.numpy(), wanted.data)
assert torch.equal(bt.to_integers(lowered).module()(codes), y)
layers = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 4, 1)).eval()
folded = bt.fold_forward(torch.export.export(layers, (codes.float(),)).module())
assert not any("batch_norm" in str(node.target) for node in folded.graph.nodes)
class Back(Part):
    def forward(self, codes):
        x = q.dequantize_per_tensor(codes, 0.02, 128, 0, 255, torch.uint8)
        y = q.quantize_per_tensor(self.norm(x), 1.0, 0, 0, 255, torch.uint8)
        return q.dequantize_per_tensor(y, 1.0, 0, 0, 255, torch.uint8)
better, (found,) = bt.recalibrate(bt.lower(torch.export.export(Back().eval(), (codes,)).module()), [codes])
assert not found.problem and found.clipped == 0.0 and better(codes).shape == codes.shape
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.thorough
@pytest.mark.parametrize("gone", [
    "_C._len_torch_dispatch_stack", "_C._get_tracing_state", "_C._functorch.peek_interpreter_stack",
    "_C._AutoDispatchBelowAutograd", "_C._after_autograd_keyset", "autograd.forward_ad._current_level",
])  # fmt: skip
def test_a_torch_without_a_private_name(gone, run_python):
    """Everything then goes through the dispatcher, with the same results and refusals."""
    done = run_python(f"""
import torch, torch.autograd.forward_ad
*path, name = "{gone}".split(".")
owner = torch
for part in path: owner = getattr(owner, part)
kept = getattr(owner, name)
delattr(owner, name)
import bytenorm.torch as bt
setattr(owner, name, kept)  # torch itself asks it
from bytenorm.torch.operators.dispatcher import dispatch_modes
assert dispatch_modes() == 1
x = torch.tensor([[[[1, 3, 9]]]], dtype=torch.uint8)
weight = torch.ones(1)
rest = (torch.zeros(1), torch.ones(1), 0.0, 0.5, 7)
norm = bt.BatchNorm2d(1, eps=0.0, scale=0.5, zero_point=7, input_scale=1.0, input_zero_point=0)
old = torch._make_per_tensor_quantized_tensor(x, 1.0, 0)
for y in (norm(x), norm(old).int_repr(), bt.batch_norm(x, 1.0, 0, weight, None, *rest),
          torch.ops.bytenorm.batch_norm(x, 1.0, 0, weight, None, *rest, torch.uint8, False),
          bt.quantized_batch_norm(old, weight, None, *rest).int_repr(),
          torch.vmap(lambda x: bt.batch_norm(x, 1.0, 0, weight, None, *rest))(x[None])):
    assert y.flatten().tolist() == [9, 13, 25], y
weight.requires_grad_()
for call in (lambda: bt.batch_norm(x, 1.0, 0, weight, None, *rest),
             lambda: torch.ops.bytenorm.batch_norm(x, 1.0, 0, weight, None, *rest, torch.uint8, False)):
    try: call()
    except RuntimeError as error: assert "weight requires a gradient" in str(error), error
    else: assert False
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.thorough
def test_a_torch_whose_private_modules_have_moved(run_python):
    """What only some functions need does not keep the rest from being imported."""
    done = run_python("""
import sys, torch, torch.export, torch.fx
gone = {"torch._ops": ("OpOverload", "OpOverloadPacket"), "torch._subclasses.fake_tensor": ("FakeTensor",),
        "torch.utils._pytree": ("tree_leaves", "arg_tree_leaves")}
class Gone:
    def __getattr__(self, name):
        if name in gone[self.__name__]: raise AttributeError(name)
        return getattr(self.kept, name)
for name in gone:
    sys.modules[name] = type("Of", (Gone,), {"__name__": name, "kept": sys.modules[name]})()
import bytenorm.torch as bt
x = torch.tensor([[[[1, 3, 9]]]], dtype=torch.uint8)
norm = bt.BatchNorm2d(1, eps=0.0, scale=0.5, zero_point=7, input_scale=1.0, input_zero_point=0)
assert norm(x).flatten().tolist() == [9, 13, 25]
""")
    assert done.returncode == 0, done.stderr
