"""The list of records that `make model` writes: ours as counted, peers as their ideal passes, on one chip's model."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from chips import Chip
from counting import Counted
from model import Limit, fraction, limit_of, time_of
from peers import Peer
from problem import Problem


@dataclass(frozen=True)
class Record:
    """Times in milliseconds, modelled, not measured. `fraction` is limit / modelled time. `peer`: "" for our own."""

    id: str
    op: str
    dtype: str
    kernel: str
    useful_fma: float
    issued_fma: float
    compulsory_bytes: float
    moved_bytes: float
    extra_bytes: float
    chip: str
    modelled_ms: float
    limit_ms: float
    fraction: float
    bound: str  # of the dispatch that takes longest
    peer: str = ""

    @property
    def gflop(self) -> float:
        return 2e-9 * self.useful_fma

    def as_json(self) -> dict[str, object]:
        values = asdict(self)
        if not self.peer:
            del values["peer"]
        return values


def limit(problem: Problem, chip: Chip) -> Limit:
    return limit_of(problem.useful_fma, problem.compulsory_bytes, chip)


def record_of(problem: Problem, counted: Counted, chip: Chip, peer: str = "") -> Record | None:
    """None where less than the least was counted: the part of the grid that ran was not like the rest."""
    times = [time_of(dispatch.counters, chip) for dispatch in counted.dispatches]
    longest = max(times, key=lambda time: time.ms)
    try:
        share = fraction(times, limit(problem, chip))
    except ValueError:
        return None
    return Record(
        id=problem.case.name,
        op=problem.op,
        dtype=problem.dtype,
        kernel=" + ".join(dict.fromkeys(dispatch.kernel for dispatch in counted.dispatches)),
        useful_fma=problem.useful_fma,
        issued_fma=sum(dispatch.counters.fma for dispatch in counted.dispatches),
        compulsory_bytes=problem.compulsory_bytes,
        moved_bytes=sum(time.moved_bytes for time in times),
        extra_bytes=counted.extra_bytes,
        chip=chip.name,
        modelled_ms=sum(time.ms for time in times),
        limit_ms=limit(problem, chip).ms,
        fraction=share,
        bound=longest.bound,
        peer=peer,
    )


def record_of_peer(problem: Problem, peer: Peer, chip: Chip) -> Record | None:
    passes = peer.passes(problem)
    if passes is None:
        return None
    times = [limit_of(p.fma, problem.bytes_of(p.elements), chip) for p in passes]
    total = sum(time.ms for time in times)
    longest = max(zip(times, passes), key=lambda pair: pair[0].ms)[1]
    return Record(
        id=problem.case.name,
        op=problem.op,
        dtype=problem.dtype,
        kernel=" + ".join(dict.fromkeys(p.name for p in passes)),
        useful_fma=problem.useful_fma,
        issued_fma=sum(p.fma for p in passes),
        compulsory_bytes=problem.compulsory_bytes,
        moved_bytes=sum(problem.bytes_of(p.elements) for p in passes),
        extra_bytes=problem.bytes_of(peer.extra(problem)),
        chip=chip.name,
        modelled_ms=total,
        limit_ms=limit(problem, chip).ms,
        fraction=limit(problem, chip).ms / total,
        bound=longest.name,
        peer=peer.name,
    )
