"""Programs run an operator at a time: what each part sees, what is kept, and what is given up."""

import pytest
import torch
from torch import nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401 - registers what torchao writes
from torch.export import export

from bytenorm.torch.pt2e import running
from bytenorm.torch.pt2e.running import Part, Runner

q8 = torch.ops.quantized_decomposed


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        return self.function(self, x)


def program(function, x):
    return export(Function(function).eval(), (x,)).module()


def between(x):
    return q8.dequantize_per_tensor(codes(x), 0.02, 128, 0, 255, torch.uint8)


def codes(x):
    return q8.quantize_per_tensor(x, 0.02, 128, 0, 255, torch.uint8)


def parts(count, seed=0):
    made = torch.Generator().manual_seed(seed)
    return [Part(item, [torch.randn(4, 8, generator=made)]) for item in range(count)]


def test_each_part_finds_the_state_that_was_given():
    def function(self, x):
        self.calls.add_(1)
        return x + self.calls

    given = parts(3)
    made = program(function, given[0].inputs[0])
    runner = Runner(made)
    for part in given:
        assert torch.equal(runner.outputs(part)[0], part.inputs[0] + 1)
    (together,) = [
        [runner.read(env, node.all_input_nodes[0]) for env in envs]
        for node, envs in runner.walk(given)
        if node.op == "output"
    ]
    assert all(torch.equal(y, part.inputs[0] + 1) for y, part in zip(together, given, strict=True))
    assert float(made.get_buffer("calls")) == 0


def test_numbers_of_codes_are_not_kept():
    def function(self, x):
        y = between(x)
        return codes(y * 2) + codes(y + 1)

    given = parts(2)
    made = program(function, given[0].inputs[0])
    runner = Runner(made)
    for node, envs in runner.walk(given):
        assert "dequantize" not in node.name
        assert not any("dequantize" in kept.name for env in envs for kept in env)
    assert torch.equal(runner.outputs(given[0])[0], made(*given[0].inputs))


@pytest.mark.parametrize("view", [False, True])
def test_numbers_of_codes_that_are_written_to_are_kept(view):
    def function(self, x):
        y = between(x)
        (y.view(-1) if view else y).relu_()
        return y + 1

    (part,) = parts(1)
    made = program(function, part.inputs[0])
    assert "relu_" in str(made.graph)
    assert torch.equal(Runner(made).outputs(part)[0], between(part.inputs[0]).relu() + 1)


def test_the_last_parts_are_given_up_for_room(monkeypatch):
    given = parts(5)
    made = program(lambda self, x: (x + 1) * (x - 1), given[0].inputs[0])
    one = given[0].inputs[0].numel() * 4
    monkeypatch.setattr(running, "ROOM", 5 * one)
    held = {node.name: len(envs) for node, envs in Runner(made).walk(given)}
    # Behind the first node there are the input and the sum, then the input, the sum and the difference.
    assert list(held.values())[-4:] == [2, 1, 1, 1]
    assert Runner(made).outputs(given[0])[0].shape == (4, 8)


def test_a_part_that_cannot_be_run_is_named():
    made = program(lambda self, x: x.reshape(32), torch.ones(4, 8))
    bad = Part(7, [torch.ones(3, 8)])
    with pytest.raises(ValueError, match=r"^reference: the float one cannot run item 7: .*32"):
        Runner(made, "reference", "float one").outputs(bad)
