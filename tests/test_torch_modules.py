"""The modules: values, what comes in and goes out, state dicts of the legacy ones, and staying true to change."""

import contextlib
import copy
import gc
import io
import pickle
import threading
import weakref

import numpy as np
import pytest
import torch
import torch.ao.nn.intrinsic as nni
import torch.ao.nn.intrinsic.quantized as nniq
import torch.ao.nn.quantized as nnq
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch_norms import DTYPES, LEGACY, by_torch, codes, layouts, legacy, vectors

import bytenorm as bn
import bytenorm.torch as bt

OPERATOR = torch.ops.bytenorm.batch_norm.default
SHAPES = {1: (4, 6, 7), 2: (2, 6, 4, 5), 3: (2, 6, 3, 2, 5)}
KINDS = {
    (False, 1): (bt.BatchNorm1d, torch.nn.BatchNorm1d),
    (False, 2): (bt.BatchNorm2d, torch.nn.BatchNorm2d),
    (False, 3): (bt.BatchNorm3d, torch.nn.BatchNorm3d),
    (True, 1): (bt.BNReLU1d, torch.nn.BatchNorm1d),
    (True, 2): (bt.BNReLU2d, torch.nn.BatchNorm2d),
    (True, 3): (bt.BNReLU3d, torch.nn.BatchNorm3d),
}
kinds = pytest.mark.parametrize(("relu", "dimensions"), KINDS, ids=str)
IN = {"input_scale": 0.1, "input_zero_point": 7}


def trained(kind, rng, channels=6, **options):
    """Return a float norm with random parameters and statistics."""
    norm = kind(channels, **options).eval()
    weight, bias, mean, var = vectors(rng, channels)
    norm.running_mean, norm.running_var = mean, var
    if norm.affine:
        with torch.no_grad():
            norm.weight.copy_(weight), norm.bias.copy_(bias)
    return norm


def parameters(norm):
    ones = torch.ones_like(norm.running_mean)
    weight = ones if norm.weight is None else norm.weight.detach()
    return weight, 0 * ones if norm.bias is None else norm.bias.detach(), norm.running_mean, norm.running_var


@kinds
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_comes_in_goes_out(rng, relu, dimensions, dtype):
    """Plain tensors, torch's quantized tensors and ours: the codes of torch, three times in a row."""
    ours, theirs = KINDS[relu, dimensions]
    norm = trained(theirs, rng, eps=1e-3)
    module = ours.from_float(norm, 0.04, 60, **IN)
    for shape in (SHAPES[dimensions], (0, *SHAPES[dimensions][1:]), *([(5, 6)] if dimensions == 1 else [])):
        x = codes(rng, shape, dtype)
        want = (
            by_torch(x, 0.1, 7, parameters(norm), 1e-3, 0.04, 60, relu=relu)
            if x.numel()
            else torch.zeros(shape, dtype=dtype)
        )
        for _ in range(3):
            assert torch.equal(module(x), want)
            old = module(legacy(x, 0.1, 7))
            assert torch.equal(old.int_repr(), want)
            assert (old.dtype, old.q_scale(), old.q_zero_point()) == (LEGACY[dtype], 0.04, 60)
            new = module(bn.QuantizedTensor(x, 0.1, 7))
            assert (new.scale, new.zero_point) == (0.04, 60)
            np.testing.assert_array_equal(new.data, want)


def test_tensors_that_carry_their_scale_need_no_other(rng):
    norm = trained(torch.nn.BatchNorm2d, rng)
    told, untold = (bt.BatchNorm2d.from_float(norm, 0.04, 60, **given) for given in (IN, {}))
    x = codes(rng, SHAPES[2])
    for scale, zero_point in [(0.2, 9), (0.3, 10), (0.2, 9)]:
        want = by_torch(x, scale, zero_point, parameters(norm), 1e-5, 0.04, 60)
        for module in (told, untold):
            assert torch.equal(module(legacy(x, scale, zero_point)).int_repr(), want)
            np.testing.assert_array_equal(module(bn.QuantizedTensor(x, scale, zero_point)).data, want)
    with pytest.raises(ValueError, match=r"^input is a plain tensor, and this module was not told its scale"):
        untold(x)
    untold.input_scale, untold.input_zero_point = 0.1, 7
    assert torch.equal(untold(x), told(x))


def test_quantized_per_channel(rng):
    norm = trained(torch.nn.BatchNorm2d, rng)
    scales, zeros = torch.rand(6, dtype=torch.float64) + 0.01, torch.arange(6)
    x = torch._make_per_channel_quantized_tensor(codes(rng, SHAPES[2]), scales, zeros, 1)
    want = bt.quantized_batch_norm(x, *parameters(norm), 1e-5, 0.04, 60)
    module = bt.BatchNorm2d.from_float(norm, 0.04, 60)
    for _ in range(2):
        assert torch.equal(module(x).int_repr(), want.int_repr())


@pytest.mark.parametrize("to", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_output_dtype(rng, dtype, to):
    norm = trained(torch.nn.BatchNorm2d, rng)
    module = bt.BNReLU2d.from_float(norm, 0.04, 60, **IN, output_dtype=to)
    x = codes(rng, SHAPES[2], dtype)
    want = bt.batch_norm(x, 0.1, 7, *parameters(norm), 1e-5, 0.04, 60, to, True)
    for _ in range(3):
        got = module(x)
        assert got.dtype is to
        assert torch.equal(got, want)


def test_layouts_stay(rng):
    modules = {
        d: bt_.from_float(trained(nn, rng), 0.04, 60, **IN) for (relu, d), (bt_, nn) in KINDS.items() if relu
    }
    for name, x in layouts(rng).items():
        if x.dim() > 5:
            continue
        module = modules[max(1, x.dim() - 2)]
        want = bt.batch_norm(x, 0.1, 7, module.weight, module.bias, module.running_mean, module.running_var, 1e-5,
                             0.04, 60, None, True)  # fmt: skip
        for _ in range(3):
            assert torch.equal(module(x), want), name
            assert module(x).stride() == torch.empty_like(x).stride(), name


@kinds
def test_without_weight_and_bias(rng, relu, dimensions):
    """Torch converts such a norm and then fails in its forward."""
    ours, theirs = KINDS[relu, dimensions]
    norm = trained(theirs, rng, affine=False)
    module = ours.from_float(norm, 0.04, 60, **IN)
    assert (module.weight, module.bias, module.affine) == (None, None, False)
    x = codes(rng, SHAPES[dimensions])
    want = by_torch(x, 0.1, 7, parameters(norm), 1e-5, 0.04, 60, relu=relu)
    for _ in range(3):
        assert torch.equal(module(x), want)
    again = ours(6, affine=False, **IN)
    again.load_state_dict(module.state_dict())
    assert torch.equal(again(x), want)


def test_from_float_takes_pairs_with_relu(rng):
    norm = trained(torch.nn.BatchNorm2d, rng)
    x = codes(rng, SHAPES[2])
    want = bt.BNReLU2d.from_float(norm, 0.04, 60, **IN)(x)
    for pair in (torch.nn.Sequential(norm, torch.nn.ReLU()), nni.BNReLU2d(norm, torch.nn.ReLU())):
        assert torch.equal(bt.BNReLU2d.from_float(pair, 0.04, 60, **IN)(x), want)
    sync = torch.nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    assert torch.equal(bt.BNReLU2d.from_float(sync, 0.04, 60, **IN)(x), want)


def test_from_float_copies_and_rounds_once(rng):
    norm = trained(torch.nn.BatchNorm2d, rng).double()
    norm.running_mean += 1e-9
    module = bt.BatchNorm2d.from_float(norm, 0.04, 60, **IN)
    assert {b.dtype for b in module.buffers()} == {torch.float32, torch.int64}
    x = codes(rng, SHAPES[2])
    before = module(x)
    with torch.no_grad():
        norm.running_mean.zero_(), norm.weight.zero_()
    assert torch.equal(module(x), before)
    assert not list(module.parameters())


@pytest.mark.parametrize(
    ("kind", "module", "message"),
    [
        (bt.BatchNorm2d, torch.nn.BatchNorm1d(3), "module must be a torch.nn.BatchNorm2d, got BatchNorm1d"),
        (bt.BatchNorm1d, torch.nn.Linear(3, 3), "module must be a torch.nn.BatchNorm1d, got Linear"),
        (bt.BatchNorm2d, nni.BNReLU2d(torch.nn.BatchNorm2d(3), torch.nn.ReLU()), "module must .* got BNReLU2d"),
        (bt.BNReLU3d, torch.nn.Sequential(torch.nn.BatchNorm3d(3)),
         "module must be a torch.nn.BatchNorm3d, alone or in a Sequential with a ReLU, got Sequential"),
        (bt.BNReLU3d, torch.nn.Sequential(torch.nn.BatchNorm3d(3), torch.nn.ReLU6()), "module must .* Sequential"),
        (bt.BatchNorm2d, None, "module must be a torch.nn.BatchNorm2d, got NoneType"),
    ],
)  # fmt: skip
def test_from_float_of_something_else(kind, module, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        kind.from_float(module, 0.1, 0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"output_scale": 0.0}, ValueError, "scale must be positive"),
        ({"output_scale": float("nan")}, ValueError, "scale must be positive"),
        ({"output_scale": None}, TypeError, "scale must be a real number"),
        ({"output_zero_point": 256}, ValueError, "zero_point must be from -128 to 255, got 256"),
        ({"output_zero_point": 0.5}, TypeError, "zero_point must be an integer"),
        ({"output_zero_point": -3, "output_dtype": torch.uint8}, ValueError, "zero_point must be from 0 to 255"),
        ({"output_dtype": torch.float32}, TypeError, "output_dtype must be torch.uint8 or torch.int8"),
        ({"input_scale": 0.1}, ValueError, "input_scale and input_zero_point must be given together"),
        ({"input_zero_point": 1}, ValueError, "input_scale and input_zero_point must be given together"),
        ({"input_scale": -1.0, "input_zero_point": 1}, ValueError, "input_scale must be positive"),
        ({"input_scale": 1.0, "input_zero_point": -129}, ValueError, "input_zero_point must be from -128 to 255"),
    ],
)
def test_from_float_with_bad_numbers(change, error, message):
    with pytest.raises(error, match=f"^{message}"):
        bt.BatchNorm2d.from_float(
            torch.nn.BatchNorm2d(3), **{"output_scale": 0.1, "output_zero_point": 3, **change}
        )


def test_from_float_with_bad_statistics():
    with pytest.raises(ValueError, match=r"^module must have running statistics"):
        bt.BatchNorm2d.from_float(torch.nn.BatchNorm2d(3, track_running_stats=False), 0.1, 3)
    norm = torch.nn.BatchNorm2d(3)
    norm.running_var[1] = -1
    with pytest.raises(ValueError, match=r"^var\[1\] must not be negative"):
        bt.BatchNorm2d.from_float(norm, 0.1, 3)


@pytest.mark.parametrize(("relu", "dimensions"), [k for k in KINDS if k[1] != 1], ids=str)
def test_wrong_dimensions(rng, relu, dimensions):
    module = KINDS[relu, dimensions][0](6, **IN)
    x = codes(rng, SHAPES[dimensions])
    module(x)
    for given in (x[0], bn.QuantizedTensor(x[0], 0.1, 7), legacy(x[0].contiguous(), 0.1, 7)):
        with pytest.raises(ValueError, match=rf"^input must have {dimensions + 2} dimensions, got shape \(6, "):
            module(given)


def test_wrong_inputs(rng):
    module = bt.BatchNorm2d(6, **IN)
    with pytest.raises(TypeError, match=r"^x must be torch.uint8 or torch.int8, got torch.float32$"):
        module(torch.zeros(SHAPES[2]))
    with pytest.raises(TypeError, match=r"^x must be a torch.Tensor"):
        module(np.zeros(SHAPES[2], np.uint8))
    with pytest.raises(ValueError, match=r"^x has 5 channels"):
        module(codes(rng, (2, 5, 3, 3)))
    with pytest.raises(ValueError, match=r"^y_zero_point must be from -128 to 127"):
        bt.BatchNorm2d(6, zero_point=200, **IN)(codes(rng, SHAPES[2], torch.int8))


# --- staying true to change ----------------------------------------------------------------------------------


def changed_weight(module):
    module.weight.mul_(2)


def changed_under_the_counter(module):
    module.running_mean.data.add_(1)
    module.running_var.numpy()[:] *= 2


def replaced_buffer(module):
    module.bias = module.bias + 1


def swapped_data(module):
    module.running_var.data = module.running_var * 3


def other_precision(module):
    module.double()


def half_precision(module):
    module.half()


def loaded(module):
    other = copy.deepcopy(module)
    other.weight.neg_()
    other.scale, other.input_zero_point = 0.07, 11
    module.load_state_dict(other.state_dict())


def assigned(module):
    other = copy.deepcopy(module)
    other.weight.neg_()
    module.load_state_dict(other.state_dict(), assign=True)


def other_numbers(module):
    module.eps, module.scale, module.zero_point, module.input_scale = 0.5, 0.3, 9, 0.2


def strided(module):
    module.weight = torch.stack([module.weight, module.weight], dim=1)[:, 0]


def other_strides_in_place(module):
    module.running_var.as_strided_((6,), (0,))


class Doubled(torch.nn.Module):
    def forward(self, vector):
        return vector * 2


def parametrized(module):
    torch.nn.utils.parametrize.register_parametrization(module, "weight", Doubled())


def as_parameter(module):
    module.weight = torch.nn.Parameter(module.weight * 2, requires_grad=False)


def other_sign_in_the_same_memory(module):
    module.weight.data = torch._neg_view(module.weight)


def other_type_in_the_same_memory(module):
    module.running_mean.data = module.running_mean.view(torch.uint8)[:6]


@pytest.mark.parametrize(
    "change",
    [parametrized, as_parameter, other_sign_in_the_same_memory, other_type_in_the_same_memory,
     changed_weight, changed_under_the_counter, replaced_buffer, swapped_data, other_precision, half_precision,
     loaded, assigned, other_numbers, strided, other_strides_in_place],
)  # fmt: skip
def test_a_change_is_noticed(rng, change):
    """A module prepares itself on its first call, and again whenever anything is different."""
    module = bt.BatchNorm2d.from_float(trained(torch.nn.BatchNorm2d, rng), 0.04, 60, **IN)
    x = codes(rng, SHAPES[2])
    module(x), module(x)
    change(module)
    vectors_ = [v.float() for v in (module.weight, module.bias, module.running_mean, module.running_var)]
    want = bt.batch_norm(x, module.input_scale, module.input_zero_point, *vectors_, module.eps, module.scale,
                         module.zero_point)  # fmt: skip
    for _ in range(3):
        assert torch.equal(module(x), want)
        old = module(legacy(x, module.input_scale, module.input_zero_point))
        assert torch.equal(old.int_repr(), want)


def test_fewer_channels_in_place(rng):
    module = bt.BatchNorm2d.from_float(trained(torch.nn.BatchNorm2d, rng), 0.04, 60, **IN)
    x = codes(rng, SHAPES[2])
    module(x)
    module.weight.resize_(5)
    with pytest.raises(ValueError, match=r"^weight has 5 values"):
        module(x)


def test_a_weight_that_wants_a_gradient(rng):
    module = bt.BatchNorm2d.from_float(trained(torch.nn.BatchNorm2d, rng), 0.04, 60, **IN)
    x = codes(rng, SHAPES[2])
    want = module(x)
    module.weight.requires_grad_()
    with pytest.raises(RuntimeError, match=r"^weight requires a gradient"):
        module(x)
    with torch.no_grad():
        assert torch.equal(module(x), want)


def test_tangents_of_buffers_are_not_cut(rng):
    module = bt.BatchNorm2d.from_float(trained(torch.nn.BatchNorm2d, rng), 0.04, 60, **IN)
    x = codes(rng, SHAPES[2])
    want = module(x)
    with forward_ad.dual_level():
        assert torch.equal(module(x), want)
        state = {"weight": forward_ad.make_dual(module.weight, torch.ones(6))}
        for given in (x, legacy(x, 0.1, 7)):
            with pytest.raises(RuntimeError, match=r"^weight requires a gradient"):
                torch.func.functional_call(module, state, (given,))
        assert torch.equal(module(x), want)


def test_buffers_whose_memory_is_gone(rng):
    module = bt.BatchNorm2d.from_float(trained(torch.nn.BatchNorm2d, rng), 0.04, 60, **IN)
    x = codes(rng, SHAPES[2])
    module.running_mean = module.running_mean.clone()
    module(x)
    module.running_mean.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match=r"^mean needs 24 bytes of memory, and its storage has 0$"):
        module(x)


def test_many_threads_while_it_changes(rng):
    """Each call sees one state or the other, never a mixture."""
    module = bt.BatchNorm2d.from_float(trained(torch.nn.BatchNorm2d, rng), 0.04, 60, **IN)
    x, weights, wanted = codes(rng, (8, 6, 60, 60)), [module.weight, -module.weight], []
    for weight in weights:
        module.weight = weight
        wanted.append(module(x))
    done, wrong = threading.Event(), []

    def call():
        while not done.is_set():
            y = module(x)
            if not any(torch.equal(y, want) for want in wanted):
                wrong.append(y)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(100):
        module.weight = weights[i % 2]
        module.scale = 0.04
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_nothing_is_kept_alive(rng):
    """A module goes with its last name, and a cycle through one of its buffers goes with the garbage."""
    x = codes(rng, SHAPES[2])
    for cycle in (False, True):
        module = bt.BatchNorm2d(6, **IN)
        module(x), module(x)
        old = weakref.ref(module.weight)
        module.weight = torch.ones(6)
        assert old() is None
        module(x)
        if cycle:
            module.weight.owner = module
        gone = weakref.ref(module)
        del module
        if cycle:
            gc.collect()
        assert gone() is None


def test_bad_numbers_are_refused_when_set():
    module = bt.BatchNorm2d(3)
    for name, value in [
        ("eps", -1.0),
        ("eps", float("nan")),
        ("scale", 0.0),
        ("input_scale", float("inf")),
        ("zero_point", 300),
    ]:
        with pytest.raises(ValueError, match=f"^{name} must "):
            setattr(module, name, value)
    module.scale, module.zero_point = torch.tensor([0.5]), torch.tensor(3)
    assert (module.scale, module.zero_point) == (0.5, 3)


# --- state dicts, copies -------------------------------------------------------------------------------------


def legacy_module(kind, rng, scale=0.123, zero_point=45):
    """Return a legacy module as torch.ao.quantization.convert leaves it."""
    module = kind(6, eps=1e-3)
    weight, bias, mean, var = vectors(rng, 6)
    module.weight, module.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
    module.running_mean, module.running_var = mean, var
    module.scale, module.zero_point = torch.tensor([scale]), torch.tensor([zero_point], dtype=torch.int32)
    return module.eval()


@pytest.mark.parametrize(
    ("old", "new", "dimensions"),
    [
        (nnq.BatchNorm2d, bt.BatchNorm2d, 2),
        (nnq.BatchNorm3d, bt.BatchNorm3d, 3),
        (nniq.BNReLU2d, bt.BNReLU2d, 2),
        (nniq.BNReLU3d, bt.BNReLU3d, 3),
    ],
)
@pytest.mark.parametrize("assign", [False, True])
def test_legacy_state_dicts_load_unchanged(rng, old, new, dimensions, assign):
    theirs = legacy_module(old, rng)
    ours = new(6, eps=1e-3)
    ours.load_state_dict(theirs.state_dict(), strict=True, assign=assign)
    x = legacy(codes(rng, SHAPES[dimensions]), 0.1, 7)
    with torch.no_grad():
        want = theirs(x)
    got = ours(x)
    assert torch.equal(got.int_repr(), want.int_repr())
    assert (got.q_scale(), got.q_zero_point()) == (want.q_scale(), want.q_zero_point())
    assert set(ours.state_dict()) == set(theirs.state_dict())


@kinds
def test_round_trips(rng, relu, dimensions):
    ours, theirs = KINDS[relu, dimensions]
    module = ours.from_float(trained(theirs, rng), 0.1, 60, **IN, output_dtype=torch.uint8)
    x = codes(rng, SHAPES[dimensions])
    want = module(x)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    fresh = ours(6, output_dtype=torch.uint8)
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    whole = io.BytesIO()
    torch.save(module, whole)
    whole.seek(0)
    copies = [fresh, copy.deepcopy(module), copy.copy(module), pickle.loads(pickle.dumps(module)),
              torch.load(whole, weights_only=False)]  # fmt: skip
    for again in copies:
        assert torch.equal(again(x), want)
        assert repr(again) == repr(module)


def test_a_saved_state_in_a_model(rng):
    model = torch.nn.Sequential(bt.BatchNorm2d.from_float(trained(torch.nn.BatchNorm2d, rng), 0.1, 60, **IN))
    state = model.state_dict()
    assert state["0.scale"].dtype is torch.float64
    again = torch.nn.Sequential(bt.BatchNorm2d(6))
    assert str(again.load_state_dict(state)) == "<All keys matched successfully>"
    x = codes(rng, SHAPES[2])
    assert torch.equal(again(x), model(x))
    told = torch.nn.Sequential(bt.BatchNorm2d(6, **IN))
    told.load_state_dict({name: v for name, v in state.items() if "input" not in name})
    assert torch.equal(told(x), model(x))


def test_bad_state_dicts(rng):
    module = bt.BatchNorm2d(6, scale=0.5)
    good = legacy_module(nnq.BatchNorm2d, rng).state_dict()
    for change, message in [
        ({"scale": torch.tensor(0.0)}, "scale must be positive"),
        ({"scale": torch.ones(2)}, "scale must be a real number"),
        ({"zero_point": torch.tensor(256)}, "zero_point must be from -128 to 255, got 256"),
        ({"zero_point": torch.tensor(1.5)}, "zero_point must be an integer"),
        ({"scale": torch.ones(1, device="meta")}, "scale must be in the memory of the CPU"),
        ({"zero_point": torch.tensor(1, device="meta")}, "zero_point must be in the memory of the CPU, got.*meta"),
        ({"running_mean": torch.ones(5)}, "size mismatch for running_mean"),
        ({"extra": torch.ones(5)}, "Unexpected key"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            module.load_state_dict({**good, **change})
    for name in good.keys() - {"num_batches_tracked"}:  # legacy norms do not miss it either
        with pytest.raises(RuntimeError, match=f'Missing key.*"{name}"'):
            module.load_state_dict({n: v for n, v in good.items() if n != name})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        bt.BatchNorm2d(6, affine=False).load_state_dict(good)


def test_part_of_a_state_dict(rng):
    module = bt.BatchNorm2d.from_float(trained(torch.nn.BatchNorm2d, rng), 0.04, 60, **IN)
    x = codes(rng, SHAPES[2])
    module(x)
    state = {"weight": torch.ones(6), "scale": torch.tensor(0.3), "other": torch.ones(1)}
    result = module.load_state_dict(state, strict=False)
    assert result.unexpected_keys == ["other"]
    assert set(result.missing_keys) == {"bias", "running_mean", "running_var", "zero_point"}
    assert set(state) == {"weight", "scale", "other"}
    want = bt.batch_norm(
        x, 0.1, 7, None, module.bias, module.running_mean, module.running_var, 1e-5, module.scale, 60
    )
    assert module.scale == state["scale"].item()
    assert torch.equal(module(x), want)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_default_device_does_not_matter_to_a_state_dict(rng, device):
    """What the numbers are on is a matter of the module: a file is to be read where that device is not."""
    module = bt.BatchNorm2d.from_float(trained(torch.nn.BatchNorm2d, rng), 0.04, 60, **IN)
    x = codes(rng, SHAPES[2])
    want = module(x)
    with torch.device(device):
        state = module.state_dict()
        assert {value.device.type for value in state.values()} == {"cpu"}
        again = copy.deepcopy(module)
        other = bt.BatchNorm2d(6)
        other.load_state_dict(state, strict=True, assign=True)
    for loaded in (again, other):
        assert torch.equal(loaded(x), want)


def test_a_module_without_memory_keeps_its_numbers(rng):
    with torch.device("meta"):
        empty = bt.BatchNorm2d(6, scale=0.04, zero_point=60, **IN)
        state = empty.state_dict()
    assert [state[name].item() for name in ("scale", "zero_point", "input_scale")] == [0.04, 60, 0.1]
    moved = empty.to_empty(device="cpu")
    moved.load_state_dict(trained(torch.nn.BatchNorm2d, rng).state_dict(), strict=False)
    assert (moved.scale, moved.zero_point, moved.input_scale) == (0.04, 60, 0.1)
    assert moved(codes(rng, SHAPES[2])).dtype is torch.uint8


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("source", ["float", "legacy", "ours", "parameters of ours"])
def test_state_dicts_of_all_kinds(rng, source, dtype, assign):
    """In any dtype, with the numbers that module itself then has: the way through a file and back."""
    if source == "float":
        there = trained(torch.nn.BatchNorm2d, rng)
    elif source == "legacy":
        there = legacy_module(nnq.BatchNorm2d, rng)
    else:
        there = bt.BatchNorm2d.from_float(trained(torch.nn.BatchNorm2d, rng), 0.123, 45)
    there.to(dtype)
    state = there.state_dict(keep_vars=True)  # parameters stay parameters
    if source == "parameters of ours":
        state["weight"] = torch.nn.Parameter(state["weight"])
    module = bt.BatchNorm2d(6, eps=there.eps, scale=0.123, zero_point=45, **IN)
    with pytest.raises(RuntimeError, match=r'Missing key.*"scale", "zero_point"\.\s*$') if source == "float" \
            else contextlib.nullcontext():  # fmt: skip
        module.load_state_dict(state, strict=True, assign=assign)
    module.load_state_dict(state, strict=False, assign=assign)
    assert not list(module.parameters())
    x = codes(rng, SHAPES[2])
    vectors_ = [state[name].detach() for name in ("weight", "bias", "running_mean", "running_var")]
    scale = float(state.get("scale", torch.tensor(0.123, dtype=torch.float64)))
    want = bt.batch_norm(x, 0.1, 7, *vectors_, module.eps, scale, 45)
    again = bt.BatchNorm2d(6, eps=module.eps)
    again.load_state_dict(module.state_dict(), strict=True, assign=assign)
    for loaded in (module, again, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(loaded(x), want)


def test_hooks_of_state_dicts():
    """They see all that is saved, and may rename it on the way in."""
    module, seen = bt.BatchNorm2d(6, scale=0.25), []
    module.register_state_dict_post_hook(lambda module, state, prefix, metadata: seen.append(set(state)))
    state = module.state_dict()
    assert seen == [set(state)]
    assert seen[0] >= {"weight", "scale", "zero_point"}
    state["norm_scale"] = state.pop("scale") * 2

    def rename(module, state, prefix, *rest):
        state[prefix + "scale"] = state.pop(prefix + "norm_scale")

    module.register_load_state_dict_pre_hook(rename)
    module.load_state_dict(state, strict=True)
    assert module.scale == 0.5


def test_a_module_without_memory_is_filled_by_a_state_dict(rng):
    full = bt.BatchNorm2d.from_float(trained(torch.nn.BatchNorm2d, rng), 0.04, 60, **IN)
    x = codes(rng, SHAPES[2])
    with torch.device("meta"):
        empty = bt.BatchNorm2d(6, **IN)
    with pytest.raises(TypeError, match=r"^weight must be in the memory of the CPU, got a tensor on meta$"):
        empty(x)
    empty.load_state_dict(full.state_dict(), assign=True)
    assert torch.equal(empty(x), full(x))


def test_repr():
    norm = torch.nn.BatchNorm2d(3, eps=1e-3)
    assert repr(bt.BNReLU2d.from_float(norm, 0.25, 3)) == (
        "BNReLU2d(3, eps=0.001, affine=True, scale=0.25, zero_point=3)"
    )
    told = bt.BatchNorm1d(3, affine=False, scale=0.5, input_scale=0.1, input_zero_point=2, output_dtype=torch.int8)
    assert repr(told) == (
        "BatchNorm1d(3, eps=1e-05, affine=False, input_scale=0.1, input_zero_point=2, scale=0.5, zero_point=0, "
        "output_dtype=torch.int8)"
    )


# --- tracing -------------------------------------------------------------------------------------------------


@pytest.fixture
def model(rng):
    first = bt.BatchNorm2d.from_float(trained(torch.nn.BatchNorm2d, rng), 0.04, 60, **IN)
    norm = trained(torch.nn.BatchNorm2d, rng, affine=False)
    return torch.nn.Sequential(
        first,
        bt.BNReLU2d.from_float(norm, 0.02, 3, input_scale=0.04, input_zero_point=60, output_dtype=torch.int8),
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, on importing its compiler
def test_compile(model, rng):
    x = codes(rng, SHAPES[2])
    compiled = torch.compile(model, fullgraph=True)
    for given in (x, x.contiguous(memory_format=torch.channels_last), codes(rng, (7, 6, 4, 5))):
        got, want = compiled(given), model(given)
        assert torch.equal(got, want)
        assert got.stride() == want.stride()


@pytest.mark.parametrize("strict", [False, True])
def test_export(model, rng, strict):
    x = codes(rng, SHAPES[2])
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("n")},), strict=strict)
    assert [n.target for n in program.graph.nodes if n.op == "call_function"] == [OPERATOR] * 2
    more = codes(rng, (9, *SHAPES[2][1:]))
    assert torch.equal(program.module()(more), model(more))


def test_symbolic_trace(model, rng):
    x = codes(rng, SHAPES[2])
    model(x)
    graph = torch.fx.symbolic_trace(model)
    assert [n.target for n in graph.graph.nodes if n.target == OPERATOR] == [OPERATOR] * 2
    assert torch.equal(graph(x), model(x))


def test_modes_and_functional_calls(model, rng):
    x = codes(rng, SHAPES[2])
    want = model(x)

    class Seen(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.seen += func is OPERATOR
            return func(*args, **(kwargs or {}))

    with Seen() as mode:
        assert torch.equal(model(x), want)
    assert mode.seen == 2
    state = {name: b.clone() for name, b in model.named_buffers()}
    assert torch.equal(torch.func.functional_call(model, state, (x,)), want)
    state["0.weight"].neg_()
    assert not torch.equal(torch.func.functional_call(model, state, (x,)), want)
    assert torch.equal(model(x), want)


def test_compiled_modules_follow_changes(model, rng):
    x = codes(rng, SHAPES[2])
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for change in ({"scale": 0.2}, {"zero_point": 77}, {"output_dtype": torch.uint8}, {"weight": torch.ones(6)}):
        for name, value in change.items():
            setattr(model[0], name, value)
        model[1].input_scale, model[1].input_zero_point = model[0].scale, model[0].zero_point
        assert torch.equal(compiled(x), model(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_jit_trace(model, rng):
    x = codes(rng, SHAPES[2])
    model(x)
    traced = torch.jit.trace(model, x)
    assert str(traced.inlined_graph).count("bytenorm::batch_norm") == 2
    more = codes(rng, (5, *SHAPES[2][1:]))
    assert torch.equal(traced(more), model(more))


def test_an_ensemble(rng):
    """torch.vmap over the buffers of several modules."""
    norms = [bt.BatchNorm2d.from_float(trained(torch.nn.BatchNorm2d, rng), 0.04, 60, **IN) for _ in range(3)]
    x = codes(rng, SHAPES[2])
    state = torch.func.stack_module_state(norms)
    got = torch.vmap(lambda *state: torch.func.functional_call(norms[0], state, (x,)))(*state)
    assert torch.equal(got, torch.stack([norm(x) for norm in norms]))


def test_meta(model):
    meta = copy.deepcopy(model).to("meta")
    assert meta(torch.zeros(SHAPES[2], dtype=torch.uint8, device="meta")).dtype is torch.int8
