"""The command ``bytenorm``.

Exit codes: 0 done; 2 bad input or usage, with one line on stderr and nothing written; 3 done, but the 8-bit model
is too far from the float one, where that is asked; 1 a fault of bytenorm or of a library; 130, 143 and 129 ended
by SIGINT, SIGTERM and SIGHUP; 141 nobody reads the output any more.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from .._errors import argument_of
from .arguments.program import COMMANDS, parse
from .console import Screen, one_line
from .endings import ENDING, SIGNALLED, Ended, came, ending, has_to_end_at_once, held, too_late

FAULT, BAD, PIPE = 1, 2, 13  # SIGPIPE, which not every system has
FATAL = 4  # ONNX Runtime's; what else goes wrong is in its exceptions
USERS = (ValueError, ImportError, OSError, RuntimeError, MemoryError)  # errors of input and surroundings
# What libraries make of a MemoryError, and of the system's: protobuf a TypeError, ONNX Runtime a RuntimeException,
# who does not look at what an allocation returns a SystemError.
_MEMORY = re.compile(
    r"out of memory|bad[_ ]alloc|cannot allocate|failed to allocate|unable to allocate"
    r"|returned NULL without setting an exception|error return without exception set",
    re.IGNORECASE,
)


def command() -> NoReturn:
    """Run the command as a process, and end that."""
    code = _main(sys.argv[1:], as_process=True)
    if has_to_end_at_once(code):
        for child in multiprocessing.active_children():
            child.kill()
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


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
    return _main(sys.argv[1:] if argv is None else list(argv), as_process=False)


def _main(argv: list[str], *, as_process: bool) -> int:
    _require_streams()
    with_traceback = "--traceback" in argv
    with ending(ignored_afterwards=as_process):
        try:
            try:
                with _scratch(), warnings.catch_warnings():
                    # What the libraries remark is no news to who calls a command; what matters is reported.
                    warnings.simplefilter("ignore")
                    code = _run(argv)
                    sys.stdout.flush()
                too_late()
                return code
            except Exception as error:
                too_late()
                return _code(error, with_traceback)
        except BaseException as error:  # also a signal while another error is looked at
            too_late()
            return _code(error, with_traceback)


def _code(error: BaseException, with_traceback: bool) -> int:
    """Say in a line what went wrong, and return the exit code."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # who read it has gone; the interpreter would try once more at its end
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    number = error.number if isinstance(error, Ended) else came()
    if number is not None or isinstance(error, KeyboardInterrupt):
        number = signal.SIGINT if number is None else signal.Signals(number)
        _complain(ENDING[number], with_traceback)
        return SIGNALLED + number
    if isinstance(error, BrokenPipeError):  # who read the output has seen enough
        return SIGNALLED + PIPE
    if not isinstance(error, Exception):
        raise error
    lacks_memory = isinstance(error, MemoryError) or bool(_MEMORY.search(str(error)))
    text = "not enough memory" if lacks_memory else _text(error)
    if lacks_memory or isinstance(error, USERS) or argument_of(error):
        _complain(f"error: {one_line(text)}", with_traceback)
        return BAD
    text = one_line(f"{type(error).__name__}: {text}")
    _complain(f"error: a fault of bytenorm or of a library, --traceback says where: {text}", with_traceback)
    return FAULT


@contextmanager
def _scratch() -> Iterator[None]:
    """Let all that libraries write to a folder of temporary files be gone behind the block, whatever ends it."""
    before, variable, folder, heir = tempfile.tempdir, os.environ.get("TMPDIR"), None, None
    try:
        with held(), suppress(OSError):  # without one, what needs it says so
            folder, heir = _folder_and_heir()
            tempfile.tempdir = os.environ["TMPDIR"] = folder
        yield
    finally:
        with held():
            tempfile.tempdir = before
            if folder is not None:
                if variable is None:
                    del os.environ["TMPDIR"]
                else:
                    os.environ["TMPDIR"] = variable
                with suppress(MemoryError):  # what is left the heir removes
                    shutil.rmtree(folder, ignore_errors=True)
            if heir is not None:
                heir.communicate()


def _folder_and_heir() -> tuple[str, subprocess.Popen[bytes] | None]:
    """Return a new folder, and what removes it when this process has ended, also if it was killed or has crashed.

    It makes the folder, too: no moment is between the two.
    """
    folder = str(Path(tempfile.gettempdir(), f"bytenorm-{os.urandom(8).hex()}").absolute())
    # It waits for the end of what it reads, which is nothing, whether or not this process hears of the folder.
    script = 'trap "" INT TERM HUP PIPE; cd /; mkdir -m 700 -- "$1" || exit; echo; read -r _; rm -rf -- "$1"'
    with suppress(OSError):  # where there is no shell
        heir = subprocess.Popen(
            ["/bin/sh", "-c", script, "sh", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert heir.stdout is not None
        if heir.stdout.readline():
            return folder, heir
        heir.communicate()
    return tempfile.mkdtemp(prefix="bytenorm-"), None


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
    command = next(one for one in COMMANDS if one.name == options.command)
    require_extra(command.extra, command.packages)
    module = import_module(f".commands.{command.name}", __package__)
    run: Callable[..., int | None] = module.run
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        return run(options, Screen(as_json=options.json)) or 0
    finally:
        logging.disable(before)


def require_extra(extra: str, names: Sequence[str]) -> None:
    """Import what an extra brings, or raise an ImportError that says how to get it."""
    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            if error.name is None or error.name.partition(".")[0] != name:
                raise ImportError(f"{name} cannot be imported: {error}") from None
            raise ImportError(f'needs {name}: pip install "bytenorm[{extra}]"', name=name) from None
    if "onnxruntime" in names:
        import_module("onnxruntime").set_default_logger_severity(FATAL)


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.strerror:  # the system's own
        # Without a file it is stdout, as where the disk behind it is full; or tempfile finds no folder.
        where = error.filename or ("" if isinstance(error, FileNotFoundError) else "stdout")
        return f"{where}: {error.strerror}".removeprefix(": ")
    return str(error)


def _complain(text: str, with_traceback: bool) -> None:
    with suppress(OSError, ValueError):  # nobody may be there to read it
        if with_traceback:
            traceback.print_exc()
        sys.stderr.write(f"bytenorm: {text}\n")
