"""MONAI's networks, trained for a step on mps and on the CPU from the same weights."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from programs import NETWORKS, Network, loss_of, outputs_of

# An error against float64 may be this many times that of the CPU in float32: another order of summation, in layers
# that come after one another, and a few values that round to the other side of an activation's corner.
TIMES = 8
ROUNDING = 1e-6  # and this much of the value itself, which is some 10 units in the last place


def step(network: Network, *to: object) -> dict[str, torch.Tensor]:
    """Each output, and the gradient of the image and of each parameter."""
    model = network.build().to(*to)
    image = network.image().to(*to).requires_grad_()
    outputs = outputs_of(model, image)
    loss_of(outputs).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    values = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
    return {**values, "gradient of the image": image.grad, **gradients}


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a.cpu().double() - b).norm().item()


def assert_like_cpu(actual: dict[str, torch.Tensor], network: Network) -> None:
    exact, baseline = step(network, torch.float64), step(network)
    assert actual.keys() == exact.keys() == baseline.keys()
    wrong = []
    for name, value in exact.items():
        assert actual[name].device.type == "mps" and actual[name].dtype == torch.float32
        error, allowed = distance(actual[name], value), TIMES * distance(baseline[name], value)
        if not error <= allowed + ROUNDING * value.norm().item():
            wrong.append(f"{name}: error {error:.3g}, allowed {allowed:.3g}, norm {value.norm():.3g}")
    assert not wrong, "\n".join(wrong)


def count_calls(calls: Counter[str]) -> torch.utils.hooks.RemovableHandle:
    """Counts the calls of each class of convolution layer, by its name."""

    def count(module: nn.Module, args: object, output: object) -> None:
        if isinstance(module, nn.modules.conv._ConvNd):
            calls[type(module).__name__] += 1

    return nn.modules.module.register_module_forward_hook(count)


@pytest.mark.parametrize(
    "network", [pytest.param(n, id=n.name, marks=[pytest.mark.slow] if n.slow else []) for n in NETWORKS]
)
def test_network_trains_on_our_kernels_as_on_the_cpu(network, record):
    calls: Counter[str] = Counter()
    counting = count_calls(calls)
    with record() as recording:
        actual = step(network, "mps")
    counting.remove()
    assert_like_cpu(actual, network)

    ours = [name.removeprefix("conv_transpose3d_") for name in recording.ours]
    assert 0 < calls["ConvTranspose3d"] <= sum(name.startswith("forward") for name in ours)
    for gradient in ("input_grad", "weight_grad"):
        assert calls["ConvTranspose3d"] <= sum(name.startswith(gradient) for name in ours)
    # Natively ran the ordinary convolutions, and they alone.
    ordinary = sum(count for name, count in calls.items() if name != "ConvTranspose3d")
    assert recording.operators.count("aten::convolution_overrideable") == ordinary
    assert recording.operators.count("aten::convolution_backward_overrideable") == ordinary


def documented(version: str) -> dict[str, set[str]]:
    """By network, the operators that docs/operators.md says `mps` lacks in that version of PyTorch."""
    lines = (Path(__file__).parents[1] / "docs" / "operators.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    column = next(row for row in rows if row[0] == "program").index(version)
    operators = {row[0]: row[1].strip("`") for row in rows if re.fullmatch("[a-z]", row[0])}
    return {
        row[0].removeprefix("MONAI "): {operators[letter] for letter in row[column].split() if letter != "none"}
        for row in rows
        if row[0].startswith("MONAI ")
    }


STEPS = """
import json, sys
sys.path.insert(0, {folder!r})
from programs import NETWORKS
from test_programs import step
missing = {{}}
for network in NETWORKS:
    if not network.slow:
        try:
            step(network, "mps")
            missing[network.name] = ""
        except NotImplementedError as error:
            missing[network.name] = str(error).split("'")[1].removeprefix("aten::").partition(".")[0]
print(json.dumps(missing))
"""


@pytest.mark.parametrize("version", ["2.7", "2.12"])
def test_networks_lack_what_the_documents_say(version, run_python, simulator):
    done = run_python(STEPS.format(folder=str(Path(__file__).parent)), MPS_SIMULATOR_TORCH=version)
    assert done.returncode == 0, done.stderr
    expected = documented(version)
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen.keys() == {network.name for network in NETWORKS if not network.slow}
    for name, operator in seen.items():
        assert operator in expected[name] if operator else not expected[name], f"{name}: {operator}, {expected[name]}"


def test_networks_of_torch_2_7_run_with_the_fallback(run_python, simulator):
    program = STEPS.format(folder=str(Path(__file__).parent))
    done = run_python(program, MPS_SIMULATOR_TORCH="2.7", PYTORCH_ENABLE_MPS_FALLBACK="1")
    assert done.returncode == 0, done.stderr
    assert not any(json.loads(done.stdout.splitlines()[-1]).values())
