"""TAB: the script that teaches a shell the commands, their options and which of these are files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")
FILES = ("MODEL", "REFERENCE", "CANDIDATE", "FLOAT", "PATH", "OUT")  # what the arguments are called that are files


# shtab (1.13) offers files alone, whatever is typed, behind an option that takes files: also "--data photos --ou".
# In bash's script an option that takes any number of them ends where a word begins with "-".
_FILES_ONLY = '( -z "$current_action_compgen" || "$current_action_is_positional" = true )'
_OPTIONS_TOO = _FILES_ONLY.replace(" )", ' || "$current_action_nargs" = "+" )')


class Completion(argparse.Action):
    """Print the script, and end."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Do so; raise an ImportError that says how to get shtab if it is missing."""
        try:
            import shtab  # noqa: PLC0415 (of an extra)
        except ImportError:
            text = 'completion needs shtab: pip install "bytenorm[completion]"'
            raise ImportError(text, name="shtab") from None
        for action in _all_of(parser):
            if action.metavar in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        sys.stdout.write(shtab.complete(parser, shell=str(values)).replace(_FILES_ONLY, _OPTIONS_TOO))
        parser.exit()


def _all_of(parser: argparse.ArgumentParser) -> Iterable[argparse.Action]:
    for action in parser._actions:
        yield action
        for inner in action.choices.values() if isinstance(action.choices, dict) else ():
            yield from _all_of(inner)
