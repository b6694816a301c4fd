"""Types of what operators make that only ONNX Runtime knows, as those it writes into models it has optimized."""

from __future__ import annotations

import onnx
import onnxruntime

from ..model.weightless import inferred_model, weightless
from .session import handed_over

_STANDARD = ("", "ai.onnx")


def note_types(model: onnx.ModelProto) -> None:
    """Write into a model what ONNX Runtime says of the tensors whose types ONNX's inference does not tell.

    That stops at operators it does not know, such as ``com.microsoft.FusedConv``, and the quantizer calibrates no
    tensor without a type. A model that ONNX Runtime cannot load stays as it is.
    """
    if all(node.domain in _STANDARD for node in model.graph.node):
        return
    inferred = inferred_model(weightless(model)).graph
    known = {v.name for v in (*inferred.value_info, *inferred.output) if v.type.tensor_type.HasField("shape")}
    unknown = [t for node in model.graph.node for t in node.output if t and t not in known]
    if not unknown:
        return
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    del asked.graph.output[:]
    asked.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in unknown)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        with handed_over(asked) as source:
            made = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception:  # what is wrong with it is said where it is run
        return
    outputs = {v.name for v in model.graph.output}
    stale = {v.name for v in model.graph.value_info} & set(unknown)
    for i in reversed(range(len(model.graph.value_info))):
        if model.graph.value_info[i].name in stale:
            del model.graph.value_info[i]
    for found in made.get_outputs():
        data_type = _data_type(found.type)
        if data_type and found.name not in outputs:
            # ONNX Runtime gives no axes where it does not know how many there are.
            info = onnx.helper.make_tensor_value_info(found.name, data_type, list(found.shape) or None)
            model.graph.value_info.append(info)


def _data_type(written: str) -> int:
    """Return the element type of ``tensor(float)``; 0 for what is no tensor."""
    name = {"float": "FLOAT", "double": "DOUBLE"}.get(written[7:-1], written[7:-1].upper())
    return int(dict(onnx.TensorProto.DataType.items()).get(name, 0))
