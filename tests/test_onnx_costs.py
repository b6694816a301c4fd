"""Work that is not done: twice, for what is thrown away, or before it is wanted."""

import numpy as np
import pytest
from onnxruntime import quantization as ort_quantization

from bytenorm import onnx as bno
from bytenorm.onnx import depthwise

DIGITS = bno.digits_model()


def fed(count=8):
    return [{"image": np.random.default_rng(3).random((count, 1, 28, 28), dtype=np.float32)}]


def test_the_search_for_a_channels_numbers_is_made_once(monkeypatch):
    seen = []
    real = depthwise._fit
    monkeypatch.setattr(depthwise, "_fit", lambda *args: seen.append(args[:2]) or real(*args))
    bno.quantize(DIGITS, fed())
    assert seen
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("options", [{}, {"weight_type": "uint8"}, {"activation_type": "int8", "keep_int8": True}])
def test_marks_have_one_scale_and_nothing_comes_of_it(monkeypatch, options):
    given = []
    real = ort_quantization.quantize_static

    def per_channel(*args, extra_options, **others):
        given.append(extra_options["TensorQuantOverrides"])
        return real(*args, extra_options={}, **others)

    made = bno.quantize(DIGITS, fed(), **options)
    monkeypatch.setattr(ort_quantization, "quantize_static", per_channel)
    assert bno.quantize(DIGITS, fed(), **options) == made
    (overrides,) = given
    assert len(overrides) == 9  # the norms that stay
    assert all(value == [{}] for value in overrides.values())
