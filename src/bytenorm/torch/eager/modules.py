"""Batch norms as modules: 8 bits in, 8 bits out, in the place of a trained float norm or of a legacy one."""

from __future__ import annotations

import torch

from .quantized_norm import QuantizedNorm


class BatchNorm1d(QuantizedNorm):
    """Batch norm of 8-bit tensors of shape (N, C) or (N, C, L). Everything else is as in `BatchNorm2d`.

    Parameters
    ----------
    num_features, eps, affine, scale, zero_point, input_scale, input_zero_point, output_dtype
        As in `BatchNorm2d`.

    Raises
    ------
    TypeError, ValueError
        As `BatchNorm2d`.

    Examples
    --------
    >>> import torch, bytenorm.torch
    >>> norm = bytenorm.torch.BatchNorm1d(1, scale=0.5, zero_point=10, input_scale=0.25, input_zero_point=0)
    >>> norm(torch.tensor([[0], [4], [8]], dtype=torch.uint8)).flatten()
    tensor([10, 12, 14], dtype=torch.uint8)
    """

    _dimensions = (2, 3)
    _float = torch.nn.BatchNorm1d


class BatchNorm2d(QuantizedNorm):
    """Batch norm of 8-bit tensors of shape (N, C, H, W), in the place of `torch.ao.nn.quantized.BatchNorm2d`.

    What comes in goes out. It is a plain tensor of uint8 or int8, if the module was told the input's scale and
    zero point. It may be a `QuantizedTensor` or one of torch's legacy quantized tensors, which carry their own. A
    state dict of the legacy module loads unchanged. Parameters are buffers: there is nothing to train. The values
    are those of `batch_norm`, and its memory layouts; everything that traces sees
    ``torch.ops.bytenorm.batch_norm``.

    Parameters
    ----------
    num_features : int
        The number of channels.
    eps : float, optional
        Added to the running variance.
    affine : bool, optional
        Whether there are a weight and a bias.
    scale : float, optional
        The quantization step of the output in real units.
    zero_point : int, optional
        The code of 0 in the output.
    input_scale : float, optional
        The quantization step of the plain tensors that come in.
    input_zero_point : int, optional
        The code of 0 in them; given together with `input_scale`.
    output_dtype : torch.uint8 or torch.int8, optional
        The dtype of the plain tensors that go out; None keeps the input's. Others always keep theirs.

    Attributes
    ----------
    num_features, eps, affine, scale, zero_point, input_scale, input_zero_point, output_dtype
        As given; they may be set. The four of the quantization are kept in the state dict, as tensors.
    weight, bias : torch.Tensor of shape (C,), or None
    running_mean, running_var : torch.Tensor of shape (C,)
    num_batches_tracked : torch.Tensor
        Not used; kept because it is in the state dicts of float and legacy modules.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range; when called, as `batch_norm`.

    See Also
    --------
    migrate : replaces the legacy modules of a model.

    Examples
    --------
    >>> import torch, bytenorm.torch
    >>> norm = bytenorm.torch.BatchNorm2d.from_float(
    ...     torch.nn.BatchNorm2d(1).eval(), 0.5, 10, input_scale=0.25, input_zero_point=0
    ... )
    >>> norm
    BatchNorm2d(1, eps=1e-05, affine=True, input_scale=0.25, input_zero_point=0, scale=0.5, zero_point=10)
    >>> norm(torch.tensor([[[[0, 4, 8]]]], dtype=torch.uint8))
    tensor([[[[10, 12, 14]]]], dtype=torch.uint8)
    """

    _dimensions = (4,)
    _float = torch.nn.BatchNorm2d


class BatchNorm3d(QuantizedNorm):
    """Batch norm of 8-bit tensors of shape (N, C, D, H, W). Everything else is as in `BatchNorm2d`.

    Parameters
    ----------
    num_features, eps, affine, scale, zero_point, input_scale, input_zero_point, output_dtype
        As in `BatchNorm2d`.

    Raises
    ------
    TypeError, ValueError
        As `BatchNorm2d`.

    Examples
    --------
    >>> import torch, bytenorm.torch
    >>> norm = bytenorm.torch.BatchNorm3d(1, scale=0.5, zero_point=10, input_scale=0.25, input_zero_point=0)
    >>> norm(torch.tensor([[[[[0, 4, 8]]]]], dtype=torch.uint8)).flatten()
    tensor([10, 12, 14], dtype=torch.uint8)
    """

    _dimensions = (5,)
    _float = torch.nn.BatchNorm3d


class BNReLU1d(BatchNorm1d):
    """`BatchNorm1d` and the relu behind it, in one pass.

    Parameters
    ----------
    num_features, eps, affine, scale, zero_point, input_scale, input_zero_point, output_dtype
        As in `BatchNorm2d`.

    Raises
    ------
    TypeError, ValueError
        As `BatchNorm2d`.

    Examples
    --------
    >>> import torch, bytenorm.torch
    >>> norm = bytenorm.torch.BNReLU1d(1, scale=0.5, zero_point=10, input_scale=0.25, input_zero_point=4)
    >>> norm(torch.tensor([[0], [4], [8]], dtype=torch.uint8)).flatten()
    tensor([10, 10, 12], dtype=torch.uint8)
    """

    _relu = True


class BNReLU2d(BatchNorm2d):
    """`BatchNorm2d` and the relu behind it, in one pass.

    Parameters
    ----------
    num_features, eps, affine, scale, zero_point, input_scale, input_zero_point, output_dtype
        As in `BatchNorm2d`.

    Raises
    ------
    TypeError, ValueError
        As `BatchNorm2d`.

    Examples
    --------
    >>> import torch, bytenorm.torch
    >>> norm = bytenorm.torch.BNReLU2d(1, scale=0.5, zero_point=10, input_scale=0.25, input_zero_point=4)
    >>> norm(torch.tensor([[[[0, 4, 8]]]], dtype=torch.uint8))
    tensor([[[[10, 10, 12]]]], dtype=torch.uint8)
    """

    _relu = True


class BNReLU3d(BatchNorm3d):
    """`BatchNorm3d` and the relu behind it, in one pass.

    Parameters
    ----------
    num_features, eps, affine, scale, zero_point, input_scale, input_zero_point, output_dtype
        As in `BatchNorm2d`.

    Raises
    ------
    TypeError, ValueError
        As `BatchNorm2d`.

    Examples
    --------
    >>> import torch, bytenorm.torch
    >>> norm = bytenorm.torch.BNReLU3d(1, scale=0.5, zero_point=10, input_scale=0.25, input_zero_point=4)
    >>> norm(torch.tensor([[[[[0, 4, 8]]]]], dtype=torch.uint8)).flatten()
    tensor([10, 10, 12], dtype=torch.uint8)
    """

    _relu = True
