"""The floors: what a prepared operator with ``out=`` on one thread has to reach, measured by medians.

They were passed by experiments on a machine with AVX-512 VBMI, 2 MiB of L2 a core and 260 MiB of L3.
"""

from __future__ import annotations

from .machine import level2

Shape = tuple[int, ...]

IMAGES: tuple[Shape, ...] = (
    (1, 64, 112, 112),
    (1, 256, 56, 56),
    (8, 64, 56, 56),
    (32, 256, 28, 28),
    (32, 1024, 14, 14),
    (64, 512, 7, 7),
)
FROM_LEVEL2: tuple[Shape, ...] = ((1, 64, 56, 56), (1, 512, 28, 28), (1, 1024, 14, 14))  # channels-last
TABLE: Shape = (4096, 512)

TORCH_NCHW = dict(zip(IMAGES, (17, 17, 8.5, 8.5, 8.5, 6), strict=True))
TORCH_NHWC = dict(zip((*IMAGES, TABLE), (3, 3, 2.4, 2.4, 2.4, 2.4, 2.4), strict=True)) | dict.fromkeys(
    FROM_LEVEL2, 2.4
)
TORCH_AVX2 = 2.0
TORCH_FEW_CHANNELS = 3.0
TORCH_TENSORS_NCHW = 6.0  # bytenorm.torch, new output memory in every call
TORCH_TENSORS_NHWC = 2.4
TORCH_COMPILE = 2.0

PEER = 1.8

COPY_NCHW = 0.8
COPY_NHWC = 0.9
COPY_NHWC_LEVEL2 = 0.8
COPY_AVX2 = 0.55
COPY_IN_PLACE = 1.4
COPY_LARGE = 0.8

CHANNELS = (3, 16, 24, 33, 48, 63, 96, 127)
OF_64_CHANNELS = 0.85
OF_64_FROM = 16

CONCATENATIONS = (
    ((64, 32), 56), ((64, *[32] * 5), 56), ((128, *[32] * 11), 28), ((256, *[32] * 23), 14), ((512, *[32] * 15), 7)
)  # fmt: skip
CONCAT_OF_NORM = {56: 1.1, 28: 1.1, 14: 1.2, 7: 1.2}  # time, at most, by the side of an image
SUMS: tuple[Shape, ...] = ((1, 256, 56, 56), (1, 512, 28, 28), (1, 1024, 14, 14), (1, 2048, 7, 7))
SUM_OF_COPY = 1.5  # time, at most

TWO_THREADS = 1.8

CALL_OUT_US = 1.0
CALL_US = 2.0
CALL_ONE_SHOT = 1.0  # times torch's speed
CALL_OUT_NUMBA = 1.0  # times the speed of a numba loop that is given folded parameters
QUANTIZE_TORCH = 1.0  # times torch's speed
CALL_MODULE_US = 4.0

SUMS_NUMPY = 25.0  # statistics without a histogram: times NumPy's float mean and var
SUMS_COPY = 1.0  # 7x7 excepted, whose planes are shorter than a vector
HISTOGRAM_NUMPY = 1.0  # times bincount

IMPORT_MS = 50.0
PACKAGE_MB = 1.0


def torch(shape: Shape, channels_last: bool) -> float:
    """Return how many times as fast as torch's operator a layout has to be."""
    return (TORCH_NHWC if channels_last else TORCH_NCHW)[shape]


def copy(shape: Shape, channels_last: bool, size: int) -> float | None:
    """Return the share of memcpy's speed to reach: NCHW planes from 7x7 up, channels-last."""
    if not channels_last:
        return COPY_NCHW
    return COPY_NHWC if from_level3(size) else COPY_NHWC_LEVEL2


def copy_avx2(shape: Shape) -> float | None:
    """Return the share of memcpy's speed to reach with AVX2: 7x7 excepted."""
    return COPY_AVX2 if shape[-1] != 7 else None


def from_level3(size: int) -> bool:
    """Whether an input of `size` bytes and its output do not fit this machine's second-level cache."""
    return 2 * size > level2()
