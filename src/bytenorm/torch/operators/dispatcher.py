"""Past torch's dispatcher: whether a call may go there, and the native code's way to read torch's tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import has_torch_function

from ... import _checks, _core
from .tensor_checks import forward_level, is_hidden

_core.register_torch(
    torch.Tensor,
    torch.nn.Parameter,
    torch.empty_like,
    (torch.uint8, torch.int8, getattr(torch, "quint8", None), getattr(torch, "qint8", None), torch.float32),
    getattr(torch.Tensor, "__dlpack_c_exchange_api__", None),
)


# Whether torch must see a call: a function or a mode wants a say in its arguments, a dispatch mode is on, or
# torch.jit.trace runs. Callers ask torch.compiler too, and forward_ad for its level. A tensor without memory of
# its own, as in transforms, is refused by the native code.
#
# Some of these names are not public, but torch's own modules ask them. Where a torch has one of them no more,
# every call goes through its dispatcher: `dispatch_modes`, which callers ask before the level, then says so.
def _private(path: str) -> Any:
    found: Any = torch
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def _a_mode() -> int:
    return 1


def _overridden(*arguments: object) -> bool:
    return has_torch_function(arguments)


def _tracing() -> bool | None:
    return (hasattr(torch, "jit") and torch.jit.is_tracing()) or None  # type: ignore[attr-defined, no-untyped-call]


_interpreters = _private("_C._functorch.peek_interpreter_stack")
below_autograd = _private("_C._AutoDispatchBelowAutograd")
after_autograd = _private("_C._after_autograd_keyset")

overridden = _private("overrides.has_torch_function_variadic") or _overridden
tracing_state = _private("_C._get_tracing_state") or _tracing
dispatch_modes = _private("_C._len_torch_dispatch_stack") or _a_mode
_asked = (_private("_C._get_tracing_state"), _interpreters, below_autograd, after_autograd, forward_level())
if any(found is None for found in _asked):
    dispatch_modes = _a_mode


def needs_dispatcher(x: object, *others: object) -> bool:
    """Whether what the native code refused is something for the dispatcher rather than for an error."""
    tensors: list[Any] = [t for t in (x, *others) if _checks.is_a(t, torch.Tensor)]
    special = any(type(t) not in (torch.Tensor, torch.nn.Parameter) or is_hidden(t) for t in tensors)
    tensor: Any = x
    return _checks.is_a(x, torch.Tensor) and (
        special or not tensor.is_cpu or dispatch_modes is _a_mode or _interpreters() is not None
    )
