"""Some of the random calls and refusals of tests/random_operators.py; its command runs more of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from bytenorm import _core

RANDOM = Path(__file__).parent / "random_operators.py"


@pytest.mark.thorough
@pytest.mark.parametrize("isa", _core.isas())
def test_random_operators(isa):
    """In a process of their own: the one that the last case ends is known by its number."""
    command = [sys.executable, RANDOM, "--cases", "1000", "--seed", "20261128", "--isa", isa]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
