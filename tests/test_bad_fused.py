"""What concatenations and sums refuse, and what they say of it."""

import numpy as np
import pytest
from good_calls import PATTERN, SHAPE, codes, filled, good, label, read_only

import bytenorm as bn

# --- concatenations -------------------------------------------------------------------------------------------


def concat_norm():
    arguments = good()
    del arguments["input"]
    return bn.BatchNorm(**arguments)


def halves(first=(4, 2, 5, 2), second=(4, 1, 5, 2)):
    return [bn.QuantizedTensor(codes(first), 0.05, 120), bn.QuantizedTensor(codes(second), 0.02, 7)]


PER_CHANNEL = bn.QuantizedTensor(codes((4, 1, 5, 2)), [0.05], [120], 1)
BAD_PIECES = [
    (None, TypeError, ["pieces", "NoneType"]),
    (halves()[0], TypeError, ["pieces", "list or tuple", "QuantizedTensor"]),
    (iter(halves()), TypeError, ["pieces", "list_iterator"]),
    (codes(), TypeError, ["pieces", "ndarray"]),
    ([], ValueError, ["pieces", "none"]),
    ((), ValueError, ["pieces", "none"]),
    ([halves()[0], None], TypeError, ["pieces[1]", "NoneType"]),
    ([codes((4, 2, 5, 2)), halves()[1]], TypeError, ["pieces[0]", "uint8", "wrap it"]),
    ([halves()[0], PER_CHANNEL], ValueError, ["pieces[1]", "per tensor", "axis 1"]),
    ([bn.QuantizedTensor(codes((3,)), 0.05, 120)], ValueError, ["pieces[0]", "2 dimensions", "(3,)"]),
    (halves(second=(3, 1, 5, 2)), ValueError, ["pieces[1]", "(4, 2, 5, 2)", "axis 1", "(3, 1, 5, 2)"]),
    (halves(second=(4, 1, 2, 5)), ValueError, ["pieces[1]", "(4, 2, 5, 2)", "(4, 1, 2, 5)"]),
    (halves(second=(4, 1, 10)), ValueError, ["pieces[1]", "(4, 1, 10)"]),
    (halves(second=(4,)), ValueError, ["pieces[1]", "(4,)"]),
    (halves(second=(4, 2, 5, 2)), ValueError, ["pieces have 4 channels", "[2, 2]", "norm has 3"]),
    (halves()[:1], ValueError, ["pieces have 2 channels", "norm has 3"]),
    (
        [halves()[0], bn.QuantizedTensor(codes((4, 1, 5, 2), np.int8), 0.02, 7)],
        ValueError,
        ["pieces[1]", "dtype", "uint8", "int8"],
    ),
]


@pytest.mark.parametrize(("pieces", "error", "shown"), BAD_PIECES)
def test_bad_pieces(pieces, error, shown):
    out = filled()
    with pytest.raises(error) as caught:
        bn.concat_batch_norm(pieces, concat_norm(), out=out)
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in shown if part not in message] == []
    assert (out == PATTERN).all()


@pytest.mark.parametrize("norm", [None, 3, bn.BatchNorm, good()])
def test_bad_norm_of_pieces(norm):
    with pytest.raises(TypeError, match=r"^norm must be a bytenorm.BatchNorm, got"):
        bn.concat_batch_norm(halves(), norm)


def test_bad_zero_point_and_overflow_of_pieces():
    pieces = [bn.QuantizedTensor(q.data.view(np.int8), q.scale, 7) for q in halves()]
    with pytest.raises(ValueError, match=r"^output_zero_point must be from -128 to 127"):
        bn.concat_batch_norm(pieces, concat_norm().replace(output_zero_point=200))
    steep = [halves()[0], bn.QuantizedTensor(halves()[1].data, 1e38, 0)]
    with pytest.raises(ValueError, match=r"^the slope of channel 2, .* overflows float32"):
        bn.concat_batch_norm(steep, concat_norm().replace(output_scale=0.001))


def test_bad_out_of_pieces():
    norm, whole = concat_norm(), filled()
    own = [bn.QuantizedTensor(whole[:, a:b], 0.05, 120) for a, b in ((0, 2), (2, 3))]
    swapped = [bn.QuantizedTensor(whole[:, a:b], 0.05, 120) for a, b in ((1, 3), (0, 1))]
    moved = [own[0], bn.QuantizedTensor(whole[::-1, 2:], 0.05, 120)]
    wide = np.zeros((4, 6, 5, 2), np.uint8)
    for pieces, out, error, shown in [
        (halves(), codes((4, 2, 5, 2)), ValueError, "out must have the concatenation's shape (4, 3, 5, 2)"),
        (halves(), codes(dtype=np.int8), ValueError, "out must have dtype uint8"),
        (halves(), read_only(codes()), ValueError, "out must be writable"),
        (halves(), wide[:, :3][:, [0]].repeat(3, 1)[:, :1], ValueError, "out must have the concatenation's shape"),
        (halves(), np.broadcast_to(wide[:1, :3], SHAPE), ValueError, "out must be writable"),
        (halves(), "out", TypeError, "out must be an array"),
        (halves(), bn.QuantizedTensor(codes(), 0.2, 30), ValueError, "out must have the output's dtype"),
        (swapped, whole, ValueError, "out must be apart from pieces[0]"),
        (moved, whole, ValueError, "out must be apart from pieces[1]"),
    ]:
        with pytest.raises(error) as caught:
            bn.concat_batch_norm(pieces, norm, out=out)
        assert str(caught.value).startswith(shown)
    assert (whole == PATTERN).all()
    want = bn.concat_batch_norm([bn.QuantizedTensor(q.data.copy(), q.scale, q.zero_point) for q in own], norm)
    np.testing.assert_array_equal(bn.concat_batch_norm(own, norm, out=whole).data, want.data)
    interleaved = [bn.QuantizedTensor(wide[:, 1::2][:, a:b], 0.05, 120) for a, b in ((0, 2), (2, 3))]
    got = bn.concat_batch_norm(interleaved, norm, out=wide[:, ::2])
    assert np.shares_memory(got.data, wide)
    assert (wide[:, 1::2] == 0).all()


# --- sums -----------------------------------------------------------------------------------------------------


def sum_call():
    return {
        "a": bn.QuantizedTensor(codes(), 0.05, 120),
        "b": bn.QuantizedTensor(codes(seed=1), 0.02, 7),
        "norm": concat_norm(),
        "sum_scale": 0.06,
        "sum_zero_point": 90,
    }


NARROW = bn.QuantizedTensor(codes((4, 2, 5, 2)), 0.05, 120)
OF_CHANNELS = bn.QuantizedTensor(codes(), [0.05] * 3, [120] * 3, 1)
SIGNED = bn.QuantizedTensor(codes(dtype=np.int8), 0.05, 0)
BAD_SUMS = [
    *[({name: None}, TypeError, [name, "None"]) for name in ("a", "b", "norm")],
    ({"sum_scale": None}, TypeError, ["sum_scale must be given with sum_zero_point", "None"]),
    ({"sum_zero_point": None}, TypeError, ["sum_zero_point must be given with sum_scale", "None"]),
    ({"sum_scale": None}, TypeError, ["sum_scale must be given with sum_zero_point"], {"exact_sum": True}),
    ({"exact_sum": 1}, TypeError, ["exact_sum", "1"]),
    ({"exact_sum": None}, TypeError, ["exact_sum", "None"]),
    *[({name: codes()}, TypeError, [name, "uint8", "wrap it"]) for name in ("a", "b")],
    *[({name: OF_CHANNELS}, ValueError, [name, "per tensor", "axis 1"]) for name in ("a", "b")],
    ({"b": NARROW}, ValueError, ["b must have the shape of a", "(4, 3, 5, 2)", "(4, 2, 5, 2)"]),
    ({"a": NARROW, "b": NARROW}, ValueError, ["a and b have 2 channels", "norm has 3"]),
    ({"a": NARROW[0, 0, 0]}, ValueError, ["a must have at least 2 dimensions"]),
    ({"b": SIGNED}, ValueError, ["b must have the dtype of a", "uint8", "int8"]),
    ({"sum_scale": 0.0}, ValueError, ["sum_scale", "positive"]),
    ({"sum_scale": "1"}, TypeError, ["sum_scale", "real number"]),
    ({"sum_zero_point": 256}, ValueError, ["sum_zero_point", "256"]),
    ({"sum_zero_point": -1}, ValueError, ["sum_zero_point", "-1"]),
    ({"sum_zero_point": 1.0}, TypeError, ["sum_zero_point", "integer"]),
    ({"sum_zero_point": 2**70}, ValueError, ["sum_zero_point"]),
    ({"a": SIGNED, "b": SIGNED}, ValueError, ["sum_zero_point", "127"], {"sum_zero_point": 200}),
    (
        {"b": bn.QuantizedTensor(codes(), 1e30, 0), "sum_scale": 1e-30},
        ValueError,
        ["the scale of b over sum_scale", "overflows float32"],
    ),
    (
        {"sum_scale": 1e38, "norm": concat_norm().replace(output_scale=1e-3)},
        ValueError,
        ["the slope of channel 0"],
    ),
    *[
        (
            {name: bn.QuantizedTensor(codes(), 1e38, 0), "norm": concat_norm().replace(output_scale=1e-3)},
            ValueError,
            ["the slope of channel 0", f"scale of {name}", "overflows float32"],
            {"sum_scale": None, "sum_zero_point": None},
        )
        for name in ("a", "b")
    ],
    ({"out": codes((4, 3, 5))}, ValueError, ["out", "(4, 3, 5, 2)"]),
    ({"out": codes(dtype=np.int8)}, ValueError, ["out", "uint8", "int8"]),
    ({"out": 3}, TypeError, ["out", "int"]),
    ({"sum_out": codes((4, 3, 5))}, ValueError, ["sum_out must have", "(4, 3, 5, 2)", "(4, 3, 5)"]),
    ({"sum_out": codes(dtype=np.int8)}, ValueError, ["sum_out", "uint8", "int8"]),
    ({"sum_out": 3}, TypeError, ["sum_out", "int"]),
    ({"sum_out": codes()[::-1].tolist()}, TypeError, ["sum_out", "list"]),
    ({"sum_out": np.broadcast_to(codes(SHAPE[1:]), SHAPE)}, ValueError, ["sum_out must be writable"]),
    (
        {"sum_out": np.lib.stride_tricks.as_strided(np.zeros(200, np.uint8), SHAPE, (2, 30, 2, 1))},
        ValueError,
        ["sum_out must not overlap itself"],
    ),
    (
        {"sum_out": bn.QuantizedTensor(codes(), 0.5, 90)},
        ValueError,
        ["sum_out must have the sum's dtype, scale and zero point", "0.06", "0.5", "sum_out=q.data"],
    ),
    (
        {"sum_out": codes()},
        TypeError,
        ["sum_out needs sum_scale and sum_zero_point"],
        {"sum_scale": None, "sum_zero_point": None},
    ),
]


@pytest.mark.parametrize("case", BAD_SUMS, ids=lambda case: label(case[:3]))
def test_bad_sums(case):
    changes, error, shown, *more = case
    arguments = {"out": filled(), **sum_call(), **changes, **(more[0] if more else {})}
    with pytest.raises(error) as caught:
        bn.add_batch_norm(**arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in shown if part not in message] == []
    if "out" not in changes:
        assert (arguments["out"] == PATTERN).all()


@pytest.mark.parametrize("which", ["a", "b"])
def test_out_that_overlaps_a_summand_partly(which):
    whole = codes((5, *SHAPE[1:]))
    arguments = {**sum_call(), which: bn.QuantizedTensor(whole[1:], 0.05, 120)}
    with pytest.raises(ValueError, match=rf"^out must be the own memory of {which} or apart from it"):
        bn.add_batch_norm(**arguments, out=whole[:-1])
    np.testing.assert_array_equal(whole, codes((5, *SHAPE[1:])))


@pytest.mark.parametrize("which", ["a", "b"])
def test_sum_out_that_overlaps_what_it_must_not(which):
    """Part of a summand; all of one that the norm of an exact sum reads again; the norm's memory."""
    whole = codes((5, *SHAPE[1:]))
    arguments = {**sum_call(), which: bn.QuantizedTensor(whole[1:], 0.05, 120)}
    with pytest.raises(ValueError, match=rf"^sum_out must be the own memory of {which} or apart from it"):
        bn.add_batch_norm(**arguments, sum_out=whole[:-1])
    with pytest.raises(ValueError, match=rf"^sum_out must be apart from {which} with exact_sum"):
        bn.add_batch_norm(**arguments, sum_out=whole[1:], exact_sum=True)
    np.testing.assert_array_equal(whole, codes((5, *SHAPE[1:])))
    out = filled()
    for norm, total in ((out, out), (out[:, ::-1], out), (bn.QuantizedTensor(out, 0.1, 30), out)):
        with pytest.raises(ValueError, match=r"^sum_out must be apart from out, got an overlap$"):
            bn.add_batch_norm(**sum_call(), out=norm, sum_out=total)
    assert (out == PATTERN).all()


def test_sums_in_unusual_forms():
    """Numbers of NumPy, and an output that interleaves with a summand but shares nothing."""
    want, total = bn.add_batch_norm(**sum_call())
    wide = np.zeros((4, 6, 5, 2), np.uint8)
    wide[:, ::2] = codes()
    arguments = {
        **sum_call(), "a": bn.QuantizedTensor(wide[:, ::2], 0.05, 120), "sum_scale": np.float64(0.06),
        "sum_zero_point": np.int8(90),
    }  # fmt: skip
    y, s = bn.add_batch_norm(**arguments, out=wide[:, 1::2])
    np.testing.assert_array_equal(y.data, want.data)
    np.testing.assert_array_equal(s.data, total.data)
    np.testing.assert_array_equal(wide[:, ::2], codes())
