"""Random arrays in memory of any order: what the random tests of the operators are made of."""

import numpy as np

# Around one vector and a half, one and two of 32 and 64 bytes, and what is short, odd or even.
LENGTHS = [2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, 47, 49, 63, 64, 65, 81, 95, 100, 127, 128, 129, 191, 200, 257]
MARGIN = 70  # bytes in front of and behind an array, at most


class Memory:
    """An array inside a buffer of random bytes, and the buffer as it was."""

    def __init__(self, buffer, view):
        self.buffer, self.view, self.before = buffer, view, buffer.copy()

    def like(self, buffer, offset=0, dtype=None):
        """Return the same elements of another buffer, or of its own so many bytes further."""
        view = self.view
        start = view.__array_interface__["data"][0] - self.buffer.ctypes.data + offset
        return np.ndarray(view.shape, view.dtype if dtype is None else dtype, buffer, start, view.strides)

    def holds(self, want):
        """Whether the array has these values, and no other byte of the buffer changed."""
        wanted = self.before.copy()
        self.like(wanted)[...] = want
        return np.array_equal(self.buffer, wanted)

    def untouched(self):
        return np.array_equal(self.buffer, self.before)

    def again(self):
        """Take what is there now as what was there before."""
        self.before[...] = self.buffer


def pick(rng, options):
    """Return one of them; much faster than `Generator.choice`."""
    return options[rng.bit_generator.random_raw() % len(options)]


def chance(rng, share):
    return rng.random() < share


def shape_of(rng, least=2, most_elements=2500):
    """Return a shape of `least` to 8 dimensions, most of them short, seldom empty."""
    rank = pick(rng, [r for r in (1, 2, 2, 3, 3, 4, 4, 4, 5, 6, 8) if r >= least])
    shape = [pick(rng, (1, 1, 2, 2, 3, 4, 5)) for _ in range(rank)]
    for _ in range(pick(rng, (1, 1, 2))):
        shape[int(rng.integers(rank))] = pick(rng, LENGTHS)
    while np.prod(shape) > most_elements:
        shape[int(np.argmax(shape))] = pick(rng, (1, 2, 7))
    if chance(rng, 0.03):
        shape[int(rng.integers(rank))] = 0
    return tuple(shape)


def arrangement(rng, rank, axis=1):
    """Return how an array lies in memory, to be given to `memory`: an order of axes, and whether steps vary."""
    kind = pick(rng, ("plain", "plain", "last", "last", "last", "order", "order", "steps", "cut", "cut last"))
    order = list(range(rank))
    if "last" in kind:
        order.append(order.pop(axis % rank))
    if kind in ("order", "steps"):
        order = rng.permutation(rank).tolist()
    return kind, order


def memory(rng, shape, dtype, how, *, broadcast=False):
    """Return a Memory of that shape: dense in some order of axes, cut from a larger one, or with other steps."""
    kind, order = how
    itemsize = np.dtype(dtype).itemsize
    strides, first, reach = [0] * len(shape), 0, itemsize
    for at, axis in enumerate(reversed(order)):
        n, step, pad = shape[axis], 1, 0
        if kind == "steps":
            step, pad = pick(rng, (1, 1, 1, 2, 3, -1, -2)), pick(rng, (0, 0, 1, 4))
        elif kind in ("cut", "cut last") and at < 2:
            pad = pick(rng, (0, 0, 1, 5, 64))
        if broadcast and chance(rng, 0.2):
            continue
        strides[axis] = step * reach
        first += max(n - 1, 0) * -step * reach if step < 0 else 0
        reach *= max(n, 1) * abs(step) + pad
    front = pick(rng, (0, 0, 1, 3, 17, 32, 63, MARGIN))
    buffer = aligned(rng, front + reach + pick(rng, (0, 1, MARGIN)))
    return Memory(buffer, np.ndarray(shape, dtype, buffer, front + first, strides))


def aligned(rng, n):
    """Return n random bytes that begin on a cache line."""
    raw = rng.integers(0, 256, n + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n]


def vector(rng, values):
    """Return numbers as any array-like that holds them in float32."""
    values = np.asarray(values, np.float32)
    return pick(
        rng,
        (values, values, values, np.repeat(values, 2)[::2], values[::-1].copy()[::-1], values.astype(np.float64),
         values.tolist()),
    )  # fmt: skip


def scale_of(rng):
    """Return a scale, seldom an extreme one."""
    if chance(rng, 0.03):
        return pick(rng, (1e-38, 3e38, 1e-20, 1e20, 2.0**-126, 1e-5))
    return pick(rng, (0.5, 0.25, 1.0, 0.1)) if chance(rng, 0.2) else float(np.exp(rng.uniform(-5, 2)))
