"""Writes programs with the operator as ONNX models that carry what they need to run anywhere."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch.export import ExportedProgram

try:
    import onnx
    import onnxscript as _onnxscript  # noqa: F401 - torch needs it
except ImportError as error:
    raise ImportError(
        f'bytenorm.torch.to_onnx needs {error.name}: pip install "bytenorm[torch]"', name=error.name
    ) from None

from .._files import as_path, require_place
from ..onnx.function import DOMAIN, OPERATOR, add_function
from ..onnx.graph import opset_of, subgraphs
from ..onnx.lowering import IR_VERSION
from ..onnx.model import save_model
from . import operator as _operator  # noqa: F401 - registers it

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from torch import Tensor

_OLDEST_OPSET = 18  # that torch writes
_NEWEST_OPSET_OF_OLD_IR = 20


def to_onnx(
    program: ExportedProgram,
    path: str | os.PathLike[str] | None = None,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset: int = _OLDEST_OPSET,
    force: bool = False,
) -> onnx.ModelProto:
    """Write a program as an ONNX model, its norms as ``bytenorm::QLinearBatchNormalization``.

    The model carries the operator as a function in standard operators, so it runs in every ONNX Runtime; where the
    operator is registered, as :func:`bytenorm.onnx.session` does it, at speed and with the same bits. Scales are
    float32 in ONNX. Those of torchao's observers are already; others are rounded, which can change codes.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        Lowered by :func:`lower`; a lowered ``GraphModule`` goes through ``torch.export.export`` before.
    path : str or path, optional
        Where to write the model, too: all of it, or nothing.
    input_names, output_names : sequence of str, optional
        What the model calls them; by default as the program does.
    opset : int, optional
        Of the standard operators, 18 or newer. Up to 20 the model has IR version 9, which ONNX Runtime 1.17 reads.
    force : bool, optional
        Replace a file that is there.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    TypeError
        If `program` is no exported program, or `opset` no int.
    ValueError
        If `opset` is older, or `path` cannot be written.
    FileExistsError
        If there is such a file, and `force` is False.
    torch.onnx.errors.OnnxExporterError
        If torch cannot export the rest of the program.

    Examples
    --------
    >>> import torch
    >>> from bytenorm.torch import to_onnx
    >>> class Normalized(torch.nn.Module):
    ...     def forward(self, codes):
    ...         mean, var = torch.zeros(3), torch.ones(3)
    ...         return torch.ops.bytenorm.batch_norm(
    ...             codes, 0.5, 128, None, None, mean, var, 1e-5, 0.25, 0, torch.uint8, True
    ...         )
    >>> codes = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    >>> model = to_onnx(torch.export.export(Normalized(), (codes,)))
    >>> [node.op_type for node in model.graph.node if node.domain == "bytenorm"]
    ['QLinearBatchNormalization']
    """
    if not isinstance(program, ExportedProgram):
        wanted = "torch.export.export makes one of a module" if isinstance(program, torch.nn.Module) else ""
        raise TypeError(
            f"program must be a torch.export.ExportedProgram{wanted and f' ({wanted})'}, "
            f"got {type(program).__name__}"
        )
    if not isinstance(opset, int) or isinstance(opset, bool):
        raise TypeError(f"opset must be an int, got {type(opset).__name__}")
    if opset < _OLDEST_OPSET:
        raise ValueError(f"opset must be {_OLDEST_OPSET} or newer, got {opset}")
    if path is not None:  # found out before the work
        target = as_path(path, "path", "a path")
        require_place(target, f"path {str(target)!r}", force)
    with warnings.catch_warnings():  # of its own trees
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        symbolic = program.run_decompositions(
            {
                torch.ops.bytenorm.batch_norm.default: _symbolic,
                torch.ops.bytenorm.batch_norm.per_channel: _symbolic,
            }
        )
        exported = torch.onnx.export(
            symbolic,
            input_names=input_names,
            output_names=output_names,
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    _finish(model)
    if path is not None:
        save_model(model, path, force=force)
    return model


def _symbolic(
    x: Tensor,
    x_scale: float | Tensor,
    x_zero_point: int | Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    y_scale: float,
    y_zero_point: int,
    output_dtype: torch.dtype,
    relu: bool,
) -> Tensor:
    """Compute nothing: stand for the ONNX operator where the program calls torch's.

    Between a pair of transposes, as :mod:`bytenorm.onnx` writes it, the operator joins the channels-last chain
    that ONNX Runtime makes of 8-bit convolutions. `contiguous` becomes nothing there; without it torch would see
    a channels-last tensor, and for these it writes some of its own operators in a roundabout way.
    """
    rank = x.dim()
    channels_last = rank > 2
    if channels_last:
        x = x.permute(0, *range(2, rank), 1).contiguous()
    inputs = (
        x,
        _as_tensor(x_scale, torch.float32),
        _as_tensor(x_zero_point, x.dtype),
        torch.ones_like(mean, dtype=torch.float32) if weight is None else weight.to(torch.float32),
        torch.zeros_like(mean, dtype=torch.float32) if bias is None else bias.to(torch.float32),
        mean.to(torch.float32),
        var.to(torch.float32),
        _as_tensor(y_scale, torch.float32),
        _as_tensor(y_zero_point, output_dtype),
    )
    y: Tensor = torch.onnx.ops.symbolic(
        "bytenorm::QLinearBatchNormalization",
        inputs,
        {"epsilon": eps, "channels_last": int(channels_last), "relu": int(relu)},
        dtype=output_dtype,
        shape=x.shape,
        version=1,
    )
    return y.permute(0, rank - 1, *range(1, rank - 1)).contiguous() if channels_last else y


def _as_tensor(value: float | Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if isinstance(value, torch.Tensor) else torch.full((), value, dtype=dtype)


def _finish(model: onnx.ModelProto) -> None:
    """Give a model the function, its norms their names, and the oldest IR version that it can have."""
    graphs = list(_graphs(model.graph))
    nodes = [node for graph in graphs for node in graph.node]
    norms = [node for node in nodes if (node.domain, node.op_type) == (DOMAIN, OPERATOR)]
    if norms:
        add_function(model)
    taken = {node.name for node in nodes}
    for node in norms:
        wanted = f"{node.input[5].rpartition('.')[0]}/{OPERATOR}".lstrip("/")
        if wanted not in taken:
            node.name = wanted
            taken.add(wanted)
    for graph in graphs:
        _drop_metadata(graph)  # newer than that version, and full of paths of the machine that exports
    if opset_of(model) <= _NEWEST_OPSET_OF_OLD_IR and not _has_4_bit_tensors(model):
        model.ir_version = IR_VERSION
    onnx.checker.check_model(model)


def _has_4_bit_tensors(model: onnx.ModelProto) -> bool:
    return any(t.data_type in (onnx.TensorProto.UINT4, onnx.TensorProto.INT4) for t in model.graph.initializer)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and those inside, of an If and the like."""
    yield graph
    for node in graph.node:
        for inside in subgraphs(node):
            yield from _graphs(inside)


def _drop_metadata(graph: onnx.GraphProto) -> None:
    for values in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        for value in values:
            del value.metadata_props[:]
    del graph.metadata_props[:]
