"""The kernels of `kernels/`, which others have measured in their own form, and this project's direct ones: counted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import mps_conv_transpose3d
from counting import count, record
from mps_conv_transpose3d._cases import Case
from problem import OPS, Problem

if TYPE_CHECKING:
    import mps_simulator

KERNELS = Path(__file__).parent / "kernels"
ACCESSES = 40_000_000  # of a dispatch: enough for the caches of the largest chip here to reach a steady state


@dataclass(frozen=True)
class Reference:
    """A reference: its counters, its useful multiply-adds and compulsory bytes, and the fractions it should have."""

    name: str
    dispatches: list[mps_simulator.Dispatch]
    useful_fma: float
    compulsory_bytes: float
    measured: str
    low: float
    high: float


def gemm(file: str, size: int, *, tile: tuple[int, int], threads: tuple[int, int]) -> list[mps_simulator.Dispatch]:
    """A square matrix product; `tile` is of the result, `threads` are those of a threadgroup that computes one."""
    library = torch.mps.compile_shader((KERNELS / file).read_text())
    a, b, c = (torch.empty(size, size, device="mps") for _ in range(3))
    grid = [size // t * n for t, n in zip(tile, threads)]
    with record(ACCESSES) as dispatches:
        library.gemm(a, b, c, size, threads=grid, group_size=threads)
    return dispatches


def conv(file: str, size: int, channels: int) -> list[mps_simulator.Dispatch]:
    """A convolution 3x3x3 of [channels, size, size, size], in whatever layout, to as many channels."""
    library = torch.mps.compile_shader((KERNELS / file).read_text())
    x, y = (torch.empty(channels * size**3, device="mps") for _ in range(2))
    w = torch.empty(channels * channels * 27, device="mps")
    parameters = torch.tensor([size, channels, channels, 3, 1], dtype=torch.int32, device="mps")
    with record(ACCESSES) as dispatches:
        library.conv(x, w, y, parameters, threads=(channels // 64 * 128, size**3 // 64), group_size=(128, 1))
    return dispatches


def references():
    """Each reference, counted when its turn comes."""
    for size in (2048, 4096):
        cost = {"useful_fma": size**3, "compulsory_bytes": 3 * 4 * size**2}
        yield Reference(
            f"GEMM {size}, 64x64x16, 2x2 simdgroups",
            gemm("gemm_matrices.metal", size, tile=(64, 64), threads=(128, 1)),
            measured="MLX Steel: 77-89 % of peak",
            low=0.70,
            high=0.95,
            **cost,
        )
    size = 1024
    cost = {"useful_fma": size**3, "compulsory_bytes": 3 * 4 * size**2}
    yield Reference(
        f"GEMM {size}, 16x16 scalar tiles",
        gemm("gemm_scalar_tiles.metal", size, tile=(16, 16), threads=(16, 16)),
        measured="8-10 % of peak",
        low=0,
        high=0.30,
        **cost,
    )
    yield Reference(
        f"GEMM {size}, one thread an element",
        gemm("gemm_direct.metal", size, tile=(32, 8), threads=(32, 8)),
        measured="0.4 % of peak (a convolution)",
        low=0,
        high=0.25,
        **cost,
    )
    size, channels = 64, 128
    cost = {
        "useful_fma": channels**2 * 27 * size**3,
        "compulsory_bytes": 4 * (2 * channels * size**3 + 27 * channels**2),
    }
    yield Reference(
        "conv 3x3x3, channels last",
        conv("conv_channels_last.metal", size, channels),
        measured="MLX: above PyTorch's",
        low=0.5,
        high=0.95,
        **cost,
    )
    yield Reference(
        "conv 3x3x3, gathered",
        conv("conv_gather.metal", size, channels),
        measured="PyTorch conv3d_simd: 24-33 % of the peak of an M5 (pytorch #192213, #192229)",
        low=0,
        high=0.5,
        **cost,
    )
    case = Case("direct", (1, 64, 24, 24, 24), (64, 32, 2, 2, 2), bias=False, stride=(2, 2, 2))
    for op in OPS:
        problem = Problem(case, op, "float32")
        with mps_conv_transpose3d.enabled():
            dispatches = count(problem, algorithm="direct", accesses=ACCESSES).dispatches
        yield Reference(
            f"ours, direct: {op}",
            dispatches,
            problem.useful_fma,
            problem.compulsory_bytes,
            measured="-",
            low=0,
            high=0.30,
        )
