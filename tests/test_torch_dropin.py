"""``bytenorm.torch.quantized_batch_norm`` against the function it stands in for, and without its defects."""

import inspect

import numpy as np
import pytest
import torch
from guarded import Guarded
from torch.utils.flop_counter import FlopCounterMode
from torch_norms import DTYPES, LEGACY, VECTORS, by_torch, codes, layouts, legacy, vectors

import bytenorm as bn
import bytenorm.torch

norm = bytenorm.torch.quantized_batch_norm


def test_signature():
    """The documented one, and relu."""
    ours = inspect.signature(norm).parameters
    theirs = inspect.signature(bn.quantized_batch_norm).parameters
    assert list(ours) == [*list(theirs)[:8], "relu"]
    assert [p.default for p in ours.values()] == [*(theirs[name].default for name in list(ours)[:8]), False]


@pytest.mark.thorough
@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_torch_sweep(rng, dtype, relu, channels_last):
    """Over 2 million elements in each of 8 combinations, bit for bit."""
    limits = torch.iinfo(dtype)
    compared = 0
    for i, channels in enumerate([1, 2, 3, 5, 8, 16, 17, 31, 32, 33, 64, 65, 100, 127, 128, 200, 256, 300] * 2):
        ndim = (4, 5, 3, 2)[i % 4] if not channels_last else (4, 5)[i % 2]
        size = 60_000 // channels + 1
        shape = {2: (size, channels), 3: (3, channels, size // 3 + 1), 4: (2, channels, size // 40 + 1, 20),
                 5: (2, channels, 3, size // 60 + 1, 10)}[ndim]  # fmt: skip
        x = codes(rng, shape, dtype)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last if ndim == 4 else torch.channels_last_3d)
        parameters, (scale, y_scale) = vectors(rng, channels), rng.uniform(0.005, 0.1, 2).tolist()
        zero, y_zero = rng.integers(limits.min, limits.max + 1, 2).tolist()
        want = by_torch(x, scale, zero, parameters, 1e-5, y_scale, y_zero, relu=relu)
        got = norm(legacy(x, scale, zero), *parameters, 1e-5, y_scale, y_zero, relu=relu)
        assert torch.equal(got.int_repr(), want)
        assert (got.dtype, got.q_scale(), got.q_zero_point()) == (LEGACY[dtype], y_scale, y_zero)
        compared += x.numel()
    assert compared > 2_000_000


def test_the_documented_example():
    """Called as PyTorch's page prints it."""
    torch.manual_seed(7)
    x, mean, var = torch.rand(2, 2, 2, 2), torch.rand(2), torch.rand(2)
    qx = torch.quantize_per_tensor(x, 1.5, 3, torch.quint8)
    arguments = (qx, torch.ones(2), torch.zeros(2), mean, var, 0.00001, 0.2, 2)
    want = torch.quantized_batch_norm(*arguments).contiguous()
    assert repr(norm(*arguments)) == repr(want)
    assert repr(norm(*arguments[:1], mean=mean, var=var, eps=1e-5, output_scale=0.2, output_zero_point=2)) == repr(
        want
    )


def test_layouts_stay(rng):
    """Contiguous stays contiguous, where torch answers in channels-last; any other axis order stays too."""
    parameters = vectors(rng, 6)
    for name, plain in layouts(rng).items():
        x = torch._make_per_tensor_quantized_tensor(plain, 0.1, 3)
        if name == "permuted":
            x = torch._make_per_tensor_quantized_tensor(plain.permute(3, 0, 1, 2).contiguous(), 0.1, 3)
            x = x.permute(1, 2, 3, 0)
        elif name == "sliced":
            x = torch._make_per_tensor_quantized_tensor(codes(rng, (2, 12, 4, 9)), 0.1, 3)[:, ::2, :, 1:6]
        elif name == "expanded":
            x = torch._make_per_tensor_quantized_tensor(plain[:1, :, :1].contiguous(), 0.1, 3).expand(3, 6, 4, 5)
        elif "channels-last" in name and plain.numel() > 0:
            last = torch.channels_last if plain.dim() == 4 else torch.channels_last_3d
            x = x.contiguous(memory_format=last)
        got = norm(x, *parameters, 1e-5, 0.2, 5)
        like = torch.empty_strided(x.shape, x.stride(), dtype=torch.uint8)
        want = bytenorm.torch.batch_norm(x.int_repr(), 0.1, 3, *parameters, 1e-5, 0.2, 5)
        assert torch.equal(got.int_repr(), want), name
        for n, a, b in zip(x.shape, got.stride(), torch.empty_like(like).stride(), strict=True):
            assert a == b or n == 1 or x.numel() == 0, name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_of_ours(rng, dtype):
    x, parameters = codes(rng, (3, 6, 7), dtype), vectors(rng, 6)
    want = by_torch(x, 0.1, 3, parameters, 1e-5, 0.2, 5, relu=True)
    q = bn.QuantizedTensor(x, 0.1, 3)
    for given in (parameters, [p.numpy() for p in parameters], [p.double() for p in parameters],
                  [p.tolist() for p in parameters]):  # fmt: skip
        got = norm(q, *given, 1e-5, 0.2, 5, relu=True)
        assert type(got) is bn.QuantizedTensor
        np.testing.assert_array_equal(got.data, want.numpy())
        assert (got.scale, got.zero_point) == (0.2, 5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_quantized_per_channel(rng, dtype):
    x, parameters = codes(rng, (3, 6, 4, 5), dtype), vectors(rng, 6)
    scales, zeros = torch.from_numpy(rng.uniform(0.01, 0.1, 6)), torch.from_numpy(rng.integers(0, 100, 6))
    got = norm(torch._make_per_channel_quantized_tensor(x, scales, zeros, 1), *parameters, 1e-5, 0.04, 60)
    for c in range(6):
        alone = [p[c : c + 1] for p in parameters]
        want = by_torch(x[:, c : c + 1], scales[c].item(), zeros[c].item(), alone, 1e-5, 0.04, 60)
        assert torch.equal(got[:, c : c + 1].int_repr(), want)
    with pytest.raises(
        ValueError, match=r"^input is quantized per channel along axis 0, but its channels are on axis 1$"
    ):
        norm(
            torch._make_per_channel_quantized_tensor(x[:, :3], scales[:3], zeros[:3], 0),
            *parameters,
            1e-5,
            0.04,
            60,
        )


def test_any_torch_mode_may_be_on(rng):
    x, parameters = legacy(codes(rng, (2, 3, 4)), 0.1, 3), vectors(rng, 3)
    want = norm(x, *parameters, 1e-5, 0.2, 5)
    with torch.device("cpu"), torch.inference_mode():
        got = norm(x, *parameters, 1e-5, 0.2, 5)
    assert torch.equal(got.int_repr(), want.int_repr())


# --- what torch gets wrong ------------------------------------------------------------------------------------


@pytest.fixture
def call(rng):
    arguments = {
        "input": legacy(codes(rng, (2, 64, 5)), 0.1, 3),
        **dict(zip(VECTORS, vectors(rng, 64), strict=True)),
        "eps": 1e-5,
        "output_scale": 0.2,
        "output_zero_point": 5,
    }

    def changed(**changes):
        return norm(**{**arguments, **changes})

    changed.arguments = arguments
    return changed


@pytest.mark.parametrize("name", VECTORS)
def test_expanded_parameters(name, call):
    """Torch reads out of bounds."""
    want = call(**{name: torch.full((64,), 0.5)})
    with Guarded(4) as guard:
        guard.array.view(np.float32)[:] = 0.5
        got = call(**{name: torch.from_numpy(guard.array.view(np.float32)).expand(64)})
    assert torch.equal(got.int_repr(), want.int_repr())


@pytest.mark.parametrize("name", VECTORS)
def test_strided_and_wider_parameters(name, call):
    """Torch takes the first for contiguous and refuses the second."""
    plain = call.arguments[name]
    matrix = torch.stack([plain, torch.full_like(plain, 9.0)], dim=1)
    for given in (matrix[:, 0], plain.double(), plain.numpy(), plain.tolist(), plain.flip(0).flip(0)):
        assert torch.equal(call(**{name: given}).int_repr(), call().int_repr())


def test_weight_and_bias_none(call):
    want = call(weight=torch.ones(64), bias=torch.zeros(64))
    assert torch.equal(call(weight=None, bias=None).int_repr(), want.int_repr())


@pytest.mark.parametrize("shape", [(0, 64), (0, 64, 5), (2, 64, 0), (0, 64, 2, 3)])
def test_empty_input_has_the_quantization_of_the_output(shape, call):
    got = call(input=legacy(torch.zeros(shape, dtype=torch.uint8), 0.1, 3))
    assert (got.shape, got.q_scale(), got.q_zero_point()) == (torch.Size(shape), 0.2, 5)


NAN, INF = float("nan"), float("inf")


def zeros(shape, scale=0.1, zero_point=0):
    return legacy(torch.zeros(shape, dtype=torch.uint8), scale, zero_point)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"output_scale": 0.0}, ValueError, "output_scale must be positive"),
        ({"output_scale": -1.0}, ValueError, "output_scale must be positive"),
        ({"output_scale": NAN}, ValueError, "output_scale must be positive .* got nan"),
        ({"output_scale": INF}, ValueError, "output_scale must be positive .* got inf"),
        ({"output_scale": "1"}, TypeError, "output_scale must be a real number"),
        ({"output_zero_point": -1}, ValueError, "output_zero_point must be from 0 to 255"),
        ({"output_zero_point": 256}, ValueError, "output_zero_point must be from 0 to 255"),
        ({"output_zero_point": 2**40}, ValueError, "output_zero_point must be from 0 to 255"),
        ({"output_zero_point": 2**80}, ValueError, "output_zero_point must be from 0 to 255"),
        ({"output_zero_point": 5.0}, TypeError, "output_zero_point must be an integer"),
        ({"output_zero_point": 300, "relu": True}, ValueError, "output_zero_point must be from 0 to 255"),
        ({"var": torch.full((64,), -1.0)}, ValueError, r"var\[0\] must not be negative"),
        ({"var": torch.zeros(64), "eps": 0.0}, ValueError, r"var\[0\] \+ eps must be positive"),
        ({"eps": -1.0}, ValueError, "eps must not be negative"),
        ({"eps": NAN}, ValueError, "eps must not be negative"),
        *(({name: torch.full((64,), bad)}, ValueError, rf"{name}\[0\] must be finite") for name in VECTORS
          for bad in (NAN, INF)),
        *(({name: torch.ones(63)}, ValueError, f"{name} has 63|weight has 64 .* mean has 63") for name in VECTORS),
        ({"mean": None}, TypeError, "mean is required"),
        ({"var": None}, TypeError, "var is required"),
        ({"eps": None}, TypeError, "eps is required"),
        ({"output_scale": None}, TypeError, "output_scale is required"),
        ({"output_zero_point": None}, TypeError, "output_zero_point is required"),
        ({"relu": 1}, TypeError, "relu must be True or False"),
        ({"input": torch.zeros(2, 64)}, TypeError, "input must be a tensor of torch.quint8 .*float32"),
        ({"input": torch.zeros(2, 64, dtype=torch.uint8)}, TypeError,
         "input must be .* got a tensor of torch.uint8; see bytenorm.torch.batch_norm"),
        ({"input": torch.quantize_per_tensor(torch.ones(2, 64), 0.1, 0, torch.qint32)}, TypeError,
         "input must be torch.quint8 or torch.qint8, got torch.qint32"),
        ({"input": np.zeros((2, 64), np.uint8)}, TypeError, "input must be a bytenorm.QuantizedTensor"),
        ({"input": None}, TypeError, "input must be a bytenorm.QuantizedTensor"),
        ({"input": torch.empty(2, 64, dtype=torch.quint8, device="meta")}, TypeError,
         "input must be in the memory of the CPU, got a tensor on meta"),
        ({"mean": torch.ones(64).to_sparse()}, TypeError, "mean must be a strided tensor, got torch.sparse_coo"),
        ({"mean": torch.ones(64, device="meta")}, TypeError, "mean must be in the memory of the CPU"),
        ({"input": zeros((64,))}, ValueError,
         "input must have 2 to 64 dimensions"),
        ({"input": zeros((2, 3))}, ValueError,
         "input has 3 channels on axis 1"),
        ({"input": zeros((2, 64), scale=0.0)},
         ValueError, r"input.q_scale\(\) must be positive"),
        ({"input": zeros((2, 64), zero_point=999)},
         ValueError, r"input.q_zero_point\(\) must be from 0 to 255"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)  # fmt: skip
def test_bad_arguments(change, error, message, call):
    with pytest.raises(error, match=f"^({message})") as caught:
        call(**change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["torch", "ours"])
@pytest.mark.parametrize("name", VECTORS)
def test_gradients_are_not_cut(name, kind, call):
    change = {} if kind == "torch" else {"input": bytenorm.torch.from_legacy(call.arguments["input"])}
    change[name] = call.arguments[name].clone().requires_grad_()
    with pytest.raises(RuntimeError, match=f"^{name} requires a gradient"):
        call(**change)
    with torch.no_grad():
        got = call(**change)
    np.testing.assert_array_equal(np.asarray(got.int_repr()), call().int_repr().numpy())


@pytest.mark.parametrize("kind", ["torch", "ours"])
@pytest.mark.parametrize("name", ["eps", "output_scale"])
def test_gradients_of_numbers_are_not_cut(name, kind, call):
    change = {} if kind == "torch" else {"input": bytenorm.torch.from_legacy(call.arguments["input"])}
    change[name] = torch.tensor(call.arguments[name], dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match=f"^{name} requires a gradient"):
        call(**change)
    with torch.no_grad():
        np.testing.assert_array_equal(np.asarray(call(**change).int_repr()), call().int_repr().numpy())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_cannot_be_traced_is_refused(call):
    """Recorded, the result would be a constant. The tracers after torch.jit take no quantized tensor at all."""
    module, message = bytenorm.torch.BatchNorm1d(64), r"^input is a quantized tensor of torch, .* cannot be traced"
    for what in (lambda x: call(input=x), module):
        with pytest.raises(RuntimeError, match=message):
            torch.jit.trace(what, call.arguments["input"])


def test_a_mode_that_records_nothing(call):
    want = call()
    with FlopCounterMode(display=False):
        assert torch.equal(call().int_repr(), want.int_repr())


def test_transforms_are_refused(call):
    """They cannot hold torch's quantized tensors."""
    with pytest.raises(TypeError, match=r"^weight has no memory of its own, as inside torch.vmap, and must have$"):
        torch.vmap(lambda weight: call(weight=weight).int_repr())(torch.ones(2, 64))


def test_numbers_of_other_types(call):
    want = call()
    for change in ({"output_scale": np.float64(0.2)}, {"output_scale": torch.tensor(0.2, dtype=torch.float64)},
                   {"output_zero_point": np.int64(5)}, {"output_zero_point": torch.tensor(5)},
                   {"eps": np.float64(1e-5)}):  # fmt: skip
        got = call(**change)
        assert torch.equal(got.int_repr(), want.int_repr())
        assert (got.q_scale(), got.q_zero_point()) == (0.2, 5)


NUMBERS = {
    "0-d float64": lambda v: torch.tensor(v, dtype=torch.float64),
    "(1,) float64": lambda v: torch.tensor([v], dtype=torch.float64),
    "(1, 1) float32": lambda v: torch.tensor([[float(np.float32(v))]]),
    "parameter": lambda v: torch.nn.Parameter(torch.tensor([float(v)], dtype=torch.float64)),
    "integer": lambda v: torch.tensor([int(v)]),
}


@pytest.mark.parametrize("kind", ["torch", "ours"])
@pytest.mark.parametrize("given", NUMBERS)
@pytest.mark.parametrize(("name", "value"), [("eps", 1.0), ("output_scale", 2.0), ("output_zero_point", 7)])
def test_tensors_of_one_number(name, value, given, kind, call):
    """As converted modules carry them, and as ``torch.ops.quantized.batch_norm2d`` takes them."""
    x = call.arguments["input"]
    x = bytenorm.torch.from_legacy(x) if kind == "ours" else x
    result = []
    for number in (value, NUMBERS[given](value)):
        with torch.no_grad():
            y = call(input=x, **{name: number})
        result.append((np.asarray(y.int_repr()).tolist(), y.q_scale(), y.q_zero_point()))
    assert result[0] == result[1]


@pytest.mark.parametrize("bad", [torch.tensor(7.5), torch.tensor([7.0, 7.0]), torch.tensor(float("nan")),
                                 torch.tensor(7.0 + 0j), torch.tensor(True)], ids=str)  # fmt: skip
def test_tensors_that_are_no_zero_point(bad, call):
    """torch's operator cuts a fraction off."""
    with pytest.raises(TypeError, match=r"^output_zero_point must be an integer, got "):
        call(output_zero_point=bad)
