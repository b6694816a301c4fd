"""Some of the graphs of tests/random_graphs.py; its command tries more of them."""

import pytest
from random_graphs import check

SEEDS = range(150)


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(3))
def test_random_graphs(part):
    wrong = {seed: check(seed) for seed in SEEDS[part::3]}
    assert not {seed: lines for seed, lines in wrong.items() if lines}
