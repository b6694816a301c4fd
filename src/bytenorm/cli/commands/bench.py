"""``bytenorm bench``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from ..._errors import bad_value
from ..._system.machine import cpus
from ...onnx.data.batch_axes import batch_axes_of, size_of_batches
from ...onnx.measurement.feeds import random_feeds, session_options
from ...onnx.measurement.profile import Profile, profile
from ...onnx.measurement.timing import Timing, Turn, in_onnxruntime, measure_turns
from ...onnx.model.files import load_model
from ...onnx.model.inputs import InputInfo, input_infos
from ...onnx.run.apart import require_survival
from ...onnx.run.openvino_runs import InOpenVINO
from ...onnx.run.session import session
from .. import require_extra
from ..data import given_axes, named, samples
from ..wording import naming

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    import onnx

    from ..console import Screen

PROFILED_SECONDS = 1.0  # a model, about
FEWEST_PROFILED, MOST_PROFILED = 3, 20
DROPPED = 3
WIDE = 0.1  # of a median, between the quartiles: a speed of 1.05 says nothing then
NAMES = {name: f"--{name}" for name in ("batch", "threads", "seconds", "repeats")}
ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
IN_OPENVINO = "in OpenVINO"


def run(options: argparse.Namespace, screen: Screen) -> None:
    """Time models side by side."""
    if options.runtime == OPENVINO:
        require_extra(OPENVINO, [OPENVINO])
    with naming(**NAMES), screen.progress(live=False) as progress:
        available = cpus()
        if not 1 <= options.threads <= available:
            raise bad_value("--threads", f"must be 1 to {available}, as this machine has, got {options.threads}")
        progress("opening", 0, 0)
        feeds, batch = _feeds(options, screen)
        paths = dict(zip(_labels(options.models), options.models, strict=True))
        for path in options.models:
            require_survival(path, feeds, session_options(options.threads))
        turns: dict[tuple[str, str], Turn] = {}
        for label, path in paths.items():
            made = session(path, session_options(options.threads), saturate=True)  # as it runs elsewhere
            turns[label, ONNXRUNTIME] = in_onnxruntime(made, feeds, f"model {path!r}")
        problems, version = (
            _add_openvino(turns, paths, feeds, options) if options.runtime == OPENVINO else ({}, None)
        )
        timings = measure_turns(
            turns,
            repeats=options.repeats,
            seconds=options.seconds,
            dropped=DROPPED,
            progress=lambda done, whole: progress("timing", done, whole),
        )
        del turns, made
        profiles = {}
        for done, (label, path) in enumerate(paths.items()):
            progress("profiling", done, len(paths))
            fitting = int(1e3 * PROFILED_SECONDS / timings[label, ONNXRUNTIME].median_ms)
            runs = max(FEWEST_PROFILED, min(MOST_PROFILED, fitting))
            profiles[label, ONNXRUNTIME] = profile(
                path, feeds, threads=options.threads, runs=runs, dropped=DROPPED
            )
    first = next(iter(timings.values()))
    asked = [(label, runtime) for label in paths for runtime in dict.fromkeys((ONNXRUNTIME, options.runtime))]
    columns = ["model", "median ms", "quartiles", "speed", "norms ms", "of all", "Transposes"]
    screen.table(columns, [_row(key, timings[key], first, profiles.get(key)) for key in asked if key in timings])
    for label, problem in problems.items():
        screen.line(f"{label} {IN_OPENVINO}: {problem}")
    threads = f"{options.threads} thread{'s' * (options.threads != 1)}"
    fed = named(options.data) if options.data is not None else "random inputs"
    there = "" if version is None else f"; OpenVINO {version}, a process for each model"
    screen.line(
        f"{threads}, batch {batch}, {fed}, {first.runs} runs each; norms and Transposes from the profile, "
        f"ONNX Runtime {onnxruntime.__version__}{there}"
    )
    spread = max((timing.q3_ms - timing.q1_ms) / timing.median_ms for timing in timings.values())
    if spread > WIDE:
        screen.line(
            f"quartiles up to {spread:.0%} of a median apart are too wide to be quoted: give more --seconds, or a "
            "machine that does nothing else"
        )
    screen.result(
        onnxruntime=onnxruntime.__version__,
        openvino=version,
        threads=options.threads,
        batch=batch,
        data=options.data,
        models=[
            {
                "model": paths[key[0]],
                "runtime": key[1],
                **_figures(timings.get(key), first),
                "profile": profiles[key].to_dict() if key in profiles else None,
                "problem": problems[key[0]] if key not in timings else "",
            }
            for key in asked
        ],
    )


def _add_openvino(
    turns: dict[tuple[str, str], Turn],
    paths: Mapping[str, str],
    feeds: Mapping[str, np.ndarray],
    options: argparse.Namespace,
) -> tuple[dict[str, str], str | None]:
    """Add each model's turn in OpenVINO; return by label why there is none, and OpenVINO's version."""
    problems, version = {}, None
    for label, path in paths.items():
        try:
            made = InOpenVINO(path, feeds, options.threads)
        except ValueError as error:
            problems[label] = str(error)
        else:
            turns[label, OPENVINO], version = made.timed, made.version
    return problems, version


def _row(key: tuple[str, str], timing: Timing, first: Timing, where: Profile | None) -> list[str]:
    label, runtime = key
    return [
        label if runtime == ONNXRUNTIME else f"{label} {IN_OPENVINO}",
        _ms(timing.median_ms),
        f"{_ms(timing.q1_ms)} to {_ms(timing.q3_ms)}",
        f"{first.median_ms / timing.median_ms:.2f}x",
        *([_ms(where.norms_ms), f"{where.norms_share:.1%}", str(where.transposes)] if where else ["-"] * 3),
    ]


def _figures(timing: Timing | None, first: Timing) -> dict[str, float | None]:
    """Return what JSON has of a timing: the same keys with None where there is none."""
    speed = None if timing is None else first.median_ms / timing.median_ms
    values = (timing or first).to_dict()
    return {name: None if timing is None else value for name, value in values.items()} | {"speed": speed}


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.2f}" if milliseconds >= 1 else f"{milliseconds:.3f}"


def _labels(paths: Sequence[str]) -> list[str]:
    """Name each model by its path; a model that is there twice shows how far two equal ones are apart."""
    return [path if (n := paths[:i].count(path)) == 0 else f"{path} ({n + 1})" for i, path in enumerate(paths)]


def _feeds(options: argparse.Namespace, screen: Screen) -> tuple[dict[str, np.ndarray], int]:
    """Return one batch that fits all models, and its size."""
    feeds: dict[str, np.ndarray] = {}
    batch = 0
    for i, path in enumerate(options.models):
        model = load_model(path)
        with naming(path):
            infos = input_infos(model)
            if i == 0:
                feeds, batch = _feeds_of(options, model, infos, screen)
        _require_fitting(feeds, infos, path)
    return feeds, batch


def _feeds_of(
    options: argparse.Namespace, model: onnx.ModelProto, infos: Sequence[InputInfo], screen: Screen
) -> tuple[dict[str, np.ndarray], int]:
    fixed = size_of_batches(infos, batch_axes_of(infos, given_axes(options)))
    if options.batch is not None and options.batch < 1:
        raise bad_value("--batch", f"must be at least 1, got {options.batch}")
    if None not in (fixed, options.batch) and fixed != options.batch:
        path = options.models[0]
        raise bad_value(f"model {path!r}", f"takes {fixed} samples at a time, got --batch {options.batch}")
    batch = fixed or options.batch or 1
    if options.data is not None:
        return _real(options, model, batch, screen), batch
    if (options.mean, options.std, options.rescale) != (None, None, None):
        raise bad_value("images", "must come with --data")
    return random_feeds(model, batch=batch, batch_axes=given_axes(options)), batch


def _real(
    options: argparse.Namespace, model: onnx.ModelProto, batch: int, screen: Screen
) -> dict[str, np.ndarray]:
    """Return the first samples of the data as one batch."""
    data, label = samples(options, model, batch, screen), f"--data {named(options.data)!r}"
    if data.samples < batch:
        raise bad_value(label, f"has {data.samples} samples, a batch has {batch}")
    parts = list(data)
    feeds = {}
    for name, first in parts[0].items():
        axis = data.batch_axes[name]
        if axis is None:
            feeds[name] = first
            continue
        shapes = {part[name].shape[:axis] + part[name].shape[axis + 1 :] for part in parts}
        if len(shapes) > 1:
            listed = ", ".join(map(str, sorted(shapes)))
            raise bad_value(label, f"has samples of several shapes for {name!r}: {listed}")
        feeds[name] = np.concatenate([part[name] for part in parts], axis)
    return feeds


def _require_fitting(feeds: Mapping[str, np.ndarray], infos: Sequence[InputInfo], path: str) -> None:
    """Refuse a model that does not take what the first one is fed."""
    fits = len(feeds) == len(infos) and all(
        info.name in feeds
        and feeds[info.name].dtype == info.dtype
        and feeds[info.name].ndim == len(info.shape)
        and all(want in (None, n) for want, n in zip(info.shape, feeds[info.name].shape, strict=True))
        for info in infos
    )
    if not fits:
        wanted = ", ".join(map(str, infos)) or "nothing"
        given = ", ".join(f"{name!r} ({array.dtype} {list(array.shape)})" for name, array in feeds.items())
        raise bad_value(f"model {path!r}", f"wants {wanted}, the first model is fed {given}")
