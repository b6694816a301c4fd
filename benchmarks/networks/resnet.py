"""ResNet-50 v2: norm and relu before each convolution, so that the norm of a sum stands alone."""

from __future__ import annotations

from .builder import Builder, Value

STAGES = (3, 4, 6, 3)
WIDTH = 64
EXPANSION = 4


def resnet50v2(b: Builder) -> Value:
    """Append the network and return its logits: 49 norms, of which 32 come right after a convolution.

    The stem is a convolution and a maximum. Each stage but the first halves the size in the 3 x 3 convolution of
    its first block; there the shortcut is a convolution of what the block's first norm and relu give.
    """
    x = b.conv("stem/conv", b.input, WIDTH, 7, stride=2)
    x = b.max_pool("stem/pool", x, 3, stride=2)
    for stage, blocks in enumerate(STAGES, 1):
        for number in range(1, blocks + 1):
            first = number == 1
            width = WIDTH * 2 ** (stage - 1)
            x = _block(b, f"stage{stage}/block{number}", x, width, stride=2 if first and stage > 1 else 1)
    return b.classify(_norm_relu(b, "final", x), classes=1000)


def _block(b: Builder, at: str, x: Value, width: int, stride: int) -> Value:
    active = _norm_relu(b, f"{at}/1", x)
    y = b.conv(f"{at}/1/conv", active, width, 1)
    y = b.conv(f"{at}/2/conv", _norm_relu(b, f"{at}/2", y), width, 3, stride)
    y = b.conv(f"{at}/3/conv", _norm_relu(b, f"{at}/3", y), EXPANSION * width, 1)
    if x.channels != y.channels:
        x = b.conv(f"{at}/shortcut/conv", active, y.channels, 1, stride)
    return b.add(f"{at}/add", x, y)


def _norm_relu(b: Builder, at: str, x: Value) -> Value:
    return b.relu(f"{at}/relu", b.norm(f"{at}/norm", x))
