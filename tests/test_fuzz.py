"""All inputs that fuzzing began with and found, through the readers: each ends well or in a documented error."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent / "fuzz"))

import readers
from damages import places
from mutations import changed
from onnx import ModelProto
from seeds import SEEDS

CASES = [
    pytest.param(name, path, id=f"{name}-{path.name}") for name in readers.READERS for path in readers.corpus(name)
]
MODELS = 150  # tests/fuzz runs as many as there is time for


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "folder", tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _handle: None)  # nothing here has to outlive the system


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


# Of the damages of a constant and of an attribute: what each operator has to stand in each place, always.
DAMAGES = ("none", "two", "text", "missing", "nan", "[5, 5]", "my-0")


def damaged():
    """Return what is damaged, and a model and the change for each that has it."""
    found = {}
    for model in SEEDS.values():
        for operator, what, damages in places(model):
            for name, change in damages(model):
                found.setdefault((operator, what, name), []).append((model, change))
    return found


@pytest.mark.thorough
def test_damaged_models(rng):
    """Each operator with each input and attribute damaged, in one model that has it; or all damages of all."""
    everything = "BYTENORM_FUZZ_ALL" in os.environ
    run = 0
    for (operator, what, name), cases in damaged().items():
        if not everything and name not in DAMAGES and rng.random() < 0.98:
            continue
        for i in range(len(cases)) if everything else [rng.integers(len(cases))]:
            model, change = ModelProto(), cases[i][1]
            model.CopyFrom(cases[i][0])
            change(model)
            try:
                readers.graph(model.SerializeToString())
            except Exception as error:
                error.add_note(f"{operator} with {what} damaged: {name}")
                raise
            run += 1
    assert run > 400


def test_words_of_others_are_no_documented_errors():
    with pytest.raises(ValueError, match="cannot reshape"), readers._documented_errors():
        np.zeros(1).reshape(31)
    with pytest.raises(UnicodeDecodeError), readers._documented_errors():
        b"\xff".decode()
