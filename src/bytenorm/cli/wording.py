"""Errors of the library in the command's words: options instead of arguments, files instead of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from .._errors import Argument, argument_of, bad_value, respelled


@dataclass(frozen=True)
class File:
    """What a command calls an argument that is a file: a word, and its path."""

    word: str
    path: str

    def __str__(self) -> str:
        return f"{self.word} {self.path!r}"


Names = Mapping[str, str | File]

OPTIONS: Names = {
    "limit": "--limit",
    "batch_axes": "--batch-axis",
    "images": "--mean, --std or --rescale",
    "lowering": "--lowering",
    "keep_int8": "--keep-int8",
    "nodes_to_exclude": "--exclude",
    "model_or_path": "model",
    "path": "output",
    "output": "output",
    "force": "--force",
    **{f"{name}()": f"bytenorm {name}" for name in ("quantize", "lower", "prepare", "restore")},
}  # of several commands

# Nothing that a valid model leads to: what raises one has a fault.
FAULTS = (TypeError, LookupError, AttributeError, NameError, AssertionError)


@contextmanager
def naming(model: str | None = None, **names: str | File) -> Iterator[None]:
    """Put the words of the command into an error of an argument that it names.

    Where the file of a model is given, any other error is about that. One that names no argument is not worded by
    the library: the model is looked at for what may be wrong with it.

    Parameters
    ----------
    model : str, optional
        The file of the model that is worked on.
    **names : str or File
        What the command calls arguments, beside :data:`OPTIONS`: "reduce_range", or "per_channel=False" for one
        with that value.
    """
    label = File("model", "" if model is None else model)
    known = {**OPTIONS, **({} if model is None else {"model": label}), **names}
    try:
        yield
    except Exception as error:
        argument = argument_of(error)
        if argument in known or argument.startswith("-"):
            raise respelled(error, lambda one: _spelled(one, known)) from error
        if model is None or isinstance(error, OSError | MemoryError):
            raise
        fault = _fault(model)
        if fault:
            raise bad_value(str(label), f"is not valid: {fault}") from error
        if isinstance(error, FAULTS) and not argument:
            raise
        text = str(error) if argument or isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise bad_value(str(label), f": {text}") from error


def _spelled(argument: Argument, names: Names) -> str:
    """Return an argument as the command calls it: "--calibrate-method mse" for "calibrate_method='mse'"."""
    ours = names.get(str(argument), names.get(argument.name))
    if ours is None:
        return str(argument)
    if isinstance(ours, File):  # "model 'a.onnx'" tells its file itself
        return f"{ours.word if argument.detail.startswith(' ') else ours}{argument.detail}"
    if str(argument) in names or argument.value in (None, True):
        return f"{ours}{'' if str(argument) in names else _of_key(argument.detail)}"
    return f"{ours} {argument.value}"


def _of_key(detail: str) -> str:
    """Return what belongs to the name of an option: " 'x'" for "['x']"."""
    return f" {detail[1:-1]}" if detail.startswith("[") and detail.endswith("]") else detail


def _fault(path: str) -> str:
    """Return what ONNX's checker has to say about a model, nothing if it finds no fault."""
    import onnx  # noqa: PLC0415 (not every command has it)

    from ..onnx.model.files import load_model  # noqa: PLC0415

    try:
        onnx.checker.check_model(load_model(path))
    except onnx.checker.ValidationError as error:
        return str(error)
    except Exception:  # not a fault of the model: it is too large to be checked, or there is no such file
        return ""
    return ""
