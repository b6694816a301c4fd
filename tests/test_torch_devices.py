"""The operators where they have no kernel: in torch's own operators on integers, the same bits.

torch's lazy tensors are on a device of their own, which every build of torch has; the composite itself is forced
on the CPU, where layouts can be seen.
"""

import itertools

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import bytenorm as bn
import bytenorm.torch as bt
from bytenorm.torch.operators import devices
from bytenorm.torch.operators.composite import SumConstants

C = 6
OPERATORS = torch.ops.bytenorm
TYPES = (torch.uint8, torch.int8)


@pytest.fixture(scope="module")
def lazy():
    from torch._lazy import ts_backend

    ts_backend.init()
    return torch.device("lazy")


def codes(dtype, *shape):
    low = torch.iinfo(dtype).min
    return torch.randint(low, low + 256, shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def every_code(dtype, channels=C):
    low = torch.iinfo(dtype).min
    return torch.arange(low, low + 256).to(dtype).expand(channels, 256).reshape(1, channels, 16, 16).clone()


def parameters(channels=C, *, ties=False):
    """Return weight, bias, mean and var; with `ties` channel 0, read in steps of half a code, has no line."""
    random = torch.Generator().manual_seed(channels)
    weight, bias, mean = torch.randn(3, channels, generator=random)
    var = torch.rand(channels, generator=random) + 0.5
    if ties:
        weight[0], bias[0], mean[0], var[0] = 1.0, 0.0, 0.0, 1.0
    return weight, bias, mean, var


def layouts(x):
    return {
        "contiguous": x,
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "strided": torch.stack([x, x], -1)[..., 0],
        "transposed": x.transpose(0, 1).contiguous().transpose(0, 1),
        "rows": x[..., 0, 0],
        "three": x.flatten(2),
        "empty": x[:0],
    }


@pytest.mark.parametrize(("dtype", "output_dtype", "relu"), list(itertools.product(TYPES, TYPES, [False, True])))
def test_every_input(dtype, output_dtype, relu):
    for ties in (False, True):
        rest = (*parameters(ties=ties), 0.0, 0.04, 7, output_dtype, relu)
        for x in layouts(every_code(dtype)).values():
            want = OPERATORS.batch_norm(x, 0.02, 11, *rest)
            got = devices.batch_norm(x, 0.02, 11, *rest)
            assert torch.equal(got, want)
            assert (got.dtype, got.stride()) == (want.dtype, want.stride())
        scales, zero_points = torch.linspace(0.02, 0.03, C, dtype=torch.float64), torch.arange(C)
        x = every_code(dtype)
        want = OPERATORS.batch_norm.per_channel(x, scales, zero_points, *rest)
        assert torch.equal(devices.batch_norm(x, scales, zero_points, *rest), want)
    constants = devices._constants_of.cache_info()
    devices.batch_norm(x, scales, zero_points, *rest)
    assert devices._constants_of.cache_info().misses == constants.misses  # kept, not made again


@pytest.mark.parametrize("dtype", TYPES)
def test_concatenations(dtype):
    rest = (*parameters(2 * C, ties=True), 0.0, 0.04, 7, torch.uint8, True)
    for x in layouts(every_code(dtype)).values():
        given = ([x[:, :2], x[:, 2:], x], [0.02, 0.03, 0.5], [11, 3, -0], *rest)
        want, got = OPERATORS.concat_batch_norm(*given), devices.concat_batch_norm(*given)
        assert torch.equal(got, want)
        assert got.stride() == want.stride()


# Two scales and the sum's: in int32; equal ones, whose halves go to the even code; in int64; beyond any integers.
SUMS = {
    "int32": ((0.021, 3), (0.052, 9), (0.06, 4)),
    "int32 ties": ((0.5, 3), (0.5, 9), (1.0, 4)),
    "int64": ((0.03, 3), (3.59, 100), (0.8, 4)),
    "int64 ties": ((15.37, 3), (2.94, 100), (0.82, 4)),
    "table": ((1e6, 3), (1.0, 9), (0.5, 4)),
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("quantizations", SUMS.values(), ids=SUMS)
def test_sums(dtype, quantizations):
    """All pairs of codes."""
    rest = (*parameters(1), 1e-5, 0.04, 7, torch.uint8, True)
    a = torch.repeat_interleave(every_code(dtype, 1).flatten(), 256).reshape(1, 1, 256, 256)
    b = a.transpose(2, 3)
    first, second, total = quantizations
    given = (a, *first, b, *second, *total, *rest)
    for want, got in zip(OPERATORS.add_batch_norm(*given), devices.add_batch_norm(*given), strict=True):
        assert torch.equal(got, want)
        assert got.stride() == want.stride()


def test_forms_of_sums():
    of = {name: SumConstants.of(bn.quint8, *q) for name, q in SUMS.items()}
    assert (of["int32"].wide, of["int32"].ties, of["int32"].table) == (torch.int32, False, None)
    assert (of["int32 ties"].wide, of["int32 ties"].ties) == (torch.int32, True)
    assert (of["int64"].wide, of["int64"].table) == (torch.int64, None)
    assert (of["int64 ties"].wide, of["int64 ties"].ties) == (torch.int64, True)
    assert of["table"].table is not None


# Another device


@pytest.mark.parametrize("beside", [False, True], ids=["parameters on the CPU", "parameters there"])
@pytest.mark.parametrize("inference", [False, True])
def test_all_operators_there(lazy, beside, inference):
    def there(value):
        if isinstance(value, list):
            return [there(v) for v in value]
        wanted = isinstance(value, torch.Tensor) and (beside or value.dtype in TYPES)
        return value.to(lazy) if wanted else value

    x, y = codes(torch.uint8, 2, C, 4, 4), codes(torch.uint8, 2, C, 4, 4).flip(0)
    rest = (*parameters(ties=True), 0.0, 0.04, 7, torch.int8, True)
    two = (*parameters(2 * C), 1e-5, 0.04, 7, torch.int8, True)
    scales = torch.linspace(0.01, 0.03, C)
    calls = [
        (OPERATORS.batch_norm, (x, 0.02, 11, *rest)),
        (bt.batch_norm, (x, 0.02, 11, *rest)),
        (bt.batch_norm, (x, scales, torch.arange(C), *rest)),
        (OPERATORS.concat_batch_norm, ([x, y], [0.02, 0.03], [11, 3], *two)),
        (OPERATORS.add_batch_norm, (x, 0.02, 11, y, 0.03, 3, 0.05, 4, *rest)),
    ]
    with torch.inference_mode(inference):
        for call, given in calls:
            want, got = call(*given), call(*map(there, given))
            for one, other in zip(*((r if isinstance(r, tuple) else (r,)) for r in (want, got)), strict=True):
                assert other.device.type == "lazy"
                assert torch.equal(other.cpu(), one)


def test_modules_there(lazy):
    weight, bias, mean, var = parameters()
    norm = bt.BNReLU2d(C, scale=0.05, zero_point=7, input_scale=0.02, input_zero_point=11)
    for name, value in zip(
        ("weight", "bias", "running_mean", "running_var"), (weight, bias, mean, var), strict=True
    ):
        getattr(norm, name).copy_(value)
    x = codes(torch.uint8, 2, C, 4, 4)
    want = norm(x)
    norm.to(lazy)
    assert torch.equal(norm(x.to(lazy)).cpu(), want)
    norm.weight.mul_(-1)
    want = bt.batch_norm(x, 0.02, 11, -weight, bias, mean, var, norm.eps, 0.05, 7, relu=True)
    assert torch.equal(norm(x.to(lazy)).cpu(), want)


def test_what_is_refused_there(lazy):
    x = codes(torch.uint8, 2, C, 4, 4).to(lazy)
    weight, bias, mean, var = parameters()
    rest = (weight, bias, mean, var, 1e-5, 0.05, 7)
    for error, message, call in [
        (ValueError, "x_scale must be positive", lambda: bt.batch_norm(x, -1.0, 11, *rest)),
        (ValueError, "weight has 6 values, but mean has 5",
         lambda: bt.batch_norm(x, 0.1, 11, weight, bias, mean[:5], *rest[3:])),
        (ValueError, "x has 6 channels on axis 1",
         lambda: bt.batch_norm(x, 0.1, 11, *[v[:5] for v in rest[:4]], *rest[4:])),
        (TypeError, "weight must be in the memory of the CPU, got a tensor on lazy",
         lambda: bt.batch_norm(x.cpu(), 0.1, 11, weight.to(lazy), *rest[1:])),
        (TypeError, "x must be torch.uint8 or torch.int8, got torch.float32",
         lambda: bt.batch_norm(x.float(), 0.1, 11, *rest)),
        (RuntimeError, "weight requires a gradient",
         lambda: bt.batch_norm(x, 0.1, 11, weight.clone().requires_grad_(), *rest[1:])),
        (ValueError, "x must have 2 to 64 dimensions", lambda: bt.batch_norm(x[0, :, 0, 0], 0.1, 11, *rest)),
        (TypeError, "b must be on lazy:0 as the others, got a tensor on cpu",
         lambda: OPERATORS.add_batch_norm(x, 0.1, 1, x.cpu(), 0.1, 1, 0.1, 1, *rest, torch.uint8, False)),
        (ValueError, "b must have the shape of a",
         lambda: OPERATORS.add_batch_norm(x, 0.1, 1, x[:1], 0.1, 1, 0.1, 1, *rest, torch.uint8, False)),
        (ValueError, "b_scale must be positive",
         lambda: OPERATORS.add_batch_norm(x, 0.1, 1, x, 0.0, 1, 0.1, 1, *rest, torch.uint8, False)),
        (ValueError, r"pieces have 12 channels on axis 1",
         lambda: OPERATORS.concat_batch_norm([x, x], [0.1, 0.1], [1, 1], *rest, torch.uint8, False)),
        (ValueError, "scales must have one value for each of the 1 pieces, got 2",
         lambda: OPERATORS.concat_batch_norm([x], [0.1, 0.1], [1], *rest, torch.uint8, False)),
    ]:  # fmt: skip
        with pytest.raises(error, match=f"^{message}"):
            call()


def test_tracing_there():
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(2, C, 4, 4, dtype=torch.uint8, device="cuda", memory_format=torch.channels_last)
        rest = (*torch.empty(4, C, device="cuda"), 1e-5, 0.05, 7, torch.int8, False)
        y = OPERATORS.batch_norm(x, 0.1, 11, *rest)
        assert (y.device, y.dtype, y.stride()) == (x.device, torch.int8, x.stride())
        both = OPERATORS.add_batch_norm(x, 0.1, 1, x, 0.1, 1, 0.1, 1, *rest)
        assert {z.device for z in both} == {x.device}
        two = (*torch.empty(4, 2 * C, device="cuda"), *rest[4:])
        y = OPERATORS.concat_batch_norm([x, x], [0.1, 0.1], [1, 1], *two)
        assert (y.device, y.stride()) == (x.device, (2 * C * 16, 1, 2 * C * 4, 2 * C))
        with pytest.raises(TypeError, match="b must be on cuda:0 as the others, got a tensor on cpu"):
            OPERATORS.add_batch_norm(x, 0.1, 1, torch.empty(x.shape, dtype=torch.uint8), 0.1, 1, 0.1, 1, *rest)


@pytest.fixture
def forced():
    """Let the operators of the CPU be those of other devices."""
    names = ("batch_norm", "batch_norm.per_channel", "concat_batch_norm", "add_batch_norm")
    library = torch.library.Library("bytenorm", "IMPL")
    for name in names:
        library.impl(name, getattr(devices, name.partition(".")[0]), "CPU", allow_override=True)
    yield
    library._destroy()


@pytest.mark.filterwarnings("ignore:.*[Oo]verrid")
def test_opcheck(forced):
    x = codes(torch.uint8, 2, C, 4, 4)
    rest = (*parameters(), 1e-5, 0.05, 7, torch.int8, True)
    before = devices._constants_of.cache_info()
    for overload, given in [
        (OPERATORS.batch_norm.default, (x, 0.02, 11, *rest)),
        (OPERATORS.batch_norm.per_channel, (x, torch.full((C,), 0.02), torch.arange(C), *rest)),
        (OPERATORS.concat_batch_norm.default, ([x[:, :2], x[:, 2:]], [0.1, 0.2], [1, 2], *rest)),
        (OPERATORS.add_batch_norm.default, (x, 0.1, 1, x.flip(0), 0.2, 1, 0.2, 1, *rest)),
    ]:
        torch.library.opcheck(overload, given)
    after = devices._constants_of.cache_info()
    assert after.hits + after.misses > before.hits + before.misses
