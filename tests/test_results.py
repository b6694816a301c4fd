"""A fixed set of results has one digest, on every platform, instruction set and number of threads."""

import sys
from pathlib import Path

import pytest

import bytenorm as bn
from bytenorm import _core

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "release"))
import results


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("isa", _core.isas())
def test_digest(isa, threads):
    before = _core.isa(), bn.get_num_threads(), _core.set_bytes_a_thread(512)
    _core.select_isa(isa)
    bn.set_num_threads(threads)
    try:
        assert results.digest() == results.DIGEST
    finally:
        _core.select_isa(before[0])
        bn.set_num_threads(before[1])
        _core.set_bytes_a_thread(before[2])
