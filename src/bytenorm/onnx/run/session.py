"""ONNX Runtime sessions that know bytenorm's operator."""

from __future__ import annotations

import os
import tempfile
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnxruntime

from ... import _checks, _core
from ..._errors import bad_type, bad_value
from ..model.files import fits_one_file, load_model, require_lengths, require_whole, save_model
from ..model.soundness import require_sound
from ..model.unnamed_outputs import has_unnamed_outputs
from .amx import has_amx, weights_for_amx
from .saturation import sums_saturate
from .uint8_weights import unsigned_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Model = onnx.ModelProto | str | os.PathLike[str]

# Session options that have the operator: registering it twice is an error in ONNX Runtime.
_registered: weakref.WeakSet[onnxruntime.SessionOptions] = weakref.WeakSet()


def custom_op_library() -> str:
    """Return the path of the library that holds the operator.

    Returns
    -------
    str
        For ``SessionOptions.register_custom_ops_library``, in this process or another one, in Python or any
        other language that runs inside a Python interpreter. Hosts without Python build their own library from
        the same source: see docs/operator-library.md.

    Examples
    --------
    >>> import onnxruntime
    >>> from bytenorm import onnx as bno
    >>> options = onnxruntime.SessionOptions()
    >>> options.register_custom_ops_library(bno.custom_op_library())
    """
    return str(_core.__file__)


def register(session_options: onnxruntime.SessionOptions) -> None:
    """Register the operator in session options; safe to call twice.

    Parameters
    ----------
    session_options : onnxruntime.SessionOptions

    Raises
    ------
    TypeError
        If these are no session options.
    RuntimeError
        If ONNX Runtime is older than 1.17.

    Examples
    --------
    >>> import onnxruntime
    >>> from bytenorm import onnx as bno
    >>> options = onnxruntime.SessionOptions()
    >>> bno.register(options)
    >>> bno.register(options)
    """
    _require_options(session_options, "session_options")
    if session_options in _registered:
        return
    try:
        session_options.register_custom_ops_library(custom_op_library())
    except Exception as error:
        if "already" in str(error):  # registered without this function
            _registered.add(session_options)
            return
        raise RuntimeError(f"ONNX Runtime {onnxruntime.__version__} refused the operator: {error}") from None
    _registered.add(session_options)


def _require_options(value: object, argument: str) -> None:
    if not isinstance(value, onnxruntime.SessionOptions):
        raise bad_type(argument, f"must be onnxruntime.SessionOptions, got {type(value).__name__}")


def session(
    model_or_path: onnx.ModelProto | str | os.PathLike[str],
    sess_options: onnxruntime.SessionOptions | None = None,
    providers: Sequence[str] | None = None,
    *,
    amx: bool | None = None,
    saturate: bool = False,
) -> onnxruntime.InferenceSession:
    """Make an ``InferenceSession`` with the operator registered.

    Parameters
    ----------
    model_or_path : onnx.ModelProto or path
        Any model, with bytenorm's operator or without.
    sess_options : onnxruntime.SessionOptions, optional
        The operator is registered in them, nothing else is changed.
    providers : sequence of str, optional
        Execution providers; the CPU's by default. The operator runs on the CPU.
    amx : bool, optional
        Whether the weights of large convolutions are written, in memory, so that ONNX Runtime uses the matrix
        unit AMX: codes and zero points one lower, the same results to the bit. It costs time on a CPU without.
        None: on CPUs with AMX (found on Linux) in sessions without options of the caller's own.
    saturate : bool, optional
        Whether sums of 8-bit products may saturate where :func:`sums_saturate`, as ONNX Runtime lets them. Without
        it they are exact, so that a model computes the same on every CPU: int8 weights become uint8 there, in
        memory, the same numbers, which costs time. Elsewhere it makes no difference.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    TypeError
        If the model is neither a ``ModelProto`` nor a path, or another argument is of a wrong type.
    ValueError
        If ONNX Runtime cannot load it, or would write out functions without end.

    Examples
    --------
    >>> import numpy as np
    >>> from bytenorm import onnx as bno
    >>> run = bno.session(bno.digits_model())
    >>> run.run(None, {"image": np.zeros((1, 1, 28, 28), np.float32)})[0].shape
    (1, 10)
    """
    if sess_options is not None:
        _require_options(sess_options, "sess_options")
    if not isinstance(model_or_path, onnx.ModelProto | str | os.PathLike):
        raise bad_type("model_or_path", f"must be a ModelProto or a path, got {type(model_or_path).__name__}")
    if isinstance(providers, str):
        raise bad_type("providers", "must be a sequence of names, got str")
    if amx is not None:
        _checks.flag(amx, "amx")
    exact = not _checks.flag(saturate, "saturate")
    options = onnxruntime.SessionOptions() if sess_options is None else sess_options
    register(options)
    with ready(model_or_path, sess_options, amx=amx, exact=exact) as source:
        try:
            return onnxruntime.InferenceSession(
                source, options, providers=list(providers) if providers is not None else ["CPUExecutionProvider"]
            )
        except Exception as error:
            name = _name(model_or_path)
            raise bad_value(name, f": ONNX Runtime cannot load it: {' '.join(str(error).split())}") from None


def session_for_a_pass(
    model: onnx.ModelProto, *, threads: int = 0, optimized: bool = True, arena: bool = False
) -> onnxruntime.InferenceSession:
    """Return a session for a model that is run a few times: exact sums, and no thread that spins between nodes.

    The model is one that :func:`session` takes, or a part of one: what is refused there is not looked for again.
    Without `optimized` each tensor is made. With `arena` it keeps memory from run to run, which saves CPU time.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # In the order in which nodes stand what they make is read soon, and goes. Else most of it may be kept to the
    # end: of an image of DenseNet-121, each tensor being read once more, 340 MiB and not 20.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    # An arena keeps what the largest run had, and a pattern of the first run's memory is made beside that: for the
    # corrections of DenseNet-121 190 MiB more.
    options.enable_mem_pattern, options.enable_cpu_mem_arena = False, arena
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    register(options)
    with handed_over(unsigned_weights(model) if sums_saturate() else model) as source:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@contextmanager
def ready(
    model_or_path: Model,
    sess_options: onnxruntime.SessionOptions | None,
    *,
    amx: bool | None = None,
    exact: bool = True,
) -> Iterator[bytes | str]:
    """Give what ONNX Runtime loads: the bytes of a model or a path, of a model that it can end with."""
    name = _name(model_or_path)
    read = _read(model_or_path, name)
    unnamed = read is not None and has_unnamed_outputs(read)  # loaded, they have names
    changes: list[Callable[[onnx.ModelProto], onnx.ModelProto]] = []
    if amx or (amx is None and sess_options is None and has_amx()):
        changes.append(weights_for_amx)
    if exact and sums_saturate():
        changes.append(unsigned_weights)  # behind the other: two weights that just fit do not when they are lower
    if not changes and not unnamed:
        with handed_over(model_or_path) as source:
            yield source
        return
    with _changed(model_or_path, changes, as_loaded=unnamed) as model, handed_over(model) as source:
        yield source


def _name(model_or_path: Model) -> str:
    return "model_or_path" + (
        "" if isinstance(model_or_path, onnx.ModelProto) else f" {os.fspath(model_or_path)!r}"
    )


@contextmanager
def handed_over(model: Model) -> Iterator[bytes | str]:
    """Give a model as ONNX Runtime takes it: its bytes, or where they would be too many, the path of a file."""
    if not isinstance(model, onnx.ModelProto):
        yield os.fspath(model)
    elif fits_one_file(model):
        yield model.SerializeToString()
    else:
        with tempfile.TemporaryDirectory(prefix="bytenorm-") as folder:
            file = Path(folder, "model.onnx")
            save_model(model, file)
            yield str(file)


def _read(model_or_path: Model, name: str) -> onnx.ModelProto | None:
    """Return a model, perhaps without weights, or refuse one that ONNX Runtime works on without end or dies of.

    None for what onnx cannot read, which is left to ONNX Runtime.
    """
    try:
        if isinstance(model_or_path, onnx.ModelProto):
            model = model_or_path
        else:
            model = onnx.load(model_or_path, load_external_data=False)
    except Exception:  # no model, or in a format that only ONNX Runtime knows
        return None
    require_sound(model, name)
    require_lengths(model, name)
    return model


@contextmanager
def _changed(
    model_or_path: Model, changes: Sequence[Callable[[onnx.ModelProto], onnx.ModelProto]], *, as_loaded: bool
) -> Iterator[Model]:
    """Give a model with other weights of the same numbers; what onnx cannot read is left to ONNX Runtime."""
    try:
        if isinstance(model_or_path, onnx.ModelProto) and not as_loaded:
            require_whole(model_or_path, "model")
            model = model_or_path  # no change is made in place
        else:
            model = load_model(model_or_path)
        made = model
        for change in changes:
            made = change(made)
    except (ValueError, OSError):
        yield model_or_path
        return
    if made is model and not as_loaded:
        yield model_or_path
    elif isinstance(model_or_path, onnx.ModelProto):
        yield made
    else:
        with tempfile.TemporaryDirectory(prefix="bytenorm-") as folder:
            file = Path(folder, "model.onnx")
            save_model(made, file)  # models may be too large to be handed over in memory
            yield file
