"""The measurements as Markdown (the table of DESIGN 5, ratios, the budget) and as one JSON document."""

import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.process_tree import Cost
from tests.bench.scenarios import Results, Sample, Scenario, middle
from tests.bench.targets import Target

Medians = dict[str, dict[str, Sample]]

# what DESIGN 5 promises: scenario, peer, the largest part of that peer's cost
_BUDGET = [
    ("nonstream_16", "litellm", 1 / 20),
    ("nonstream_16", "portkey", 1 / 2),
    ("unpaced", "litellm", 1 / 40),
    ("unpaced", "portkey", 1.0),
    ("paced", "portkey", 1.0),
]
_ADDED_P99_MS = 10
_RSS_MB = 400


def machine() -> dict[str, Any]:
    """Where and when this was measured."""
    cpu = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def medians(results: Results) -> Medians:
    """The middle of the rounds, per target and scenario."""
    return {target: {name: middle(samples) for name, samples in runs.items()} for target, runs in results.items()}


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _ratio(value: float) -> str:
    return f"{value:.2f}x" if value >= 1 else f"1/{1 / value:.1f}" if value > 0 else "-"


def _cpu_table(middles: Medians, scenarios: list[Scenario], targets: list[Target], costs: dict[str, Cost]) -> str:
    header = ["", *(s.title for s in scenarios), "RSS MB", "PSS MB"]
    rows = []
    for target in targets:
        cells = [_number(middles[target.name][s.name].cpu_seconds) for s in scenarios]
        cost = costs[target.name]
        rows.append([f"{target.name} ({target.version})", *cells, f"{cost.rss_mb:.0f}", f"{cost.pss_mb:.0f}"])
    return _table(header, rows)


def _times(scenario: Scenario, sample: Sample) -> tuple[float, float]:
    """(p50, p99) in ms: to the first token of a stream; else of the whole answer, less what the model itself takes."""
    if scenario.probe.tokens:
        return sample.ttft_p50, sample.ttft_p99
    return sample.latency_p50 - scenario.probe.pace_ms, sample.latency_p99 - scenario.probe.pace_ms


def _time_table(middles: Medians, scenarios: list[Scenario], targets: list[Target]) -> str:
    def cell(scenario: Scenario, sample: Sample) -> str:
        p50, p99 = _times(scenario, sample)
        rate = "" if scenario.probe.pace_ms else f" ({sample.per_second:,.0f}/s)"
        return f"{p50:.1f} / {p99:.1f}{rate}"

    def heading(scenario: Scenario) -> str:
        timed = "to first token" if scenario.probe.tokens else "added" if scenario.probe.pace_ms else "whole"
        return f"{scenario.name}, {timed}"

    rows = [[target.name, *(cell(s, middles[target.name][s.name]) for s in scenarios)] for target in targets]
    return _table(["ms p50 / p99", *map(heading, scenarios)], rows)


def _ratio_table(middles: Medians, scenarios: list[Scenario]) -> str:
    def part(scenario: Scenario, other: str) -> str:
        theirs = middles[other][scenario.name].cpu_seconds
        return _ratio(middles["jan"][scenario.name].cpu_seconds / theirs) if theirs else "-"

    rows = [[f"jan / {other}", *(part(s, other) for s in scenarios)] for other in middles if other != "jan"]
    return _table(["CPU", *(s.name for s in scenarios)], rows)


def _budget(middles: Medians, scenarios: list[Scenario], costs: dict[str, Cost]) -> list[str]:
    def line(what: str, value: float, limit: float, show: Callable[[float], str]) -> str:
        return f"- {what}: {show(value)}, at most {show(limit)}: {'met' if value <= limit else '**missed**'}"

    ours = middles["jan"]
    lines = [
        line(f"{name} CPU against {peer}", ours[name].cpu_seconds / middles[peer][name].cpu_seconds, limit, _ratio)
        for name, peer, limit in _BUDGET
        if peer in middles and name in ours and middles[peer][name].cpu_seconds
    ]
    for scenario in scenarios:
        if scenario.kind == "latency":
            added = _times(scenario, ours[scenario.name])[1]
            lines.append(line("added p99 ms at 64 in flight", added, _ADDED_P99_MS, _number))
    lines.append(line("RSS MB after the load", costs["jan"].rss_mb, _RSS_MB, _number))
    return lines


def _notes(middles: Medians, costs: dict[str, Cost]) -> list[str]:
    notes = [
        f"- {target}: {sample.failed} wrong answers in {name}: {sample.first_error}"
        for target, runs in middles.items()
        for name, sample in runs.items()
        if sample.failed
    ]
    for target, cost in costs.items():
        if cost.database_pss_mb:
            spent = ", ".join(
                f"{name} {_number(sample.database_cpu_seconds)}" for name, sample in middles[target].items()
            )
            notes.append(
                f"- {target}: PostgreSQL is not in the table: PSS {cost.database_pss_mb:.0f} MB; "
                f"CPU s in the same units: {spent}"
            )
    return notes


def markdown(
    results: Results, scenarios: list[Scenario], targets: list[Target], costs: dict[str, Cost], where: dict[str, Any]
) -> str:
    """The whole report for a person."""
    middles = medians(results)
    rounds = max(len(samples) for runs in results.values() for samples in runs.values())
    spent = [s for s in scenarios if s.kind != "latency"]
    parts = [
        f"{where['date']}, {where['cores']} cores of {where['cpu']}, Linux {where['kernel']}; "
        f"median of {rounds} rounds; CPU of the whole process tree; load average before: {where['load_before']}",
        _cpu_table(middles, spent, targets, costs),
        _time_table(middles, scenarios, targets),
    ]
    if "jan" in middles and len(middles) > 1:
        parts.append(_ratio_table(middles, spent))
    if "jan" in middles:
        parts.append("Budget (DESIGN 5)\n\n" + "\n".join(_budget(middles, scenarios, costs)))
    notes = _notes(middles, costs)
    return "\n\n".join(parts + (["\n".join(notes)] if notes else [])) + "\n"


def document(results: Results, targets: list[Target], costs: dict[str, Cost], where: dict[str, Any]) -> dict[str, Any]:
    """The same for programs: medians and every round."""
    return {
        "machine": where,
        "versions": {target.name: target.version for target in targets},
        "memory": {name: asdict(cost) for name, cost in costs.items()},
        "medians": {target: {name: asdict(s) for name, s in runs.items()} for target, runs in medians(results).items()},
        "rounds": {
            target: {name: [asdict(s) for s in samples] for name, samples in runs.items()}
            for target, runs in results.items()
        },
    }
