"""What minutes of load do to a target: thousands of idle streams held open, and tens of thousands of streams with
a tenth hung up midway, memory read along the way."""

import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench import process_tree
from tests.bench.native import Load, LoadReport, read_report, run_load, start_load
from tests.bench.targets import Target

_HOLD_SECONDS = 30
_IDLE_PACE_MS = 5_000
_BATCH = 2_000
_SETTLE_SECONDS = 2.0


def _memory(target: Target) -> dict[str, float]:
    cost = process_tree.cost(target.pid)
    return {
        "rss_mb": round(cost.rss_mb, 1),
        "pss_mb": round(cost.pss_mb, 1),
        "database_pss_mb": round(cost.database_pss_mb, 1),
        "processes": cost.processes,
    }


def idle(target: Target, count: int, cache: Path) -> dict[str, Any]:
    """Opens `count` streams that bring a token every five seconds, holds them, and counts those alive at the end."""
    opening_seconds = count / 500 + _IDLE_PACE_MS / 1000
    load = Load(
        connections=count,
        requests=count,
        tokens=1_000,
        pace_ms=_IDLE_PACE_MS,
        ramp_ms=count * 2,
        seconds=round(opening_seconds + _HOLD_SECONDS),
    )
    before = _memory(target)
    print(f"bench: {count} idle streams on {target.name} for {load.seconds} s", file=sys.stderr)
    running = start_load(target.port, load, target.headers(), cache)
    time.sleep(load.seconds - 2)
    during = _memory(target)
    report = read_report(running, timeout_seconds=60)
    time.sleep(_SETTLE_SECONDS)
    after = _memory(target)
    print(f"\n{report.open} of {count} streams alive after {load.seconds} s; {report.tokens} tokens came")
    if report.first_error:
        print(f"errors {report.errors}, the first: {report.first_error}")
    for moment, memory in (("before", before), ("with all open", during), ("after", after)):
        print(f"  {moment:14} RSS {memory['rss_mb']:7.1f} MB   PSS {memory['pss_mb']:7.1f} MB")
    return {
        "alive": report.open,
        "asked": count,
        "before": before,
        "during": during,
        "after": after,
        "report": asdict(report),
    }


_COLUMNS = ["requests", "ok", "hung_up", "failed", "rss_mb", "pss_mb", "database_pss_mb", "processes"]


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _after(row: dict[str, Any], report: LoadReport, target: Target) -> dict[str, Any]:
    """The next row of the series: sums so far, memory now."""
    sums = {
        "requests": row["requests"] + report.requests,
        "ok": row["ok"] + report.ok,
        "hung_up": row["hung_up"] + report.hung_up,
        "failed": row["failed"] + report.failed,
    }
    return sums | _memory(target)


def soak(target: Target, count: int, cache: Path) -> dict[str, Any]:
    """Sends `count` streams of 40 tokens, every tenth hung up midway; prints the memory after each batch.

    Growth is told from the end of the first batch, when pools and caches are warm."""
    batch = min(_BATCH, max(200, count // 10))
    load = Load(connections=64, requests=batch, tokens=40, pace_ms=2, hangup_every=10, seconds=300)
    row: dict[str, Any] = {"requests": 0, "ok": 0, "hung_up": 0, "failed": 0} | _memory(target)
    series = [row]
    print(f"\nSoak of {target.name}\n\n{_line(_COLUMNS)}\n{_line('--:' for _ in _COLUMNS)}")
    print(_line(row.values()), flush=True)
    while row["requests"] < count:
        report = run_load(target.port, load, target.headers(), cache)
        if report.first_error:
            print(f"bench: first error: {report.first_error}", file=sys.stderr)
        time.sleep(_SETTLE_SECONDS)
        row = _after(row, report, target)
        series.append(row)
        print(_line(row.values()), flush=True)
    growth = row["rss_mb"] - series[1]["rss_mb"]
    print(f"\nRSS grew {growth:+.1f} MB between the first {batch} requests and the end")
    return {"target": target.name, "series": series, "growth_mb": round(growth, 1)}
