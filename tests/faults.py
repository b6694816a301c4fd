"""Faults at random moments of every command: python tests/faults.py [--moments 30] [--seed 1] [--seconds S].

Whatever ends a command, there must be the old output or the new one, no temporary file, one of the documented exit
codes, and one line on stderr. SIGKILL alone may leave a file beside the output. Each fault is a process;
without root the kinds that need a file system of their own (read-only folders) are left out.
"""

import argparse
import collections
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from bytenorm import onnx as bno

SIGNALS = {
    "interrupt": signal.SIGINT,
    "terminate": signal.SIGTERM,
    "hang up": signal.SIGHUP,
    "kill": signal.SIGKILL,
}
MOUNTED = ("read-only folder", "no temporary folder")
KINDS = (*SIGNALS, "closed pipe", "full disk", "no memory", *MOUNTED)
COMMANDS = ("inspect", "quantize", "prepare", "restore", "lower", "compare", "bench", "report", "statistics")
OLD = b"old"
LONGEST = 120, 5  # seconds after which it hangs, and times of what it takes undisturbed: a machine may be busy
NORMS = """<ir_version: 9, opset_import: ["": 17]>
g (uint8[N, 2, 4, 4] x) => (uint8[N, 2, 4, 4] y)
<float s = {0.1}, uint8 z = {128}, float[2] w = {1.0, 0.5}, float[2] b = {0.0, 1.0}> {
    a = DequantizeLinear (x, s, z)
    n = BatchNormalization (a, w, b, b, w)
    y = QuantizeLinear (n, s, z)
}"""
# Runs a command and says how much address space it took.
MEASURED = """
import sys
from bytenorm.cli import main
code = main(sys.argv[1:])
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmPeak")][0], file=sys.stderr)
sys.exit(code)
"""
READ_ONLY = """while [ "$1" != -- ]; do
    mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 9
    shift
done
shift
exec "$@"
"""


class _Images(CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        self._left = iter([{"image": images}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


class Place:
    """A folder with what commands read, one that they write to and one for temporary files.

    Parameters
    ----------
    folder : Path
        An empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.written, self.temporary = folder / "written", folder / "temporary"
        self.environment = {**os.environ, "TMPDIR": str(self.temporary), "PYTHONFAULTHANDLER": "1"}
        rng = np.random.default_rng(1)
        data, codes, stock, small, disguised = (
            folder / n for n in ("data.npy", "codes.npy", "stock.onnx", "small.onnx", "disguised.onnx")
        )
        np.save(data, rng.random((8, 1, 28, 28), np.float32))
        np.save(codes, rng.integers(0, 256, (8, 3, 28, 28), np.uint8))
        stock.write_bytes(onnx.parser.parse_model(NORMS).SerializeToString())
        digits = bno.digits_model()
        onnx.save_model(bno.quantize(digits, str(data)), small)
        quantize_static(bno.prepare(digits), disguised, _Images(np.load(data)), per_channel=True)
        self.outputs = {"quantize": "q.onnx", "lower": "l.onnx", "report": "r.html", "statistics": "s.npz"}
        self.outputs |= {"prepare": "p.onnx", "restore": "b.onnx"}
        self.commands = {
            "inspect": [digits],
            "quantize": [digits, "--data", data],
            "prepare": [digits],
            "restore": [disguised],
            "lower": [stock],
            "compare": [digits, small, "--data", data],
            "bench": [digits, small, "--seconds", "0.1"],
            "report": [small, "--float", digits, "--data", data],
            "statistics": ["--data", codes, "--scale", "0.1", "--zero-point", "3", "--workers", "1"],
        }
        self._measured: dict[str, tuple[float, int, int]] = {}

    def line(self, name: str) -> list[str]:
        """Return the arguments of a command."""
        output = ["-o", self.written / self.outputs[name], "--force"] if name in self.outputs else []
        return [name, *map(str, [*self.commands[name], *output])]

    def clean(self, name: str) -> None:
        """Make the folders as they are before a command."""
        for path in (self.written, self.temporary):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        if name in self.outputs:
            (self.written / self.outputs[name]).write_bytes(OLD)

    def undisturbed(self, name: str) -> tuple[float, int, int]:
        """Return the seconds, the address space and the bytes of the output of a run without a fault."""
        if name not in self._measured:
            self.clean(name)
            begin = time.monotonic()
            line = [sys.executable, "-c", MEASURED, *self.line(name)]
            done = subprocess.run(line, env=self.environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert not self.left(name)
            took = time.monotonic() - begin
            size = (self.written / self.outputs[name]).stat().st_size if name in self.outputs else 1000
            self._measured[name] = took, 1024 * int(done.stderr.split()[-1]), size
        return self._measured[name]

    def left(self, name: str) -> list[str]:
        """Return what lies around that should not."""
        known = {self.written / self.outputs[name]} if name in self.outputs else set()
        found = {*self.written.iterdir(), *self.temporary.iterdir()}
        return sorted(str(path.relative_to(self.written.parent)) for path in found - known)

    def halves(self, name: str) -> str:
        """Return what is wrong with the output, which must be the old one or a whole new one."""
        if name not in self.outputs:
            return ""
        output = self.written / self.outputs[name]
        if not output.exists():
            return "the output is gone"
        content = output.read_bytes()
        if content == OLD:
            return ""
        if output.suffix == ".html":
            whole = content.startswith(b"<!") and content.rstrip().endswith(b"</html>")
        elif output.suffix == ".npz":
            whole = zipfile.is_zipfile(output) and zipfile.ZipFile(output).testzip() is None
        else:
            onnx.checker.check_model(onnx.load_model_from_string(content))
            whole = True
        return "" if whole else f"{len(content)} bytes of the output"


def inflict(place: Place, name: str, kind: str, rng: random.Random) -> tuple[str, str]:
    """Run a command with a fault; return how it ended and what is wrong with that, nothing if nothing is."""
    seconds, memory, size = place.undisturbed(name)
    place.clean(name)
    line, environment, limits = [sys.executable, "-m", "bytenorm", *place.line(name)], place.environment, {}
    if kind == "full disk":
        limits[resource.RLIMIT_FSIZE] = rng.randrange(2 * size)
    elif kind == "no memory":
        limits[resource.RLIMIT_AS] = rng.randrange(memory // 3, memory)
    elif kind in MOUNTED:
        anywhere = map(
            Path, [place.temporary, "/tmp", "/var/tmp", "/usr/tmp"]
        )  # where Python looks, and the current
        folders = [place.written] if kind == MOUNTED[0] else [path for path in anywhere if path.is_dir()]
        line = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", *map(str, folders), "--", *line]

    def limited() -> None:
        for which, limit in limits.items():
            resource.setrlimit(which, (limit, limit))

    moment = rng.uniform(0, seconds)
    with subprocess.Popen(
        line,
        env=environment,
        cwd=place.temporary,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited,  # noqa: PLW1509 (there are no other threads)
    ) as child:
        assert child.stdout is not None
        if kind in SIGNALS or kind == "closed pipe":
            time.sleep(moment)
        if kind in SIGNALS:
            child.send_signal(SIGNALS[kind])
        elif kind == "closed pipe":
            child.stdout.close()
            child.stdout = None
        try:
            _, err = child.communicate(timeout=max(LONGEST[0], LONGEST[1] * seconds))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGABRT)  # so that it says where it is
            _, err = child.communicate()
            return "hung", f"{kind}, {name}, after {moment:.3f} s of {seconds:.3f}: it hangs\n{err}"
    code = child.returncode
    wrong = [place.halves(name)]
    for _ in range(100):  # of a process that was killed, what removes its temporary files does so soon
        left = [path for path in place.left(name) if kind != "kill" or not path.startswith("written")]
        if not left or child.returncode >= 0:
            break
        time.sleep(0.1)
    wrong += [f"left {path}" for path in left]
    ended, odd = judged(kind, code, err)
    wrong.append(odd)
    found = "; ".join(filter(None, wrong))
    return ended, found and f"{kind}, {name}, after {moment:.3f} s of {seconds:.3f}: {found}"


def judged(kind: str, code: int, err: str) -> tuple[str, str]:
    """Return how a process ended, and what is wrong with its code and what it wrote to stderr."""
    number = SIGNALS.get(kind, 0)
    # An interrupt's traceback of Python itself, which ends with 1 where that is imported which it begins with.
    starting = code == 1 and "\nKeyboardInterrupt" in err and f"{os.sep}bytenorm{os.sep}" not in err
    if number and (code == -number or starting):
        return "killed" if kind == "kill" else "while Python starts", ""  # and imports this package
    if kind == "no memory":
        if code != 0 and not err.startswith("bytenorm:"):
            return f"exit {code} while Python starts or of a library that gives up", ""
        # Python's own words, where it has no memory for what it ignores.
        err = err.replace("Exception ignored on building sys.unraisablehook arguments:\nMemoryError\n", "")
    allowed = {0: 0, 128 + number: 1} if number else {0: 0, 141: 0} if kind == "closed pipe" else {0: 0, 2: 1}
    if code not in allowed:
        return f"exit {code}", f"exit code {code}: {err[-500:]!r}"
    return f"exit {code}", "" if err.count("\n") == allowed[code] else f"lines on stderr: {err[-500:]!r}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=30, help="of each command and kind (default: 30)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no other moment after these")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    options = parser.parse_args()
    kinds = [kind for kind in options.kinds if os.geteuid() == 0 or kind not in MOUNTED]
    began, rng, faults = time.monotonic(), random.Random(options.seed), 0
    ends: dict[str, collections.Counter[str]] = {kind: collections.Counter() for kind in kinds}
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
        place = Place(Path(folder))
        for _ in range(options.moments):
            for name in options.commands:
                for kind in kinds:
                    if time.monotonic() - began > options.seconds:
                        break
                    ended, wrong = inflict(place, name, kind, rng)
                    ends[kind][ended] += 1
                    faults += bool(wrong)
                    if wrong:
                        print(wrong, flush=True)
    for kind, counts in ends.items():
        print(f"{kind}: {', '.join(f'{n} {ended}' for ended, n in sorted(counts.items()))}")
    print(f"seed {options.seed}: {sum(sum(c.values()) for c in ends.values())} faults, {faults} with a wrong end")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
