"""The command ``bytenorm``.

Exit codes: 0 done, 2 bad input or usage, with one line on stderr and nothing written, 3 done, but the 8-bit model
is too far from the float one, where that is asked, 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from .arguments import parse
from .screen import Screen, one_line

BAD, INTERRUPTED, BROKEN_PIPE = 2, 130, 141
ONNX = ("onnx", ("onnx", "onnxruntime", "rich"))  # the extra, and what it brings
EXTRAS = {"calibrate": ("dask", ("dask", "distributed", "rich"))}  # of commands that need another
FATAL = 4  # ONNX Runtime's; what else goes wrong is in its exceptions


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        What comes behind the command's name; that of the process by default.

    Returns
    -------
    int
        The exit code.

    Examples
    --------
    >>> from bytenorm.cli import main
    >>> main(["--version"])  # doctest: +ELLIPSIS
    bytenorm ...
    0
    """
    _require_streams()
    try:
        with warnings.catch_warnings():
            # What the libraries remark is no news to someone who calls a command; what matters is reported.
            warnings.simplefilter("ignore")
            code = _run(sys.argv[1:] if argv is None else list(argv))
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # who read the output has seen enough; the interpreter flushes once more at its end
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (ValueError, TypeError, ImportError, OSError, RuntimeError) as error:
        if sys.flags.dev_mode:  # python -X dev -m bytenorm.cli
            raise
        _complain(f"error: {one_line(_text(error))}")
        return BAD
    except MemoryError:
        _complain("error: not enough memory")
        return BAD


def _require_streams() -> None:
    """Give the process a stdout and stderr if it was started without."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def _run(argv: Sequence[str]) -> int:
    try:
        options = parse(argv)
    except SystemExit as end:  # argparse has written the help, the version or the error
        return end.code if isinstance(end.code, int) else BAD
    _require_extra(*EXTRAS.get(options.command, ONNX))
    module = import_module(f".{options.command}", __package__)
    run: Callable[..., int | None] = module.run
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        return run(options, Screen(as_json=options.json)) or 0
    finally:
        logging.disable(before)


def _require_extra(extra: str, names: Sequence[str]) -> None:
    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            if error.name is None or error.name.partition(".")[0] != name:
                raise ImportError(f"{name} cannot be imported: {error}") from None
            raise ImportError(f'needs {name}: pip install "bytenorm[{extra}]"', name=name) from None
    if "onnxruntime" in names:
        import_module("onnxruntime").set_default_logger_severity(FATAL)


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:  # the system's own, such as a full disk behind stdout
        return f"{error.filename or 'stdout'}: {error.strerror}"
    return str(error)


def _complain(text: str) -> None:
    sys.stderr.write(f"bytenorm: {text}\n")
