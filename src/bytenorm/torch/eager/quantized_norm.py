"""What all batch norm modules have in common.

Long, for it is one class, the base of all modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import torch
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling

from ... import _checks, _core
from ..._errors import bad_type, bad_value
from ..._tensors.tensor import QuantizedTensor
from ..operators import tensor_checks
from ..operators.batch_norm import batch_norm
from ..operators.dispatcher import dispatch_modes, overridden, tracing_state
from . import legacy_tensors
from .quantized_batch_norm import quantized_batch_norm

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.nn.modules.batchnorm import _BatchNorm as _FloatNorm


class QuantizedNorm(torch.nn.Module):
    """What the six modules share; each names its dimensions and its float counterpart."""

    _dimensions: ClassVar[tuple[int, ...]]
    _float: ClassVar[type[torch.nn.Module]]
    _relu: ClassVar[bool] = False

    num_features: int
    eps: float
    affine: bool
    scale: float
    zero_point: int
    input_scale: float | None
    input_zero_point: int | None
    output_dtype: torch.dtype | None
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor
    _prepared: list[_core.TorchOperator]  # one, or none yet; each change of the module brings a new list

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        *,
        affine: bool = True,
        scale: float = 1.0,
        zero_point: int = 0,
        input_scale: float | None = None,
        input_zero_point: int | None = None,
        output_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if (input_scale is None) != (input_zero_point is None):
            raise bad_value(
                "input_scale",
                f"and input_zero_point must be given together, got {input_scale} and {input_zero_point}",
            )
        if output_dtype is not None:
            _checks.zero_point(zero_point, tensor_checks.kind(output_dtype, "output_dtype"), "zero_point")
        self.num_features = _checks.integer(num_features, "num_features")
        if self.num_features < 0:
            raise bad_value("num_features", f"must not be negative, got {num_features}")
        self.eps = eps
        self.affine = _checks.flag(affine, "affine")
        self.scale = scale
        self.zero_point = zero_point
        self.input_scale = input_scale
        self.input_zero_point = input_zero_point
        self.output_dtype = output_dtype
        self.register_buffer("weight", torch.ones(num_features) if affine else None)
        self.register_buffer("bias", torch.zeros(num_features) if affine else None)
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    @classmethod
    def from_float(
        cls,
        module: torch.nn.Module,
        output_scale: float,
        output_zero_point: int,
        *,
        input_scale: float | None = None,
        input_zero_point: int | None = None,
        output_dtype: torch.dtype | None = None,
    ) -> Self:
        """Return the 8-bit counterpart of a trained float module.

        Parameters
        ----------
        module : torch.nn.Module
            A float batch norm of the same dimensions, with running statistics. The modules with relu also take
            the pair: ``torch.nn.Sequential(norm, relu)``, of which ``torch.ao.nn.intrinsic.BNReLU2d`` is one.
        output_scale : float
            The quantization step of the output in real units.
        output_zero_point : int
            The code of 0 in the output.
        input_scale : float, optional
            The quantization step of the plain tensors that will come in.
        input_zero_point : int, optional
            The code of 0 in them; given together with `input_scale`.
        output_dtype : torch.uint8 or torch.int8, optional
            The dtype of the plain tensors that will go out; None keeps the input's.

        Returns
        -------
        module
            With copies of the parameters and the statistics, as buffers.

        Raises
        ------
        TypeError
            If `module` is another one, or a number is of another kind.
        ValueError
            If it has no running statistics, or a value is out of range.

        Examples
        --------
        >>> import torch, bytenorm.torch
        >>> trained = torch.nn.BatchNorm2d(1).eval()
        >>> norm = bytenorm.torch.BatchNorm2d.from_float(
        ...     trained, 0.5, 10, input_scale=0.25, input_zero_point=0
        ... )
        >>> norm.scale, norm.zero_point, norm.input_scale
        (0.5, 10, 0.25)
        """
        norm = cls._float_norm(module)
        if norm.running_mean is None:
            raise bad_value("module", "must have running statistics, got track_running_stats=False")
        return cls._copy_of(
            norm,
            scale=output_scale,
            zero_point=output_zero_point,
            input_scale=input_scale,
            input_zero_point=input_zero_point,
            output_dtype=output_dtype,
        )

    @classmethod
    def _float_norm(cls, module: object) -> _FloatNorm:
        """Return the float norm in what was given."""
        norm = module
        if cls._relu and isinstance(module, torch.nn.Sequential) and len(module) == 2:
            norm = module[0] if isinstance(module[1], torch.nn.ReLU) else module
        if not isinstance(norm, (cls._float, torch.nn.SyncBatchNorm)):
            pair = ", alone or in a Sequential with a ReLU" if cls._relu else ""
            raise bad_type(
                "module", f"must be a torch.nn.{cls._float.__name__}{pair}, got {type(module).__name__}"
            )
        return cast("_FloatNorm", norm)

    @classmethod
    def _copy_of(cls, norm: _FloatNorm, **quantization: Any) -> Self:
        """Return a module with the parameters and statistics of a float or a legacy norm."""
        made = cls(norm.num_features, norm.eps, affine=norm.weight is not None, **quantization)
        for name in ("weight", "bias", "running_mean", "running_var"):
            vector = getattr(norm, name)
            if vector is not None:
                made.register_buffer(name, vector.detach().to(torch.float32, copy=True).contiguous())
        _checks.norm_parameters(
            tensor_checks.array(made.weight, "weight"),
            tensor_checks.array(made.bias, "bias"),
            tensor_checks.array(made.running_mean, "running_mean"),
            tensor_checks.array(made.running_var, "running_var"),
            made.eps,
        )
        if norm.num_batches_tracked is not None:
            made.register_buffer("num_batches_tracked", norm.num_batches_tracked.detach().clone())
        return made.train(norm.training)

    def forward(self, input: torch.Tensor | QuantizedTensor) -> torch.Tensor | QuantizedTensor:
        """Normalize one tensor; what the class says comes in and goes out.

        Parameters
        ----------
        input : torch.Tensor of uint8 or int8, torch's legacy quantized tensor, or QuantizedTensor
            Of as many dimensions as the class says, C channels on axis 1.

        Returns
        -------
        torch.Tensor or QuantizedTensor
            Of the input's kind, shape and memory layout.

        Raises
        ------
        TypeError, ValueError
            As `batch_norm`; also if a plain tensor comes and the module has no `input_scale`.

        Examples
        --------
        >>> import torch, bytenorm.torch
        >>> norm = bytenorm.torch.BatchNorm2d(1, scale=0.5, zero_point=10, input_scale=0.25, input_zero_point=0)
        >>> norm.forward(torch.tensor([[[[0, 4, 8]]]], dtype=torch.uint8))
        tensor([[[[10, 12, 14]]]], dtype=torch.uint8)
        """
        if (
            not is_dynamo_compiling()
            and not overridden(input)
            and dispatch_modes() == 0
            and tracing_state() is None
            and forward_ad._current_level < 0  # a buffer may have been replaced by one with a tangent
        ):
            prepared = self._prepared
            y = prepared[0].plain(self._buffers, input) if prepared else None
            if y is None:
                y = self._again(input)
            if y is not None:
                return y
        if _checks.is_a(input, torch.Tensor) and cast(torch.Tensor, input).is_nested:  # it may not say its shape
            tensor_checks.strided(cast(torch.Tensor, input), "input")
        if _checks.is_a(input, torch.Tensor, QuantizedTensor) and len(input.shape) not in self._dimensions:
            wanted = " or ".join(map(str, self._dimensions))
            raise bad_value("input", f"must have {wanted} dimensions, got shape {tuple(input.shape)}")
        if _checks.is_a(input, QuantizedTensor) or legacy_tensors.is_legacy(input):
            return quantized_batch_norm(
                input, self.weight, self.bias, self.running_mean, self.running_var, self.eps,
                self.scale, self.zero_point, relu=self._relu,
            )  # fmt: skip
        if self.input_scale is None or self.input_zero_point is None:
            raise bad_value(
                "input",
                "is a plain tensor, and this module was not told its scale and zero point: "
                "give from_float input_scale and input_zero_point, or set them",
            )
        return batch_norm(
            cast(torch.Tensor, input),
            self.input_scale, self.input_zero_point, self.weight, self.bias, self.running_mean,
            self.running_var, self.eps, self.scale, self.zero_point, self.output_dtype, self._relu,
        )  # fmt: skip

    def _again(self, input: object) -> torch.Tensor | None:
        """Normalize a legacy tensor, or any after a change, past the dispatcher; None if it is unusual."""
        if legacy_tensors.is_legacy(input):
            if not legacy_tensors.is_per_tensor(input):
                return None
            out = legacy_tensors.empty_like(input, self.scale, self.zero_point)
            call = (self._buffers, input, input.q_scale(), input.q_zero_point(), out)
            prepared = self._prepared
            y = prepared[0].quantized(*call) if prepared else None
            return self._prepare().quantized(*call) if y is None else y  # type: ignore[no-any-return]
        return self._prepare().plain(self._buffers, input)  # type: ignore[no-any-return]

    def _prepare(self) -> _core.TorchOperator:
        place = (
            self._prepared
        )  # of what is read now: a thread that changes the module meanwhile leaves it to nobody
        prepared = _core.TorchOperator(
            self._buffers, self.eps, self.scale, self.zero_point, self._relu,
            self.input_scale, self.input_zero_point, self.output_dtype,
            self._dimensions[0], self._dimensions[-1],
        )  # fmt: skip
        place[:] = [prepared]
        return prepared

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _NUMBERS:
            value = _NUMBERS[name](value, name)
        super().__setattr__(name, value)
        self.__dict__["_prepared"] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_prepared": []}

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # Beside the buffers, whatever torch's default device is; a number needs no memory, so "meta" keeps it.
        device = "cpu" if self.running_mean.is_meta else self.running_mean.device
        for name, dtype in _QUANTIZATION.items():
            value = getattr(self, name)
            if value is not None:
                destination[prefix + name] = torch.tensor(value, dtype=dtype, device=device)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if local_metadata.get("assign_to_params_buffers", False):  # of a float module they come as parameters
            for name, vector in list(self._parameters.items()):
                if vector is not None:
                    del self._parameters[name]
                    self.register_buffer(name, vector.detach())
        unused = prefix + "num_batches_tracked"  # norms saved before torch 0.4.1 have none
        if unused in missing_keys:
            missing_keys.remove(unused)
        for name in _QUANTIZATION:  # after the hooks, which may rename
            key = prefix + name
            if key in unexpected_keys:
                unexpected_keys.remove(key)
            if key in state_dict:
                try:
                    setattr(self, name, state_dict[key])
                except (TypeError, ValueError) as error:
                    error_msgs.append(f"{prefix}{error}")
            elif strict and not name.startswith("input_"):  # a legacy norm knows nothing of its input
                missing_keys.append(key)

    def extra_repr(self) -> str:
        """Return what the repr of the module shows.

        Returns
        -------
        str

        Examples
        --------
        >>> import bytenorm.torch
        >>> bytenorm.torch.BatchNorm2d(1).extra_repr()
        '1, eps=1e-05, affine=True, scale=1.0, zero_point=0'
        """
        shown = [f"{self.num_features}, eps={self.eps}, affine={self.affine}"]
        if self.input_scale is not None:
            shown.append(f"input_scale={self.input_scale}, input_zero_point={self.input_zero_point}")
        shown.append(f"scale={self.scale}, zero_point={self.zero_point}")
        if self.output_dtype is not None:
            shown.append(f"output_dtype={self.output_dtype}")
        return ", ".join(shown)


def _epsilon(value: Any, name: str) -> float:
    return _checks.epsilon(tensor_checks.number(value, name), name)


def _scale(value: Any, name: str) -> float:
    return _checks.scale(tensor_checks.number(value, name), name)


def _zero_point(value: Any, name: str) -> int:
    return tensor_checks.zero_point_of_any(tensor_checks.whole(value, name), name)


def _optional(check: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    return lambda value, name: None if value is None else check(value, name)


# The attributes that are numbers, and what checks them whenever they are set.
_NUMBERS: dict[str, Callable[[Any, str], Any]] = {
    "eps": _epsilon,
    "scale": _scale,
    "zero_point": _zero_point,
    "input_scale": _optional(_scale),
    "input_zero_point": _optional(_zero_point),
}

# What a state dict holds beyond the buffers, as tensors: the first two under the names of the legacy modules.
_QUANTIZATION = {
    "scale": torch.float64,
    "zero_point": torch.int64,
    "input_scale": torch.float64,
    "input_zero_point": torch.int64,
}
