"""An extension by another author, built unedited and used beside PyTorch's own operators."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cmake_project import build

import mps_simulator


@pytest.fixture(scope="module", autouse=True)
def extension(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = build(Path(__file__).parent / "extension", tmp_path_factory)
    torch.ops.load_library(directory / "libsaxpy.so")


@pytest.mark.parametrize("name", ["saxpy", "saxpy_own_encoder"])
def test_extension(name: str) -> None:
    saxpy = getattr(torch.ops.another_author, name)
    x, y = torch.randn(1000), torch.randn(1001)
    x_mps, y_mps = x.to("mps"), y.to("mps")[1:]  # the second with a storage offset
    with mps_simulator.record() as dispatches:
        out = saxpy(x_mps + 1, y_mps, 0.5) * 2
        torch.mps.synchronize()
    torch.testing.assert_close(out.cpu(), (y[1:] + 0.5 * (x + 1)) * 2)
    assert [dispatch.kernel for dispatch in dispatches] == ["saxpy"]
    assert tuple(dispatches[0].grid) == (1000, 1, 1)


def test_misuse_raises() -> None:
    empty = torch.empty(0, device="mps")
    with pytest.raises(RuntimeError, match="must not have a zero"):
        torch.ops.another_author.saxpy(empty, empty, 1.0)
