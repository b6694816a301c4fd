"""Calls that are wrong: what was meant by them, in one line that points to the help of the command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from .._alike import most_alike


class Parser(argparse.ArgumentParser):
    """One line for an error, as for all others."""

    def error(self, message: str) -> NoReturn:
        """Say it, and end."""
        text = " ".join(message.split())
        sys.stderr.write(f"bytenorm: error: {text} (see {self.prog} --help)\n")
        raise SystemExit(2)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Say which of the choices was meant, or all."""
        if action.choices is not None and value not in action.choices:
            there = [str(one) for one in action.choices]
            raise argparse.ArgumentError(
                action, f"invalid choice: {value!r}{_meant(str(value), there, ', '.join(there))}"
            )


def parse_known(program: Parser, commands: Mapping[str, Parser], argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments of a call; raises SystemExit after help, version or an error.

    What is unknown is looked for first: an option that is spelt wrong is the reason why another one is missing.
    """
    words = list(argv)
    at = _command_at(program, words)
    _refuse_unknown(program, words[:at], [], commands)
    if at == len(words):
        return program.parse_args(words)  # help, version, or the error that the command is missing
    if words[at] not in commands:
        there = [*commands, *program._option_string_actions]
        program.error(f"invalid choice: {words[at]!r}{_meant(words[at], there, ', '.join(commands))}")
    command = commands[words[at]]
    _refuse_unknown(command, words[at + 1 :], [program], {})
    options, rest = program.parse_known_args(_models_first(words))
    if rest:
        command.error(f"unrecognized arguments: {' '.join(rest)}")
    _refuse_streams(command, options)
    return options


def _command_at(program: Parser, words: Sequence[str]) -> int:
    """Return where the command stands: the first word that is neither an option of the program nor its value."""
    takes_value = False
    for i, word in enumerate(words):
        if not takes_value and not _is_option(word):
            return i
        action = program._option_string_actions.get(word)
        takes_value = action is not None and action.nargs is None
    return len(words)


def _is_option(word: str) -> bool:
    """Say whether a word is an option, and neither a value nor a negative number."""
    try:
        float(word)
    except ValueError:
        return word.startswith("-") and word != "-" and " " not in word
    return False


def _refuse_unknown(
    parser: Parser, words: Iterable[str], others: Iterable[Parser], commands: Mapping[str, Parser]
) -> None:
    known = parser._option_string_actions
    for word in words:
        if word == "--":
            return
        name = word.partition("=")[0]
        if not _is_option(word) or name in known:
            continue
        # "-oFILE" is "-o FILE"; "-output" is not "-o utput".
        if not name.startswith("--") and name[:2] in known and f"-{name}" not in known:
            continue
        if any(name in other._option_string_actions for other in others):
            parser.error(f"{name} goes in front of the command")
        its = [text for text, command in commands.items() if name in command._option_string_actions]
        if its:
            parser.error(f"{name} goes behind the command, as in bytenorm {its[0]} ... {name}")
        parser.error(f"unrecognized arguments: {name}{_meant(name, known)}")


def _meant(word: str, known: Iterable[str], wanted: str = "") -> str:
    by_name = {name.lstrip("-").lower(): name for name in known if len(name.lstrip("-")) > 1}
    text = word.lstrip("-").lower()
    found = next((name for name in by_name if name.startswith(text)), "") or most_alike(text, by_name)
    if len(text) > 1 and found:
        return f": did you mean {by_name[found]}?"
    return f": {wanted} are there" if wanted else ""


def _models_first(words: Sequence[str]) -> list[str]:
    """Put models that stand behind --data in front of it.

    The option takes as many paths as there are, and data is no model: ``--data photos/ model.onnx -o out.onnx``.
    """
    made: list[str] = []
    start: int | None = None  # where --data stands, while its values are read
    for i, word in enumerate(words):
        if word == "--":
            return [*made, *words[i:]]
        if _is_option(word):
            start = len(made) if word == "--data" else None
        elif start is not None and len(made) > start + 1 and word.lower().endswith(".onnx"):
            made.insert(start, word)
            start += 1
            continue
        made.append(word)
    return made


def _refuse_streams(command: Parser, options: argparse.Namespace) -> None:
    """Refuse "-", by which other programs mean standard input or output."""
    for action in command._actions:
        value = getattr(options, action.dest, None)
        if "-" in (value if isinstance(value, list) else [value]):
            name = "/".join(action.option_strings) or action.metavar
            command.error(
                f"{name} must be a path, got '-': standard input is not read, nor standard output written to"
            )
