"""Empty arrays have lengths and strides whose products 64 bits do not hold."""

import itertools

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import bytenorm as bn
from bytenorm.calibration import ChannelStatistics


def norm_of(channels):
    return bn.BatchNorm(None, None, np.zeros(channels), np.ones(channels), output_scale=0.1, output_zero_point=3)


def empty(shape, strides=None):
    none = np.empty(0, np.uint8)
    return bn.QuantizedTensor(as_strided(none, shape, (0,) * len(shape) if strides is None else strides), 0.1, 3)


@pytest.mark.parametrize(("channels", "rest"), [(0, ()), (3, (3,))])
def test_channels_of_pieces_that_are_counted_beyond_64_bits(channels, rest):
    """Four times 2^62 channels are 0, where only the last 64 bits count."""
    pieces = [empty((0, 2**62))] * 4 + [empty((0, n)) for n in rest]
    with pytest.raises(ValueError, match=f"pieces have {2**64 + sum(rest)} channels on axis 1 .* norm has"):
        bn.concat_batch_norm(pieces, norm_of(channels))


def test_pieces_that_no_array_holds_together():
    with pytest.raises(ValueError, match=r"^pieces are too large for one array together$"):
        bn.concat_batch_norm([empty((0, 2, 2**61))] * 2, norm_of(4))


@pytest.mark.parametrize("shape", [(2**40, 2, 0), (0, 2, 2**40)], ids=str)
def test_empty_arrays_of_any_strides(shape):
    norm = norm_of(2)
    for strides in itertools.product((-(2**63), 2**62, -5), repeat=3):
        x, out = empty(shape, strides), empty(shape, strides).data
        for result in (
            norm(x),
            norm(x, out=out),
            norm(x, out=x.data),
            bn.concat_batch_norm([x], norm),
            bn.concat_batch_norm([x], norm, out=out),
            bn.add_batch_norm(x, x, norm, out=out),
            bn.add_batch_norm(x, x, norm, sum_scale=0.1, sum_zero_point=3, out=out)[1],
            bn.requantize(x, 0.2, 3),
            bn.dequantize(x),
        ):
            assert result.shape == shape
        statistics = ChannelStatistics(2)
        statistics.update(x)
        assert statistics.count == 0
