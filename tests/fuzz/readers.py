"""The readers of files that are fuzzed: each takes the bytes of a file, and ends well or in a documented error."""

import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

import bytenorm as bn
from bytenorm import onnx as bno
from bytenorm.calibration import ChannelStatistics
from bytenorm.onnx.data import open_data
from bytenorm.onnx.model import load_model, save_model

DOCUMENTED = (ValueError, TypeError, OSError)

folder = Path()  # where the readers' files are written


def _file(content, name):
    path = folder / name
    path.write_bytes(content)
    return path


def _model(*inputs):
    made = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name, _, _ in inputs]
    out = [helper.make_tensor_value_info(f"{name}_out", kind, shape) for name, kind, shape in inputs]
    return helper.make_model(helper.make_graph(nodes, "g", made, out), opset_imports=[helper.make_opsetid("", 17)])


ONE = _model(("x", TensorProto.FLOAT, ["N", 3]))
TWO = _model(("x", TensorProto.FLOAT, ["N", 3]), ("t", TensorProto.INT64, []))


def _batches(path, model):
    for batch in open_data(path, model, limit=4):
        for array in batch.values():
            assert array.flags.c_contiguous
            assert array.size < 1_000_000, "more than a limit of four rows wants"


def npy(content):
    """Data for a model with one input."""
    with suppress(*DOCUMENTED):
        _batches(_file(content, "a.npy"), ONE)


def npz(content):
    """Data for models with one and two inputs."""
    path = _file(content, "a.npz")
    for model in (ONE, TWO):
        with suppress(*DOCUMENTED):
            _batches(path, model)


def statistics(content):
    """What is read can be added to, and is written as it was read."""
    path = _file(content, "s.npz")
    try:
        read = ChannelStatistics.load(path)
    except DOCUMENTED:
        return
    read.save(path)
    assert ChannelStatistics.load(path) == read
    channels = read.channels
    with suppress(*DOCUMENTED):
        read.update(bn.QuantizedTensor(np.zeros((3, channels), np.uint8), 0.1, 0))
    with suppress(*DOCUMENTED):
        read.merge(read)


def graph(content):
    """A model: looked at, and lowered in each way."""
    path = _file(content, "m.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = load_model(path)
            bno.inspect(model)
        except DOCUMENTED:
            return
        for lowering in ("portable", "exact", "fused"):
            with suppress(*DOCUMENTED):
                lowered = bno.lower(model, lowering=lowering)
                save_model(lowered, path, force=True)
                load_model(path)


READERS = {"npy": npy, "npz": npz, "statistics": statistics, "graph": graph}


def corpus(name):
    """Return the inputs of a reader that are kept, those that found something among them."""
    return sorted((Path(__file__).parent / "corpus" / name).iterdir())
