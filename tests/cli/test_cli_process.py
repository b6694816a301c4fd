"""The command as a process of its own, in pipes and on a terminal."""

import fcntl
import os
import pty
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import DIGITS, ESCAPE, as_json, parsed


def process(*arguments, **options):
    """Run the command as a user does, in a pipe unless told otherwise."""
    environment = {**os.environ, "COLUMNS": "", "FORCE_COLOR": "1"}  # a pipe stays plain whatever rich may think
    command = [sys.executable, "-m", "bytenorm", *map(str, arguments)]
    wanted = {"capture_output": True, "text": True, "timeout": 60, "env": environment} | options
    return subprocess.run(command, check=False, **wanted)


def test_a_whole_job_in_pipes(made, tmp_path):
    model = tmp_path / "small.onnx"
    done = process(
        "quantize", DIGITS, "--data", made / "data.npz", "-o", model, "--calibrate-method", "entropy", "--json"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert as_json(done.stdout)["calibrate_method"] == "entropy"
    done = process("bench", DIGITS, model, "--repeats", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert done.stdout.count("\n") == 4


@pytest.mark.thorough
def test_errors_of_a_process(tmp_path):
    done = process("quantize", DIGITS, "--data", "missing", "-o", tmp_path / "out.onnx")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bytenorm: error: --data 'missing' does not exist\n"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "bad.onnx").write_bytes(parsed("g (float[2] x) => (float[2] y) { y = NoSuchOperator (x) }"))
    done = process("bench", tmp_path / "bad.onnx")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


@pytest.mark.thorough
def test_errors_of_onnx_runtime_are_one_line_too(tmp_path):
    """What fails while it runs is written to stderr by ONNX Runtime itself, unless it is told not to."""
    text = """g (float[N, 3] x) => (float[M, 2] y) <int64[2] shape = {-1, 2}> { y = Reshape (x, shape) }"""
    model, data = tmp_path / "odd.onnx", tmp_path / "odd.npy"
    model.write_bytes(parsed(text))
    np.save(data, np.ones((3, 3), np.float32))
    for arguments in (
        ["quantize", model, "-o", tmp_path / "out.onnx"],
        ["bench", model],
        ["compare", model, model],
    ):
        done = process(*arguments, "--data", data)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("bytenorm: error: ")
        assert done.stderr.count("\n") == 1


def test_a_signal_ends_a_process(made, tmp_path, run_python):
    code = f"""
import os, signal, sys
os.chdir({str(tmp_path)!r})
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts what it runs in the background
from bytenorm.cli import command
sys.argv = ["bytenorm", "quantize", {DIGITS!r}, "--data", {str(made / "data.npz")!r}, "-o", "out.onnx"]
def interrupt(*_):
    signal.raise_signal(signal.SIGINT)  # in this thread: one of another is handled some time later
from bytenorm.onnx.quantizer import reader
reader.Reader.get_next = interrupt
command()
"""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = run_python(code, TMPDIR=str(temporary))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "bytenorm: interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    assert [path.name for path in temporary.iterdir()] in ([], [".ses"])  # ONNX Runtime's, imported before


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda number: number.name)
def test_a_process_that_dies_leaves_no_temporary_files(number, tmp_path, run_python):
    code = f"""
import os, sys, tempfile
from bytenorm.cli import command
from bytenorm.onnx.measurement import inspection
def die(_, **_options):
    assert os.listdir({str(tmp_path)!r})
    tempfile.mkdtemp()
    os.kill(os.getpid(), {int(number)})
inspection.find_norms = die
sys.argv = ["bytenorm", "inspect", {DIGITS!r}]
command()
"""
    assert run_python(code, TMPDIR=str(tmp_path)).returncode == -number
    for folder in tmp_path.glob("bytenorm-*"):  # soon
        while folder.exists():
            time.sleep(0.01)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_that_dies_as_it_makes_its_folder(moment, tmp_path, run_python):
    """What removes the folder makes it: before there is the one there is not the other."""
    code = f"""
import os, subprocess, sys
from bytenorm.cli import command
class Dying(subprocess.Popen):
    def __init__(self, *arguments, **options):
        if {moment!r} == "after":
            super().__init__(*arguments, **options)
        os.kill(os.getpid(), {int(signal.SIGKILL)})
subprocess.Popen = Dying
sys.argv = ["bytenorm", "inspect", {DIGITS!r}]
command()
"""
    assert run_python(code, TMPDIR=str(tmp_path)).returncode == -signal.SIGKILL
    if moment == "before":
        assert not list(tmp_path.iterdir())
    for folder in tmp_path.glob("bytenorm-*"):  # soon
        while folder.exists():
            time.sleep(0.01)


def test_a_reader_that_goes_away():
    read, write = os.pipe()
    os.close(read)
    done = process("inspect", DIGITS, capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_output_that_is_full():
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = process("inspect", DIGITS, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, "bytenorm: error: stdout: No space left on device\n")


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams(closed):
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m bytenorm inspect {shlex.quote(DIGITS)} {closed}",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ("12 batch norms" in done.stdout.splitlines()[-1]) if closed == "2>&-" else not done.stdout


def on_terminal(width, *arguments, **environment):
    """Run the command on a terminal of its own and return what it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        environment.setdefault(name, None)
    variables = {**os.environ, "TERM": "xterm-256color", **environment}
    command = [sys.executable, "-m", "bytenorm", *map(str, arguments)]
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={name: value for name, value in variables.items() if value is not None},
    ) as child:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not part:
                break
            written += part
    os.close(ours)
    assert child.returncode == 0
    return written.decode()


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_terminal(width, tmp_path):
    model = onnx.load_model(DIGITS)
    for node in model.graph.node:
        node.name = f"/features/denseblock1/[bold]/{node.name}"
    path = tmp_path / "long.onnx"
    path.write_bytes(model.SerializeToString())
    written = on_terminal(width, "inspect", path)
    assert "\x1b[1m" in written  # bold headers
    lines = ESCAPE.sub("", written).splitlines()
    assert max(map(len, lines)) <= width
    table = lines[lines.index(next(line for line in lines if set(line) == {"─"})) + 1 : -1]
    names = "".join(line[:20].strip() for line in table)
    assert names.replace(" ", "").count("/features/denseblo") == 12
    assert len(lines[lines.index(next(line for line in lines if set(line) == {"─"}))]) == width


def test_progress_is_drawn_and_wiped(made, tmp_path):
    written = on_terminal(100, "quantize", DIGITS, "--data", made / "data.npz", "-o", tmp_path / "out.onnx")
    assert "\x1b[?25l" in written  # the cursor is hidden
    assert written.index("\x1b[?25l") < written.index("\x1b[?25h") < written.index("stem/norm")
    assert "12 batch norms: 3 folded, 9 in 8 bits, 0 left in float" in ESCAPE.sub("", written)
    assert "\x1b[2K" in written
