"""Apple's GPUs, as far as the model knows them.

Cores, clocks and last-level caches are metal-benchmarks' (github.com/philipturner/metal-benchmarks), bandwidths
Apple's.
For M3 and M4 no measured cache is known to us: theirs are taken to be as large as those of the generation before.
"""

from __future__ import annotations

from dataclasses import dataclass


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


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("M1", 8, 1.278, 68, 8, 7),
        Chip("M1 Pro", 16, 1.296, 205, 24, 7),
        Chip("M1 Max", 32, 1.296, 410, 48, 7),
        Chip("M1 Ultra", 64, 1.296, 819, 96, 7),
        Chip("M2", 10, 1.398, 102, 8, 8),
        Chip("M2 Pro", 19, 1.398, 205, 24, 8),
        Chip("M2 Max", 38, 1.398, 410, 48, 8),
        Chip("M3", 10, 1.38, 102, 8, 9),
        Chip("M3 Pro", 18, 1.38, 154, 24, 9),
        Chip("M3 Max", 40, 1.38, 410, 48, 9),
        Chip("M4", 10, 1.47, 120, 8, 9),
        Chip("M4 Pro", 20, 1.47, 273, 24, 9),
        Chip("M4 Max", 40, 1.47, 546, 48, 9),
    )
}
