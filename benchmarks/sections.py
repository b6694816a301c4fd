"""The sections of the benchmark: which contestants meet on which problems, and which figures come out."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import bytenorm as bn

from . import floors
from .contestants import COPY, OWN, PEERS, STATISTICS, TORCH, TORCH_OWN, TORCH_RELU, Missing, gather, reason
from .fused_problem import ConcatProblem, SumProblem, concat_problem, sum_problem
from .problem import Problem, problem
from .results import Case, Figure, Row, best_peer, named, row, speed
from .timing import Contestant, Method, Role, Timing, measure

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Bench:
    """How a section runs.

    Attributes
    ----------
    quick : bool
        Fewer rounds and smaller problems.
    report : callable
        Called with what is being measured, the rounds done and the rounds there are.
    """

    quick: bool
    report: Report

    def method(self, rounds: int = 41) -> Method:
        """Return how long to measure."""
        return Method(max(3, rounds // 6), 1) if self.quick else Method(rounds)

    def compete(self, label: str, contestants: Sequence[Contestant], method: Method | None = None) -> list[Row]:
        """Compare the results with the first contestant's, then time everyone."""
        self.report(label, 0, 1)
        differences = _differences(contestants)
        timings = measure(
            contestants, method or self.method(), lambda done, total: self.report(label, done, total)
        )
        return [row(*parts) for parts in zip(contestants, timings, differences, strict=True)]

    def gathered(
        self, label: str, names: Sequence[str], p: Problem | ConcatProblem | SumProblem
    ) -> tuple[list[Contestant], list[Missing]]:
        """Return contestants; compiling some takes a while."""
        self.report(f"{label}: preparing", 0, 1)
        return gather(names, p)


@dataclass(frozen=True)
class Section:
    """A part of the benchmark; each runs in a process of its own.

    Attributes
    ----------
    title, about : str
        For readers.
    run : callable
        Yields the cases.
    show : tuple of str
        The contestants whose medians the summary shows.
    pinned : bool
        Whether the process stays on one core with one thread for everyone.
    unit : str
        "us" or "ns".
    environment : mapping
        Set before the process starts.
    """

    title: str
    about: str
    run: Callable[[Bench], Iterator[Case]]
    show: tuple[str, ...]
    pinned: bool = True
    unit: str = "us"
    environment: Mapping[str, str] = field(default_factory=dict)


def nchw(bench: Bench) -> Iterator[Case]:
    for shape in floors.IMAGES:
        yield _layout(bench, shape, channels_last=False)


def nhwc(bench: Bench) -> Iterator[Case]:
    for shape in (*floors.IMAGES, *floors.FROM_LEVEL2, floors.TABLE):
        yield _layout(bench, shape, channels_last=True)


def _layout(bench: Bench, shape: floors.Shape, channels_last: bool) -> Case:
    p, label = problem(shape, channels_last), _label(shape)
    contestants, missing = bench.gathered(label, OWN + TORCH + PEERS + COPY, p)
    rows = bench.compete(label, contestants)
    own = "bytenorm out="
    figures = _figures(
        ("x torch", speed(rows, own, named(rows, "torch")), floors.torch(shape, channels_last)),
        ("x best other peer", speed(rows, own, best_peer(rows)), floors.PEER),
        ("of memcpy", speed(rows, own, named(rows, "memcpy")), floors.copy(shape, channels_last, p.x.size)),
        ("x torch without out=", speed(rows, "bytenorm", named(rows, "torch")), None),
    )
    return Case(label, rows, missing, figures)


def avx2(bench: Bench) -> Iterator[Case]:
    if bn.show_config()["isa"] != "avx2":
        raise RuntimeError("this section needs a process with BYTENORM_ISA=avx2")
    for channels_last in (False, True):
        for shape in (*floors.IMAGES, *((*floors.FROM_LEVEL2, floors.TABLE) if channels_last else ())):
            p = problem(shape, channels_last)
            label = f"{'NHWC' if channels_last else 'NCHW'} {_label(shape)}"
            contestants, missing = bench.gathered(label, OWN[:2] + TORCH + COPY[:1], p)
            rows = bench.compete(label, contestants)
            own = "bytenorm out="
            figures = _figures(
                ("x torch", speed(rows, own, named(rows, "torch")), floors.TORCH_AVX2),
                ("of memcpy", speed(rows, own, named(rows, "memcpy")), floors.copy_avx2(shape)),
            )
            yield Case(label, rows, missing, figures)


def inplace(bench: Bench) -> Iterator[Case]:
    shape = (32, 256, 28, 28)
    for channels_last in (False, True):
        p = problem(shape, channels_last)
        label = f"{'NHWC' if channels_last else 'NCHW'} {_label(shape)}"
        contestants, missing = bench.gathered(label, ("own.in_place", "own.prepared_out", *COPY), p)
        rows = bench.compete(label, contestants)
        value = speed(rows, "bytenorm in place", named(rows, "memcpy"))
        wanted = None if channels_last else floors.COPY_IN_PLACE
        yield Case(label, rows, missing, _figures(("of memcpy", value, wanted)))


def channels(bench: Bench) -> Iterator[Case]:
    counts = sorted({*floors.CHANNELS, 64, 128})
    pool: list[tuple[int, Contestant]] = []
    missing: dict[int, list[Missing]] = {}
    for count in counts:
        found, missing[count] = bench.gathered(
            f"C={count}", (OWN[0], *TORCH), problem((8, count, 56, 56), channels_last=True)
        )
        pool += [(count, c) for c in found]
    # All of them take turns together, so that they can be compared across C.
    groups = [[c for n, c in pool if n == count] for count in counts]
    differences = [d for group in groups for d in _differences(group)]
    members = [c for group in groups for c in group]
    timings = measure(members, bench.method(), lambda done, total: bench.report("all C", done, total))
    rows = [row(*parts) for parts in zip(members, timings, differences, strict=True)]
    of_count = {count: [r for (n, _), r in zip(pool, rows, strict=True) if n == count] for count in counts}

    def throughput(count: int) -> float:
        own = named(of_count[count], "bytenorm out=")
        assert own is not None
        return own.elements / own.median_us

    for count in counts:
        own = of_count[count]
        listed = count in floors.CHANNELS
        times_torch = speed(own, "bytenorm out=", named(own, "torch"))
        figures = _figures(
            (
                "of C=64",
                throughput(count) / throughput(64),
                floors.OF_64_CHANNELS if listed and count >= floors.OF_64_FROM else None,
            ),
            ("x torch", times_torch, floors.TORCH_FEW_CHANNELS if listed else None),
        )
        yield Case(f"C={count}", own, missing[count], figures)


def large(bench: Bench) -> Iterator[Case]:
    shape = (96, 1024, 56, 56)
    p, label = problem(shape), f"NCHW {_label(shape)}"
    contestants, missing = bench.gathered(label, (OWN[0], *TORCH, *COPY), p)
    rows = bench.compete(label, contestants, bench.method(rounds=18))
    own = "bytenorm out="
    figures = _figures(
        ("of memcpy", speed(rows, own, named(rows, "memcpy")), floors.COPY_LARGE),
        ("x torch", speed(rows, own, named(rows, "torch")), None),
    )
    yield Case(label, rows, missing, figures)


def threads(bench: Bench) -> Iterator[Case]:
    if len(os.sched_getaffinity(0)) < 2:
        yield Case("two threads", [], [("everyone", "needs two cores")])
        return
    shape = (32, 256, 28, 28)
    for channels_last in (False, True):
        label = f"{'NHWC' if channels_last else 'NCHW'} {_label(shape)}"
        found, missing = bench.gathered(label, OWN[:2] + TORCH, problem(shape, channels_last))
        both = [replace(c, before=_threads_setter(c.role, n)) for n in (1, 2) for c in found]
        rows = bench.compete(label, both, replace(bench.method(rounds=25), turn=20e-3, warm=20e-3))
        one, two = rows[: len(found)], rows[len(found) :]
        yield Case(f"{label}, one thread", one, missing, _times_torch(one))
        gains = [
            ("bytenorm out=, x one thread", "bytenorm out=", floors.TWO_THREADS),
            ("bytenorm, x one thread", "bytenorm", None),
            ("torch, x one thread", "torch", None),
        ]
        figures = _figures(*((title, speed(two, who, named(one, who)), wanted) for title, who, wanted in gains))
        yield Case(f"{label}, two threads", two, missing, _times_torch(two) + figures)


def _times_torch(rows: Sequence[Row]) -> list[Figure]:
    return _figures(("x torch", speed(rows, "bytenorm out=", named(rows, "torch")), None))


def _threads_setter(role: str, number: int) -> Callable[[], None]:
    if role == "torch":
        import torch

        return lambda: torch.set_num_threads(number)
    return lambda: bn.set_num_threads(number)


def calls(bench: Bench) -> Iterator[Case]:
    shape = (1, 16, 8, 8)
    contestants, missing = bench.gathered(
        "a call", ("own.prepared_out", "own.prepared", "own.one_shot", *TORCH, *PEERS), problem(shape)
    )
    rows = bench.compete("a call", contestants)
    out, new, torch = (named(rows, name) for name in ("bytenorm out=", "bytenorm", "torch"))
    assert out is not None
    assert new is not None
    figures = [
        Figure("norm(qx, out=qy)", out.median_us, floors.CALL_OUT_US, at_most=True, unit="us"),
        Figure("norm(qx)", new.median_us, floors.CALL_US, at_most=True, unit="us"),
        *_figures(
            ("out=, x numba", speed(rows, "bytenorm out=", named(rows, "numba")), floors.CALL_OUT_NUMBA),
            ("one-shot, x torch", speed(rows, "bytenorm one-shot", torch), floors.CALL_ONE_SHOT),
        ),
    ]
    yield Case(_label(shape), rows, missing, figures)


def torch_tensors(bench: Bench) -> Iterator[Case]:
    for channels_last in (False, True):
        for shape in floors.IMAGES:
            p = problem(shape, channels_last)
            label = f"{'NHWC' if channels_last else 'NCHW'} {_label(shape)}"
            contestants, missing = bench.gathered(label, TORCH_OWN + TORCH + PEERS[:1], p)
            rows = bench.compete(label, contestants)
            relu, more = bench.gathered(f"{label} relu", TORCH_RELU, p)
            rows += bench.compete(f"{label} relu", relu)
            torch = named(rows, "torch")
            wanted = floors.TORCH_TENSORS_NHWC if channels_last else floors.TORCH_TENSORS_NCHW
            fused = named(rows, "torch.compile with relu")
            figures = _figures(
                ("module, x torch", speed(rows, "module", torch), wanted),
                ("module on quint8, x torch", speed(rows, "module, quint8", torch), None),
                ("drop-in, x torch", speed(rows, "drop-in", torch), None),
                ("with relu, x torch.compile", speed(rows, "module with relu", fused), floors.TORCH_COMPILE),
            )
            yield Case(label, rows, missing + more, figures)
    shape = (1, 16, 8, 8)
    contestants, missing = bench.gathered("a call", TORCH_OWN + TORCH, problem(shape))
    rows = bench.compete("a call", contestants)
    figures = _figures(("function, x torch", speed(rows, "function", named(rows, "torch")), floors.CALL_ONE_SHOT))
    module = named(rows, "module")
    if module is not None:
        figures.append(Figure("module", module.median_us, floors.CALL_MODULE_US, at_most=True, unit="us"))
    yield Case(_label(shape), rows, missing, figures)


def concat(bench: Bench) -> Iterator[Case]:
    for channels, side in floors.CONCATENATIONS:
        for channels_last in (False, True):
            label = f"{'NHWC' if channels_last else 'NCHW'} {_pieces(channels)} at {side}x{side}"
            names = ("fused_own.concat", "fused_torch.concat", "fused_own.one_norm")
            contestants, missing = bench.gathered(label, names, concat_problem(channels, side, channels_last))
            rows = bench.compete(label, contestants)
            own, one = named(rows, "concat_batch_norm"), named(rows, "one norm")
            assert own is not None
            assert one is not None
            figures = _figures(("x torch", speed(rows, "concat_batch_norm", named(rows, "torch")), None))
            cost = own.median_us / one.median_us
            figures.append(Figure("time, x one norm", cost, floors.CONCAT_OF_NORM[side], at_most=True))
            yield Case(label, rows, missing, figures)


def add(bench: Bench) -> Iterator[Case]:
    for shape in floors.SUMS:
        for channels_last in (False, True):
            label = f"{'NHWC' if channels_last else 'NCHW'} {_label(shape)}"
            names = ("fused_own.add", "fused_torch.add", "fused_own.one_norm", "fused_own.two_copies",
                     "fused_own.add_with_ties", "fused_own.add_exact", "fused_own.add_exact_with_sum")  # fmt: skip
            contestants, missing = bench.gathered(label, names, sum_problem(shape, channels_last))
            rows = bench.compete(label, contestants)
            own, one, copies = (named(rows, name) for name in ("add_batch_norm", "one norm", "memcpy of both"))
            assert own is not None
            assert one is not None
            assert copies is not None
            figures = _figures(("x torch", speed(rows, "add_batch_norm", named(rows, "torch")), None))
            cost = own.median_us / copies.median_us
            figures += [
                Figure("time, x memcpy of both", cost, floors.SUM_OF_COPY, at_most=True),
                Figure("time, x one norm", own.median_us / one.median_us),
            ]
            yield Case(label, rows, missing, figures)


def _pieces(channels: Sequence[int]) -> str:
    first, *rest = channels
    return f"{first}+{len(rest)}x{rest[0]}"


def sizes(bench: Bench) -> Iterator[Case]:
    before: Row | None = None
    for power in range(10, 27 if bench.quick else 31, 2):
        p = problem(_sized(power))
        label = f"{_bytes(p.x.size)} ({_label(p.x.shape)})"
        contestants, missing = bench.gathered(label, (OWN[0], COPY[0]), p)
        rows = bench.compete(label, contestants, bench.method(rounds=41 if power < 27 else 9))
        own, copy = rows
        growth = _cost(own) / _cost(before) if before else None
        figures = _figures(
            ("bytes/ns", own.elements / own.median_us / 1e3, None),
            ("memcpy bytes/ns", copy.elements / copy.median_us / 1e3, None),
            ("cost a byte, x the row above", growth, None),
        )
        before = own
        yield Case(label, rows, missing, figures)
        del p, contestants
        gc.collect()


def _cost(row: Row) -> float:
    return row.median_us / row.elements


def _sized(power: int) -> floors.Shape:
    """Return an NCHW shape of 64 channels and 2**power bytes: planes up to 64x64, then more images."""
    side = 1 << min(6, (power - 6) // 2)
    return 1 << power - 6 - 2 * (side.bit_length() - 1), 64, side, side


IMPORTING = """
import sys, time
start = time.perf_counter(); import numpy; middle = time.perf_counter()
before = set(sys.modules)
import bytenorm
end = time.perf_counter()
new = sorted({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))
import json; print(json.dumps([middle - start, end - middle, new, bytenorm._core.__file__]))
"""


def startup(bench: Bench) -> Iterator[Case]:
    label, times = "import", []
    rounds = 5 if bench.quick else 25
    for i in range(rounds + 1):
        text = subprocess.run([sys.executable, "-c", IMPORTING], check=True, capture_output=True).stdout
        times.append(json.loads(text))
        bench.report(label, i + 1, rounds + 1)
    _, _, modules, core = times.pop(0)  # the first one reads from the disk
    rows = []
    columns: tuple[tuple[str, Role, int], ...] = (("import bytenorm", "own", 1), ("import numpy", "other", 0))
    for name, role, column in columns:
        seconds = [t[column] for t in times]
        low, middle, high = np.percentile(seconds, (10, 50, 90)).tolist()
        timing = Timing(middle, low, high, min(seconds), len(seconds), 1)
        rows.append(row(Contestant(name, role, name, {}, 0), timing))
    module = Path(core)
    files = [f for f in module.parent.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    figures = [
        Figure("beyond numpy", rows[0].median_us / 1e3, floors.IMPORT_MS, at_most=True, unit="ms"),
        Figure(
            "modules beyond numpy and the standard library",
            len(set(modules) - {"bytenorm", "numpy"}),
            0,
            at_most=True,
        ),
        Figure("native module", module.stat().st_size / 1e6, unit="MB"),
        Figure(
            "all files, not compressed",
            sum(f.stat().st_size for f in files) / 1e6,
            floors.PACKAGE_MB,
            at_most=True,
            unit="MB",
        ),
    ]
    yield Case(label, rows, [], figures)


def quantize(bench: Bench) -> Iterator[Case]:
    from .contestants.conversions import OPERATIONS

    p = problem((32, 256, 28, 28))
    for operation, make_own, make_torch in OPERATIONS:
        contestants, missing = [make_own(p)], []
        try:
            contestants.append(make_torch(p))
        except Exception as error:
            missing.append(("torch", reason(error)))
        rows = bench.compete(operation, contestants)
        times_torch = speed(rows, contestants[0].name, named(rows, "torch"))
        yield Case(operation, rows, missing, _figures(("x torch", times_torch, floors.QUANTIZE_TORCH)))


def statistics(bench: Bench) -> Iterator[Case]:
    for channels_last in (False, True):
        for shape in (*floors.IMAGES, *([floors.TABLE] if channels_last else [])):
            p = problem(shape, channels_last)
            label = f"{'NHWC' if channels_last else 'NCHW'} {_label(shape)}"
            contestants, missing = bench.gathered(label, (*STATISTICS, COPY[0]), p)
            rows = bench.compete(label, contestants, bench.method(rounds=21))
            figures = _figures(
                (
                    "sums, x NumPy mean, var",
                    speed(rows, "sums", named(rows, "NumPy mean, var")),
                    floors.SUMS_NUMPY,
                ),
                (
                    "sums, of memcpy",
                    speed(rows, "sums", named(rows, "memcpy")),
                    floors.SUMS_COPY if shape[-1] != 7 else None,
                ),
                (
                    "histogram, x NumPy bincount",
                    speed(rows, "histogram", named(rows, "NumPy bincount")),
                    floors.HISTOGRAM_NUMPY,
                ),
            )
            yield Case(label, rows, missing, figures)


SECTIONS: dict[str, Section] = {
    "nchw": Section(
        "Contiguous NCHW, one thread",
        "torch answers NCHW input in channels-last memory; bytenorm keeps NCHW.",
        nchw,
        ("bytenorm out=", "bytenorm", "torch", "memcpy"),
    ),
    "nhwc": Section(
        "Channels-last memory, one thread",
        "ONNX Runtime's DQ-BN-Q knows NCHW only and gets NCHW data; its depthwise form gets NHWC.",
        nhwc,
        ("bytenorm out=", "bytenorm", "torch", "memcpy"),
    ),
    "inplace": Section(
        "In place, one thread",
        "`norm(q, out=q.data)`: no second buffer to fetch, so copying to one is no limit.",
        inplace,
        ("bytenorm in place", "bytenorm out=", "memcpy"),
    ),
    "channels": Section(
        "Few and odd channels, channels-last, 8,C,56,56, one thread",
        "Elements a second, relative to C = 64.",
        channels,
        ("bytenorm out=", "torch"),
    ),
    "avx2": Section(
        "AVX2 alone, one thread",
        "A process with BYTENORM_ISA=avx2, and ATEN_CPU_CAPABILITY=avx2 for torch.",
        avx2,
        ("bytenorm out=", "bytenorm", "torch", "memcpy"),
        environment={"BYTENORM_ISA": "avx2", "ATEN_CPU_CAPABILITY": "avx2"},
    ),
    "large": Section(
        "Beyond every cache, one thread",
        "308 MB in, 308 MB out.",
        large,
        ("bytenorm out=", "torch", "memcpy"),
    ),
    "threads": Section(
        "Two threads",
        "Not pinned; both thread counts take turns in one process. A turn lasts 20 ms, after 20 ms not timed in "
        "which the system spreads the threads over the cores.",
        threads,
        ("bytenorm out=", "bytenorm", "torch"),
        pinned=False,
    ),
    "calls": Section(
        "What a call costs, 1,16,8,8, one thread",
        "1024 elements: the time is that of the call.",
        calls,
        ("bytenorm out=", "bytenorm", "bytenorm one-shot", "torch"),
        unit="ns",
    ),
    "torch": Section(
        "Tensors of torch, one thread",
        "bytenorm.torch, with new output memory in every call; the last row is what a call costs.",
        torch_tensors,
        ("module", "function", "torch.ops", "torch", "torch.compile"),
    ),
    "concat": Section(
        "The norm of a concatenation, one thread",
        "Shapes of DenseNet-121: the first and the last norm of a block. torch requantizes to one scale first.",
        concat,
        ("concat_batch_norm", "torch", "one norm"),
    ),
    "add": Section(
        "The norm of a sum, and the sum, one thread",
        "Shapes of ResNet-50 v2, batch 1; a sum reads two tensors and writes two, so two copies measure it.",
        add,
        ("add_batch_norm", "of the exact sum", "torch", "one norm", "memcpy of both"),
    ),
    "sizes": Section(
        "From 1 KB on, NCHW, C = 64, one thread",
        "The cost should grow with the bytes: the last column stays near 1 except where a cache ends.",
        sizes,
        ("bytenorm out=", "memcpy"),
    ),
    "startup": Section(
        "Import and size",
        "Fresh interpreters, files in the page cache.",
        startup,
        ("import bytenorm", "import numpy"),
    ),
    "quantize": Section(
        "Quantize, dequantize, requantize, 32,256,28,28, one thread",
        "New output memory in every call, float32 on one side of the first two. torch has no requantize: it "
        "dequantizes and quantizes.",
        quantize,
        ("bytenorm", "torch"),
    ),
    "statistics": Section(
        "Exact statistics, one thread",
        "`ChannelStatistics.update`, without a histogram and with one. NumPy's mean and var are those of "
        "`x.astype(float32)` over all axes but the channels', that conversion made once for both; its bincount is "
        "called for each channel.",
        statistics,
        ("sums", "histogram", "NumPy mean, var", "NumPy bincount", "memcpy"),
    ),
}


def _figures(*parts: tuple[str, float | None, float | None]) -> list[Figure]:
    return [Figure(name, value, wanted) for name, value, wanted in parts if value is not None]


def _differences(contestants: Sequence[Contestant]) -> list[tuple[int, float] | None]:
    """Return, per contestant, how many elements differ from the first one's, and by how much at most."""
    found: list[tuple[int, float] | None] = []
    base: Any = None
    for contestant in contestants:
        value = contestant.run()
        if contestant.codes is None:
            found.append(None)
            continue
        result = contestant.codes(value)
        if base is None:
            base = result.copy() if len(contestants) > 1 else result
        differs = result != base
        largest = np.abs(result[differs].astype(np.float64) - base[differs]).max(initial=0)
        found.append((int(np.count_nonzero(differs)), float(largest)))
    return found


def _label(shape: Sequence[int]) -> str:
    return ",".join(map(str, shape))


def _bytes(count: int) -> str:
    power = (count.bit_length() - 1) // 10
    return f"{count >> 10 * power} {('B', 'KiB', 'MiB', 'GiB')[power]}"
