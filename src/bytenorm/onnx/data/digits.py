"""The trained network that the package carries, to try things on."""

from __future__ import annotations

from pathlib import Path


def digits_model() -> str:
    """Return the path of a small float network that reads handwritten digits.

    Returns
    -------
    str
        An ONNX file: ``image``, float32 of shape (batch, 1, 28, 28) in 0 to 1, gives ``logits`` of shape
        (batch, 10). It was trained by ``examples/train_digits.py`` and has batch norms of every kind, most of
        them impossible to fold.

    Examples
    --------
    >>> from bytenorm import onnx as bno
    >>> bno.digits_model().endswith("digits.onnx")
    True
    """
    return str(Path(__file__).parent.with_name("digits.onnx"))
