"""``torch.ops.bytenorm.batch_norm`` and the function in front of it: values, layouts, tracing, misuse."""

import importlib
import math
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from guarded import Guarded
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch_norms import DTYPES, VECTORS, by_torch, codes, good, layouts, vectors

import bytenorm as bn
import bytenorm.torch
from bytenorm import _core, reference

OPERATOR = torch.ops.bytenorm.batch_norm
ORDER = list(good())


def by_function(**arguments):
    return bytenorm.torch.batch_norm(**arguments)


def by_dispatcher(**arguments):
    return OPERATOR.default(*(arguments[name] for name in ORDER))


ways = pytest.mark.parametrize("call", [by_function, by_dispatcher])


@pytest.fixture(params=["by DLPack", "by attributes"])
def reading(request):
    """The two ways to read a tensor; a torch without the table that is known has only the slower one."""
    registered = (
        torch.Tensor,
        torch.nn.Parameter,
        torch.empty_like,
        (torch.uint8, torch.int8, torch.quint8, torch.qint8, torch.float32),
    )
    exchange = torch.Tensor.__dlpack_c_exchange_api__
    _core.register_torch(*registered, exchange if request.param == "by DLPack" else None)
    yield
    _core.register_torch(*registered, exchange)


# --- values -----------------------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equal_to_torch(rng, dtype, relu, call, reading):
    for i, channels in enumerate([1, 2, 3, 8, 17, 32, 33, 64, 100, 129, 256]):
        shape = [(70, channels), (5, channels, 41), (2, channels, 9, 20), (2, channels, 3, 5, 10)][i % 4]
        x = codes(rng, shape, dtype)
        zero_points = rng.integers(torch.iinfo(dtype).min, torch.iinfo(dtype).max + 1, 2).tolist()
        scales = rng.uniform(0.005, 0.1, 2).tolist()
        parameters = vectors(rng, channels)
        want = by_torch(x, scales[0], zero_points[0], parameters, 1e-5, scales[1], zero_points[1], relu=relu)
        got = call(
            **dict(zip(ORDER, (x, scales[0], zero_points[0], *parameters, 1e-5, scales[1], zero_points[1]),
                       strict=False)),
            output_dtype=dtype,
            relu=relu,
        )  # fmt: skip
        assert got.dtype is dtype
        assert torch.equal(got, want)


@ways
@pytest.mark.parametrize("to", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_from_one_type_to_another(rng, dtype, to, call, reading):
    """What torch has not, against the specification."""
    arguments = {**good(6), "x": codes(rng, (3, 6, 40), dtype), "x_zero_point": 7, "y_zero_point": 12}
    arguments |= dict(zip(VECTORS, vectors(rng, 6), strict=True))
    for relu in (False, True):
        got = call(**{**arguments, "output_dtype": to, "relu": relu})
        assert got.dtype is to
        q = arguments["x"].numpy()
        parameters = [arguments[name].numpy()[:, None] for name in VECTORS]
        kind = bn.quint8 if to is torch.uint8 else bn.qint8
        want = reference.batch_norm(q, 0.05, 7, *parameters, 1e-5, 0.1, 12, kind, relu=relu)
        np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.parametrize("scale_dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_quantized_per_channel(rng, dtype, scale_dtype):
    """An input channel with its own scale and zero point is a tensor of one channel with these."""
    x, parameters = codes(rng, (3, 6, 4, 5), dtype), vectors(rng, 6)
    scales = torch.from_numpy(rng.uniform(0.01, 0.1, 6)).to(scale_dtype)
    zero_points = torch.from_numpy(rng.integers(0, 100, 6))
    rest = (1e-5, 0.04, 60, dtype, True)
    got = OPERATOR.per_channel(x, scales, zero_points, *parameters, *rest)
    for c in range(6):
        alone = [p[c : c + 1] for p in parameters]
        want = by_torch(x[:, c : c + 1], scales[c].item(), zero_points[c].item(), alone, *rest[:3], relu=True)
        assert torch.equal(got[:, c : c + 1], want)
    assert torch.equal(bytenorm.torch.batch_norm(x, scales, zero_points, *parameters, *rest), got)


@ways
def test_weight_and_bias_left_out(call):
    arguments = good()
    ones = call(**{**arguments, "weight": torch.ones(3), "bias": torch.zeros(3)})
    assert torch.equal(call(**{**arguments, "weight": None, "bias": None}), ones)


def test_the_output_keeps_the_dtype_by_default():
    arguments = good()
    del arguments["relu"], arguments["output_dtype"]
    assert torch.equal(bytenorm.torch.batch_norm(**arguments), by_dispatcher(**good()))


# --- layouts ----------------------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize("to", DTYPES, ids=str)
def test_layouts(rng, to, call, reading):
    """Strides are those of torch.empty_like, of the fake operator too, and the numbers do not depend on them."""
    arguments = {**good(6), "output_dtype": to, **dict(zip(VECTORS, vectors(rng, 6), strict=True))}
    for name, x in layouts(rng).items():
        got = call(**{**arguments, "x": x})
        flat = x.reshape(*x.shape[:2], math.prod(x.shape[2:])).clone(memory_format=torch.contiguous_format)
        want = call(**{**arguments, "x": flat})
        assert torch.equal(got, want.reshape(x.shape)), name
        assert got.stride() == torch.empty_like(x).stride(), name
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            fake = call(**{**arguments, "x": mode.from_tensor(x)})
        assert (fake.stride(), fake.shape, fake.dtype) == (got.stride(), got.shape, got.dtype), name


@ways
def test_more_dimensions_than_numpy_has(call):
    x = codes(np.random.default_rng(0), (2, 3, *[1] * 61, 5))
    arguments = good()
    want = call(**{**arguments, "x": x.reshape(2, 3, 5)})
    assert torch.equal(call(**{**arguments, "x": x}), want.reshape(x.shape))
    with pytest.raises(ValueError, match=r"^x must have 2 to 64 dimensions, got shape \(2, 3, 1, .*\)$"):
        call(**{**arguments, "x": x[..., None]})


@ways
def test_parameters_of_any_kind_and_layout(call, reading):
    """Strided, expanded, of another precision, with a lazy sign: each is what its numbers say."""
    arguments = good()
    for name in VECTORS:
        plain = arguments[name]
        positive = torch.tensor([0.5, 0.25, 2.0])
        whole = torch.tensor([2.0, 1.0, 3.0])
        backing = torch.zeros(3, 4)
        backing[:, 1] = plain
        for given, meant in [
            (backing[:, 1], plain),
            (torch.tensor([0.75]).expand(3), torch.full((3,), 0.75)),
            (plain.double(), plain),
            (positive.half(), positive),
            (positive.bfloat16(), positive),
            (positive.to(torch.float8_e4m3fn), positive),
            (whole.to(torch.int32), whole),
            (torch._neg_view(-plain), plain),
            (torch.complex(torch.zeros(3), -plain).conj().imag, plain),
            (torch.from_numpy(misaligned(plain.numpy())), plain),
            (torch.nn.Parameter(plain, requires_grad=False), plain),
        ]:  # fmt: skip
            got, want = call(**{**arguments, name: given}), call(**{**arguments, name: meant})
            assert torch.equal(got, want), (name, given)


def misaligned(values):
    """Return the same numbers, one byte off."""
    raw = np.zeros(values.nbytes + 1, np.uint8)
    assert raw.ctypes.data % 4 == 0
    found = raw[1:].view(values.dtype)
    found[:] = values
    return found


@ways
def test_an_input_with_a_lazy_sign(call, reading):
    arguments = {**good(), "x": good()["x"].view(torch.int8), "x_zero_point": 3, "output_dtype": torch.int8}
    want = call(**arguments)
    assert torch.equal(call(**{**arguments, "x": torch._neg_view(-arguments["x"])}), want)


@ways
def test_expanded_parameters_behind_a_guard_page(call, reading):
    """One float right before a page that must not be touched, seen as 64: torch reads beyond it."""
    arguments = good(64, (2, 64, 7))
    for name in VECTORS:
        with Guarded(4) as guard:
            guard.array.view(np.float32)[:] = 0.5
            got = call(**{**arguments, name: torch.from_numpy(guard.array.view(np.float32)).expand(64)})
        assert torch.equal(got, call(**{**arguments, name: torch.full((64,), 0.5)}))


@ways
def test_input_and_output_behind_guard_pages(call, reading, rng):
    """The last code of x, and of each vector, lies right before a page that must not be touched."""
    arguments = good(5, (3, 5, 11))
    arguments |= dict(zip(VECTORS, vectors(rng, 5), strict=True))
    want = call(**arguments)
    with Guarded(165) as x, Guarded(20) as w, Guarded(20) as b, Guarded(20) as m, Guarded(20) as v:
        inside = dict(arguments)
        for name, guard in zip(("x", *VECTORS), (x, w, b, m, v), strict=True):
            there = torch.from_numpy(guard.array.view(arguments[name].numpy().dtype)).reshape(
                arguments[name].shape
            )
            there.copy_(arguments[name])
            inside[name] = there
        assert torch.equal(call(**inside), want)


# --- tracing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["all", "neither weight nor bias", "channels-last"])
def test_opcheck(given):
    arguments = good()
    if given == "neither weight nor bias":
        arguments |= {"weight": None, "bias": None, "output_dtype": torch.int8}
    if given == "channels-last":
        arguments["x"] = arguments["x"].contiguous(memory_format=torch.channels_last)
    results = torch.library.opcheck(OPERATOR.default, tuple(arguments.values()))
    assert set(results.values()) == {"SUCCESS"}
    arguments |= {"x_scale": torch.tensor([0.1, 0.2, 0.3]), "x_zero_point": torch.tensor([1, 2, 3])}
    results = torch.library.opcheck(OPERATOR.per_channel, tuple(arguments.values()))
    assert set(results.values()) == {"SUCCESS"}


def test_compile_without_a_break(reading):
    arguments, counter = good(), CompileCounter()
    norm = torch.compile(lambda x: by_function(**{**arguments, "x": x}), backend=counter, fullgraph=True)
    assert torch.equal(norm(arguments["x"]), by_function(**arguments))
    assert (counter.frame_count, counter.op_count) == (1, 1)


class Norm(torch.nn.Module):
    def __init__(self):
        super().__init__()
        arguments = good()
        for name in VECTORS:
            self.register_buffer(name, arguments[name])
        self.numbers = {n: v for n, v in arguments.items() if n not in (*VECTORS, "x")}

    def forward(self, x):
        own = {name: getattr(self, name) for name in VECTORS}
        return bytenorm.torch.batch_norm(x, **own, **self.numbers)


def calls(graph_module):
    return [n.target for n in graph_module.graph.nodes if n.target in (OPERATOR.default, OPERATOR.per_channel)]


@pytest.mark.parametrize("strict", [False, True])
def test_export_with_any_batch_size_and_save(strict, tmp_path):
    x = good()["x"]
    norm = Norm()
    batch = torch.export.Dim("batch")
    program = torch.export.export(norm, (x,), dynamic_shapes=({0: batch},), strict=strict)
    assert calls(program.graph_module) == [OPERATOR.default]
    torch.export.save(program, tmp_path / "norm.pt2")
    loaded = torch.export.load(tmp_path / "norm.pt2").module()
    for n in (1, 4, 9):
        more = x.repeat(3, 1, 1, 1)[:n]
        assert torch.equal(loaded(more), norm(more))


def test_export_with_any_number_of_channels():
    class Free(torch.nn.Module):
        def forward(self, x, mean):
            return bytenorm.torch.batch_norm(x, 0.05, 120, None, None, mean, mean.abs(), 1e-5, 0.1, 30)

    x, channels = good()["x"], torch.export.Dim("channels")
    shapes = ({1: channels}, {0: channels})
    program = torch.export.export(Free(), (x, torch.randn(3)), dynamic_shapes=shapes).module()
    more, mean = x.repeat(1, 4, 1, 1)[:, :7], torch.randn(7)
    assert torch.equal(program(more, mean), Free()(more, mean))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in torch's own compiler
def test_a_size_that_is_not_known_before():
    """How many rows of a mask are set is known only when the program runs."""
    arguments = good()

    def chosen(x, mask):
        return by_function(**{**arguments, "x": x[mask.nonzero().squeeze(1)]})

    mask = torch.tensor([1, 0, 1, 1])
    want = chosen(arguments["x"], mask)
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        got = torch.compile(chosen, backend="aot_eager", fullgraph=True)(arguments["x"], mask)
    assert torch.equal(got, want)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # in torch's own compiler
def test_the_layout_of_a_compiled_input_stays():
    """What the compiler lays out itself before the operator, and reads behind it."""
    arguments = good(6, (2, 6, 4, 5))

    def around(x):
        y = by_function(**{**arguments, "x": (x.permute(0, 2, 1, 3) + 1).permute(0, 2, 1, 3)})
        return y, y.permute(0, 2, 3, 1).contiguous() + 1

    compiled = torch.compile(around, fullgraph=True)
    for x in (arguments["x"], arguments["x"].contiguous(memory_format=torch.channels_last)):
        for got, want in zip(compiled(x), around(x), strict=True):
            assert torch.equal(got, want)
            assert got.stride() == want.stride()


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # in torch's own compiler
def test_ahead_of_time(tmp_path):
    x, norm = good()["x"], Norm()
    program = torch.export.export(norm, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    path = str(tmp_path / "norm.pt2")
    with torch._inductor.config.patch({"aot_inductor.compile_wrapper_opt_level": "O0"}):
        torch._inductor.aoti_compile_and_package(program, package_path=path)
    compiled = torch._inductor.aoti_load_package(path)
    for given in (x, x[:1], x.repeat(2, 1, 1, 1)):
        assert torch.equal(compiled(given), norm(given))


class SeenByDispatch(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


class SeenByFunction(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [SeenByDispatch, SeenByFunction])
def test_modes_see_the_operator(mode):
    arguments = good()
    want = by_function(**arguments)
    with mode() as watching:
        got = by_function(**arguments)
    assert OPERATOR.default in watching.seen
    assert torch.equal(got, want)


def test_make_fx_records_the_operator():
    arguments = good()
    graph = make_fx(lambda x: by_function(**{**arguments, "x": x}))(arguments["x"])
    assert calls(graph) == [OPERATOR.default]
    assert torch.equal(graph(arguments["x"]), by_function(**arguments))


def test_symbolic_trace_records_the_operator():
    graph = torch.fx.symbolic_trace(Norm())
    assert calls(graph) == [OPERATOR.default]
    assert torch.equal(graph(good()["x"]), by_function(**good()))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_jit_trace_records_the_operator():
    traced = torch.jit.trace(Norm(), good()["x"])
    assert "bytenorm::batch_norm" in str(traced.inlined_graph)
    x = codes(np.random.default_rng(7), (2, 3, 4))
    assert torch.equal(traced(x), by_function(**{**good(), "x": x}))


def test_transforms_reach_the_operator():
    arguments = good()
    one = torch.vmap(lambda x: by_function(**{**arguments, "x": x[None]})[0])(arguments["x"])
    assert torch.equal(one, by_function(**arguments))
    weights = torch.stack([arguments["weight"], -arguments["weight"]])
    both = torch.vmap(lambda w: by_function(**{**arguments, "weight": w}))(weights)
    for w, got in zip(weights, both, strict=True):
        assert torch.equal(got, by_function(**{**arguments, "weight": w}))
    assert torch.equal(torch.func.functionalize(lambda x: by_function(**{**arguments, "x": x}))(arguments["x"]),
                       by_function(**arguments))  # fmt: skip


class Own(torch.Tensor):
    pass


def test_subclasses(reading):
    arguments = good()
    got = by_function(**{**arguments, "x": arguments["x"].as_subclass(Own)})
    assert type(got) is Own
    assert torch.equal(got.as_subclass(torch.Tensor), by_function(**arguments))
    weight = arguments["weight"].as_subclass(Own)
    assert torch.equal(by_function(**{**arguments, "weight": weight}).as_subclass(torch.Tensor),
                       by_function(**arguments))  # fmt: skip


def test_meta_tensors():
    arguments = good()
    for call in (by_function, by_dispatcher):
        made = call(**{**arguments, "x": arguments["x"].to("meta")})
        assert made.is_meta
        assert (made.shape, made.dtype) == (arguments["x"].shape, torch.uint8)


def test_fake_tensors_are_told_what_is_wrong():
    arguments = good()
    meta = {name: arguments[name].to("meta") for name in ("x", *VECTORS)}
    for call in (by_function, by_dispatcher):
        assert call(**{**arguments, **meta}).is_meta
        for name in VECTORS:
            with pytest.raises(ValueError, match=rf"^x has 3 channels on axis 1, but {name} has 4 values"):
                call(**{**arguments, **meta, name: torch.ones(4, device="meta")})
            with pytest.raises(ValueError, match=rf"^{name} must be one-dimensional, .* got shape \(3, 1\)$"):
                call(**{**arguments, **meta, name: torch.ones(3, 1, device="meta")})
            with pytest.raises(TypeError, match=f"^{name} must be in the memory of the CPU, .* on meta$"):
                call(**{**arguments, name: meta[name]})
    numbers = list({**arguments, **meta}.values())[3:]
    with pytest.raises(ValueError, match=r"^x has 3 channels on axis 1, but x_scale has 2 values"):
        OPERATOR.per_channel(meta["x"], torch.ones(2), torch.zeros(3, dtype=torch.int64), *numbers)


def test_inference_mode():
    with torch.inference_mode():
        got = by_function(**good())
    assert got.is_inference()
    assert torch.equal(got, by_function(**good()))


class Wrapper(torch.Tensor):
    """A tensor without memory of its own: only its dispatch knows the numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return func(*(a.inner if isinstance(a, cls) else a for a in args), **(kwargs or {}))


@ways
@pytest.mark.parametrize("name", ["x", *VECTORS])
def test_subclasses_that_only_dispatch(name, call):
    arguments = good()
    assert torch.equal(call(**{**arguments, name: Wrapper(arguments[name])}), call(**arguments))


def test_a_default_device_does_not_matter():
    arguments = good()
    want = by_function(**arguments)
    for call in (by_function, by_dispatcher):
        with torch.device("meta"):
            assert torch.equal(call(**arguments), want)


def test_many_threads_at_once(rng):
    """Big enough to release Python's lock; every thread drops its tensors as soon as it can."""
    arguments = good(8)
    arguments |= dict(zip(VECTORS, vectors(rng, 8), strict=True))
    inputs = [codes(rng, (4, 8, 60, 60)) for _ in range(4)]
    wanted = [by_function(**{**arguments, "x": x}) for x in inputs]
    wrong = []

    def work(x, want):
        for _ in range(30):
            given = {n: v.clone() if isinstance(v, torch.Tensor) else v for n, v in {**arguments, "x": x}.items()}
            if not torch.equal(by_function(**given), want):
                wrong.append(x)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(inputs, wanted, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- misuse -----------------------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


def one_of(value):
    made = torch.ones(3)
    made[1] = value
    return made


# What is changed in a good call, the error, and what the message must say.
BAD = [
    ({"x": torch.ones(2, 3)}, TypeError, "x must be torch.uint8 or torch.int8, got torch.float32"),
    ({"x": torch.ones(2, 3, dtype=torch.bool)}, TypeError, "x must be .* got torch.bool"),
    ({"x": torch.zeros(2, 3, dtype=torch.int32)}, TypeError, "x must be .* got torch.int32"),
    ({"x": torch.zeros(3, dtype=torch.uint8)}, ValueError, r"x must have 2 to 64 dimensions, got shape \(3,\)"),
    ({"x": torch.zeros((), dtype=torch.uint8)}, ValueError, r"x must have 2 .* got shape \(\)"),
    ({"x": torch.zeros(2, 4, dtype=torch.uint8)}, ValueError, r"x has 4 channels on axis 1 \(shape \(2, 4\)\)"),
    ({"x": torch.zeros(0, 4, dtype=torch.uint8)}, ValueError, "x has 4 channels on axis 1"),
    ({"y_scale": 0.0}, ValueError, "y_scale must be positive and finite in float32, .* got 0.0"),
    ({"y_scale": -0.1}, ValueError, "y_scale must be positive"),
    ({"y_scale": NAN}, ValueError, "y_scale must be positive .* got nan"),
    ({"y_scale": INF}, ValueError, "y_scale must be positive .* got inf"),
    ({"y_scale": 1e-45}, ValueError, "y_scale must be positive"),
    ({"x_scale": 0.0}, ValueError, "x_scale must be positive"),
    ({"x_scale": NAN}, ValueError, "x_scale must be positive"),
    ({"y_zero_point": -1}, ValueError, "y_zero_point must be from 0 to 255 for bytenorm.quint8, got -1"),
    ({"y_zero_point": 256}, ValueError, "y_zero_point must be from 0 to 255 .* got 256"),
    ({"y_zero_point": 2**40}, ValueError, "y_zero_point must be from 0 to 255"),
    ({"y_zero_point": 200, "output_dtype": torch.int8}, ValueError, "y_zero_point must be from -128 to 127"),
    ({"x_zero_point": 256}, ValueError, "x_zero_point must be from 0 to 255"),
    ({"eps": -1e-5}, ValueError, "eps must not be negative"),
    ({"eps": NAN}, ValueError, "eps must not be negative and must be finite"),
    ({"eps": 0.0, "var": torch.zeros(3)}, ValueError, r"var\[0\] \+ eps must be positive"),
    ({"var": one_of(-0.5)}, ValueError, r"var\[1\] must not be negative, got -0.5"),
    ({"output_dtype": torch.float32}, TypeError, "output_dtype must be .*, got torch.float32"),
    ({"weight": torch.full((3,), 3e38), "var": torch.full((3,), 1e-9)}, ValueError, "the slope of channel 0"),
]  # fmt: skip
for name in VECTORS:
    BAD += [
        ({name: one_of(NAN)}, ValueError, rf"{name}\[1\] must be finite, got nan"),
        ({name: one_of(INF)}, ValueError, rf"{name}\[1\] must be finite, got inf"),
        ({name: torch.ones(3, dtype=torch.float64) * 1e60}, ValueError, rf"{name}\[0\] overflows float32"),
        (
            {name: torch.ones(2)},
            ValueError,
            f"{name} has 2|weight has 3 .* mean has 2",
        ),
        (
            {name: torch.ones(1)},
            ValueError,
            f"{name} has 1|weight has 3 .* mean has 1",
        ),
        ({name: torch.ones(3, 1)}, ValueError, rf"{name} must be one-dimensional, .* got shape \(3, 1\)"),
        ({name: torch.ones(())}, ValueError, rf"{name} must be one-dimensional, .* got shape \(\)"),
        ({name: torch.ones(3, dtype=torch.complex64)}, TypeError, f"{name} must be real numbers"),
        ({name: torch.ones(3, dtype=torch.bool)}, TypeError, f"{name} must be real numbers"),
    ]


@ways
@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=lambda v: str(v)[:40])
def test_bad_arguments(change, error, message, call):
    with pytest.raises(error, match=f"^({message})") as caught:
        call(**{**good(), **change})
    assert "\n" not in str(caught.value)


@ways
def test_tensors_of_the_legacy_types(call):
    x = torch._make_per_tensor_quantized_tensor(good()["x"], 0.05, 120)
    if call is by_function:
        with pytest.raises(TypeError, match=r"^x must be torch.uint8 or torch.int8, got torch.quint8; see"):
            call(**{**good(), "x": x})
    else:  # the dispatcher has no kernel for them
        with pytest.raises(NotImplementedError, match="QuantizedCPU"):
            call(**{**good(), "x": x})
    weight = torch._make_per_tensor_quantized_tensor(torch.ones(3, dtype=torch.uint8), 1.0, 0)
    with pytest.raises((TypeError, NotImplementedError), match=r"weight must be real numbers|QuantizedCPU"):
        call(**{**good(), "weight": weight})


# What the dispatcher refuses itself, in its own words.
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((2, 3), np.uint8)}, TypeError, "x must be a torch.Tensor of uint8 or int8, got ndarray"),
        ({"x": None}, TypeError, "x must be a torch.Tensor of uint8 or int8, got NoneType"),
        ({"eps": "0"}, TypeError, "eps must be a real number, got '0' of type str"),
        ({"y_scale": None}, TypeError, "y_scale must be a real number, got None"),
        ({"y_zero_point": 3.0}, TypeError, "y_zero_point must be an integer, got 3.0"),
        ({"relu": 1}, TypeError, "relu must be True or False, got 1"),
        ({"mean": torch.ones(3).to_sparse()}, TypeError, "mean must be a strided tensor, got torch.sparse_coo"),
        ({"mean": torch.ones(3).to_mkldnn()}, TypeError, "mean must be a strided tensor, got torch._mkldnn"),
        ({"x": torch.ones(2, 3, dtype=torch.uint8).to_sparse()}, TypeError,
         "x must be a strided tensor, got torch.sparse_coo"),
        ({"y_zero_point": 2**80}, ValueError, "y_zero_point must be from 0 to 255"),
        ({"mean": None}, TypeError, "mean is required"),
        ({"var": None}, TypeError, "var is required"),
        ({"output_dtype": np.uint8}, TypeError, "output_dtype must be torch.uint8 or torch.int8"),
        ({"x_scale": torch.ones(2), "x_zero_point": torch.zeros(2, dtype=torch.int64)}, ValueError,
         r"x_scale must have one value for each of 3 channels, got shape \(2,\)"),
        ({"x_scale": torch.ones(3), "x_zero_point": 0}, ValueError, "x_zero_point must have one value for each"),
        ({"x_scale": torch.ones(3), "x_zero_point": torch.zeros(3)}, TypeError, "x_zero_point must be integers"),
        ({"x_scale": one_of(0.0), "x_zero_point": torch.zeros(3, dtype=torch.int64)}, ValueError,
         r"x_scale\[1\] must be positive"),
        ({"x_scale": torch.ones(3), "x_zero_point": torch.tensor([0, 0, 256])}, ValueError,
         r"x_zero_point\[2\] must be from 0 to 255"),
    ],
    ids=lambda v: str(v)[:40],
)  # fmt: skip
def test_bad_arguments_of_the_function(change, error, message):
    with pytest.raises(error, match=f"^{message}") as caught:
        by_function(**{**good(), **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.bits8, torch.float4_e2m1fn_x2], ids=str)
def test_parameters_that_are_no_numbers(dtype):
    weight = torch.zeros(3, dtype=torch.uint8).view(dtype)
    with pytest.raises(TypeError, match=f"^weight must be real numbers, got a tensor of {dtype}$"):
        by_function(**{**good(), "weight": weight})


@pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning")  # torch's own, on making one
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_nested_tensors(layout):
    x = torch.nested.as_nested_tensor([torch.ones(3, 2, dtype=torch.uint8)] * 2, layout=layout)
    with pytest.raises(TypeError, match=r"^x must be a strided tensor, got nested$"):
        by_function(**{**good(), "x": x})


@pytest.mark.parametrize("number", [np.float64(0.1), np.float32(0.1), torch.tensor(0.1, dtype=torch.float64)])
def test_numbers_of_other_types(number):
    want = by_function(**{**good(), "y_scale": float(number)})
    assert torch.equal(by_function(**{**good(), "y_scale": number}), want)


def test_parameters_on_another_device():
    mean = torch.zeros(3, device="meta")
    with pytest.raises(TypeError, match=r"^mean must be in the memory of the CPU, got a tensor on meta$"):
        by_function(**{**good(), "mean": mean})


@ways
@pytest.mark.parametrize("name", VECTORS)
def test_gradients_are_not_cut(name, call, reading):
    arguments = good()
    want = call(**arguments)
    arguments[name] = arguments[name].clone().requires_grad_()
    with pytest.raises(RuntimeError, match=f"^{name} requires a gradient and a norm on codes has none: "):
        call(**arguments)
    with torch.no_grad():
        assert torch.equal(call(**arguments), want)
    with torch.inference_mode():
        assert torch.equal(call(**arguments), want)
    arguments[name] = arguments[name].detach()
    assert torch.equal(call(**arguments), want)


@pytest.mark.parametrize("name", ["x_scale", "y_scale", "eps"])
def test_gradients_of_numbers_are_not_cut(name):
    arguments = good()
    number = torch.tensor(arguments[name], dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match=f"^{name} requires a gradient and a norm on codes has none: "):
        by_function(**{**arguments, name: number})
    with torch.no_grad():
        assert torch.equal(by_function(**{**arguments, name: number}), by_function(**arguments))


@ways
def test_gradients_of_transforms_and_of_forward_mode_are_not_cut(call):
    arguments = good()

    def total(weight):
        return call(**{**arguments, "weight": weight}).float().sum()

    weight, ones = arguments["weight"], torch.ones(3)
    for differentiate in (
        lambda: torch.func.grad(total)(weight),
        lambda: torch.func.jacrev(total)(weight),
        lambda: torch.func.jvp(total, (weight,), (ones,)),
    ):
        with pytest.raises(RuntimeError, match=r"^weight requires a gradient"):
            differentiate()
    with forward_ad.dual_level():
        with pytest.raises(RuntimeError, match=r"^weight requires a gradient"):
            total(forward_ad.make_dual(weight, ones))
        assert total(weight) == call(**arguments).float().sum()


def test_gradients_are_not_cut_when_compiled():
    arguments = good()
    arguments["weight"].requires_grad_()
    norm = torch.compile(lambda x: by_function(**{**arguments, "x": x}), backend="eager", fullgraph=True)
    with pytest.raises(Exception, match="weight requires a gradient"):
        norm(arguments["x"])


@pytest.mark.parametrize("name", ["x", *VECTORS])
def test_a_tensor_whose_memory_is_gone(name, reading):
    arguments = good()
    arguments[name] = arguments[name].clone()
    arguments[name].untyped_storage().resize_(0)
    with pytest.raises(ValueError, match=f"^{name} needs .* bytes of memory, and its storage has 0$"):
        by_function(**arguments)


@pytest.mark.parametrize("by", ["function", "operator", "module", "drop-in", "core"])
@pytest.mark.parametrize("name", ["x", *VECTORS])
@pytest.mark.parametrize("cut", ["to one byte", "by one byte", "to an offset"])
def test_a_storage_that_is_smaller_than_its_tensor(name, by, cut, reading):
    """Anybody may shrink a storage, as offloading does: nothing behind it is read."""
    arguments = good()
    whole = arguments[name]
    if cut == "to an offset":  # there is as much memory as the tensor needs, but not from where it begins
        short = torch.cat([whole.flatten(), whole.flatten()])[whole.numel() :].reshape(whole.shape)
    else:
        short = whole.clone()
    size = whole.untyped_storage().nbytes() - 1 if cut == "by one byte" else 1
    short.untyped_storage().resize_(whole.numel() * whole.element_size() if cut == "to an offset" else size)
    arguments[name] = short
    vectors_ = [arguments[v] for v in VECTORS]
    names = dict(zip(VECTORS, ("weight", "bias", "running_mean", "running_var"), strict=True))
    told = "input" if name == "x" and by in ("drop-in", "core") else name
    with pytest.raises(ValueError, match=rf"^({told}|data) needs \d+ bytes of memory, and its storage has \d+$"):
        if by in ("function", "operator"):
            (by_function if by == "function" else by_dispatcher)(**arguments)
        elif by == "module":
            norm = bytenorm.torch.BatchNorm2d(len(arguments["mean"]), input_scale=0.1, input_zero_point=3)
            for v in VECTORS:
                setattr(norm, names[v], arguments[v])
            norm(arguments["x"])
        elif by == "drop-in":
            x = torch._make_per_tensor_quantized_tensor(whole if name == "x" else arguments["x"], 0.1, 3)
            if name == "x":
                x.untyped_storage().resize_(short.untyped_storage().nbytes() if cut == "by one byte" else 1)
            bytenorm.torch.quantized_batch_norm(x, *vectors_, 1e-5, 0.2, 5)
        else:
            q = bn.QuantizedTensor(arguments["x"], 0.1, 3)
            bn.quantized_batch_norm(q, *vectors_, 1e-5, 0.2, 5)


def test_numbers_in_a_storage_that_is_smaller():
    scale = torch.tensor(0.5)
    scale.untyped_storage().resize_(0)
    for call in (
        lambda: bytenorm.torch.BatchNorm2d(3, scale=scale),
        lambda: bn.quantize_per_tensor(np.ones(2), scale, 0, bn.qint8),
    ):
        with pytest.raises(ValueError, match=r"^scale needs 4 bytes of memory, and its storage has 0$"):
            call()


LAZY = torch.tensor([1 + 2j, 3 + 4j]).conj().imag  # [-2, -4], its memory holds 2 and 4


def test_lazy_signs_in_the_core():
    """Neither DLPack nor NumPy sees torch's negative bit."""
    q, rest = bn.QuantizedTensor(np.full((1, 2), 90, np.uint8), 0.1, 100), ([0.0, 0.0], [1.0, 1.0], 0.0, 0.1, 100)
    for given in (LAZY, np.array([-2.0, -4.0])):
        assert bn.quantized_batch_norm(q, given, None, *rest).data.tolist() == [[120, 140]]
        assert bn.quantize_per_tensor(given, 0.1, 100, bn.quint8).data.tolist() == [80, 60]
    codes_ = torch._neg_view(torch.tensor([1, 2], dtype=torch.int8))
    assert bn.QuantizedTensor(codes_, 0.1, 0).data.tolist() == [-1, -2]
    with pytest.raises(
        TypeError, match=r"^out must hold its numbers as they are, got a tensor that is negated lazily$"
    ):
        bn.quantized_batch_norm(bn.QuantizedTensor(np.ones(2, np.int8)[None], 0.1, 0), None, None, *rest[:-1], 0,
                                out=codes_[None])  # fmt: skip


def test_tensors_without_memory_in_the_core():
    with FakeTensorMode():
        fake = torch.ones(2)
    q = bn.QuantizedTensor(np.full((1, 2), 90, np.uint8), 0.1, 100)
    for weight in (fake, torch._efficientzerotensor((2,)), torch.ones(2, device="meta"), torch.ones(2).to_sparse(),
                   torch.ones(2).to_mkldnn()):  # fmt: skip
        with pytest.raises(TypeError, match=r"^weight (cannot be read as an array|has no memory)"):
            bn.quantized_batch_norm(q, weight, None, [0.0, 0.0], [1.0, 1.0], 0.0, 0.1, 100)


# --- importing it -----------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_no_deprecation_warning_on_plain_tensors(run_python):
    code = (
        "import warnings, torch\n"
        "warnings.simplefilter('error')\n"
        "import bytenorm.torch as bt\n"
        "x = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)\n"
        "norm = bt.BNReLU2d.from_float(torch.nn.BatchNorm2d(3), 0.1, 3, input_scale=0.1, input_zero_point=0)\n"
        "y = bt.batch_norm(norm(x), 0.1, 3, None, None, torch.zeros(3), torch.ones(3), 0.0, 0.1, 3)\n"
        "torch.ops.bytenorm.batch_norm(y, 0.1, 3, None, None, torch.zeros(3), torch.ones(3), 0.0, 0.1, 3,\n"
        "                              torch.int8, True)\n"
        "bt.BNReLU2d(3).load_state_dict(norm.state_dict())\n"
        "bt.migrate(torch.nn.Sequential(norm))\n"
    )
    done = run_python(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_core_does_not_import_torch(run_python):
    done = run_python("import bytenorm, bytenorm.onnx, sys; print('torch' in sys.modules)")
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("version", "found"),
    [(None, "No module named 'torch'"), ("1.13.1", "this is 1.13.1"), ("2.12.1+cpu", "this is 2.12.1+cpu")],
)
def test_torch_missing_or_too_old(version, found, tmp_path, run_python):
    if version is None:
        hide = "sys.modules['torch'] = None"
        found = "import of torch halted"
    else:
        (tmp_path / "torch.py").write_text(f"__version__ = {version!r}")
        hide = f"sys.path.insert(0, {str(tmp_path)!r})"
    done = run_python(f"import sys; {hide}; import bytenorm.torch")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('ImportError: bytenorm.torch needs torch 2.13 or newer: pip install "bytenorm[torch]"')
    assert found in last


def test_importing_twice_registers_once():
    with warnings.catch_warnings(action="error"):
        importlib.import_module("bytenorm.torch")
    assert sys.modules["bytenorm.torch"].batch_norm is bytenorm.torch.batch_norm
