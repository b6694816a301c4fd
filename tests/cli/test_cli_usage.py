"""Help, versions, usage, completion."""

import shlex
import sys
import types

import pytest
from command_line import COMMANDS

from bytenorm import __version__
from bytenorm.cli import completion, main
from bytenorm.cli.console import as_size, for_json


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_options_and_examples(command, capsys):
    assert main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"usage: bytenorm {command} ")
    assert f"\nexamples:\n  bytenorm {command} " in out
    assert "--json" in out
    assert max(map(len, out.splitlines())) < 80


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_the_help_can_be_parsed(command, capsys):
    main([command, "--help"])
    examples = capsys.readouterr().out.partition("\nexamples:\n")[2].replace("\\\n", "")
    for line in examples.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "bytenorm"
        code = main([a.replace("model", "no-such-model").replace("stock", "no-such") for a in arguments])
        assert code == 2
        assert "(see bytenorm" not in capsys.readouterr().err  # it is not the usage that is wrong


def test_help_lists_the_commands(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n    {command} " in out
        assert f"\n  bytenorm {command} " in out
    assert "130 interrupted" in out


def test_nothing_is_answered_by_help(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: bytenorm ")


def test_version(output):
    assert output("--version") == f"bytenorm {__version__}\n"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("frobnicate", "invalid choice: 'frobnicate': inspect, quantize, "),
        ("quantise m --data d -o o", "invalid choice: 'quantise': did you mean quantize? (see bytenorm --help)"),
        ("help", "invalid choice: 'help': did you mean --help? (see bytenorm --help)"),
        ("lower m -o o --lowering exct", "argument --lowering: invalid choice: 'exct': did you mean exact?"),
        ("--frob inspect m", "unrecognized arguments: --frob (see bytenorm --help)"),
        ("--json inspect m", "--json goes behind the command, as in bytenorm inspect ... --json"),
        ("inspect m --version", "--version goes in front of the command (see bytenorm inspect --help)"),
        ("inspect", "required: MODEL (see bytenorm inspect --help)"),
        ("inspect a b", "unrecognized arguments: b (see bytenorm inspect --help)"),
        ("inspect a --verbose", "unrecognized arguments: --verbose"),
        ("inspect a --js", "--js: did you mean --json? (see bytenorm inspect --help)"),
        ("quantize m --dta d -o o", "--dta: did you mean --data? (see bytenorm quantize --help)"),
        ("quantize m --data=d --norm=mse -o o", "--norm: did you mean --norm-method?"),
        ("compare a b --limt 3", "--limt: did you mean --limit?"),
        ("lower m -output o", "-output: did you mean --output?"),
        ("statistics --data d --scale 1 --zero-point 0 -o o --schedule x", "did you mean --scheduler?"),
        ("inspect -", "MODEL must be a path, got '-': standard input is not read"),
        ("quantize m --data - -o o", "--data must be a path, got '-'"),
        ("lower m -o -", "-o/--output must be a path, got '-'"),
        ("compare a - --data d", "CANDIDATE must be a path, got '-'"),
        ("bench a -", "MODEL must be a path, got '-'"),
        ("report m --data d --float - -o o", "--float must be a path, got '-'"),
        (
            "quantize a --data b -o c --fail-below nan",
            "argument --fail-below: must be a number of decibels, got 'nan'",
        ),
        ("quantize a --data b -o c --fail-below x", "--fail-below: must be a number of decibels, got 'x'"),
        ("quantize m -o o", "required: --data"),
        ("quantize m --data d", "required: -o/--output"),
        ("quantize m --data d -o o --lowering fast", "argument --lowering: invalid choice: 'fast'"),
        ("quantize m --data d -o o --format qdq", "argument --format: invalid choice: 'qdq': did you mean QDQ?"),
        ("quantize m --data d -o o --activations int4", "argument --activations: invalid choice: 'int4'"),
        ("quantize m --data d -o o --weights float", "argument --weights: invalid choice: 'float'"),
        (
            "quantize m --data d -o o --calibrate-method mean",
            "argument --calibrate-method: invalid choice: 'mean'",
        ),
        ("quantize m --data d -o o --norm-method best", "argument --norm-method: invalid choice: 'best'"),
        ("quantize m --data d -o o --limit many", "argument --limit: invalid int value: 'many'"),
        ("quantize m --data d -o o --mean red", "argument --mean: invalid float value: 'red'"),
        ("quantize m --data d -o o --exclude", "argument --exclude: expected one argument"),
        ("lower m", "required: -o/--output"),
        ("lower m -o o --data d", "unrecognized arguments: --data (see bytenorm lower --help)"),
        ("compare a --data d", "required: CANDIDATE"),
        ("compare a b", "required: --data"),
        ("bench", "required: MODEL"),
        ("bench a --repeats 3 --seconds 1", "argument --seconds: not allowed with argument --repeats"),
    ],
)
def test_usage_that_is_wrong(line, wanted, complaint):
    assert wanted in complaint(*line.split())


def test_json_and_sizes():
    value = {"a": [float("inf"), float("-inf"), float("nan"), 1.5], "b": ({"c": float("nan")}, "x", None, True)}
    assert for_json(value) == {"a": [None, None, None, 1.5], "b": [{"c": None}, "x", None, True]}
    sizes = [0, 999, 1000, 95_403, 276_986, 999_499, 1_000_000, 8_691_665, 25_000_000_000, 10**13]
    assert [as_size(n) for n in sizes] == [
        *("0 B", "999 B", "1 kB", "95.4 kB", "277 kB", "999 kB", "1 MB", "8.69 MB", "25 GB", "10000 GB"),
    ]


def test_completion(run, monkeypatch):
    """The script is shtab's, with one mend; it is told which arguments are files."""
    seen = {}

    def complete(parser, shell):
        seen.update(parser=parser, shell=shell)
        return f"the script {completion._FILES_ONLY}\n"

    monkeypatch.setitem(sys.modules, "shtab", types.SimpleNamespace(FILE="a file", complete=complete))
    assert run("--print-completion", "bash") == (
        0,
        'the script ( -z "$current_action_compgen" || "$current_action_is_positional" = true'
        ' || "$current_action_nargs" = "+" )\n',
        "",
    )
    (commands,) = (action.choices for action in seen["parser"]._actions if action.dest == "command")
    files = {
        (name, action.dest)
        for name, command in commands.items()
        for action in command._actions
        if getattr(action, "complete", None) == "a file"
    }
    assert files >= {("inspect", "model"), ("bench", "models"), ("compare", "candidate"), ("statistics", "data")}
    assert {name for name, dest in files if dest == "output"} == {
        *("quantize", "lower", "prepare", "restore", "statistics", "report")
    }
    assert ("quantize", "limit") not in files
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, out, err = run("--print-completion", "zsh")
    assert (code, out) == (2, "")
    assert err == 'bytenorm: error: completion needs shtab: pip install "bytenorm[completion]"\n'
