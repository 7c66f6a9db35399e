"""Apple's GPUs, as far as the planner knows them (csrc/planner/gpu.h)."""

from __future__ import annotations

from dataclasses import dataclass

from mps_conv_transpose3d import _planner


@dataclass(frozen=True)
class Chip:
    """A GPU: cores, clock in GHz, memory bandwidth in GB/s, last-level cache in MiB, Apple's family."""

    name: str
    cores: int
    ghz: float
    bandwidth: float
    cache_mib: int
    family: int

    @property
    def cycles_per_second(self) -> float:
        """Of all cores together."""
        return self.cores * self.ghz * 1e9

    @property
    def cache_bytes(self) -> int:
        return self.cache_mib << 20


CHIPS = {chip["name"]: Chip(**chip) for chip in _planner.ask(about="gpu")["chips"]}
