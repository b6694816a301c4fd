"""Some faults of commands, at moments that a seed chooses; `make faults` tries many more."""

import random

import faults
import pytest


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return faults.Place(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("inspect", "closed pipe"),
        ("quantize", "terminate"),
        ("lower", "full disk"),
        ("report", "no memory"),
        ("calibrate", "hang up"),
    ],
)
def test_a_fault(name, kind, place):
    _, wrong = faults.inflict(place, name, kind, random.Random(20240229))
    assert not wrong
