"""Every check of an argument and every error message.

Each function takes what a caller passed and returns it in the one form that the rest of the package works
with, or raises a ValueError (values, shapes) or TypeError (types) that names the argument, what came and what
was wanted. The usual call never comes here: the native code checks it and asks for words only when it refuses.
"""

from __future__ import annotations

import operator
from typing import Any, NoReturn

import numpy as np

from . import _core
from ._dtypes import DType, dtype_of, qint8, quint8
from ._errors import bad, bad_type, bad_value


def missing(name: str) -> NoReturn:
    """Refuse a call without a required argument."""
    raise bad_type(name, "is required and has no default, got None or nothing")


def is_a(value: object, *kinds: type) -> bool:
    """Whether a value is of one of these classes, by its type alone.

    What an object answers for its class, which `isinstance` believes, may be untrue or raise anything.
    """
    return issubclass(type(value), kinds)


def _without_data(value: object) -> bool:
    """Whether this is a QuantizedTensor whose __init__ was not called: it must be asked for nothing."""
    return is_a(value, _core.Tensor) and not _core.is_tensor(value)


def _attribute(value: object, name: str) -> Any:
    """Return an attribute of any object, None if it has none or asking for it raises."""
    try:
        return None if _without_data(value) else getattr(value, name, None)
    except Exception:
        return None


def _shown(value: object) -> str:
    """Return a value as a message shows it: short, on one line, with its type where that is the question."""
    if _without_data(value):
        return "a QuantizedTensor without data"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever a foreign type raises: the message comes all the same
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def in_storage(value: Any, name: str) -> None:
    """Refuse a tensor of torch whose memory is smaller than its shape says: anybody may shrink a storage.

    What has no storage, or none of its own, passes.
    """
    storage = _attribute(value, "untyped_storage")
    if storage is None:
        return
    try:
        have = storage().nbytes()
        reach = sum((n - 1) * stride for n, stride in zip(value.shape, value.stride(), strict=True))
        needs = (value.storage_offset() + reach + 1) * value.element_size()
        short = value.numel() > 0 and have < needs
    except Exception:  # sparse, inside a transform, of another library: what reads it later says so
        return
    if short:
        raise bad_value(name, f"needs {needs} bytes of memory, and its storage has {have}")


def real(value: Any, name: str) -> float:
    """Return a real number as a float."""
    if type(value) is float:
        return value
    in_storage(value, name)
    kind = type(value)
    if is_a(value, np.ndarray, np.generic):
        good = value.ndim == 0 and value.dtype.kind in "fiu"
    else:
        good = hasattr(kind, "__float__") or hasattr(kind, "__index__")
        good = good and not is_a(value, bool) and not _attribute(value, "ndim")
    if good:
        try:
            return float(value)
        except OverflowError:
            raise bad_value(name, f"must fit a float, got {_shown(value)}") from None
        except Exception:  # whatever a foreign type raises: it is no real number
            pass
    raise bad_type(name, f"must be a real number, got {_shown(value)} of type {kind.__name__}")


def integer(value: object, name: str) -> int:
    """Return an integer as an int; 33.0 is none."""
    if type(value) is int:
        return value
    in_storage(value, name)
    if not is_a(value, bool, np.bool_):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except Exception:  # whatever a foreign type raises: it is no integer
            pass
    raise bad_type(name, f"must be an integer, got {_shown(value)} of type {type(value).__name__}")


def flag(value: object, name: str) -> bool:
    """Return a bool."""
    if is_a(value, bool, np.bool_):
        return bool(value)
    raise bad_type(name, f"must be True or False, got {_shown(value)} of type {type(value).__name__}")


def instance(value: object, kind: type, name: str) -> Any:
    """Return an object of that class."""
    if is_a(value, kind):
        return value
    raise bad_type(name, f"must be a bytenorm.{kind.__name__}, got {_shown(value)} of type {type(value).__name__}")


def scale(value: object, name: str) -> float:
    """Return a quantization scale: positive, finite, and invertible in float32."""
    number = real(value, name)
    if not 2.0**-126 <= number <= 2.0**126:  # within these a number needs no look at its float32
        scales(np.array([number]), name, scalar=True)
    return number


def scales(values: np.ndarray, name: str, *, scalar: bool = False) -> None:
    """Check scales in float64: positive, finite, and invertible in float32."""
    with np.errstate(all="ignore"):
        narrow = values.astype(np.float32)
        good = np.isfinite(narrow) & (narrow > 0) & np.isfinite(np.float32(1) / narrow)
    if not good.all():
        at = int(np.argmin(good))
        which = name if scalar else f"{name}[{at}]"
        raise bad_value(
            which, f"must be positive and finite in float32, and so must its reciprocal, got {values[at]!s}"
        )


def dtype(value: object, name: str) -> DType:
    """Return one of the two quantized types."""
    if value is quint8 or value is qint8:
        return value
    raise bad_type(name, f"must be bytenorm.quint8 or bytenorm.qint8, got {_shown(value)}")


def choice(value: object, choices: tuple[str, ...], name: str) -> str:
    """Return one of a few words."""
    if is_a(value, str) and value in choices:
        return str(value)
    kind = ValueError if is_a(value, str) else TypeError
    raise bad(kind, name, f"must be one of {', '.join(map(repr, choices))}, got {_shown(value)}")


def zero_point(value: object, kind: DType, name: str) -> int:
    """Return a zero point inside the range of its type."""
    number = integer(value, name)
    if not kind.qmin <= number <= kind.qmax:
        raise bad_value(name, f"must be from {kind.qmin} to {kind.qmax} for {kind!r}, got {number}")
    return number


def as_array(value: object, name: str, *, own_memory: bool = False) -> np.ndarray:
    """Return an ndarray over the value's own memory where it has one: arrays, DLPack on the CPU, buffers.

    With `own_memory` a copy is refused.
    """
    if is_a(value, np.ma.MaskedArray):
        raise bad_type(name, "must not be a masked array: its mask would be lost")
    array: Any = value
    if _without_data(value):
        raise bad_type(name, f"cannot be read as an array: it is {_shown(value)}")
    if is_a(value, np.ndarray):
        return array if type(array) is np.ndarray else array.view(np.ndarray)
    in_storage(value, name)
    try:
        array = _read_array(value, own_memory=own_memory)
    except _RefusedError as refused:
        raise bad_type(name, str(refused)) from None
    except Exception as error:  # whatever a foreign type raises: it is no array
        raise bad_type(name, f"cannot be read as an array: {error}{_remedy(value)}") from None
    return array  # type: ignore[no-any-return]


class _RefusedError(Exception):
    """What the user is told of an object that could be read, but must not be."""


def _read_array(value: Any, *, own_memory: bool) -> np.ndarray:
    negated = _attribute(value, "is_neg")
    if negated is not None and negated():  # torch's, by a bit that neither DLPack nor NumPy sees: conj().imag
        if own_memory:
            raise _RefusedError("must hold its numbers as they are, got a tensor that is negated lazily")
        value = value.resolve_neg()
    if _attribute(value, "untyped_storage") is not None and value.numel() > 0 and value.data_ptr() == 0:
        raise _RefusedError("has no memory that can be read, as tensors of shapes or of zeros alone have none")
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        device = int(value.__dlpack_device__()[0])
        if device != 1:
            raise _RefusedError(f"must be in the memory of the CPU, got DLPack device type {device}")
        try:
            array = np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError):
            pass  # a type or a state that DLPack does not carry: the array protocols may
        else:
            if own_memory and not array.flags.writeable:  # NumPy 1 makes every such array read-only
                other = np.asarray(value)
                return other if np.shares_memory(other, array) else array
            return array
    if own_memory and not hasattr(value, "__array_interface__"):
        raise _RefusedError(f"must be an array whose memory can be written, got {type(value).__name__}")
    return np.asarray(value)


def _remedy(value: object) -> str:
    """Return what to do with a quantized tensor of torch or with bare codes, as the end of a message."""
    kind = str(_attribute(value, "dtype")).split(".")[-1]
    if kind in ("uint8", "int8"):
        return "; wrap it: bytenorm.QuantizedTensor(codes, scale, zero_point)"
    if kind in ("quint8", "qint8"):
        return "; wrap it: bytenorm.QuantizedTensor(x.int_repr(), x.q_scale(), x.q_zero_point())"
    return ""


def parameter(value: object, name: str) -> np.ndarray:
    """Return a vector of real numbers as contiguous float32, each rounded once."""
    array = as_array(value, name)
    if array.dtype.kind not in "fiu":
        raise bad_type(name, f"must be real numbers, got {_shown(value)} of dtype {array.dtype}")
    if array.ndim != 1:
        raise bad_value(name, f"must be one-dimensional, one value a channel, got shape {array.shape}")
    with np.errstate(all="ignore"):
        narrow = np.require(array, np.float32, ["C", "ALIGNED"])
    bad = ~np.isfinite(narrow)
    if bad.any():
        at = int(np.argmax(bad))
        why = "overflows float32" if np.isfinite(array[at]) else "must be finite"
        raise bad_value(f"{name}[{at}]", f"{why}, got {array[at]!s}")
    return narrow


def epsilon(value: object, name: str) -> float:
    """Return what is added to a variance."""
    number = real(value, name)
    with np.errstate(all="ignore"):
        fits = number >= 0 and np.isfinite(np.float32(number))
    if not fits:
        raise bad_value(name, f"must not be negative and must be finite in float32, got {number}")
    return number


Parameters = tuple[np.ndarray | None, np.ndarray | None, np.ndarray, np.ndarray, float]


def norm_parameters(weight: object, bias: object, mean: object, var: object, eps: object) -> Parameters:
    """Return weight, bias, mean and var as float32 vectors of one length, and eps."""
    mean_ = parameter(mean, "mean")
    vectors: dict[str, np.ndarray | None] = {"mean": mean_}
    for name, value in (("weight", weight), ("bias", bias), ("var", var)):
        vectors[name] = None if value is None and name != "var" else parameter(value, name)
    for name, vector in vectors.items():
        if vector is not None and len(vector) != len(mean_):
            raise bad_value(name, f"has {len(vector)} values, but mean has {len(mean_)}: one a channel is wanted")
    eps_ = epsilon(eps, "eps")
    var_ = vectors["var"]
    assert var_ is not None
    if (var_ < 0).any():
        at = int(np.argmax(var_ < 0))
        raise bad_value(f"var[{at}]", f"must not be negative, got {var_[at]!s}")
    with np.errstate(all="ignore"):
        zero = var_ + np.float32(eps_) == 0
    if zero.any():
        at = int(np.argmax(zero))
        raise bad_value(f"var[{at}]", f"+ eps must be positive in float32, got var {var_[at]!s} and eps {eps_}")
    return vectors["weight"], vectors["bias"], mean_, var_, eps_


def axis(value: object, ndim: int, name: str) -> int:
    """Return an axis of an array of `ndim` dimensions, counted from the front."""
    number = integer(value, name)
    if not -ndim <= number < ndim:
        raise bad_value(name, f"must be from {-ndim} to {ndim - 1} for {ndim} dimensions, got {number}")
    return number % ndim


def any_axis(value: object, most: int, name: str) -> int:
    """Return an axis of an array that is not known yet, as it came."""
    number = integer(value, name)
    if not -most <= number < most:
        raise bad_value(name, f"must be from {-most} to {most - 1}, got {number}")
    return number


def quantized(value: object, name: str = "input") -> Any:
    """Return a QuantizedTensor."""
    if _core.is_tensor(value):
        tensor: Any = value
        if not tensor._fits:
            raise bad_value(name, "has other channels than scales: the shape of its data was assigned to")
        return tensor
    wanted = "must be a bytenorm.QuantizedTensor"
    if _without_data(value):
        raise bad_type(name, f"{wanted}, got one without data: its __init__ was not called")
    kind = _attribute(value, "dtype")
    came = type(value).__name__ if kind is None else f"{type(value).__name__} of {_shown(kind)}"
    remedy = _remedy(value)
    if "codes" in remedy:
        raise bad_type(name, f"{wanted}, got plain {kind} data without scale and zero point{remedy}")
    raise bad_type(name, f"{wanted}, got {came}{remedy or '; see bytenorm.quantize_per_tensor'}")


def norm_input(value: object, norm_axis: object, channels: int) -> tuple[Any, int]:
    """Return the input of a norm and its channel axis, counted from the front."""
    q = quantized(value)
    data = q.data
    if data.ndim < 2:
        raise bad_value("input", f"must have at least 2 dimensions, got shape {data.shape}")
    at = axis(norm_axis, data.ndim, "axis")
    if q.axis is not None and q.axis != at:
        raise bad_value(
            "input", f"is quantized per channel along axis {q.axis}, but its channels are on axis {at}"
        )
    if data.shape[at] != channels:
        raise bad_value(
            "input",
            f"has {data.shape[at]} channels on axis {at} (shape {data.shape}), but mean has {channels} values",
        )
    return q, at


def overflow(slope: np.ndarray, intercept: np.ndarray, of: str = "") -> None:
    """Refuse a fold, that of the input named `of`, whose slope or intercept is no finite float32."""
    scale_ = f"scale of {of}" if of else "input scale"
    for name, values, what in (
        ("slope", slope, f"weight / sqrt(var + eps) * {scale_} / output_scale"),
        ("intercept", intercept, "(bias - mean * weight / sqrt(var + eps)) / output_scale"),
    ):
        finite = np.isfinite(values)
        if not finite.all():
            subject = f"the {name} of channel {int(np.argmin(finite))}, {what},"
            raise bad_value(subject, "overflows float32", argument="output_scale")


def output(value: object, q: Any, kind: DType, out_scale: float, out_zero_point: int) -> Any:
    """Return `out`: None, an ndarray or a QuantizedTensor that can take the result for input `q`."""
    if value is None:
        return None
    result, array = _output(value, q.data.shape, "input's", kind, out_scale, out_zero_point)
    if not _same_memory(array, q.data) and _share_memory(array, q.data):
        raise bad_value("out", "must be the input's own memory or apart from it, got a partial overlap")
    return result


def _output(
    value: object,
    shape: tuple[int, ...],
    whose: str,
    kind: DType,
    out_scale: float,
    out_zero_point: int,
    name: str = "out",
    what: str = "output's",
) -> tuple[Any, np.ndarray]:
    """Return `out`, or the argument called `name`, as it came, or an ndarray over its memory, and that memory."""
    if is_a(value, _core.Tensor):
        result: Any = quantized(value, name)
        have = (result.dtype, result.scale if result.axis is None else "per channel", result.zero_point)
        wanted = (kind, out_scale, out_zero_point)
        if result.axis is not None or have != wanted:
            raise bad_value(
                name,
                f"must have the {what} dtype, scale and zero point "
                f"{wanted}, got {have if result.axis is None else (have[0], 'per channel')}; "
                f"give its data to overwrite it: {name}=q.data",
            )
        array = result.data
    else:
        result = array = as_array(value, name, own_memory=True)
    if array.dtype != kind.numpy:
        raise bad_value(name, f"must have dtype {kind.numpy} for {kind!r}, got {array.dtype}")
    if array.shape != shape:
        raise bad_value(name, f"must have the {whose} shape {shape}, got {array.shape}")
    if not array.flags.writeable:
        raise bad_value(name, "must be writable, got a read-only array")
    if _overlaps_itself(array):
        raise bad_value(name, f"must not overlap itself, got shape {array.shape} with strides {array.strides}")
    return result, array


def norm_pieces(value: object, norm_axis: int, channels: int) -> tuple[list[Any], int]:
    """Return the pieces of a concatenation and its channel axis, counted from the front."""
    if not is_a(value, list, tuple):
        raise bad_type(
            "pieces", f"must be a list or tuple of bytenorm.QuantizedTensor, got {type(value).__name__}"
        )
    items: Any = value
    pieces = [_per_tensor(piece, f"pieces[{i}]") for i, piece in enumerate(items)]
    if not pieces:
        raise bad_value("pieces", "must hold at least one tensor, got none")
    first = pieces[0].data
    if first.ndim < 2:
        raise bad_value("pieces[0]", f"must have at least 2 dimensions, got shape {first.shape}")
    at = axis(norm_axis, first.ndim, "axis")
    for i, piece in enumerate(pieces):
        data = piece.data
        if data.dtype != first.dtype:
            raise bad_value(f"pieces[{i}]", f"must have the dtype of pieces[0], {first.dtype}, got {data.dtype}")
        wanted = (*first.shape[:at], *data.shape[at : at + 1], *first.shape[at + 1 :])
        if data.ndim != first.ndim or data.shape != wanted:
            raise bad_value(
                f"pieces[{i}]",
                f"must have the shape of pieces[0], {first.shape}, but for axis {at}, got {data.shape}",
            )
    counts = [piece.data.shape[at] for piece in pieces]
    if sum(counts) != channels:
        shown = _shown(counts)
        raise bad_value("pieces", f"have {sum(counts)} channels on axis {at} ({shown}), but norm has {channels}")
    return pieces, at


def _per_tensor(value: object, name: str) -> Any:
    q = quantized(value, name)
    if q.axis is not None:
        raise bad_value(name, f"must be quantized per tensor, it is per channel along axis {q.axis}")
    return q


def norm_summands(a: object, b: object, norm_axis: int, channels: int) -> tuple[Any, Any]:
    """Return the two tensors whose sum a norm reads."""
    first, second = _per_tensor(a, "a"), _per_tensor(b, "b")
    data, other = first.data, second.data
    if data.ndim < 2:
        raise bad_value("a", f"must have at least 2 dimensions, got shape {data.shape}")
    if other.dtype != data.dtype:
        raise bad_value("b", f"must have the dtype of a, {data.dtype}, got {other.dtype}")
    if other.shape != data.shape:
        raise bad_value("b", f"must have the shape of a, {data.shape}, got {other.shape}")
    at = axis(norm_axis, data.ndim, "axis")
    if data.shape[at] != channels:
        raise bad_value(
            "a", f"and b have {data.shape[at]} channels on axis {at} (shape {data.shape}), but norm has {channels}"
        )
    return first, second


def sum_quantization(a: Any, b: Any, sum_scale: object, sum_zero_point: object) -> tuple[float, int]:
    """Return scale and zero point of a sum; neither scale of the summands may overflow float32 in steps of it."""
    for name, value, other in (
        ("sum_scale", sum_scale, "sum_zero_point"),
        ("sum_zero_point", sum_zero_point, "sum_scale"),
    ):
        if value is None:
            raise bad_type(name, f"must be given with {other}, or neither for no sum, got None")
    scale_ = scale(sum_scale, "sum_scale")
    zero = zero_point(sum_zero_point, dtype_of(a.data), "sum_zero_point")
    for name, q in (("a", a), ("b", b)):
        with np.errstate(over="ignore"):
            if not np.isfinite(np.float32(q.scale / scale_)):
                raise bad_value(
                    f"the scale of {name} over sum_scale,",
                    f"{q.scale} / {scale_}, overflows float32",
                    argument="sum_scale",
                )
    return scale_, zero


def add_output(value: object, a: Any, b: Any, kind: DType, out_scale: float, out_zero_point: int) -> Any:
    """Return `out`: None, an ndarray or a QuantizedTensor that can take the norm of the sum of `a` and `b`."""
    if value is None:
        return None
    result, array = _output(value, a.data.shape, "input's", kind, out_scale, out_zero_point)
    for name, q in (("a", a), ("b", b)):
        _same_or_apart(array, q.data, "out", name)
    return result


def sum_output(
    value: object, a: Any, b: Any, out: Any, sum_scale: float | None, sum_zero_point: int | None, *, exact: bool
) -> Any:
    """Return `sum_out`: None, an ndarray or a QuantizedTensor that can take the sum of `a` and `b`.

    `out` is what takes the norm, as `add_output` returned it.
    """
    if value is None:
        return None
    if sum_scale is None or sum_zero_point is None:
        raise bad_type("sum_out", "needs sum_scale and sum_zero_point: without them there are no codes of a sum")
    kind = dtype_of(a.data)
    result, array = _output(value, a.data.shape, "input's", kind, sum_scale, sum_zero_point, "sum_out", "sum's")
    for name, q in (("a", a), ("b", b)):
        if exact and _share_memory(array, q.data):
            raise bad_value(
                "sum_out", f"must be apart from {name} with exact_sum: it is read again; got an overlap"
            )
        _same_or_apart(array, q.data, "sum_out", name)
    norm = out.data if is_a(out, _core.Tensor) else out
    if norm is not None and _share_memory(array, norm):
        raise bad_value("sum_out", "must be apart from out, got an overlap")
    return result


def _same_or_apart(array: np.ndarray, data: np.ndarray, name: str, other: str) -> None:
    if not _same_memory(array, data) and _share_memory(array, data):
        raise bad_value(name, f"must be the own memory of {other} or apart from it, got a partial overlap")


def concat_output(value: object, pieces: list[Any], at: int, kind: DType, out_scale: float, zero: int) -> Any:
    """Return `out`: None, an ndarray or a QuantizedTensor that can take the norm of concatenated pieces."""
    if value is None:
        return None
    shape = list(pieces[0].data.shape)
    shape[at] = sum(piece.data.shape[at] for piece in pieces)
    result, array = _output(value, tuple(shape), "concatenation's", kind, out_scale, zero)
    start = 0
    for i, piece in enumerate(pieces):
        end = start + piece.data.shape[at]
        own = array[(slice(None),) * at + (slice(start, end),)]
        if not _same_memory(own, piece.data) and _share_memory(array, piece.data):
            raise bad_value(
                "out", f"must be apart from pieces[{i}] or hold it at its own channels, got another overlap"
            )
        start = end
    return result


def _same_memory(array: np.ndarray, data: np.ndarray) -> bool:
    return array.__array_interface__["data"][0] == data.__array_interface__["data"][0] and all(
        n <= 1 or a == b for n, a, b in zip(data.shape, array.strides, data.strides, strict=True)
    )


def _overlaps_itself(array: np.ndarray) -> bool:
    reach = 0
    for stride, n in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride <= reach:
            break
        reach += stride * (n - 1)
    else:
        return False
    if array.size == 0:
        return False
    offsets = np.zeros((1,), np.int64)  # strides that interleave: count the bytes
    for stride, n in zip(array.strides, array.shape, strict=True):
        offsets = (offsets[:, None] + stride * np.arange(n)).reshape(-1)
    return len(np.unique(offsets)) != array.size


def _share_memory(a: np.ndarray, b: np.ndarray) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10**6)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True  # not proved apart


def tensor_data(value: object, name: str = "data") -> np.ndarray:
    """Return an ndarray of bytes, never a copy of one."""
    array = as_array(value, name)
    if array.dtype not in (np.uint8, np.int8):
        raise bad_type(name, f"must be uint8 or int8, got dtype {array.dtype}")
    return array.view()  # an object of our own: its shape does not change with the caller's


def tensor_quantization(
    data: np.ndarray, scale_: object, zero_point_: object, axis_: object, names: tuple[str, str]
) -> tuple[Any, Any, int | None]:
    """Return scale, zero point and axis of a quantized tensor: numbers, or arrays along the axis."""
    kind = dtype_of(data)
    if axis_ is None:
        return scale(scale_, names[0]), zero_point(zero_point_, kind, names[1]), None
    at = axis(axis_, data.ndim, "axis")
    scale_array, zero_point_array = channel_quantization(scale_, zero_point_, kind, data.shape[at], names)
    return scale_array, zero_point_array, at


def channel_quantization(
    scales_: object, zero_points: object, kind: DType, channels: int, names: tuple[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return per-channel scales in float64 and zero points in int64, read-only."""
    scale_array = as_array(scales_, names[0])
    if scale_array.dtype.kind not in "fiu":
        raise bad_type(names[0], f"must be real numbers, got dtype {scale_array.dtype}")
    zero_point_array = as_array(zero_points, names[1])
    if zero_point_array.dtype.kind not in "iu" and zero_point_array.size > 0:
        raise bad_type(names[1], f"must be integers, got dtype {zero_point_array.dtype}")
    for name, array in zip(names, (scale_array, zero_point_array), strict=True):
        if array.shape != (channels,):
            raise bad_value(name, f"must have one value for each of {channels} channels, got shape {array.shape}")
    scale_array = frozen(scale_array, np.float64)
    scales(scale_array, names[0])
    bad = (zero_point_array < kind.qmin) | (zero_point_array > kind.qmax)
    if bad.any():
        at = int(np.argmax(bad))
        raise bad_value(
            f"{names[1]}[{at}]",
            f"must be from {kind.qmin} to {kind.qmax} for {kind!r}, got {zero_point_array[at]}",
        )
    return scale_array, frozen(zero_point_array, np.int64)


def frozen(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Return a copy of a vector in memory that nobody can write to, resize or free."""
    return np.ndarray(values.shape, dtype, values.astype(dtype, copy=False).tobytes())


def real_input(value: object) -> np.ndarray:
    """Return the input of a quantize function as float32, each number rounded once."""
    array = as_array(value, "input")
    if array.dtype.kind != "f":
        raise bad_type("input", f"must be float16, float32 or float64, got dtype {array.dtype}{_remedy(array)}")
    with np.errstate(all="ignore"):
        return np.asarray(array, dtype=np.float32)


MOST_CODES = 2**63 - 1  # of a channel in statistics: the counts of a histogram are int64
Quantization = tuple[DType | None, Any, Any]


def channel_count(value: object) -> int:
    """Return how many channels statistics are for."""
    number = integer(value, "channels")
    if not 1 <= number <= MOST_CODES // 2048:  # 2048 bytes a channel; more would be no array
        raise bad_value("channels", f"must be 1 or more, and fit memory, got {number}")
    return number


def statistics_input(value: object, channel_axis: object, channels: int) -> tuple[Any, int]:
    """Return a tensor that statistics are gathered of, and its channel axis, counted from the front."""
    q = quantized(value, "qx")
    data = q.data
    at = axis(channel_axis, data.ndim, "axis")
    if q.axis is not None and q.axis != at:
        raise bad_value("qx", f"is quantized per channel along axis {q.axis}, but its channels are on axis {at}")
    if data.shape[at] != channels:
        raise bad_value(
            "qx", f"has {data.shape[at]} channels on axis {at} (shape {data.shape}), {channels} are wanted"
        )
    return q, at


def equal_quantizations(a: Quantization, b: Quantization) -> bool:
    """Whether two quantizations are the same: dtype, and scale and zero point per tensor or per channel."""
    if a[0] is not b[0]:
        return False
    if np.ndarray in (type(a[1]), type(b[1])):
        return type(a[1]) is type(b[1]) and all(np.array_equal(x, y) for x, y in zip(a[1:], b[1:], strict=True))
    return a[1:] == b[1:]


def same_quantization(have: Quantization, came: Quantization, name: str) -> None:
    """Refuse another quantization than the statistics have, if they have one."""
    if have[0] is None or equal_quantizations(have, came):
        return

    def words(q: Quantization) -> str:
        if np.ndim(q[1]):
            return f"{q[0]!r} per channel"
        return f"{q[0]!r}, scale {q[1]}, zero point {q[2]}"

    raise bad_value(
        name,
        f"must have the quantization of what was gathered before, {words(have)}, got {words(came)}"
        + (" with other numbers" if words(have) == words(came) else ""),
    )


def code_count(count: int, name: str) -> int:
    """Return how many codes a channel has with what came."""
    if count > MOST_CODES:
        raise bad_value(name, f"would make {count} codes a channel, at most {MOST_CODES} are counted")
    return count
