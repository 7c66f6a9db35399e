"""Every way of calling (ways.py): on our kernels, as accurate as the CPU."""

from __future__ import annotations

import copy
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

from reference import Tensors, assert_accurate
from ways import WAYS, Way, plain

INPUT = (2, 4, 3, 4, 2)


def make(dtype: torch.dtype) -> tuple[nn.ConvTranspose3d, torch.Tensor, torch.Tensor]:
    """Layer, input and gradient of the output, on the CPU."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose3d(4, 6, (3, 2, 4), stride=(2, 2, 3), padding=(1, 0, 1), output_padding=(1, 0, 1), groups=2)
    x = torch.randn(INPUT)
    grad_output = torch.randn_like(layer(x))
    return layer.to(dtype), x.to(dtype), grad_output.to(dtype)


def on(device: str, dtype: torch.dtype, compute, values) -> Tensors:
    layer, x, grad_output = (copy.deepcopy(value).to(device, dtype) for value in values)
    return {name: tensor.detach() for name, tensor in compute(layer, x, grad_output).items()}


@pytest.mark.parametrize(
    ("way", "dtype"),
    [pytest.param(way, d, id=f"{way}, {str(d).removeprefix('torch.')}") for way in WAYS for d in way.dtypes],
)
def test_way(way: Way, dtype, record):
    values = make(dtype)
    with record() as recording:
        actual = on("mps", dtype, way.compute, values)
    if way.ours:
        assert recording.ours and (way.ordinary or not recording.native_convolutions)
    reference = plain if way.same_as_plain else way.compute
    exact, baseline = on("cpu", torch.float64, reference, values), on("cpu", dtype, reference, values)
    assert actual and actual.keys() <= exact.keys()
    for name, value in actual.items():
        assert value.device.type == "mps", name
        assert_accurate(value, exact[name], baseline[name], name)


def test_names_are_distinct():
    assert len({str(way) for way in WAYS}) == len(WAYS)


def test_the_document_lists_them():
    tool = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "calling.py"))
    assert tool["DOCUMENT"].read_text() == tool["document"](), "run `python tools/calling.py`"
