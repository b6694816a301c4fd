"""Models with the operators that quantization needs, and without imports that nothing uses."""

from __future__ import annotations

import onnx

from ..._errors import bad_value
from ..graph.graph import all_graphs, opset_of
from ..lowering.lower import IR_VERSION
from ..model.constant_inputs import CONSTANTS_APART
from ..norms.float_graph import write_out_sparse

_OLDEST_OPSET = 13  # scales per channel


def with_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model with the standard operators that quantization needs."""
    opset = opset_of(model)
    if opset >= _OLDEST_OPSET:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    try:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        write_out_sparse(copy)  # which the converter does not know
        copy.ir_version = max(copy.ir_version, CONSTANTS_APART)
        made = onnx.version_converter.convert_version(copy, _OLDEST_OPSET)
        made.ir_version = model.ir_version
        return made
    except Exception as error:
        why = " ".join(str(error).split())
        raise bad_value(
            "model",
            f": opset {opset} is too old to quantize, and onnx cannot convert it to {_OLDEST_OPSET}: {why}",
        ) from None


def set_versions(model: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Give a made model the IR version that it needs, or the float one's, and no import that no node uses.

    ONNX Runtime's optimizer imports all domains that it knows.
    """
    model.ir_version = max(IR_VERSION, original.ir_version)
    used = {node.domain for part in all_graphs(model.graph) for node in part.node}
    used.update(f.domain for f in model.functions)
    for i in reversed(range(len(model.opset_import))):
        domain = model.opset_import[i].domain
        if domain not in ("", "ai.onnx") and domain not in used:
            del model.opset_import[i]
