"""Models by their inputs, rows to feed them, and what a dataset makes of them."""

import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper

from bytenorm.onnx.data.dataset import open_data

FLOAT, UINT8, INT64, DOUBLE = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64, TensorProto.DOUBLE


def model(**inputs):
    """Return a model with some inputs: each a tuple, its shape, or a list of its type and shape."""
    made = []
    for name, wanted in inputs.items():
        kind, shape = wanted if isinstance(wanted, list) else (FLOAT, wanted)
        made.append(helper.make_tensor_value_info(name, kind, shape))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", made, [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


OPEN = model(x=("N", 3))
FIXED = model(x=(4, 3))


def rows(n, start=0, width=3):
    return np.arange(start * width, (start + n) * width, dtype=np.float32).reshape(n, width)


def sizes(data):
    return [len(batch["x"]) for batch in data]


def joined(data):
    return np.concatenate([batch["x"] for batch in data])


def message_of(call, error=ValueError):
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert type(caught.value) is error
    assert "\n" not in text
    return text


def first_pass(*arguments, **options):
    return list(open_data(*arguments, **options))


def items(n=5):
    return [{"x": rows(4, 4 * i)} for i in range(n)]


class Again:
    """Goes through its items as often as one likes, and remembers how often."""

    def __init__(self, *passes):
        self.passes = itertools.chain(passes, itertools.repeat(passes[-1]))
        self.taken = 0

    def __iter__(self):
        for item in next(self.passes):
            self.taken += 1
            yield item


WANTED = "the model wants 'x' (float32 [?, 3])"
