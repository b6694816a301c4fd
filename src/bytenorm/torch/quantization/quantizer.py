"""A quantizer for the export flow that takes the batch norms which other quantizers leave in float."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..._errors import bad_type, bad_value
from ..pt2e.graph import operator_name
from ..pt2e.norms import activation_limits, find_norms
from .torchao import (
    FusedMovingAvgObsFakeQuantize,
    HistogramObserver,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
)

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from ..pt2e.norms import Norm

_KEY = "quantization_annotation"
_RANGES = {torch.uint8: (0, 255), torch.int8: (-128, 127)}
_SMALLEST_SCALE = 2**-12  # as X86InductorQuantizer has it: what differs is not shared

# What the flow itself merges with the norm behind it: before annotating, or in training behind the annotations.
_CONVOLUTIONS = {"aten::conv1d", "aten::conv2d", "aten::conv_transpose1d", "aten::conv_transpose2d"}


class BatchNormQuantizer(Quantizer):  # type: ignore[misc]
    """Quantizes the input and output of batch norms, together with the relu, relu6 or hardtanh behind them.

    Norms behind a convolution of one or two dimensions are left to the export flow, which merges them. Made to be
    composed, in a ``ComposableQuantizer``, with the quantizer of the rest; where both quantize a tensor in the
    same way, they share its observer.

    Parameters
    ----------
    dtype : torch.dtype, optional
        ``torch.uint8`` or ``torch.int8``.
    quant_min, quant_max : int, optional
        The codes that are used; by default all. ``X86InductorQuantizer`` has 0 and 127 with ``reduce_range``.
    is_qat : bool, optional
        Whether for ``prepare_qat_pt2e``: chooses the observer.
    observer : optional
        Class of observers or fake quantizers, or what its ``with_args`` returns, instead of
        ``HistogramObserver``, or ``FusedMovingAvgObsFakeQuantize`` for training.

    Raises
    ------
    TypeError
        If `is_qat` is no bool, or a limit no int.
    ValueError
        If `dtype` is another, or `quant_min` and `quant_max` are no range in it.

    Examples
    --------
    >>> from torchao.quantization.pt2e.quantizer import ComposableQuantizer
    >>> from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    ...     X86InductorQuantizer, get_default_x86_inductor_quantization_config,
    ... )
    >>> from bytenorm.torch import BatchNormQuantizer
    >>> rest = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())
    >>> quantizer = ComposableQuantizer([rest, BatchNormQuantizer()])
    """

    def __init__(
        self,
        *,
        dtype: torch.dtype = torch.uint8,
        quant_min: int | None = None,
        quant_max: int | None = None,
        is_qat: bool = False,
        observer: Any = None,
    ) -> None:
        super().__init__()
        if dtype not in _RANGES:
            raise bad_value("dtype", f"must be torch.uint8 or torch.int8, got {dtype}")
        if not isinstance(is_qat, bool):
            raise bad_type("is_qat", f"must be a bool, got {type(is_qat).__name__}")
        smallest, largest = _RANGES[dtype]
        limits = []
        for name, value, default in (("quant_min", quant_min, smallest), ("quant_max", quant_max, largest)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise bad_type(name, f"must be an int, got {type(value).__name__}")
            limits.append(default if value is None else value)
        if not smallest <= limits[0] < limits[1] <= largest:
            raise bad_value(
                "quant_min",
                f"and quant_max must be a range within {smallest} to {largest}, got {limits[0]} to {limits[1]}",
            )
        if observer is None:
            kind = FusedMovingAvgObsFakeQuantize if is_qat else HistogramObserver
            observer = kind.with_args(eps=_SMALLEST_SCALE)
        self._spec = QuantizationSpec(
            dtype=dtype,
            observer_or_fake_quant_ctr=observer,
            quant_min=limits[0],
            quant_max=limits[1],
            qscheme=torch.per_tensor_affine,
        )

    def annotate(self, model: GraphModule) -> GraphModule:
        """Annotate the norms that no other quantizer has annotated before.

        Parameters
        ----------
        model : torch.fx.GraphModule

        Returns
        -------
        torch.fx.GraphModule
            The same.

        Examples
        --------
        >>> import torch
        >>> from bytenorm.torch import BatchNormQuantizer
        >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm2d(1)).eval()
        >>> graph = torch.export.export(net, (torch.ones(1, 1, 2, 2),)).module()
        >>> annotated = BatchNormQuantizer().annotate(graph)
        >>> sum("quantization_annotation" in node.meta for node in annotated.graph.nodes)
        1
        """
        for norm in find_norms(model.graph):
            last = _activation(norm) or norm.output
            nodes = {norm.node, norm.output, last}
            if _is_merged(norm) or any(_is_annotated(node) for node in nodes) or not _is_float32(norm.input):
                continue
            for node in nodes:
                node.meta[_KEY] = _annotation()
            norm.node.meta[_KEY].input_qspec_map[norm.input] = self._spec
            last.meta[_KEY].output_qspec = self._spec
        return model

    def validate(self, model: GraphModule) -> None:
        """Do nothing: whatever was annotated is supported.

        Parameters
        ----------
        model : torch.fx.GraphModule

        Examples
        --------
        >>> import torch
        >>> from bytenorm.torch import BatchNormQuantizer
        >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm2d(1)).eval()
        >>> graph = torch.export.export(net, (torch.ones(1, 1, 2, 2),)).module()
        >>> BatchNormQuantizer().validate(graph)
        """


def _activation(norm: Norm) -> Node | None:
    """Return the activation that alone reads what a norm makes."""
    reader = next(iter(norm.output.users))
    return reader if len(norm.output.users) == 1 and activation_limits(reader) is not None else None


def _is_merged(norm: Norm) -> bool:
    """Say whether the flow merges a norm with the convolution before it."""
    has_all = norm.weight is not None and norm.bias is not None
    return has_all and operator_name(norm.input) in _CONVOLUTIONS and len(norm.input.users) == 1


def _is_annotated(node: Node) -> bool:
    return _KEY in node.meta and bool(node.meta[_KEY]._annotated)


def _is_float32(node: Node) -> bool:
    value = node.meta.get("val")
    return not isinstance(value, torch.Tensor) or value.dtype == torch.float32


def _annotation() -> Any:
    """Return an empty annotation, of a class that X86InductorQuantizer knows where there is that class."""
    try:
        from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (  # type: ignore[import-untyped] # noqa: PLC0415
            _X86InductorQuantizationAnnotation,
        )
    except ImportError:
        return QuantizationAnnotation(_annotated=True)
    return _X86InductorQuantizationAnnotation(_annotated=True)
