"""All inputs that fuzzing began with and found, through the readers: each ends well or in a documented error."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent / "fuzz"))

import readers
from mutations import changed

CASES = [
    pytest.param(name, path, id=f"{name}-{path.name}") for name in readers.READERS for path in readers.corpus(name)
]
MODELS = 150  # tests/fuzz runs as many as there is time for


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "folder", tmp_path)


@pytest.mark.parametrize(("name", "path"), CASES)
def test_inputs_that_are_kept(name, path):
    readers.READERS[name](path.read_bytes())


def test_changed_models(rng):
    """Without guidance, and so always the same."""
    begin = [path.read_bytes() for path in readers.corpus("graph")]
    models = 0
    for seed in rng.integers(0, 2**32, MODELS):
        content = changed(begin[int(seed) % len(begin)], int(seed))
        if content is not None:
            readers.graph(content)
            models += 1
    assert models > MODELS // 2


def test_words_of_others_are_no_documented_errors():
    with pytest.raises(ValueError, match="cannot reshape"), readers._documented_errors():
        np.zeros(1).reshape(31)
    with pytest.raises(UnicodeDecodeError), readers._documented_errors():
        b"\xff".decode()
