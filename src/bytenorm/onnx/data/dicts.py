"""Calibration data that comes as dicts of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from ... import _checks
from ..._errors import bad_type
from .input_checks import InputChecks, layouts_of

if TYPE_CHECKING:
    from .input_checks import Item


class Dicts:
    """The items of an iterable of dicts."""

    def __init__(self, data: Iterable[object], checks: InputChecks) -> None:
        self._data = data
        self._checks = checks

    def __iter__(self) -> Iterator[Item]:
        for number, entry in enumerate(self._data):
            label = f"{self._checks.argument}[{number}]"
            if not isinstance(entry, Mapping):
                wanted = ", ".join(map(str, self._checks.inputs))
                raise bad_type(label, f"must be a dict of arrays for {wanted}, got {type(entry).__name__}")
            arrays = {name: _checks.as_array(value, f"{label}: input {name!r}") for name, value in entry.items()}
            yield self._checks.item(label, layouts_of(arrays), partial(dict, arrays))
