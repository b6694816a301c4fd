"""Some of the random networks of tests/random_networks.py through `quantize`; its command tries more of them."""

import pytest
from random_networks import RandomNetwork, faults


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(100))
def test_networks(seed):
    assert not faults(seed)


def test_networks_are_the_same_each_time():
    first, second = (RandomNetwork(3) for _ in range(2))
    assert first.build() == second.build()
    assert first.options() == second.options()
