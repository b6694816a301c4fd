"""An installed bytenorm at work: core, README, command, and with `onnx` a network. Usage: python smoke.py [onnx].

Needs NumPy alone, or with `onnx` what that extra brings; no compiler, no checkout. Prints what it ran on, and a
digest of results, which is the same on every processor and version.
"""

import importlib.metadata
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import bytenorm as bn
from bytenorm import _core

sys.path.insert(0, str(Path(__file__).parent))  # which Python's -I leaves out
import results


def core() -> str:
    """Return the digest of fixed results, the same with every instruction set."""
    for isa in _core.isas():
        _core.select_isa(isa)
        found = results.digest()
        if found != results.DIGEST:
            sys.exit(f"results with {isa} have the digest {found}, not {results.DIGEST}")
    return results.DIGEST


def readme() -> None:
    """Run README's first example, word for word, as the package carries it: the page that an index shows."""
    page = importlib.metadata.metadata("bytenorm").json["description"]
    code = str(page).partition("```python\n")[2].partition("```")[0]
    made: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), made)
    if not isinstance(made.get("qy"), bn.QuantizedTensor):
        sys.exit(f"README's first example made no quantized tensor `qy`:\n{code}")


def command(*arguments: str) -> str:
    """Return what the installed command prints."""
    place = Path(sys.executable).with_name("bytenorm")
    how = [str(place)] if place.exists() else [sys.executable, "-m", "bytenorm"]
    done = subprocess.run([*how, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{how} {arguments} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def network() -> None:
    """Quantize the network that the package carries, and run it with the operators."""
    from bytenorm import onnx as bno  # noqa: PLC0415

    images = np.random.default_rng(3).uniform(0, 1, (32, 1, 28, 28)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        data, made = Path(folder, "data.npz"), Path(folder, "made.onnx")
        np.savez(data, image=images)
        command("inspect", str(bno.digits_model()))
        if importlib.metadata.version("onnxruntime").startswith("1.17."):  # which runs models, and makes none
            bno.session(bno.digits_model()).run(None, {"image": images})
            return
        command("quantize", str(bno.digits_model()), "--data", str(data), "--fast", "-o", str(made))
        small, float_ = bno.session(made), bno.session(bno.digits_model())
        outputs = [session.run(None, {"image": images})[0] for session in (small, float_)]
        agree = float(np.mean(outputs[0].argmax(1) == outputs[1].argmax(1)))
        if agree < 0.8:
            sys.exit(f"the 8-bit network agrees on {agree} only")


def main() -> None:
    """Run what is asked for."""
    version = importlib.metadata.version("bytenorm")
    assert command("--version").split() == ["bytenorm", version]
    digest = core()
    readme()
    ran = ["core", "README", "command"]
    with_onnx = "onnx" in sys.argv[1:]
    if with_onnx:
        network()
        ran.append("onnx")
    versions = [f"numpy {np.__version__}"]
    for name in ("onnx", "onnxruntime") if with_onnx else ():
        versions.append(f"{name} {importlib.metadata.version(name)}")
    gil = ", no GIL" if not getattr(sys, "_is_gil_enabled", lambda: True)() else ""
    print(f"{platform.machine()} Python {platform.python_version()}{gil}, {', '.join(versions)}", end="; ")
    print(f"{' '.join(ran)} {digest}", flush=True)


if __name__ == "__main__":
    main()
