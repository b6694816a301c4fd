"""Old models: their legacy norm modules replaced, their checkpoints read."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch

from ..._errors import bad_type, bad_value
from ..operators import tensor_checks
from . import modules

_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
)
_NORM = ("running_mean", "running_var", "scale", "zero_point")
_KEPT = ("weight", "bias", *_NORM, "num_batches_tracked")
_SHOWN = 4  # names in a message
_OURS = (modules.BatchNorm2d, modules.BatchNorm3d, modules.BNReLU2d, modules.BNReLU3d)


def migrate(model: torch.nn.Module, *, inplace: bool = False) -> torch.nn.Module:
    """Replace the legacy quantized norm modules of a model by ours.

    These are `BatchNorm2d` and `BatchNorm3d` of ``torch.ao.nn.quantized`` and `BNReLU2d` and `BNReLU3d` of
    ``torch.ao.nn.intrinsic.quantized``, as ``torch.ao.quantization.convert`` makes them. The model gives the same
    outputs; what flows between its modules are torch's quantized tensors as before.

    Parameters
    ----------
    model : torch.nn.Module
        A converted model, or such a norm itself.
    inplace : bool, optional
        Change `model` instead of a copy of it.

    Returns
    -------
    torch.nn.Module
        The model; where it was a norm itself, ours. A module used in several places is replaced by one module.

    Warns
    -----
    UserWarning
        If the model holds no such norm, and none that was replaced before.

    Raises
    ------
    TypeError
        If `model` is no module, or a scripted one.
    ValueError
        If a norm holds values that have no right answer, such as a negative variance; torch accepts any.
    RuntimeError
        If this version of PyTorch has no such norms any more.

    Examples
    --------
    >>> import torch, torch.ao.nn.quantized as nnq, bytenorm.torch
    >>> bytenorm.torch.migrate(torch.nn.Sequential(nnq.BatchNorm2d(3)))
    Sequential(
      (0): BatchNorm2d(3, eps=1e-05, affine=True, scale=1.0, zero_point=0)
    )
    """
    if not isinstance(model, torch.nn.Module):
        raise bad_type("model", f"must be a torch.nn.Module, got {type(model).__name__}")
    if hasattr(torch, "jit") and isinstance(model, torch.jit.ScriptModule):
        raise bad_type(
            "model",
            f"must not be TorchScript, where modules cannot be replaced, got {type(model).__name__}: make "
            "the model of its class, and load its state dict",
        )
    ours = _counterparts()
    if type(model) in ours:
        return _replaced(model, ours[type(model)], "model")
    if not any(type(module) in ours or type(module) in _OURS for module in model.modules()):
        if not ours:
            raise RuntimeError(
                f"torch {torch.__version__} has no legacy quantized norms any more, which migrate replaces: their "
                "values are in the model's checkpoint, which bytenorm.torch.load_legacy reads"
            )
        warnings.warn("model holds no legacy quantized norm: nothing is replaced", stacklevel=2)
    if not inplace:
        model = copy.deepcopy(model)
    places = [
        (parent, name, child, f"{path}.{name}" if path else name)
        for path, parent in model.named_modules()
        for name, child in parent._modules.items()
        if type(child) in ours
    ]
    # All of them first: a model with one norm that cannot be replaced stays as it is.
    made = {child: _replaced(child, ours[type(child)], path) for _, _, child, path in places if child is not None}
    for parent, name, child, _ in places:
        if child is not None:
            setattr(parent, name, made[child])
    return model


def _counterparts() -> dict[type, type[modules.BatchNorm2d | modules.BatchNorm3d]]:
    """Return what replaces which class; nothing once torch no longer has them."""
    try:  # parts of torch that will go away
        import torch.ao.nn.intrinsic.quantized as fused  # noqa: PLC0415
        import torch.ao.nn.quantized as plain  # noqa: PLC0415

        theirs = (plain.BatchNorm2d, plain.BatchNorm3d, fused.BNReLU2d, fused.BNReLU3d)
    except (ImportError, AttributeError):
        return {}
    return dict(zip(theirs, _OURS, strict=True))


def _replaced(norm: Any, by: type[modules.BatchNorm2d | modules.BatchNorm3d], path: str) -> torch.nn.Module:
    try:
        made = by._copy_of(norm, scale=float(norm.scale), zero_point=int(norm.zero_point))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from None
    for hooks in _HOOKS:
        getattr(made, hooks).update(getattr(norm, hooks))
    return made


def load_legacy(path: str | os.PathLike[str], *, key: str | None = None) -> dict[str, dict[str, torch.Tensor]]:
    """Read the quantized norms in the checkpoint of an old model, without running any code in the file.

    Parameters
    ----------
    path : path-like
        A state dict of a converted model, as ``torch.save(model.state_dict(), path)`` writes it; or dicts and
        lists that hold one at any depth, beside an optimizer's for example.
    key : str, optional
        Which of several state dicts: the keys and positions that lead to it, joined by dots, as ``"ema"`` or
        ``"checkpoints.0.model"``. Needed only where more than one has such norms; the error then names them.

    Returns
    -------
    dict
        For the name of each norm in the model its state dict, which `BatchNorm2d` and the other modules load. A
        state dict knows neither eps nor whether a relu follows: the module has to be made with them. Names are
        those of the file: behind ``torch.nn.DataParallel`` they begin with ``module.``.

    Raises
    ------
    ValueError
        If the file holds something else, such as a whole pickled model, or no quantized norm, or several state
        dicts with such norms and `key` names none of them.

    Examples
    --------
    >>> import tempfile, pathlib, torch, torch.ao.nn.quantized as nnq, bytenorm.torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "old.pt")
    ...     torch.save(torch.nn.Sequential(nnq.BatchNorm2d(3)).state_dict(), path)
    ...     norms = bytenorm.torch.load_legacy(path)
    >>> list(norms)
    ['0']
    >>> bytenorm.torch.BatchNorm2d(3).load_state_dict(norms["0"])
    <All keys matched successfully>
    """
    if key is not None and not isinstance(key, str):
        raise bad_type("key", f"must be a str, got {type(key).__name__}")
    loaded, shown = _load(path), os.fspath(path)
    found = {where: norms for where, inner in _mappings(loaded) if (norms := _norms(inner))}
    if not found:
        raise bad_value(
            shown, f"holds no quantized batch norm: none has {', '.join(_NORM)}; {_seen(loaded)}", argument="path"
        )
    if key is None and len(found) == 1:
        return next(iter(found.values()))
    if key is None or key not in found:
        places = [f"{where!r} ({len(norms)} norm{'s' * (len(norms) > 1)})" for where, norms in found.items()]
        listed = ", ".join(places[:_SHOWN]) + (", ..." if len(places) > _SHOWN else "")
        got = "none was chosen" if key is None else f"got {key!r}"
        raise bad_value(
            shown, f"holds quantized norms in {listed}: give one of them as key, {got}", argument="key"
        )
    return found[key]


def _load(path: str | os.PathLike[str]) -> Any:
    """Return what a file of `torch.save` holds, tensors and containers alone."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of PyTorch, about what the file holds and we leave behind
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever the bytes of some other file make of the reader
        if not tensor_checks.LEGACY_DTYPES and _has_quantized_tensors(path):
            raise bad_value(
                os.fspath(path),
                f"holds quantized tensors beside its norms, which torch {torch.__version__} "
                "cannot read any more: load it with torch 2.13 once, and save what is not quantized: "
                "{name: t for name, t in state.items() if isinstance(t, torch.Tensor) and not t.is_quantized}",
                argument="path",
            ) from error
        raise bad_value(
            os.fspath(path),
            "is no checkpoint of tensors alone, as torch.save(model.state_dict(), path) writes it",
            argument="path",
        ) from error


def _has_quantized_tensors(path: str | os.PathLike[str]) -> bool:
    """Whether a checkpoint names the function that makes quantized tensors; it is not compressed."""
    with Path(path).open("rb") as file:
        behind = b""
        while part := file.read(1 << 20):
            if b"_rebuild_qtensor" in behind + part:
                return True
            behind = part[-16:]
    return False


def _mappings(loaded: object) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield each dict in what was loaded, at any depth and once, with the keys that lead to it."""
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("", loaded)]
    for where, value in waiting:
        if not isinstance(value, (Mapping, list, tuple)) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            yield where, value
        inside = value.items() if isinstance(value, Mapping) else enumerate(value)
        waiting += [(f"{where}.{name}" if where else str(name), inner) for name, inner in inside]


def _norms(state: Mapping[Any, Any]) -> dict[str, dict[str, torch.Tensor]]:
    """Return the state dicts of the quantized norms in the state dict of a model, by their names in it."""
    return {
        name.removesuffix("."): {key: state[name + key] for key in _KEPT if name + key in state}
        for name in _float_norms(state)
        if all(isinstance(state.get(name + key), torch.Tensor) for key in _NORM)
    }


def _float_norms(state: Mapping[Any, Any]) -> list[str]:
    """Return the names of all norms in a state dict, each with its dot."""
    return [key.removesuffix("running_mean") for key in state if _is_mean(key)]


def _is_mean(key: object) -> TypeGuard[str]:
    return isinstance(key, str) and (key == "running_mean" or key.endswith(".running_mean"))


def _seen(loaded: object) -> str:
    """Return what a file without quantized norms holds, in a few words."""
    found = [(where, inner, name) for where, inner in _mappings(loaded) for name in _float_norms(inner)]
    norms = [f"{where}.{name}".strip(".") for where, _, name in found]
    if norms:
        lacks = [k for k in _NORM if any(not isinstance(i.get(n + k), torch.Tensor) for _, i, n in found)]
        what = "that are not quantized, without" if {"scale", "zero_point"} <= {*lacks} else "without"
        listed = ", ".join(map(repr, norms[:_SHOWN])) + (", ..." if len(norms) > _SHOWN else "")
        return f"it holds norms {what} {' and '.join(lacks)}: {listed}"
    if isinstance(loaded, Mapping):
        names = [repr(str(name)[:40]) for name in list(loaded)[:_SHOWN]]
        return f"it holds {', '.join(names)}{', ...' if len(loaded) > _SHOWN else ''}" if names else "it is empty"
    return f"it holds a {type(loaded).__name__}"
