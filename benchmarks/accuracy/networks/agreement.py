"""What counts where the data have no labels: that the 8-bit network says what the float one says."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from ..network import Array, Outputs, Task
from ..running import outputs_of


def classes_unlike_float(model: ModelProto, held_out: Array) -> Task:
    """Return the task to name the classes that the float network names."""
    wanted = outputs_of(model, held_out)[0].argmax(-1)

    def unlike(outputs: Outputs) -> float:
        return float(np.sum(outputs[0].argmax(-1) != wanted))

    return Task(f"classes unlike float's of {len(held_out)}", unlike)
