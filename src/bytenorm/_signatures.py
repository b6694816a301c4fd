"""What functions say of their arguments: the same as another one, or not all."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def same_arguments(other: Callable[P, Any]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Give a function the arguments of another one, for those who read them: ``help``, editors and type checkers.

    Parameters
    ----------
    other : callable
        That has them.

    Returns
    -------
    callable
        A decorator of a function that takes anything and calls `bound` for it.
    """

    def give(function: Callable[..., R]) -> Callable[P, R]:
        returned = function.__annotations__["return"]
        signature = inspect.signature(other).replace(return_annotation=returned)
        vars(function)["__signature__"] = signature
        function.__annotations__ = {**other.__annotations__, "return": returned}
        return function

    return give


def hide(function: Callable[..., Any], name: str) -> None:
    """Say nothing of an argument that a function takes only to refuse it."""
    signature = inspect.signature(function)
    kept = [parameter for parameter in signature.parameters.values() if parameter.name != name]
    vars(function)["__signature__"] = signature.replace(parameters=kept)


def bound(function: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return by name what a function is called with, and what it takes where it is not told.

    Raises
    ------
    TypeError
        If it takes no such arguments, in Python's words.
    """
    try:
        found = inspect.signature(function).bind(*args, **named)
    except TypeError as error:
        raise TypeError(f"{function.__name__}() {error}") from None
    found.apply_defaults()
    return found.arguments
