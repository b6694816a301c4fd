"""The readers of files that are fuzzed: each takes the bytes of a file, and ends well or in a documented error.

A documented error has words: the package raises it, or the system. What NumPy or onnx say of numbers, without
saying of what, is no such error.
"""

import traceback
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper

import bytenorm as bn
from bytenorm import onnx as bno
from bytenorm.calibration import ChannelStatistics
from bytenorm.onnx.data.dataset import open_data
from bytenorm.onnx.disguise.norms_as_convs import Marks, markable
from bytenorm.onnx.folding.backward import fold
from bytenorm.onnx.graph.graph import Graph
from bytenorm.onnx.graph.quantized import is_quantized
from bytenorm.onnx.model.files import load_model, save_model
from bytenorm.onnx.norms.find import find_norms
from bytenorm.onnx.quantization.tuning.layers import find_layers
from bytenorm.onnx.quantizer.exclusion import needed_activations
from bytenorm.onnx.quantizer.plain_layers import make_layers_plain
from bytenorm.onnx.run.uint8_weights import unsigned_weights
from bytenorm.report.taps import NotMeasured, spot_of

SOURCE = Path(bn.__file__).parent

folder = Path()  # where the readers' files are written


def _is_documented(error):
    if isinstance(error, OSError):
        return True
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = Path(last.filename).is_relative_to(SOURCE) and (last.line or "").startswith("raise ")
    return own and type(error) in (ValueError, TypeError)


@contextmanager
def _documented_errors():
    try:
        yield
    except Exception as error:
        if not _is_documented(error):
            raise


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
    with _documented_errors():
        _batches(_file(content, "a.npy"), ONE)


def npz(content):
    """Data for models with one and two inputs."""
    path = _file(content, "a.npz")
    for model in (ONE, TWO):
        with _documented_errors():
            _batches(path, model)


def statistics(content):
    """What is read can be added to, and is written as it was read."""
    path, read = _file(content, "s.npz"), None
    with _documented_errors():
        read = ChannelStatistics.load(path)
    if read is None:
        return
    read.save(path)
    assert ChannelStatistics.load(path) == read
    channels = read.channels
    with _documented_errors():
        read.update(bn.QuantizedTensor(np.zeros((3, channels), np.uint8), 0.1, 0))
    with _documented_errors():
        read.merge(read)


def graph(content):
    """A model: looked at, prepared for a quantizer, lowered in each way, searched for what is measured."""
    path, model = _file(content, "m.onnx"), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _documented_errors():
            model = load_model(path)
            bno.inspect(model)
        if model is None:
            return
        with _documented_errors():
            unsigned_weights(model)
        with _documented_errors():
            _prepare(model)
        _measure(model)
        for lowering in ("portable", "exact", "fused"):
            with _documented_errors():
                lowered = bno.lower(model, lowering=lowering)
                save_model(lowered, path, force=True)
                _measure(load_model(path))


def _prepare(model):
    """Do what is done to a float model before ONNX Runtime's quantizer gets it."""
    made = Graph(_copy(model))
    if is_quantized(made):
        return
    norms = find_norms(made)
    marks = Marks()
    kept, _ = markable(made, norms, fold(made, norms))
    for norm in kept:
        marks.set(made, norm)
    made.finish()
    made = Graph(made.model)
    make_layers_plain(made, (), split_groups=True)
    needed_activations(made, marks.norms, "QOperator", chosen=True)
    made.finish()


def _measure(model):
    with _documented_errors():
        made = Graph(_copy(model))
        for norm in find_norms(made):
            with suppress(NotMeasured):
                spot_of(made, norm)
        list(find_layers(made))


def _copy(model):
    made = ModelProto()
    made.CopyFrom(model)
    return made


READERS = {"npy": npy, "npz": npz, "statistics": statistics, "graph": graph}


def corpus(name):
    """Return the inputs of a reader that are kept, those that found something among them."""
    return sorted((Path(__file__).parent / "corpus" / name).iterdir())
