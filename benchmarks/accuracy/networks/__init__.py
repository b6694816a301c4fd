"""The networks of the benchmark, by name; each is made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ...networks.network import NETWORKS as KNOWN
from ..network import Network
from . import digits, faces, orientation, pictures, pitch, splicing, text, untrained

FEW = 4  # samples

TRAINED: dict[str, Callable[[], Network]] = {
    "digits": digits.digits,
    "crepe-tiny": pitch.tiny,
    "spliceai": splicing.splicing,
    "ppocr-rec": text.recognition,
    "ppocr-cls": text.direction,
    "ppocr-det": text.detection,
    "orientation": orientation.orientation,
    "mini-xception": faces.expression,
    "mobilenetv2": pictures.mobilenet,
    "efficientnet-lite0": pictures.efficientnet,
}


def few(name: str) -> Network:
    """Return a trained network that few samples calibrate."""
    network = TRAINED[name]()
    return replace(network, calibration=network.calibration[:FEW])


NETWORKS: dict[str, Callable[[], Network]] = {
    **TRAINED,
    **{f"{name}-few": partial(few, name) for name in TRAINED},
    **{name: partial(untrained.known, name) for name in KNOWN},
    **{path.stem: partial(untrained.light, path) for path in sorted(untrained.LIGHT.glob("*.onnx"))},
}
