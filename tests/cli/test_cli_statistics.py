"""The command statistics: what it writes and prints, and what it says of files that are not as they should be."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from dying_worker import DieOnce

import bytenorm as bn
from bytenorm.calibration import ChannelStatistics
from bytenorm.cli import main
from bytenorm.dask import cluster

pytestmark = pytest.mark.thorough

QUANTIZATION = ("--scale", "0.5", "--zero-point", "3")


@pytest.fixture(scope="module")
def client():
    with cluster.local_cluster(2, 300_000_000) as made:
        yield made


@pytest.fixture
def place(tmp_path, monkeypatch, rng):
    """Work in a folder with a folder of codes."""
    monkeypatch.chdir(tmp_path)
    Path("codes").mkdir()
    for i, n in enumerate((3, 5, 2)):
        np.save(f"codes/{i}.npy", rng.integers(0, 256, (n, 4, 6, 2 + i), np.uint8))
    return tmp_path


@pytest.fixture
def run(capsys, client):
    """Run the command in this process, on a cluster that is there, and return its exit code, stdout and stderr."""

    def call(*arguments, scheduler=True):
        capsys.readouterr()
        where = ["--scheduler", client.scheduler.address] if scheduler else []
        code = main(["statistics", *map(str, arguments), *where])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def output(run):
    def call(*arguments, **options):
        code, out, err = run(*arguments, **options)
        assert (code, err) == (0, "")
        return out

    return call


@pytest.fixture
def complaint(run):
    """Run the command, which has to refuse and to leave everything as it was, and return what it says."""

    def contents():
        return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}

    def call(*arguments, **options):
        before = contents()
        code, out, err = run(*arguments, **options)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert contents() == before
        assert err.startswith("bytenorm: error: ")
        return err.removeprefix("bytenorm: error: ").rstrip("\n")

    return call


def held(*arrays, scale=0.5, zero_point=3, axis=1, per_channel=False):
    """Return what one core finds in arrays of codes."""
    found = ChannelStatistics(arrays[0].shape[axis])
    for array in arrays:
        found.update(bn.QuantizedTensor(array, scale, zero_point, axis if per_channel else None), axis)
    return found


def saved(folder="codes"):
    return [np.load(path) for path in sorted(Path(folder).iterdir())]


# --- what it writes and prints --------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [["codes/*.npy"], ["codes"], ["codes/0.npy", "codes/[12].npy"], ["**/*.npy"]])
def test_it_writes_what_one_core_finds(place, output, data):
    out = output("--data", *data, *QUANTIZATION, "-o", "s.npz")
    want = held(*saved())
    assert ChannelStatistics.load("s.npz") == want
    mean, deviation = want.mean(), np.sqrt(want.var())
    size = sum(array.nbytes for array in saved())
    assert out.splitlines() == [
        f"3 files, {size} B of uint8, 4 channels on axis 1, 2 workers",
        f"{want.count} values a channel, codes from {want.minimum.min()} to {want.maximum.max()}",
        f"means of the channels from {mean.min():.4g} to {mean.max():.4g}, "
        f"standard deviations from {deviation.min():.4g} to {deviation.max():.4g}",
        "written to s.npz",
    ]
    assert sorted(path.name for path in place.iterdir()) == ["codes", "s.npz"]


def test_folders_in_folders_and_foreign_files(place, output):
    for name in ("codes/0.npy", "codes/1.npy"):
        Path("codes/inner").mkdir(exist_ok=True)
        Path(name).rename(f"codes/inner/{Path(name).name}")
    want = held(*(np.load(path) for path in Path("codes").rglob("*.npy")))
    Path("codes/inner/notes.txt").write_text("foreign")
    out = output("--data", "codes", *QUANTIZATION, "-o", "s.npz")
    assert ChannelStatistics.load("s.npz") == want
    assert out.startswith("skipped, of no known kind: 'codes/inner/notes.txt'\n3 files, ")


def test_as_json(place, output, client, capsys):
    found = json.loads(output("--data", "codes", *QUANTIZATION, "-o", "s.npz", "--json"))
    want = held(*saved())
    assert found == {
        "data": ["codes"],
        "skipped": [],
        "output": "s.npz",
        "files": 3,
        "size": sum(array.nbytes for array in saved()),
        "dtype": "uint8",
        "channels": 4,
        "axis": 1,
        "scale": 0.5,
        "zero_point": 3,
        "workers": 2,
        "scheduler": client.scheduler.address,
        "count": want.count,
        "minimum": want.minimum.tolist(),
        "maximum": want.maximum.tolist(),
        "mean": want.mean().tolist(),
        "var": want.var().tolist(),
    }
    assert main(["statistics", "--help"]) == 0
    text = capsys.readouterr().out
    named = re.findall(r"\w+", text[text.index("\n--json:\n") : text.index("\nexamples:\n")])
    assert set(found) <= set(named)


@pytest.mark.parametrize("axis", ["0", "-1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_axis_and_order(place, output, rng, axis, order):
    array = rng.integers(-128, 128, (5, 7, 5), np.int8)
    np.save("a.npy", np.asarray(array, order=order))
    output("--data", "a.npy", *QUANTIZATION, "--axis", axis, "-o", "s.npz")
    assert ChannelStatistics.load("s.npz") == held(array, axis=int(axis) % 3)


def test_channels_with_their_own_quantization(place, output):
    scale, zero_point = [0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4]
    output("--data", "codes", "--scale", *scale, "--zero-point", *zero_point, "-o", "s.npz")
    want = held(*saved(), scale=scale, zero_point=zero_point, per_channel=True)
    assert ChannelStatistics.load("s.npz") == want


@pytest.mark.parametrize("kind", [np.float16, np.float32, ">f4", np.float64])
@pytest.mark.parametrize("dtype", [None, "int8"])
def test_floats_are_quantized(place, output, rng, kind, dtype):
    real = rng.normal(size=(9, 4, 5)).astype(kind)
    np.save("real.npy", real)
    chosen = [] if dtype is None else ["--dtype", dtype]
    output("--data", "real.npy", "--scale", 0.05, "--zero-point", 30, *chosen, "-o", "s.npz")
    q = bn.quantize_per_tensor(real, 0.05, 30, bn.quint8 if dtype is None else bn.qint8)
    assert ChannelStatistics.load("s.npz") == held(q.data, scale=0.05, zero_point=30)
    scale, zero_point = [0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4]
    output("--data", "real.npy", "--scale", *scale, "--zero-point", *zero_point, "-o", "s.npz", "--force")
    codes = bn.quantize_per_channel(real, scale, zero_point, 1, bn.quint8).data
    want = held(codes, scale=scale, zero_point=zero_point, per_channel=True)
    assert ChannelStatistics.load("s.npz") == want


def test_a_worker_that_is_killed_shows_nowhere(place, output, client):
    rng = np.random.default_rng(3)
    Path("large").mkdir()
    for i in range(4):
        np.save(f"large/{i}.npy", np.frombuffer(rng.bytes(1 << 25), np.uint8).reshape(32, 64, 128, 128))
    client.wait_for_workers(2)
    record = place / "record"
    record.mkdir()
    client.register_plugin(DieOnce(str(record), "count", 2))
    try:
        output("--data", "large", *QUANTIZATION, "-o", "s.npz")
    finally:
        client.unregister_worker_plugin(DieOnce.name)
    killed, key = (record / "killed").read_text().split(" ", 1)
    finished = [line for log in record.glob("*.log") for line in log.read_text().splitlines()]
    assert finished.count(key) == 2  # by the killed, and by another
    assert not Path("/proc", killed).exists()
    assert ChannelStatistics.load("s.npz") == held(*saved("large"))
    client.wait_for_workers(2)


# --- without a cluster, and with one of its own ---------------------------------------------------------------


@pytest.mark.parametrize("data", ["codes", "wide"])
def test_a_process_that_counts_alone(place, output, rng, monkeypatch, data):
    if data == "wide":  # in several pieces
        Path("wide").mkdir()
        np.save("wide/0.npy", rng.integers(0, 256, (70, 4, 2**17), np.uint8))
    monkeypatch.setitem(sys.modules, "distributed", None)  # it starts nothing
    for name in [name for name in sys.modules if name.startswith("bytenorm.dask")]:
        monkeypatch.delitem(sys.modules, name)
    out = output("--data", data, *QUANTIZATION, "-o", "s.npz", scheduler=False)
    assert "4 channels on axis 1, one process\n" in out
    assert ChannelStatistics.load("s.npz") == held(*saved(data))
    out = output("--data", data, *QUANTIZATION, "-o", "t.npz", "--axis", "-2", "--json", scheduler=False)
    assert json.loads(out)["workers"] is None


def test_what_one_process_counts_is_as_bad(place, complaint):
    np.save("nan.npy", np.full((3, 4, 5), np.nan, np.float32))
    np.save("empty.npy", np.empty((0, 4, 5), np.uint8))
    rest = (*QUANTIZATION, "-o", "s.npz")
    text = complaint("--data", "nan.npy", *rest, scheduler=False)
    assert text == "--data 'nan.npy' holds NaN at [0, 0, 0]"
    text = complaint("--data", "empty.npy", *rest, scheduler=False)
    assert text == "--data 'empty.npy' and the others hold no values"


def test_many_files_get_workers(place, output, monkeypatch):
    monkeypatch.setattr("bytenorm.cli.commands.statistics.LARGEST", 100)
    asked = []
    monkeypatch.setattr(
        "bytenorm.cli.commands.statistics._counted_by_workers", lambda *_: asked.append(1) or (5, held(*saved()))
    )
    assert ", 5 workers" in output("--data", "codes", *QUANTIZATION, "-o", "s.npz", scheduler=False)
    assert asked == [1]


def test_a_cluster_of_its_own(place):
    command = [sys.executable, "-m", "bytenorm", "statistics", "--data", "codes", *QUANTIZATION]
    command += ["--workers", "1", "--memory-limit", "300MB", "-o", "s.npz", "--json"]
    temporary = place / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["workers"], found["scheduler"]) == (1, None)
    assert ChannelStatistics.load("s.npz") == held(*saved())
    assert list(temporary.iterdir()) == []


def test_an_interrupt_ends_it_and_its_workers(place):
    command = [sys.executable, "-m", "bytenorm", "statistics", "--data", "codes", *QUANTIZATION, "-o", "s.npz"]
    command += ["--workers", "2"]
    temporary = place / "temporary"
    temporary.mkdir()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,
    ) as child:
        while not list(temporary.glob("*/*")):  # the workers' folder: they are being started
            assert child.poll() is None
            time.sleep(0.01)
        os.killpg(child.pid, signal.SIGINT)
        out, err = child.communicate(timeout=120)
    assert (child.returncode, out, err) == (130, "", "bytenorm: interrupted\n")
    assert list(temporary.iterdir()) == []
    assert not Path("s.npz").exists()
    with pytest.raises(ProcessLookupError):  # soon: the last of them sees that its parent has gone
        for _ in range(3000):
            os.killpg(child.pid, 0)
            time.sleep(0.01)


# --- bad input --------------------------------------------------------------------------------------------------


def npy(path, array):
    np.save(path, array)
    return Path(path).read_bytes()


@pytest.fixture
def bad(place):
    good = npy("good.npy", np.zeros((2, 4), np.uint8))
    npy("channels.npy", np.zeros((2, 5), np.uint8))
    npy("dimensions.npy", np.zeros((2, 4, 3), np.uint8))
    npy("int8.npy", np.zeros((2, 4), np.int8))
    npy("int32.npy", np.zeros((2, 4), np.int32))
    npy("one.npy", np.zeros(4, np.uint8))
    npy("none.npy", np.zeros((0, 4), np.uint8))
    npy("float.npy", np.zeros((2, 4), np.float32))
    real = np.zeros((600, 4, 5), np.float32)
    real[400, 2, 1] = np.nan
    npy("nan.npy", real)
    Path("truncated.npy").write_bytes(good[:-1])
    Path("header.npy").write_bytes(good[:50])
    Path("text.npy").write_text("no array")
    Path("blank.npy").write_bytes(b"")
    Path("version.npy").write_bytes(good.replace(b"NUMPY\x01", b"NUMPY\x09"))
    np.save("objects.npy", np.array([[{}]], object), allow_pickle=True)
    np.savez("archive.npy", a=np.zeros((2, 4), np.uint8))
    Path("archive.npy.npz").rename("archive.npy")
    Path("empty").mkdir()
    Path("mixed").mkdir()
    Path("mixed/notes.txt").write_text("notes")
    Path("there.npz").write_bytes(b"precious")
    Path("link.npy").symlink_to("good.npy")
    return place


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("--data missing.npy", "--data 'missing.npy' does not exist"),
        ("--data missing/*.npy", "--data 'missing/*.npy' fits no file"),
        ("--data empty", "--data 'empty' is a folder without files"),
        ("--data empty/*.npy", "--data 'empty/*.npy' fits no file"),
        ("--data mixed", "--data 'mixed/notes.txt' is of no known kind: npy is wanted"),
        ("--data ''", "--data must be a path, got ''"),
        ("--data good.npy good.npy", "--data 'good.npy' is named twice: it would be counted twice"),
        ("--data good.npy link.npy", "--data 'link.npy' is named twice, as 'good.npy' too: it would be counted"),
        ("--data codes/*.npy codes", "--data 'codes/0.npy' is named twice"),
        ("--data text.npy", "--data 'text.npy' cannot be read as a .npy file: "),
        ("--data blank.npy", "--data 'blank.npy' cannot be read as a .npy file: "),
        ("--data archive.npy", "--data 'archive.npy' cannot be read as a .npy file: "),
        ("--data version.npy", "--data 'version.npy' cannot be read as a .npy file: "),
        ("--data header.npy", "--data 'header.npy' cannot be read as a .npy file: "),
        ("--data objects.npy", "--data 'objects.npy' cannot be read as a .npy file: it holds Python objects"),
        (
            "--data good.npy truncated.npy",
            "--data 'truncated.npy' cannot be read as a .npy file: it is truncated: it has 7 bytes of data, 8 are",
        ),
        (
            "--data good.npy channels.npy",
            "--data 'channels.npy' has uint8 of shape (2, 5), --data 'good.npy' uint8 of shape (2, 4): "
            "the same number of channels is wanted, on axis 1",
        ),
        (
            "--data good.npy dimensions.npy",
            "--data 'dimensions.npy' has uint8 of shape (2, 4, 3), --data 'good.npy' uint8 of shape (2, 4): "
            "the same number of dimensions is wanted",
        ),
        (
            "--data good.npy int8.npy",
            "--data 'int8.npy' has int8 of shape (2, 4), --data 'good.npy' uint8 of shape (2, 4): one dtype is",
        ),
        ("--data int32.npy", "--data 'int32.npy' holds int32: uint8 or int8 codes, or floats are wanted"),
        ("--data one.npy", "--data 'one.npy' must have at least 2 dimensions, got shape (4,)"),
        ("--data none.npy", "--data 'none.npy' and the others hold no values"),
        ("--data nan.npy", "--data 'nan.npy' holds NaN at [400, 2, 1]"),
        ("--data good.npy --dtype int8", "--dtype must be that of the codes: --data 'good.npy' holds "),
        ("--data good.npy --axis 2", "--axis must be from -2 to 1 for 2 dimensions, got 2"),
        ("--data good.npy --scale 0", "--scale must be positive and finite in float32"),
        ("--data good.npy --scale nan", "--scale must be positive and finite in float32"),
        ("--data good.npy --scale 1 2", "--scale must have one value for each of 4 channels, got "),
        ("--data good.npy --zero-point 256", "--zero-point must be from 0 to 255 for bytenorm.quint8, got 256"),
        ("--data float.npy --dtype int8 --zero-point 128", "--zero-point must be from -128 to 127"),
        ("--data good.npy --workers 2", "--workers is for a cluster on this machine, got --scheduler 'tcp://"),
        ("--data good.npy --memory-limit 1GB", "--memory-limit is for a cluster on this machine, got --sch"),
        ("--data good.npy -o there.npz", "output 'there.npz' exists: give --force to replace it"),
        ("--data good.npy -o empty", "output 'empty' is a folder and is not replaced: a file is wanted"),
        ("--data good.npy -o no/such.npz", "output 'no/such.npz' cannot be written: the folder 'no' does not"),
        ("--data int8.npy good.npy -o good.npy --force", "output 'good.npy' is the data"),
    ],
)
def test_bad_input(bad, complaint, line, wanted):
    arguments = shlex.split(line)
    for option, value in (("--scale", "0.5"), ("--zero-point", "3"), ("-o", "s.npz")):
        if option not in arguments:
            arguments += [option, value]
    assert complaint(*arguments).startswith(wanted)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("--workers 0", "--workers must be at least 1, got 0"),
        ("--memory-limit 100MB", "--memory-limit must be at least 256000000 bytes, got 100000000"),
        ("--memory-limit much", "--memory-limit must be a size such as 1GB, got 'much'"),
        ("--scheduler nowhere://x", "--scheduler 'nowhere://x' cannot be reached: "),
        ("--scheduler tcp://127.0.0.1:1", "--scheduler 'tcp://127.0.0.1:1' cannot be reached: "),
    ],
)
def test_clusters_that_cannot_be(bad, complaint, monkeypatch, line, wanted):
    monkeypatch.setattr(cluster, "CONNECT", 0.2)
    arguments = ["--data", "good.npy", *QUANTIZATION, "-o", "s.npz", *line.split()]
    assert complaint(*arguments, scheduler=False).startswith(wanted)


# --- usage, and without the extra -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("", "required: --data, --scale, --zero-point, -o/--output"),
        ("--data d --scale x --zero-point 1 -o o", "argument --scale: invalid float value: 'x'"),
        ("--data d --scale 1 --zero-point 1.5 -o o", "argument --zero-point: invalid int value: '1.5'"),
        ("--data d --scale 1 --zero-point 1 -o o --dtype int4", "argument --dtype: invalid choice: 'int4'"),
    ],
)
def test_usage_that_is_wrong(place, complaint, line, wanted):
    assert wanted in complaint(*line.split(), scheduler=False)


def test_help_shows_options_and_examples(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["statistics", "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("usage: bytenorm statistics ")
    assert max(map(len, out.splitlines())) <= 80  # columns of a terminal
    examples = out.partition("\nexamples:\n")[2].replace("\\\n", "")
    assert examples.count("bytenorm statistics ") == 3
    for line in examples.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "bytenorm"
        assert main(arguments) == 2
        assert capsys.readouterr().err.endswith("fits no file\n")  # it is not the usage that is wrong
    assert main(["--help"]) == 0
    assert re.search(r"\n    statistics\s+gather ", capsys.readouterr().out)


@pytest.mark.parametrize("module", ["dask", "distributed", "rich"])
def test_what_is_missing_is_named(place, complaint, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    text = complaint("--data", "codes", *QUANTIZATION, "-o", "s.npz", "--workers", "1", scheduler=False)
    assert text == f'needs {module}: pip install "bytenorm[dask]"'


def test_it_needs_no_other_extra(place, run_python):
    code = """
import sys
for name in ("onnx", "onnxruntime", "torch", "PIL"):
    sys.modules[name] = None
from bytenorm.cli import main
sys.exit(main("statistics --data codes --scale 0.5 --zero-point 3 --workers 1 -o s.npz".split()))
"""
    done = run_python(code)
    assert (done.returncode, done.stderr) == (0, "")
    assert ChannelStatistics.load("s.npz") == held(*saved())


def test_the_package_without_dask(run_python):
    done = run_python("import sys; sys.modules['dask'] = None; import bytenorm.dask")
    assert done.returncode == 1
    assert done.stderr.endswith('ImportError: bytenorm.dask needs dask: pip install "bytenorm[dask]"\n')


NEVER = """
import asyncio, multiprocessing, os, signal, sys, threading, time
from distributed import Nanny
from bytenorm._system import standstill
from bytenorm.cli import command, endings
begin = threading.Thread._bootstrap
def failing(thread):
    if "IO loop" in thread.name:
        raise MemoryError
    begin(thread)
async def waiting(nanny):
    for name in () if {signals} == "still" else {signals}:
        os.kill(os.getpid(), getattr(signal, name))
        while endings.came() is None:
            await asyncio.sleep(0.01)
    await asyncio.sleep(1000)
if {signals}:
    Nanny.start = waiting
else:
    threading.Thread._bootstrap = failing
if {signals} == "still":  # as a worker that lacks memory
    standstill.LOOKS = 2
    multiprocessing.get_context("spawn").Process(target=time.sleep, args=(1000,), daemon=True).start()
sys.argv = ["bytenorm", *{arguments}]
command()
"""


@pytest.mark.parametrize(
    ("signals", "code", "said"),
    [
        ((), 2, "error: not enough memory"),
        ("still", 2, "error: a process of the command waits without end: memory may be short"),
        (("SIGHUP", "SIGTERM"), 129, "hung up"),
        (("SIGTERM", "SIGHUP"), 143, "terminated"),
        (("SIGINT", "SIGINT"), 130, "interrupted"),
    ],
)
def test_what_never_begins(signals, code, said, run_python, tmp_path):
    """As where memory is short: Python waits for a thread without end, and Dask for a worker.

    A thread that never begins is known by what is left of it. A worker that does not come may be a slow one: the
    command waits for it unless all of it sleeps, and two signals end that.
    """
    np.save(tmp_path / "a.npy", np.zeros((1, 3), np.uint8))
    arguments = ["statistics", "--data", str(tmp_path / "a.npy"), "--scale", "0.1", "--zero-point", "3"]
    arguments += ["--workers", "1", "-o", str(tmp_path / "s.npz")]
    done = run_python(NEVER.format(signals=repr(signals), arguments=arguments))
    assert (done.returncode, done.stderr) == (code, f"bytenorm: {said}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_workers_begin_with_what_they_need():
    """A worker that has no memory to import it with a task's arguments would be silent, and waited for."""
    code = "{'bytenorm.calibration.files', 'bytenorm.dask.merging'} <= {*__import__('sys').modules}"
    with cluster.local_cluster(1, 300_000_000) as fresh:
        assert set(fresh.run(eval, code).values()) == {True}


def test_the_command_needs_no_scipy(run_python):
    """Whose OpenBLAS asks for memory again and again without end, in the moment in which it is loaded."""
    done = run_python("import sys, bytenorm.dask.cluster; print({'scipy', 'dask.array'} & {*sys.modules})")
    assert (done.stdout, done.stderr) == ("set()\n", "")
