"""Some faults of commands, at moments that a seed chooses; `make faults` tries many more."""

import random
import re

import faults
import pytest

from bytenorm.cli import main

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return faults.Place(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("inspect", "closed pipe"),
        ("quantize", "terminate"),
        ("prepare", "closed pipe"),
        ("restore", "full disk"),
        ("report", "no memory"),
        ("statistics", "hang up"),
    ],
)
def test_a_fault(name, kind, place):
    _, wrong = faults.inflict(place, name, kind, random.Random(20240229))
    assert not wrong


def test_no_command_is_left_out(capsys):
    assert main(["--help"]) == 0
    told = capsys.readouterr().out.split("COMMAND\n")[1].split("\n\n")[0]
    assert set(re.findall(r"^    (\w+) ", told, re.MULTILINE)) == set(faults.COMMANDS)
