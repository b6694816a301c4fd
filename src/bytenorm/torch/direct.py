"""Past torch's dispatcher: whether a call may go there, and the native code's way to read torch's tensors."""

from __future__ import annotations

import torch
from torch.overrides import has_torch_function_variadic

from .. import _core

_core.register_torch(
    torch.Tensor,
    torch.nn.Parameter,
    torch.empty_like,
    (torch.uint8, torch.int8, getattr(torch, "quint8", None), getattr(torch, "qint8", None), torch.float32),
    getattr(torch.Tensor, "__dlpack_c_exchange_api__", None),
)


# Whether torch must see a call: a function or a mode wants a say in its arguments, a dispatch mode is on, or
# torch.jit.trace runs. Callers ask torch.compiler too. The last two are not public, but torch's own modules ask
# them. A tensor without memory of its own, as in transforms, is refused by the native code.
overridden = has_torch_function_variadic
dispatch_modes = torch._C._len_torch_dispatch_stack
tracing_state = torch._C._get_tracing_state


def needs_dispatcher(x: object, *others: object) -> bool:
    """Whether what the native code refused is something for the dispatcher rather than for an error."""
    subclasses = any(
        isinstance(t, torch.Tensor) and type(t) not in (torch.Tensor, torch.nn.Parameter) for t in (x, *others)
    )
    return isinstance(x, torch.Tensor) and (
        subclasses or x.is_meta or torch._C._functorch.peek_interpreter_stack() is not None
    )
