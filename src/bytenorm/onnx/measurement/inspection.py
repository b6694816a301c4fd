"""What a model's batch norms are, what feeds them and how they run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ..._text_table import text_table
from ..folding.backward import layer_to_fold_into
from ..folding.forward import WayForward, way_forward
from ..fusion.concats_and_sums import find_patterns
from ..graph.graph import Graph, label, opset_of, what_feeds
from ..graph.quantized import is_quantized
from ..lowering.into_layers import movable
from ..lowering.uint8_activations import make_unsigned
from ..model.constant_inputs import free_initializers
from ..model.files import load_model, without_functions
from ..norms.code_paths import CodePaths
from ..norms.conversions import unify
from ..norms.find import find_hidden, find_norms, is_prepared, tensors_read
from ..norms.float_graph import plain
from ..operators.schema import DOMAIN

if TYPE_CHECKING:
    import os

    import onnx

    from ..fusion.concats_and_sums import Pattern
    from ..norms.norm import Norm


@dataclass(frozen=True)
class BatchNormInfo:
    """One batch norm of a model.

    Attributes
    ----------
    name : str
    channels : int or None
        None if the graph does not say.
    written : str
        How the graph spells it: ``BatchNormalization``, ``Mul+Add`` and the like, ``QLinearMul+QLinearAdd``, or,
        lowered, ``QLinearBatchNormalization``, ``depthwise Conv`` or ``depthwise QLinearConv``.
    reads : str
        The operator and the node that feed it, or ``input`` and its name; of a fused norm all that it reads.
    activation : str
        ``Relu``, ``Clip`` or empty.
    runs_in : str
        ``float`` or ``8-bit``.
    folds_into : str
        The node whose weights can take the norm up, or the nodes behind the norm that all can; empty if there is
        none. Behind it :func:`bytenorm.onnx.quantize` lets a norm stay where 8-bit weights cannot hold its gains.
    reason : str
        Why the layer before it cannot take it up.
    lowerable : bool
        Whether :func:`bytenorm.onnx.lower` can let it run in 8 bits where it stands.
    problem : str
        Why not, if not.
    pattern : str
        What the fused lowering computes in one operator, or has, in a quantized model. ``concat``: the norm and
        the concatenation that it reads; ``concat + pool``: the averages behind its convolution, too; ``add``: the
        norm and the sum that it reads; ``single``: the norm for itself. Empty in a float model, and if the norm
        cannot be lowered.
    unfused : str
        Why it is single, where it is not lowered yet.
    forward : bool
        Whether `folds_into` is behind the norm.
    reason_forward : str
        Why the layers behind it cannot take it up; empty if they can, if the one before it can, or if it reads
        8-bit data.

    Examples
    --------
    >>> from bytenorm import onnx as bno
    >>> norm = bno.inspect(bno.digits_model()).norms[0]
    >>> norm.name, norm.channels, norm.runs_in, norm.reads
    ('input/norm', 1, 'float', 'input image')
    """

    name: str
    channels: int | None
    written: str
    reads: str
    activation: str
    runs_in: str
    folds_into: str
    reason: str
    lowerable: bool
    problem: str
    pattern: str = ""
    unfused: str = ""
    forward: bool = False
    reason_forward: str = ""

    def folds(self) -> str:
        """Return where the norm folds, or why nowhere, as tables show it.

        Returns
        -------
        str

        Examples
        --------
        >>> from bytenorm import onnx as bno
        >>> bno.inspect(bno.digits_model()).norms[1].folds()
        'Conv stem/conv'
        """
        if self.folds_into:
            return (
                f"the next layer{'s' * (' and ' in self.folds_into)} {self.folds_into}"
                if self.forward
                else self.folds_into
            )
        # An activation behind it stands beside it.
        forward = f"; forward: {self.reason_forward}" if self.reason_forward and not self.activation else ""
        return f"no: {self.reason}{forward}"


@dataclass(frozen=True)
class Inspection:
    """All batch norms of a model, and what surrounds them. It prints as a table.

    Attributes
    ----------
    norms : tuple of BatchNormInfo
        In the order of the graph.
    opset, ir_version : int
    quantized : bool
        Whether any tensor of the model is quantized, constants apart.
    note : str
        Which inputs have values of their own, which a caller may replace; they are read as constants.

    Examples
    --------
    >>> from bytenorm import onnx as bno
    >>> found = bno.inspect(bno.digits_model())
    >>> len(found.norms), found.quantized
    (12, False)
    >>> print(found.summary())
    12 batch norms: 12 in float, 0 in 8 bits; 3 can be folded
    """

    norms: tuple[BatchNormInfo, ...]
    opset: int
    ir_version: int
    quantized: bool
    note: str = ""

    @property
    def in_float(self) -> tuple[BatchNormInfo, ...]:
        """The norms that run in float."""
        return tuple(n for n in self.norms if n.runs_in == "float")

    @property
    def foldable(self) -> tuple[BatchNormInfo, ...]:
        """The norms that a layer before them can take up, or the layers behind them."""
        return tuple(n for n in self.norms if n.folds_into)

    def summary(self) -> str:
        """Return the counts in one line.

        Returns
        -------
        str

        Examples
        --------
        >>> from bytenorm import onnx as bno
        >>> bno.inspect(bno.digits_model()).summary()
        '12 batch norms: 12 in float, 0 in 8 bits; 3 can be folded'
        """
        if not self.norms:
            return "no batch norm found"
        return (
            f"{len(self.norms)} batch norm{'s' * (len(self.norms) != 1)}: {len(self.in_float)} in float, "
            f"{len(self.norms) - len(self.in_float)} in 8 bits; {len(self.foldable)} can be folded"
        )

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table's rows.

        Returns
        -------
        list of tuple of str
            A text for each column of the table that ``str`` gives.

        Examples
        --------
        >>> from bytenorm import onnx as bno
        >>> bno.inspect(bno.digits_model()).rows()[0][:5]
        ('input/norm', '1', 'BatchNormalization', 'input image', 'float')
        """
        return [
            (
                n.name,
                "?" if n.channels is None else str(n.channels),
                n.written + (f" + {n.activation}" if n.activation else ""),
                n.reads,
                n.runs_in,
                n.folds(),
            )
            for n in self.norms
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data for JSON.

        Returns
        -------
        dict
            By the names of the attributes; a norm is a dict, too.

        Examples
        --------
        >>> from bytenorm import onnx as bno
        >>> sorted(bno.inspect(bno.digits_model()).to_dict())
        ['ir_version', 'norms', 'note', 'opset', 'quantized']
        """
        return asdict(self)

    def __str__(self) -> str:
        table = [text_table(COLUMNS, self.rows())] if self.norms else []
        return "\n".join([*table, self.summary(), *([self.note] if self.note else [])])


COLUMNS = ("norm", "channels", "written as", "reads", "runs in", "folds into")


def inspect(model_or_path: onnx.ModelProto | str | os.PathLike[str]) -> Inspection:
    """List the batch norms of a model.

    Parameters
    ----------
    model_or_path : onnx.ModelProto or path
        A float or quantized model.

    Returns
    -------
    Inspection

    Raises
    ------
    TypeError, ValueError
        If this is no model, names what is wrong with it.

    Examples
    --------
    >>> from bytenorm import onnx as bno
    >>> found = bno.inspect(bno.digits_model())
    >>> print(found.summary())
    12 batch norms: 12 in float, 0 in 8 bits; 3 can be folded
    >>> [norm.name for norm in found.norms if norm.folds_into]
    ['stem/norm', 'residual1/norm2', 'residual2/norm2']
    >>> found.norms[2].reason
    'it reads the MaxPool stem/pool'
    """
    model = without_functions(load_model(model_or_path), DOMAIN)
    opset, ir_version = opset_of(model), model.ir_version
    note = free_initializers(model)
    graph = unify(Graph(model))
    if not is_quantized(graph):
        graph = plain(graph)
    paths = CodePaths(graph)
    norms = find_norms(graph, source=paths.source)
    if paths.mixes:  # as when it is lowered
        make_unsigned(graph)
        norms = find_norms(graph, source=CodePaths(graph).source)
    patterns = find_patterns(graph, (norm.site() for norm in norms if _is_lowerable(norm)))
    infos = [_info(graph, norm, next(patterns) if _is_lowerable(norm) else None) for norm in norms]
    taken = movable(graph) if is_quantized(graph) else ()
    infos = [replace(info, lowerable=True, problem="") if info.name in taken else info for info in infos]
    for inner, outer in find_hidden(graph):
        where = f"in a subgraph of the {outer.op_type} {label(outer)}"
        infos.append(
            BatchNormInfo(label(inner), None, "BatchNormalization", where, "", "float", "", where, False, where)
        )
    if is_prepared(model):
        hidden = "some norms are in disguise: restore() brings them back" + (
            "" if is_quantized(graph) else ", once a quantizer has been here"
        )
        note = f"{note}; {hidden}" if note else hidden
    return Inspection(tuple(infos), opset, ir_version, is_quantized(graph), note)


def _is_lowerable(norm: Norm) -> bool:
    return not norm.lowered and not norm.problem


def _info(graph: Graph, norm: Norm, pattern: Pattern | None) -> BatchNormInfo:
    layer, reason = layer_to_fold_into(graph, norm)
    runs_in_8_bits = norm.lowered or norm.written.startswith("QLinear")
    in_float = not runs_in_8_bits and norm.source is None
    way = way_forward(graph, norm) if layer is None and in_float else WayForward()
    layers = [layer] if layer is not None else [ahead.node for ahead in way.layers]
    return BatchNormInfo(
        name=norm.name,
        channels=norm.channels,
        written=norm.written,
        reads=" and ".join(dict.fromkeys(what_feeds(graph, tensor) for tensor in tensors_read(norm))),
        activation=norm.activation.op_type if norm.activation is not None else "",
        runs_in="8-bit" if runs_in_8_bits else "float",
        folds_into=" and ".join(f"{node.op_type} {label(node)}" for node in layers),
        reason=reason,
        lowerable=_is_lowerable(norm),
        problem=norm.problem,
        pattern=pattern.name if pattern is not None else norm.pattern,
        unfused=pattern.reason if pattern is not None else "",
        forward=bool(way.layers),
        reason_forward=way.reason,
    )
