"""Old models: their legacy norm modules replaced, their checkpoints read."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch

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

    Raises
    ------
    TypeError
        If `model` is no module, or a scripted one.
    ValueError
        If a norm holds values that have no right answer, such as a negative variance; torch accepts any.

    Examples
    --------
    >>> import torch, torch.ao.nn.quantized as nnq, bytenorm.torch
    >>> bytenorm.torch.migrate(torch.nn.Sequential(nnq.BatchNorm2d(3)))
    Sequential(
      (0): BatchNorm2d(3, eps=1e-05, affine=True, scale=1.0, zero_point=0)
    )
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            f"model must not be TorchScript, where modules cannot be replaced, got {type(model).__name__}"
        )
    ours = _counterparts()
    if type(model) in ours:
        return _replaced(model, ours[type(model)], "model")
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
    except ImportError:
        return {}
    return {
        plain.BatchNorm2d: modules.BatchNorm2d,
        plain.BatchNorm3d: modules.BatchNorm3d,
        fused.BNReLU2d: modules.BNReLU2d,
        fused.BNReLU3d: modules.BNReLU3d,
    }


def _replaced(norm: Any, by: type[modules.BatchNorm2d | modules.BatchNorm3d], path: str) -> torch.nn.Module:
    try:
        made = by._copy_of(norm, scale=float(norm.scale), zero_point=int(norm.zero_point))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from None
    for hooks in _HOOKS:
        getattr(made, hooks).update(getattr(norm, hooks))
    return made


def load_legacy(path: str | os.PathLike[str]) -> dict[str, dict[str, torch.Tensor]]:
    """Read the quantized norms in the checkpoint of an old model, without running any code in the file.

    Parameters
    ----------
    path : path-like
        A state dict of a converted model, as ``torch.save(model.state_dict(), path)`` writes it; or a dict that
        holds one, beside an optimizer's for example.

    Returns
    -------
    dict
        For the name of each norm in the model its state dict, which `BatchNorm2d` and the other modules load. A
        state dict knows neither eps nor whether a relu follows: the module has to be made with them.

    Raises
    ------
    ValueError
        If the file holds something else, such as a whole pickled model, or no quantized norm.

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
    try:
        with warnings.catch_warnings(action="ignore"):  # of PyTorch, about what the file holds and we leave behind
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever the bytes of some other file make of the reader
        raise ValueError(
            f"{os.fspath(path)} is no checkpoint of tensors alone, "
            "as torch.save(model.state_dict(), path) writes it"
        ) from error
    found = _norms(loaded)
    if not found and isinstance(loaded, Mapping):
        inner = [norms for value in loaded.values() if (norms := _norms(value))]
        found = inner[0] if len(inner) == 1 else {}
    if not found:
        raise ValueError(f"{os.fspath(path)} holds no quantized batch norm: none has {', '.join(_NORM)}")
    return found


def _norms(state: object) -> dict[str, dict[str, torch.Tensor]]:
    """Return the state dicts of the quantized norms in the state dict of a model, by their names in it."""
    if not isinstance(state, Mapping):
        return {}
    names = [str(key).removesuffix("running_mean") for key in state if str(key).endswith("running_mean")]
    return {
        name.removesuffix("."): {key: state[name + key] for key in _KEPT if name + key in state}
        for name in names
        if all(isinstance(state.get(name + key), torch.Tensor) for key in _NORM)
    }
