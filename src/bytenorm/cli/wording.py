"""Messages of the library in the command's words: options instead of arguments, files instead of models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

OPTIONS = {
    "limit": "--limit",
    "mean": "--mean",
    "std": "--std",
    "rescale": "--rescale",
    "images": "--mean, --std or --rescale",
    "batch": "--batch",
    "threads": "--threads",
    "seconds": "--seconds",
    "repeats": "--repeats",
    "nodes_to_exclude": "--exclude",
    "nodes_to_quantize": "--only",
    "op_types_to_quantize": "--only-type",
    "extra_options": "--extra-option",
    "method": "--norm-method",
}

# Arguments that messages name behind their beginning, too: no node is called so.
_INSIDE = {name: option for name, option in OPTIONS.items() if "_" in name} | {
    "method": "--norm-method",
    "calibrate_method": "--calibrate-method",
    "quant_format": "--format",
    "activation_type": "--activations",
    "weight_type": "--weights",
    "reduce_range": "--reduce-range",
    "data_statistics": "--data-statistics",
}
# "method" is a word of its own, too.
_WORDS = "|".join(name if "_" in name else f"{name}(?==)" for name in _INSIDE)
_NAMED = re.compile(rf"(?<![\w'\"/.-])({_WORDS})(?:=(?:True|'?(\w+)'?))?(?![\w'\"/])")

# Nothing that a valid model leads to: what raises one has a fault.
FAULTS = (TypeError, LookupError, AttributeError, NameError, AssertionError)


@contextmanager
def naming(path: str | None = None, **names: str) -> Iterator[None]:
    """Replace the argument that a message of an error begins with.

    Where the file of a model is given, every message names it or something else that the user gave. An error that
    names nothing is not worded by the library: the model is looked at for what may be wrong with it.

    Parameters
    ----------
    path : str, optional
        The model that is worked on, which messages call "model".
    **names : str
        What the command calls other arguments, beside :data:`OPTIONS`.
    """
    if path is not None:
        label = f"model {path!r}"
        names = {"model": label, "the model": label} | names
    names = OPTIONS | names
    try:
        yield
    except Exception as error:
        text = str(error)
        for argument, ours in names.items():
            # "model: ..." and "limit must be ...", but not "images are for a model with ..." nor "model 'a.onnx'"
            found = re.match(rf"{argument}(\[\d+\])?(?=:| (must|is|has) )", text)
            if found and isinstance(error, ValueError | TypeError):
                raise ValueError(ours + _in_options(text[found.end() :])) from None
        if path is None or isinstance(error, OSError | MemoryError) or text.startswith(("--", *names.values())):
            raise
        fault = _fault(path)
        if fault:
            raise ValueError(f"{label} is not valid: {fault}") from error
        if isinstance(error, FAULTS):
            raise
        if not isinstance(error, ValueError):
            text = f"{type(error).__name__}: {text}"
        its = _in_options(text.replace("the model's input", "its input", 1))
        raise ValueError(f"{label}: {its}") from error


def _in_options(text: str) -> str:
    """Put options for arguments inside of a message: "calibrate_method='mse'" is "--calibrate-method mse"."""
    return _NAMED.sub(lambda found: _INSIDE[found[1]] + (f" {found[2]}" if found[2] else ""), text)


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
