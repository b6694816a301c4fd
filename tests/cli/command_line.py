"""What the tests of the command share: its commands, and how to read what it says."""

import json
import re

import onnx

from bytenorm import onnx as bno
from bytenorm.cli import main

DIGITS = bno.digits_model()
COMMANDS = ("inspect", "quantize", "lower", "prepare", "restore", "compare", "bench", "report")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TIMINGS = {"median_ms", "q1_ms", "q3_ms", "fastest_ms"}


def words(line, **names):
    """Split a command first: the paths that are put in may hold spaces."""
    return [word.format(**names) for word in line.split()]


def parsed(text):
    return onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> {text}').SerializeToString()


def as_json(text):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    assert text.startswith("{")
    assert text.endswith("}\n")
    return json.loads(text, parse_constant=refuse)


def documented(capsys, command):
    """Return the words that the help uses for the keys of --json."""
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    return set(re.findall(r"\w+", text[text.index("\n--json:\n") : text.index("\nexamples:\n")]))


def keys_of(value):
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
