"""The `extra_options` of ONNX Runtime's static quantizer: which are handed through, and which are refused.

The quantizer takes any dict and ignores what it does not know, or what the format or the method of the ranges does
not read. Here each option that is handed through does what it says, together with all that is done around the
quantizer; everything else is refused by name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quant_utils

from ... import _checks
from ..._errors import Argument, bad_type, bad_value
from ..graph.conversion_pairs import contribute, dedicate
from ..graph.named_nodes import meant
from . import extra_values

if TYPE_CHECKING:
    import onnx

_ARGUMENT = "extra_options"
# Those by which the quantizer chooses a scale and a zero point, given a range.
_SHAPING = (
    "ActivationSymmetric",
    "ActivationRestrictedAsymmetric",
    "CalibTensorRangeSymmetric",
    "MinimumRealRange",
)
# Those that choose ranges.
_OF_RANGES = ("CalibMovingAverage", "CalibPercentile")
# What ONNX Runtime's calibrator has to do itself.
_OF_CALIBRATOR = ("CalibTensorRangeSymmetric", "CalibMovingAverage")

_SUBGRAPHS = "the static quantizer leaves subgraphs in float"
_SMOOTH = (
    "it would move scales through norms in disguise; give quantize() the model that neural_compressor's "
    "ORTSmoothQuant makes"
)
_BLOCKS = "the quantizer takes blocks of weights with two axes alone, and norms go through it as convolutions"
_REFUSED = {
    "EnableSubgraph": _SUBGRAPHS,
    "SmoothQuant": _SMOOTH,
    "SmoothQuantAlpha": _SMOOTH,
    "SmoothQuantFolding": _SMOOTH,
    "BlockSize": _BLOCKS,
}


def _holds(codes: np.dtype[Any], number: float) -> bool:
    try:
        return float(np.asarray(number).astype(codes)) == number
    except (OverflowError, ValueError):
        return False


@dataclass(frozen=True)
class _Option:
    check: Callable[[object, str], object]
    quant_format: str | None = None  # which alone reads it
    default: object = False  # by which nothing happens


_OPTIONS = {
    "ActivationSymmetric": _Option(_checks.flag),
    "ActivationRestrictedAsymmetric": _Option(_checks.flag),
    "WeightSymmetric": _Option(_checks.flag, default=None),
    "ForceQuantizeNoInputCheck": _Option(_checks.flag),
    "MatMulConstBOnly": _Option(_checks.flag, "QOperator"),
    "extra.Sigmoid.nnapi": _Option(_checks.flag, "QOperator"),
    "DefaultTensorType": _Option(_checks.integer, "QOperator", None),
    "AddQDQPairToWeight": _Option(_checks.flag, "QDQ"),
    "QuantizeBias": _Option(_checks.flag, "QDQ", True),
    "DedicatedQDQPair": _Option(_checks.flag, "QDQ"),
    "UseQDQContribOps": _Option(_checks.flag, "QDQ"),
    "QDQKeepRemovableActivations": _Option(_checks.flag, "QDQ"),
    "QDQDisableWeightAdjustForInt32Bias": _Option(_checks.flag, "QDQ"),
    "OpTypesToExcludeOutputQuantization": _Option(extra_values.types, "QDQ", []),
    "QDQOpTypePerChannelSupportToAxis": _Option(extra_values.axes, "QDQ", {}),
    "TensorQuantOverrides": _Option(extra_values.overrides, default={}),
    "MinimumRealRange": _Option(extra_values.width, default=None),
    "CalibTensorRangeSymmetric": _Option(_checks.flag),
    "CalibPercentile": _Option(extra_values.percentile, default=None),
    "CalibMovingAverage": _Option(_checks.flag),
    "CalibMovingAverageConstant": _Option(extra_values.share, default=None),
    "CalibStridedMinMax": _Option(extra_values.count, default=None),
    "CalibMaxIntermediateOutputs": _Option(extra_values.count, default=None),
}


@dataclass(frozen=True)
class ExtraOptions:
    """Options that were checked; those that say what happens anyway are not among them."""

    values: Mapping[str, Any] = field(default_factory=dict)
    types: tuple[QuantType, QuantType] = (QuantType.QUInt8, QuantType.QInt8)  # of activations, and of weights

    def handed(self, constants: Container[str] = ()) -> dict[str, Any]:
        """Return what the quantizer is given, which may change it, for a model with constants of these names.

        CalibMaxIntermediateOutputs and CalibStridedMinMax are to save memory, of which nothing is taken here. ONNX
        Runtime 1.32 drops what it has seen for the first, instead of counting it, and the second changes the range
        only where one is an average. DedicatedQDQPair is for :meth:`spell`: the quantizer's own way to it takes
        the Clip before an output of the model away, and leaves that output in float.
        """
        needless = {"CalibMaxIntermediateOutputs", "DedicatedQDQPair"}
        if "CalibMovingAverage" not in self.values:
            needless.add("CalibStridedMinMax")
        handed = copy.deepcopy({name: value for name, value in self.values.items() if name not in needless})
        if self.overrides:
            handed["TensorQuantOverrides"] = {
                tensor: self.override(tensor, constant=tensor in constants) for tensor in self.overrides
            }
        return handed

    def override(self, tensor: str, *, constant: bool) -> list[dict[str, Any]]:
        """Return what is said of a tensor, in the arrays that the quantizer asks for."""
        made = []
        for said in self.overrides[tensor]:
            one = copy.deepcopy(said)
            kind = one.get("quant_type", self.types[constant])
            for key in one.keys() & {"scale", "rmin", "rmax"}:
                one[key] = np.asarray(one[key], np.float32)
            if "zero_point" in one:
                codes = helper.tensor_dtype_to_np_dtype(kind.tensor_type)
                if not float(one["zero_point"]).is_integer() or not _holds(codes, float(one["zero_point"])):
                    raise bad_value(
                        _ARGUMENT,
                        f": TensorQuantOverrides[{tensor!r}] must have a zero_point in {codes}, got "
                        f"{one['zero_point']!r}",
                    )
                one["zero_point"] = np.asarray(one["zero_point"]).astype(codes)
            made.append(one)
        return made

    def require_batches(self, count: int) -> None:
        """Require of data that it can be cut as CalibStridedMinMax wants it."""
        stride = self.handed().get("CalibStridedMinMax")
        if stride is not None and count % stride:
            raise bad_value(_ARGUMENT, f": CalibStridedMinMax: {count} batches cannot be divided by {stride}")

    @property
    def overrides(self) -> Mapping[str, list[dict[str, Any]]]:
        """What is said of single tensors."""
        said: Mapping[str, list[dict[str, Any]]] = self.values.get("TensorQuantOverrides", {})
        return said

    @property
    def choose_ranges(self) -> bool:
        """Whether they say how ranges are found: nothing else is tried then."""
        return any(name in self.values for name in _OF_RANGES)

    @property
    def want_the_calibrator(self) -> bool:
        """Whether ranges are none of single batches."""
        return any(name in self.values for name in _OF_CALIBRATOR)

    @property
    def shape_qparams(self) -> bool:
        """Whether they say which scale and zero point belong to a range."""
        return any(name in self.values for name in _SHAPING)

    def spell(self, model: onnx.ModelProto) -> None:
        """Write the conversions of a model as they are wanted, in place."""
        if self.values.get("DedicatedQDQPair"):
            dedicate(model)
        if self.values.get("UseQDQContribOps"):
            contribute(model)

    @property
    def without_output(self) -> Sequence[str]:
        """The types of operators whose outputs are not quantized."""
        types: Sequence[str] = self.values.get("OpTypesToExcludeOutputQuantization", ())
        return types

    def qparams(self, low: float, high: float, *, signed: bool) -> tuple[float, int]:
        """Return the scale and the zero point of an activation in a range, as the quantizer would."""
        values = self.values
        if values.get("CalibTensorRangeSymmetric"):
            low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
        ends = np.float32(low), np.float32(high)
        symmetric, least = values.get("ActivationSymmetric", False), values.get("MinimumRealRange")
        if values.get("ActivationRestrictedAsymmetric"):
            zero, scale = quant_utils.snap_zero_point_to_uint8(*ends, min_real_range=least)
        else:
            kind = TensorProto.INT8 if signed else TensorProto.UINT8
            codes = quant_utils.get_qmin_qmax_for_qType(kind, symmetric=symmetric)
            zero, scale = quant_utils.compute_scale_zp(*ends, *codes, symmetric, least)
        return float(scale), int(zero)

    def of_calibrator(self) -> dict[str, Any]:
        """Return what ONNX Runtime's calibrator calls those that it knows."""
        names = {"CalibPercentile": "percentile", "CalibTensorRangeSymmetric": "symmetric"}
        return {key: self.values[name] for name, key in names.items() if name in self.values}


def check_extra_options(
    extra_options: object,
    *,
    quant_format: str,
    activation_type: str,
    weight_type: str,
    per_channel: bool,
    calibrate_method: str | None,
    method: str | None,
) -> ExtraOptions:
    """Return the options, or refuse one.

    Raises
    ------
    TypeError
        If they are no dict, or a value is of another type than the quantizer takes.
    ValueError
        If one is unknown, cannot be honoured, or contradicts another argument; names it and says why.
    """
    if extra_options is None:
        return ExtraOptions()
    if not isinstance(extra_options, Mapping):
        raise bad_type(_ARGUMENT, f"must be a dict of options by name, got {type(extra_options).__name__}")
    values: dict[str, Any] = {}
    for name, value in extra_options.items():
        if name in _REFUSED:
            if value:
                raise bad_value(_ARGUMENT, f": {name} is not handed through: {_REFUSED[name]}")
            continue
        option = _OPTIONS.get(name)
        if option is None:
            there = meant(str(name), _OPTIONS) or f"; there are {', '.join(sorted(_OPTIONS))}"
            raise bad_value(_ARGUMENT, f": {name!r} is unknown{there}")
        if value is None and option.default is None:
            continue
        checked = option.check(value, f"{_ARGUMENT}: {name}")
        if checked == option.default:
            continue
        if option.quant_format not in (None, quant_format):
            raise bad_value(_ARGUMENT, f": {name} is for the format {option.quant_format}, not {quant_format}")
        values[name] = checked
    _require_sense(values, activation_type, calibrate_method, method, per_channel=per_channel)
    types = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
    return ExtraOptions(values, (types[activation_type], types[weight_type]))


def _require_sense(
    values: Mapping[str, Any],
    activation_type: str,
    calibrate_method: str | None,
    method: str | None,
    *,
    per_channel: bool,
) -> None:
    """Refuse options that would have no effect, or that say the opposite of another argument."""

    def refuse(name: str, *why: str | Argument) -> None:
        if name in values:
            raise bad_value(_ARGUMENT, f": {name} ", *why)

    if activation_type != "uint8":
        refuse("ActivationRestrictedAsymmetric", f"is for uint8 activations, not {activation_type}")
    if "ActivationSymmetric" in values:
        refuse("ActivationRestrictedAsymmetric", "has no effect beside ActivationSymmetric")
    if calibrate_method != "percentile":
        refuse(
            "CalibPercentile",
            "must come with ",
            Argument("calibrate_method", "percentile"),
            f", got {calibrate_method!r}",
        )
    if calibrate_method not in (None, "minmax"):
        refuse(
            "CalibMovingAverage",
            "must come with ",
            Argument("calibrate_method", "minmax"),
            f", got {calibrate_method!r}",
        )
    if "CalibMovingAverage" not in values:
        refuse("CalibMovingAverageConstant", "has no effect without CalibMovingAverage")
    if not per_channel:
        refuse("QDQOpTypePerChannelSupportToAxis", "has no effect beside ", Argument("per_channel", False))
    if method is not None:
        for name in _SHAPING:
            if name != "ActivationSymmetric":
                refuse(
                    name,
                    "contradicts ",
                    Argument("method", method),
                    ", which chooses the scales of norms' outputs itself",
                )
    without = values.get("OpTypesToExcludeOutputQuantization", ())
    if "BatchNormalization" in without:
        refuse(
            "OpTypesToExcludeOutputQuantization",
            "names BatchNormalization: a norm without an 8-bit output runs in float, see ",
            Argument("nodes_to_exclude"),
        )
    if {"Conv", "ConvTranspose"} <= set(without):
        refuse(
            "OpTypesToExcludeOutputQuantization",
            "names Conv and ConvTranspose: norms go through the quantizer as the one or the other",
        )
