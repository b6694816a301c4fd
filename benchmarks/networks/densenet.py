"""DenseNet-121: every layer reads all that were before it, through a norm of their concatenation."""

from __future__ import annotations

from .builder import Builder, Value

BLOCKS = (6, 12, 24, 16)
GROWTH = 32
BOTTLENECK = 4


def densenet121(b: Builder) -> Value:
    """Append the network and return its logits: 121 norms, of which 59 come right after a convolution.

    Layers are norm, relu, convolution; the stem is the other way round. A transition halves channels and size.
    """
    x = b.conv("stem/conv", b.input, 2 * GROWTH, 7, stride=2)
    x = _norm_relu(b, "stem", x)
    x = b.max_pool("stem/pool", x, 3, stride=2)
    for number, layers in enumerate(BLOCKS, 1):
        x = _block(b, f"block{number}", x, layers)
        if number < len(BLOCKS):
            x = _transition(b, f"transition{number}", x)
    return b.classify(_norm_relu(b, "final", x), classes=1000)


def _block(b: Builder, at: str, x: Value, layers: int) -> Value:
    pieces = [x]
    for number in range(1, layers + 1):
        here = f"{at}/layer{number}"
        joined = b.concat(f"{here}/concat", pieces) if len(pieces) > 1 else x
        y = _norm_relu(b, f"{here}/1", joined)
        y = b.conv(f"{here}/1/conv", y, BOTTLENECK * GROWTH, 1)
        y = _norm_relu(b, f"{here}/2", y)
        pieces.append(b.conv(f"{here}/2/conv", y, GROWTH, 3))
    return b.concat(f"{at}/concat", pieces)


def _transition(b: Builder, at: str, x: Value) -> Value:
    y = b.conv(f"{at}/conv", _norm_relu(b, at, x), x.channels // 2, 1)
    return b.average_pool(f"{at}/pool", y, 2)


def _norm_relu(b: Builder, at: str, x: Value) -> Value:
    return b.relu(f"{at}/relu", b.norm(f"{at}/norm", x))
