"""Write lowered models, their inputs and what they must give, for run_models.py in another environment.

Usage: python write_models.py FOLDER. Each model NAME.onnx has a NAME.npz with the arrays `input NAME` and
`output NAME`; one named refused has none. The outputs of a norm alone are the library's; those of a network are
the newest ONNX Runtime's.
"""

import sys
from pathlib import Path

import numpy as np
import onnx

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent / "examples")]

from norm_models import qdq_model, qoperator_model, random_norm  # noqa: E402
from test_onnx_fused import (  # noqa: E402
    add_model,
    add_values,
    codes,
    concat_model,
    concat_values,
    native,
    want_add,
    want_concat,
)

from bytenorm import onnx as bno  # noqa: E402
from digits import load_digits  # noqa: E402

RELU = (0.0, np.inf)
NORMS = {
    "uint8-int8": {"y_type": np.int8},
    "int8-uint8": {"x_type": np.int8},
    "int8-relu": {"x_type": np.int8, "y_type": np.int8, "limits": RELU},
    "channels": {"per_channel": True, "limits": (0.0, 1.5)},
    "rank2": {"rank": 2, "limits": RELU},
    "rank3": {"rank": 3},
    "rank5": {"rank": 5, "limits": (-1.0, 1.0)},
}
IMAGES = 100


def write(folder, name, model, inputs, outputs):
    onnx.save(model, folder / f"{name}.onnx")
    arrays = {f"input {key}": value for key, value in inputs.items()}
    arrays |= {f"output {key}": value for key, value in outputs.items()}
    np.savez(folder / f"{name}.npz", **arrays)


def write_norms(folder, rng):
    for name, kind in NORMS.items():
        changes = dict(kind)
        rank = changes.pop("rank", 4)
        norm = random_norm(rng, **changes)
        x = norm.every_code(rank)
        y = norm.expected(x)
        model, _ = qdq_model(norm, rank)
        write(folder, f"exact-{name}", bno.lower(model, lowering="exact"), {"x": x}, {"y": y})
        if norm.x_zero_point.dtype == norm.y_zero_point.dtype:
            write(folder, f"portable-{name}", bno.lower(model, lowering="portable"), {"x": x}, {"y": y})
    for opset in (13, 20):
        model, norm = qoperator_model(random_norm(rng), opset=opset, ir=8)
        x = norm.every_code(4)
        for lowering in ("exact", "portable"):
            name = f"{lowering}-opset{opset}"
            write(folder, name, bno.lower(model, lowering=lowering), {"x": x}, {"y": norm.expected(x)})


def write_fused(folder, rng):
    pieces, values = [codes(rng, (2, 9, 7, n)) for n in (64, 5)], concat_values(rng, (64, 5))
    for pool in (0, 2):
        attributes = {"channels_last": 1, "pool": pool}
        model, inputs = concat_model(pieces, values, **attributes)
        (y,) = want_concat(pieces, values, **attributes)
        write(folder, f"exact-concat-pool{pool}", model, inputs, {"y": y})
    a, b, values = codes(rng, (2, 70, 6)), codes(rng, (2, 70, 6)), add_values(rng, 70)
    for exact_sum in (0, 1):
        model, inputs = add_model(a, b, values, exact_sum=exact_sum)
        outputs = want_add(a, b, values, exact_sum=exact_sum)
        write(folder, f"exact-add-exact{exact_sum}", model, inputs, dict(zip("ys", outputs, strict=True)))
    model, inputs = add_model(a, b, values, with_sum=0)
    write(folder, "exact-add-alone", model, inputs, {"y": want_add(a, b, values, with_sum=0)[0]})
    # Told the shape of an output that is not there, ONNX Runtime ended the process before 1.28.
    onnx.save(native(model, with_sum=1), folder / "refused-sum.onnx")


def write_digits(folder):
    images, _, test_images, _ = load_digits()
    data = [{"image": images[i : i + 20]} for i in range(0, 200, 20)]
    inputs = {"image": test_images[:IMAGES]}
    for lowering in ("exact", "portable"):
        for quant_format in ("QDQ", "QOperator"):
            # 7-bit weights: the old one runs with its defaults, which are exact for these on every CPU.
            options = {"lowering": lowering, "quant_format": quant_format, "reduce_range": True}
            model = bno.quantize(bno.digits_model(), data, **options)
            logits = bno.session(model).run(None, inputs)[0]
            write(folder, f"{lowering}-digits-{quant_format}", model, inputs, {"logits": logits})


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write_norms(folder, np.random.default_rng(0))
    write_fused(folder, np.random.default_rng(1))
    write_digits(folder)
    print(f"{len(list(folder.glob('*.onnx')))} models in {folder}")


if __name__ == "__main__":
    main()
