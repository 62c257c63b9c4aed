"""What a process and all its descendants have cost so far: CPU seconds and memory, read from /proc.

CPU comes from each process's own clock (nanoseconds, dead threads included) plus what its dead children left behind.
PostgreSQL is counted apart: a managed database would not be on this machine.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED = 2


@dataclass(frozen=True)
class Process:
    """One line of /proc: who it is, whose child, and the CPU seconds of its dead children."""

    pid: int
    parent: int
    name: str
    dead_children_seconds: float


@dataclass(frozen=True)
class Cost:
    """CPU seconds and memory in MB of a tree without its PostgreSQL; PostgreSQL's beside it."""

    cpu_seconds: float
    rss_mb: float
    pss_mb: float
    database_cpu_seconds: float
    database_pss_mb: float
    processes: int


def _read_process(pid: int) -> Process | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None  # it has ended since we listed it
    name, rest = line[line.index("(") + 1 :].rsplit(")", 1)
    fields = rest.split()
    return Process(pid, int(fields[1]), name, (int(fields[13]) + int(fields[14])) * _TICK)


def tree(root: int) -> list[Process]:
    """The living processes of the tree under `root`, `root` included."""
    listed = (_read_process(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    children: dict[int, list[Process]] = {}
    found: list[Process] = []
    for process in listed:
        if process is None:
            continue
        children.setdefault(process.parent, []).append(process)
        if process.pid == root:
            found.append(process)
    for process in found:  # grows while we walk it
        found.extend(children.get(process.pid, []))
    return found


def _own_cpu_seconds(pid: int) -> float:
    """The process's CPU clock; see MAKE_PROCESS_CPUCLOCK in the kernel's posix-timers.h."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def _memory_mb(pid: int) -> tuple[float, float]:
    """(RSS, PSS): PSS shares a page among the processes that map it."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0.0, 0.0
    kilobytes = {key: int(value.split()[0]) for key, value in (line.split(":") for line in lines)}
    return kilobytes.get("Rss", 0) / 1024, kilobytes.get("Pss", 0) / 1024


def cpu_seconds(root: int) -> tuple[float, float]:
    """(the tree without PostgreSQL, its PostgreSQL) in CPU seconds since each process began."""
    own = database = 0.0
    for process in tree(root):
        seconds = _own_cpu_seconds(process.pid) + process.dead_children_seconds
        if process.name.startswith("postgres"):
            database += seconds
        else:
            own += seconds
    return own, database


def cost(root: int) -> Cost:
    """CPU and memory of the tree now."""
    own, database = cpu_seconds(root)
    processes = tree(root)
    rss = pss = database_pss = 0.0
    for process in processes:
        process_rss, process_pss = _memory_mb(process.pid)
        if process.name.startswith("postgres"):
            database_pss += process_pss
        else:
            rss, pss = rss + process_rss, pss + process_pss
    return Cost(own, rss, pss, database, database_pss, len(processes))
