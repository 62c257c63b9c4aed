"""The traffic every target gets, and how one run of it becomes a number.

A first small run warms the target up and tells how much fits into the time of a round, so that a fast target is
measured over enough requests and a slow one does not hold everybody up. Costs are then per request or per token.
"""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from tests.bench import process_tree
from tests.bench.native import Load, LoadReport, run_load
from tests.bench.targets import Target

_SETTLE_SECONDS = 0.4  # work a server does after its answer (batched writes) belongs to the run


@dataclass(frozen=True)
class Scenario:
    """One column of the table: a load, and what its cost is divided by."""

    name: str
    kind: str
    title: str
    probe: Load
    sized: bool  # fill the round's time with requests, or keep the probe's number
    most: int = 0

    @property
    def unit(self) -> int:
        """Costs are told per this many tokens of a stream, or requests."""
        return 100_000 if self.probe.tokens else 1_000

    def load(self, probed: LoadReport, seconds: float) -> Load:
        """As much as a target that answered like this does in so many seconds, within bounds."""
        fitting = int(probed.requests / max(probed.wall_s, 0.001) * seconds)
        whole = max(self.probe.requests, min(fitting, self.most)) // self.probe.connections
        return replace(self.probe, requests=whole * self.probe.connections)


SCENARIOS = [
    Scenario(
        "nonstream_16", "nonstream", "CPU s per 1k requests, 16 at a time", Load(16, 320), sized=True, most=20_000
    ),
    Scenario("nonstream_64", "nonstream", "the same, 64 at a time", Load(64, 320), sized=True, most=20_000),
    Scenario(
        "unpaced",
        "unpaced",
        "CPU s per 100k tokens un-paced, 16 streams",
        Load(16, 32, tokens=400),
        sized=True,
        most=4_000,
    ),
    Scenario(
        "paced",
        "paced",
        "CPU s per 100k tokens, 50 streams at 50 tok/s",
        Load(50, 50, tokens=150, pace_ms=20),
        sized=False,
    ),
    Scenario(
        "latency",
        "latency",
        "64 in flight, model takes 100 ms",
        Load(64, 192, pace_ms=100, ramp_ms=100),
        sized=True,
        most=2_560,
    ),
]
KINDS = list(dict.fromkeys(scenario.kind for scenario in SCENARIOS))


@dataclass(frozen=True)
class Sample:
    """One run: costs per unit (see Scenario.unit), times in milliseconds."""

    cpu_seconds: float
    database_cpu_seconds: float
    latency_p50: float
    latency_p99: float
    ttft_p50: float
    ttft_p99: float
    per_second: float
    failed: int
    first_error: str


def _sized(scenario: Scenario, target: Target, seconds: float, cache: Path) -> Load:
    """The load that lasts about `seconds`; told by a warm-up of half of it (for compilers in the target)."""
    first = run_load(target.port, scenario.probe, target.headers(), cache)
    if not scenario.sized:
        return scenario.probe
    warm_up = run_load(target.port, scenario.load(first, seconds / 2), target.headers(), cache)
    return scenario.load(warm_up, seconds)


def _sample(scenario: Scenario, target: Target, load: Load, cache: Path) -> Sample:
    headers = target.headers()
    before = process_tree.cpu_seconds(target.pid)
    report = run_load(target.port, load, headers, cache)
    time.sleep(_SETTLE_SECONDS)
    after = process_tree.cpu_seconds(target.pid)
    done = report.tokens if load.tokens else report.ok
    units = max(done, 1) / scenario.unit
    return Sample(
        cpu_seconds=(after[0] - before[0]) / units,
        database_cpu_seconds=(after[1] - before[1]) / units,
        latency_p50=report.latency_ms["p50"],
        latency_p99=report.latency_ms["p99"],
        ttft_p50=report.ttft_ms["p50"],
        ttft_p99=report.ttft_ms["p99"],
        per_second=done / report.wall_s,
        failed=report.failed,
        first_error=report.first_error,
    )


def middle(samples: list[Sample]) -> Sample:
    """The median of each number; failures add up."""
    return Sample(
        cpu_seconds=median(s.cpu_seconds for s in samples),
        database_cpu_seconds=median(s.database_cpu_seconds for s in samples),
        latency_p50=median(s.latency_p50 for s in samples),
        latency_p99=median(s.latency_p99 for s in samples),
        ttft_p50=median(s.ttft_p50 for s in samples),
        ttft_p99=median(s.ttft_p99 for s in samples),
        per_second=median(s.per_second for s in samples),
        failed=sum(s.failed for s in samples),
        first_error=next((s.first_error for s in samples if s.first_error), ""),
    )


Results = dict[str, dict[str, list[Sample]]]


def measure(targets: list[Target], scenarios: list[Scenario], *, rounds: int, seconds: float, cache: Path) -> Results:
    """Target name -> scenario name -> one sample per round; the targets take turns, in another order each round."""
    loads = {
        (target.name, scenario.name): _sized(scenario, target, seconds, cache)
        for scenario in scenarios
        for target in targets
    }
    results: Results = {target.name: {scenario.name: [] for scenario in scenarios} for target in targets}
    for turn in range(rounds):
        first = turn % len(targets)
        for scenario in scenarios:
            print(f"bench: round {turn + 1} of {rounds}, {scenario.name}", file=sys.stderr)
            for target in targets[first:] + targets[:first]:
                sample = _sample(scenario, target, loads[target.name, scenario.name], cache)
                results[target.name][scenario.name].append(sample)
    return results
