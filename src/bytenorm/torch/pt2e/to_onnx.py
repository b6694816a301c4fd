"""Writes programs with the operator as ONNX models that carry what they need to run anywhere."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.export import ExportedProgram

try:
    import onnx
    import onnxscript as _onnxscript  # noqa: F401 - torch needs it
except ImportError as error:
    raise ImportError(
        f'bytenorm.torch.to_onnx needs {error.name}: pip install "bytenorm[torch]"', name=error.name
    ) from None

from ..._errors import bad_type, bad_value
from ..._files.writing import as_path, require_place
from ...onnx.graph.graph import all_graphs, opset_of
from ...onnx.lowering.lower import IR_VERSION
from ...onnx.model.files import save_model
from ...onnx.operators.functions import add_functions
from ...onnx.operators.schema import ADD, CONCAT, DOMAIN, SINGLE, norm_schema
from ..operators import batch_norm as _operator  # noqa: F401 - registers it
from ..operators import concat_and_add as _fused  # noqa: F401 - registers its operators

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

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
    """Write a program as an ONNX model, each of its norms as one node of the domain ``bytenorm``.

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
        raise bad_type(
            "program",
            f"must be a torch.export.ExportedProgram{wanted and f' ({wanted})'}, got {type(program).__name__}",
        )
    if not isinstance(opset, int) or isinstance(opset, bool):
        raise bad_type("opset", f"must be an int, got {type(opset).__name__}")
    if opset < _OLDEST_OPSET:
        raise bad_value("opset", f"must be {_OLDEST_OPSET} or newer, got {opset}")
    if path is not None:  # found out before the work
        target = as_path(path, "path", "a path")
        require_place(target, f"path {str(target)!r}", force)
    with warnings.catch_warnings():  # of its own trees
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        symbolic = program.run_decompositions(
            {
                torch.ops.bytenorm.batch_norm.default: _symbolic,
                torch.ops.bytenorm.batch_norm.per_channel: _symbolic,
                torch.ops.bytenorm.concat_batch_norm.default: _symbolic_concat,
                torch.ops.bytenorm.add_batch_norm.default: _symbolic_add,
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


class _Norm(NamedTuple):
    """What the three operators end with."""

    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor
    var: Tensor
    eps: float
    y_scale: float
    y_zero_point: int
    output_dtype: torch.dtype
    relu: bool

    def parameters(self) -> tuple[Tensor, ...]:
        return (
            torch.ones_like(self.mean, dtype=torch.float32)
            if self.weight is None
            else self.weight.to(torch.float32),
            torch.zeros_like(self.mean, dtype=torch.float32) if self.bias is None else self.bias.to(torch.float32),
            self.mean.to(torch.float32),
            self.var.to(torch.float32),
        )

    def attributes(self, x: Tensor) -> dict[str, Any]:
        return {"epsilon": self.eps, "channels_last": int(x.dim() > 2), "relu": int(self.relu)}


def _symbolic(
    x: Tensor,
    x_scale: float | Tensor,
    x_zero_point: int | Tensor,
    *rest: Any,
) -> Tensor:
    """Compute nothing: stand for the ONNX operator where the program calls torch's.

    Between a pair of transposes, as :mod:`bytenorm.onnx` writes it, the operator joins the channels-last chain
    that ONNX Runtime makes of 8-bit convolutions. `contiguous` becomes nothing there; without it torch would see
    a channels-last tensor, and for these it writes some of its own operators in a roundabout way.
    """
    norm = _Norm(*rest)
    x = _channels_last(x)
    inputs = (
        x,
        _as_tensor(x_scale, torch.float32),
        _as_tensor(x_zero_point, x.dtype),
        *norm.parameters(),
        *_scalars(norm.y_scale, norm.y_zero_point, norm.output_dtype),
    )
    y: Tensor = torch.onnx.ops.symbolic(
        f"{DOMAIN}::{SINGLE.operator}",
        inputs,
        norm.attributes(x),
        dtype=norm.output_dtype,
        shape=x.shape,
        version=1,
    )
    return _channels_first(y)


def _symbolic_concat(
    pieces: Sequence[Tensor],
    scales: Sequence[float],
    zero_points: Sequence[int],
    *rest: Any,
) -> Tensor:
    """Stand for the ONNX operator of a concatenation in the same way."""
    norm = _Norm(*rest)
    pieces = [_channels_last(piece) for piece in pieces]
    first = pieces[0]
    inputs = (
        *norm.parameters(),
        *_scalars(norm.y_scale, norm.y_zero_point, norm.output_dtype),
        torch.stack([_as_tensor(scale, torch.float32) for scale in scales]),
        torch.stack([_as_tensor(zero_point, first.dtype) for zero_point in zero_points]),
        *pieces,
    )
    channels = first.dim() - 1
    y: Tensor = torch.onnx.ops.symbolic(
        f"{DOMAIN}::{CONCAT.operator}",
        inputs,
        {**norm.attributes(first), "pool": 0},
        dtype=norm.output_dtype,
        shape=[*first.shape[:channels], sum(piece.shape[channels] for piece in pieces)],
        version=1,
    )
    return _channels_first(y)


def _symbolic_add(
    a: Tensor,
    a_scale: float,
    a_zero_point: int,
    b: Tensor,
    b_scale: float,
    b_zero_point: int,
    sum_scale: float,
    sum_zero_point: int,
    *rest: Any,
) -> tuple[Tensor, Tensor]:
    """Stand for the ONNX operator of a sum in the same way."""
    norm = _Norm(*rest)
    a, b = _channels_last(a), _channels_last(b)
    inputs = (
        a,
        *_scalars(a_scale, a_zero_point, a.dtype),
        b,
        *_scalars(b_scale, b_zero_point, b.dtype),
        *norm.parameters(),
        *_scalars(sum_scale, sum_zero_point, a.dtype),
        *_scalars(norm.y_scale, norm.y_zero_point, norm.output_dtype),
    )
    y, total = torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::{ADD.operator}",
        inputs,
        {**norm.attributes(a), "with_sum": 1, "exact_sum": 0},
        dtypes=(norm.output_dtype, a.dtype),
        shapes=(a.shape, a.shape),
        version=1,
    )
    return _channels_first(y), _channels_first(total)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, *range(2, x.dim()), 1).contiguous() if x.dim() > 2 else x


def _channels_first(y: Tensor) -> Tensor:
    return y.permute(0, y.dim() - 1, *range(1, y.dim() - 1)).contiguous() if y.dim() > 2 else y


def _scalars(scale: float, zero_point: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return _as_tensor(scale, torch.float32), _as_tensor(zero_point, dtype)


def _as_tensor(value: float | Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if isinstance(value, torch.Tensor) else torch.full((), value, dtype=dtype)


def _finish(model: onnx.ModelProto) -> None:
    """Give a model the functions, its norms their names, and the oldest IR version that it can have."""
    graphs = list(all_graphs(model.graph))
    for graph in graphs:
        _drop_metadata(graph)  # newer than that version, and full of paths of the machine that exports
    if opset_of(model) <= _NEWEST_OPSET_OF_OLD_IR and not _has_4_bit_tensors(model):
        model.ir_version = IR_VERSION
    nodes = [node for graph in graphs for node in graph.node]
    add_functions(model)
    taken = {node.name for node in nodes}
    for node in nodes:
        schema = norm_schema(node)
        if schema is None:
            continue
        module = schema.of(node, "input_mean").rpartition(".")[0]
        wanted = f"{module}/{node.op_type}".lstrip("/")
        if wanted not in taken:
            node.name = wanted
            taken.add(wanted)
    onnx.checker.check_model(model)


def _has_4_bit_tensors(model: onnx.ModelProto) -> bool:
    return any(t.data_type in (onnx.TensorProto.UINT4, onnx.TensorProto.INT4) for t in model.graph.initializer)


def _drop_metadata(graph: onnx.GraphProto) -> None:
    for values in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        for value in values:
            del value.metadata_props[:]
    del graph.metadata_props[:]
