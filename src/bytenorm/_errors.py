"""The one grammar of errors: what is wrong with an argument, in words that a caller may put into its own.

A message is one line and begins with its subject, the argument as the caller wrote it: ``scale``, ``pieces[3]``,
``model 'net.onnx'``. What follows has one of three forms:

- ``scale must be WANTED, got CAME`` for a value that is not what is wanted; what to do may stand at the end,
  behind a semicolon or a colon;
- ``input has CAME, WANTED`` for what it has, is or holds;
- ``model: WHAT IS WRONG`` for what was found inside of it, or beside another argument.

The error is a plain ValueError (values, shapes), TypeError (types), or FileNotFoundError and FileExistsError. It
carries the argument's name as its attribute ``argument``, and survives pickle and copy as any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

E = TypeVar("E", bound=Exception)


@dataclass(frozen=True)
class Argument:
    """An argument inside of a message, with the value that is spoken of, or with what belongs to its name.

    ``Argument("force", True)`` is "force=True", ``Argument("pieces", detail="[3]")`` is "pieces[3]", and
    ``Argument("lower", detail="()")``, of a function that is named, "lower()".
    """

    name: str
    value: object = None
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.name}{'' if self.value is None else f'={self.value!r}'}{self.detail}"


def bad(kind: type[E], subject: str, *says: str | Argument, argument: str = "") -> E:
    """Return an error of an argument.

    Parameters
    ----------
    kind : type
    subject : str
        The argument as the message calls it, its name first.
    *says : str or Argument
        The rest of the message, in which other arguments may be named.
    argument : str, optional
        The name, where the subject does not begin with it.
    """
    end = next((i for i, letter in enumerate(subject) if letter in " [':,"), len(subject))
    parts = (
        subject if argument else Argument(subject[:end], detail=subject[end:]),
        "" if str(says[0]).startswith(":") else " ",
        *says,
    )
    error = kind("".join(map(str, parts)))
    vars(error).update(argument=argument or subject[:end], parts=parts)
    return error


def bad_value(subject: str, *says: str | Argument, argument: str = "") -> ValueError:
    """Return the error of a value, as `bad` has it."""
    return bad(ValueError, subject, *says, argument=argument)


def bad_type(subject: str, *says: str | Argument, argument: str = "") -> TypeError:
    """Return the error of a type, as `bad` has it."""
    return bad(TypeError, subject, *says, argument=argument)


def with_subject(error: ValueError, subject: str) -> ValueError:
    """Return an error of an argument as one of another argument."""
    return bad_value(subject, *vars(error)["parts"][2:])


def argument_of(error: BaseException) -> str:
    """Return the name of the argument that an error is about; empty if it is about none."""
    found = getattr(error, "argument", "")
    return found if isinstance(found, str) and hasattr(error, "parts") else ""


def respelled(error: Exception, spell: Callable[[Argument], str]) -> Exception:
    """Return an error of an argument with arguments spelled in another way, a TypeError as a ValueError."""
    parts = tuple(spell(part) if isinstance(part, Argument) else part for part in vars(error)["parts"])
    made = (ValueError if isinstance(error, TypeError) else type(error))("".join(parts))
    vars(made).update(argument=parts[0].partition(" ")[0], parts=parts)
    return made
