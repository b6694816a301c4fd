"""Norms of concatenations and sums in torch: the operators, and the programs that are lowered to them."""

import warnings

import numpy as np
import pytest
import torch
from test_torch_lowering import Program, learned, q8, run, targets
from torch import nn
from torch.export import Dim, export
from torch_norms import DTYPES, VECTORS, codes, layouts, vectors

import bytenorm as bn
from bytenorm.torch.pt2e.lower import lower_with_report

CONCAT = torch.ops.bytenorm.concat_batch_norm
ADD = torch.ops.bytenorm.add_batch_norm
KINDS = {torch.uint8: bn.quint8, torch.int8: bn.qint8}
RANGES = {torch.uint8: (0, 255), torch.int8: (-128, 127)}
U8 = torch.uint8
CHANNELS = (3, 5, 1)

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


def tensor(x, scale, zero_point):
    return bn.QuantizedTensor(x.numpy(), scale, zero_point)


def norm_of(numbers, eps, y_scale, y_zero_point, output_dtype, relu):
    return bn.BatchNorm(
        *(None if v is None else v.numpy() for v in numbers),
        eps=eps,
        output_scale=y_scale,
        output_zero_point=y_zero_point,
        output_dtype=KINDS[output_dtype],
        relu=relu,
    )


def concat_arguments(rng, dtype=U8, to=U8, shape=(2, None, 6, 5), relu=False):
    pieces = [codes(rng, [c if n is None else n for n in shape], dtype) for c in CHANNELS]
    rest = (1e-3, 0.05, 20, to, relu)
    return (pieces, [0.1, 0.07, 0.2], [3, 0, 9], *vectors(rng, sum(CHANNELS)), *rest)


def add_arguments(rng, dtype=U8, to=U8, shape=(2, 7, 6, 5), relu=False):
    a, b = codes(rng, shape, dtype), codes(rng, shape, dtype)
    return (a, 0.1, 3, b, 0.07, 9, 0.15, 5, *vectors(rng, shape[1]), 1e-3, 0.05, 20, to, relu)


def expected_concat(pieces, scales, zero_points, *rest):
    qs = [tensor(*given) for given in zip(pieces, scales, zero_points, strict=True)]
    return torch.from_numpy(bn.concat_batch_norm(qs, norm_of(rest[:4], *rest[4:])).data)


def expected_add(a, a_scale, a_zero, b, b_scale, b_zero, sum_scale, sum_zero, *rest):
    norm = norm_of(rest[:4], *rest[4:])
    both = bn.add_batch_norm(
        tensor(a, a_scale, a_zero), tensor(b, b_scale, b_zero), norm, sum_scale=sum_scale, sum_zero_point=sum_zero
    )
    return tuple(torch.from_numpy(q.data) for q in both)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("to", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
def test_equal_to_the_library(rng, dtype, to, relu):
    given = concat_arguments(rng, dtype, to, relu=relu)
    assert torch.equal(CONCAT(*given), expected_concat(*given))
    given = add_arguments(rng, dtype, to, relu=relu)
    for got, want in zip(ADD(*given), expected_add(*given), strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


def without_data(x):
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


@pytest.mark.parametrize("name", layouts(np.random.default_rng(0)))
def test_layouts(rng, name):
    x = layouts(rng)[name]
    other = layouts(rng)[name]
    if "expanded" not in name and x.numel() and x.dim() > 2:
        other = other[:, 1:4]
    given = (
        [x, other],
        [0.1, 0.07],
        [3, 0],
        *vectors(rng, x.shape[1] + other.shape[1]),
        1e-3,
        0.05,
        20,
        U8,
        False,
    )
    y, meta = CONCAT(*given), CONCAT([without_data(p) for p in given[0]], *given[1:])
    assert torch.equal(y, expected_concat(*given))
    assert y.stride() == meta.stride()
    other = layouts(rng)[name]
    given = (x, 0.1, 3, other, 0.07, 9, 0.15, 5, *vectors(rng, x.shape[1]), 1e-3, 0.05, 20, torch.int8, False)
    for y, want, meta in zip(
        ADD(*given),
        expected_add(*given),
        ADD(*(without_data(v) if v is x or v is other else v for v in given)),
        strict=True,
    ):
        assert torch.equal(y, want)
        assert y.stride() == meta.stride()


def test_channels_last_stays(rng):
    given = concat_arguments(rng)
    want = expected_concat(*given)
    last = [piece.contiguous(memory_format=torch.channels_last) for piece in given[0]]
    y = CONCAT(last, *given[1:])
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y, want)
    given = add_arguments(rng)
    last = [x.contiguous(memory_format=torch.channels_last) for x in (given[0], given[3])]
    for y in ADD(last[0], *given[1:3], last[1], *given[4:]):
        assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("without", [False, True])
def test_opcheck(rng, last, without):
    layout = torch.channels_last if last else torch.contiguous_format
    pieces, *rest = concat_arguments(rng)
    if without:
        rest[2:4] = None, None
    results = torch.library.opcheck(CONCAT.default, ([p.contiguous(memory_format=layout) for p in pieces], *rest))
    assert set(results.values()) == {"SUCCESS"}
    given = list(add_arguments(rng))
    given[0], given[3] = (given[i].contiguous(memory_format=layout) for i in (0, 3))
    if without:
        given[8:10] = None, None
    results = torch.library.opcheck(ADD.default, tuple(given))
    assert set(results.values()) == {"SUCCESS"}


def changed(given, **changes):
    given = list(given)
    for index, value in changes.items():
        given[int(index[1:])] = value
    return given


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"_0": []}, ValueError, r"^pieces must hold at least one tensor, got none$"),
        ({"_1": [0.1, 0.2]}, ValueError, r"^scales must have one value for each of the 3 pieces, got 2$"),
        ({"_2": [1]}, ValueError, r"^zero_points must have one value for each of the 3 pieces, got 1$"),
        ({"_1": [0.1, 0.0, 0.2]}, ValueError, r"^the scale of pieces\[1\] must be .*got 0"),
        ({"_2": [1, 256, 2]}, ValueError, r"^the zero point of pieces\[1\] must be .*got 256"),
        ({"_8": -1.0}, ValueError, r"^y_scale must be "),
        ({"_9": 256}, ValueError, r"^y_zero_point must be "),
        ({"_10": torch.int32}, TypeError, r"^output_dtype must be torch.uint8 or torch.int8"),
        ({"_5": None}, Exception, "mean"),
        ({"_6": torch.ones(4)}, ValueError, r"var"),
    ],
)
def test_bad_concatenations(rng, change, error, message):
    with pytest.raises(error, match=message):
        CONCAT(*changed(concat_arguments(rng), **change))


def test_bad_pieces(rng):
    pieces, *rest = concat_arguments(rng)
    for bad, message in (
        (pieces[1][:1], r"^pieces\[1\] must have the shape of pieces\[0\]"),
        (pieces[1][..., :3], r"^pieces\[1\] must have the shape of pieces\[0\]"),
        (pieces[1].view(torch.int8), r"^pieces\[1\] must have the dtype of pieces\[0\]"),
        (pieces[1].float(), r"^pieces\[1\] must be torch.uint8 or torch.int8"),
        (pieces[1][:, :2], r"^pieces have 6 channels on axis 1"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            CONCAT([pieces[0], bad, pieces[2]], *rest)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"_1": 0.0}, ValueError, r"^a_scale must be "),
        ({"_5": -1}, ValueError, r"^b_zero_point must be "),
        ({"_6": float("nan")}, ValueError, r"^sum_scale must be "),
        ({"_7": 256}, ValueError, r"^sum_zero_point must be "),
        ({"_13": 0.0}, ValueError, r"^y_scale must be "),
        ({"_3": torch.zeros(2, 7, 6, 4, dtype=U8)}, ValueError, r"^b must have the shape of a"),
        ({"_3": torch.zeros(2, 7, 6, 5, dtype=torch.int8)}, ValueError, r"^b must have the dtype of a"),
        ({"_3": torch.zeros(2, 7, 6, 5)}, TypeError, r"^b must be torch.uint8 or torch.int8"),
    ],
)
def test_bad_sums(rng, change, error, message):
    with pytest.raises(error, match=message):
        ADD(*changed(add_arguments(rng), **change))


@pytest.mark.parametrize("name", VECTORS)
def test_gradients_are_not_cut(rng, name):
    at = VECTORS.index(name)
    for operator, given, first in ((CONCAT, concat_arguments(rng), 3), (ADD, add_arguments(rng), 8)):
        with_gradient = changed(given, **{f"_{first + at}": given[first + at].requires_grad_()})
        with pytest.raises(RuntimeError, match=f"^{name} requires a gradient"):
            operator(*with_gradient)
        with torch.no_grad():
            operator(*with_gradient)


# --- lowering ---------------------------------------------------------------------------------------------------


def q(x, qparams, dtype=U8, limits=None):
    return q8.quantize_per_tensor(x, *qparams, *(limits or RANGES[dtype]), dtype)


def dq(x, qparams, dtype=U8):
    return q8.dequantize_per_tensor(x, *qparams, *RANGES[dtype], dtype)


A, B, JOINED, Y = (0.03, 100), (0.05, 128), (0.06, 110), (0.04, 20)


def through(x, qparams):
    return dq(q(x, qparams), qparams)


def lowered(function, norms, *inputs, dynamic=None):
    """Return the lowered program of each kind."""
    exported = export(Program(function, *norms).eval(), inputs, dynamic_shapes=dynamic)
    made = []
    for program in (exported, exported.module()):
        result, outcomes = lower_with_report(program)
        assert {o.problem for o in outcomes} == {""}
        made.append(result)
    return made


def as_library(norm, relu=False):
    return bn.BatchNorm(
        *(v.detach().numpy() for v in (norm.weight, norm.bias, norm.running_mean, norm.running_var)),
        eps=norm.eps, output_scale=Y[0], output_zero_point=Y[1], relu=relu,
    )  # fmt: skip


@pytest.fixture
def images(rng):
    return codes(rng, (4, 3, 8, 6)), codes(rng, (4, 5, 8, 6))


def concat_norm(norm, a, b):
    joined = torch.cat([dq(a, A), dq(b, B)], 1)
    return q(norm(through(joined, JOINED)).relu(), Y)


def test_a_norm_of_a_concatenation(images):
    norm = learned(nn.BatchNorm2d(8))
    want = bn.concat_batch_norm([tensor(images[0], *A), tensor(images[1], *B)], as_library(norm, relu=True)).data
    free = ({0: Dim("batch", min=2)},) * 2
    for program in lowered(concat_norm, [norm], *images, dynamic={"inputs": free}):
        assert targets(program) == ["bytenorm.concat_batch_norm.default"] or "torch.ops" in str(program.graph)
        assert [t for t in targets(program) if "quantize" in t or "cat.default" in t] == []
        assert np.array_equal(run(program, *images).numpy(), want)
        assert np.array_equal(run(program, *(x[:2] for x in images)).numpy(), want[:2])


def test_two_norms_of_one_concatenation(images):
    norms = [learned(nn.BatchNorm2d(8)) for _ in range(2)]

    def function(norm, other, a, b):
        joined = q(torch.cat([dq(a, A), dq(b, B)], -3), JOINED)
        return q(norm(dq(joined, JOINED)), Y), q(other(dq(joined, JOINED)), Y)

    for program in lowered(function, norms, *images):
        found = [t for t in targets(program) if "bytenorm" in t]
        assert found == ["bytenorm.concat_batch_norm.default"] * 2
        for y, norm in zip(run(program, *images), norms, strict=True):
            qs = [tensor(images[0], *A), tensor(images[1], *B)]
            assert np.array_equal(y.numpy(), bn.concat_batch_norm(qs, as_library(norm)).data)


def read_in_float(norm, a, b):
    joined = through(torch.cat([dq(a, A), dq(b, B)], 1), JOINED)
    return q(norm(joined), Y), joined


def one_in_float(norm, a, b):
    return q(norm(through(torch.cat([dq(a, A), dq(b, B) * 2], 1), JOINED)), Y)


def with_relu_between(norm, a, b):
    return q(norm(through(torch.cat([dq(a, A), dq(b, B)], 1).relu(), JOINED)), Y)


def of_two_types(norm, a, b):
    return q(
        norm(
            through(torch.cat([dq(a, A), dq(q(dq(b, B), (0.1, 0), torch.int8), (0.1, 0), torch.int8)], 1), JOINED)
        ),
        Y,
    )


@pytest.mark.parametrize("function", [read_in_float, one_in_float, with_relu_between, of_two_types])
def test_other_concatenations_stay(images, function):
    norm = learned(nn.BatchNorm2d(8))
    before = export(Program(function, norm).eval(), images).module()(*images)
    for program in lowered(function, [norm], *images):
        assert "bytenorm.batch_norm.default" in targets(program)
        assert "bytenorm.concat_batch_norm.default" not in targets(program)
        got = run(program, *images)
        for y, want in zip(*((v if isinstance(v, tuple) else (v,)) for v in (got, before)), strict=True):
            assert (y.float() - want.float()).abs().max() <= 1


def test_a_norm_of_a_sum(rng):
    a, b = codes(rng, (4, 5, 8, 6)), codes(rng, (4, 5, 8, 6))
    norm = learned(nn.BatchNorm2d(5))

    def alone(norm, a, b):
        return q(norm(through(dq(a, A) + dq(b, B), JOINED)), Y)

    def in_place(norm, a, b):
        total = dq(a, A)
        total += dq(b, B)
        return q(norm(through(total, JOINED)), Y)

    y, total = bn.add_batch_norm(
        tensor(a, *A), tensor(b, *B), as_library(norm), sum_scale=JOINED[0], sum_zero_point=JOINED[1]
    )
    for function in (alone, in_place):
        for program in lowered(function, [norm], a, b):
            assert [t for t in targets(program) if "bytenorm" in t] == ["bytenorm.add_batch_norm.default"]
            assert not any("quantize" in t or "aten.add" in t for t in targets(program))
            assert np.array_equal(run(program, a, b).numpy(), y.data)

    def read_twice(norm, a, b):
        codes_of_sum = q(dq(a, A) + dq(b, B), JOINED)
        skip = dq(codes_of_sum, JOINED).mean()
        return codes_of_sum, skip, q(norm(dq(codes_of_sum, JOINED)), Y)

    for program in lowered(read_twice, [norm], a, b):
        assert [t for t in targets(program) if "bytenorm" in t] == ["bytenorm.add_batch_norm.default"]
        got, skip, normalized = run(program, a, b)
        assert np.array_equal(got.numpy(), total.data)
        assert np.array_equal(normalized.numpy(), y.data)
        assert torch.equal(skip, dq(got, JOINED).mean())


def test_other_sums_stay(rng):
    a, b = codes(rng, (4, 5, 8, 6)), codes(rng, (1, 5, 1, 1))
    norm = learned(nn.BatchNorm2d(5))
    functions = (
        lambda norm, a, b: q(norm(through(dq(a, A) + dq(b, B), JOINED)), Y),
        lambda norm, a, b: q(norm(through(dq(a, A) + 1.0, JOINED)), Y),
        lambda norm, a, b: q(norm(through(torch.add(dq(a, A), dq(a, A), alpha=2), JOINED)), Y),
        lambda norm, a, b: q(norm(dq(q(dq(a, A) + dq(a, A), JOINED, limits=(0, 127)), JOINED)), Y),
    )
    for function in functions:
        for program in lowered(function, [norm], a, b):
            assert [t for t in targets(program) if "bytenorm" in t] == ["bytenorm.batch_norm.default"]


def test_compiles_in_one_graph(images):
    norm = learned(nn.BatchNorm2d(8))
    _, module = lowered(concat_norm, [norm], *images)
    want = module(*images)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.compile(module, fullgraph=True)
        assert torch.equal(made(*images), want)
