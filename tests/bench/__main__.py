"""`python -m tests.bench`: starts the fake upstream and the targets, measures them side by side, prints Markdown."""

import argparse
import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from tests.bench import endurance, process_tree, report
from tests.bench.native import compiled, upstream
from tests.bench.peers import PEERS, TARGETS
from tests.bench.scenarios import KINDS, SCENARIOS, measure
from tests.bench.targets import REPOSITORY, Scene, Target, UnavailableError, free_port, running

OWN = ["floor", "jan", "jan-key"]


def _names(allowed: list[str]) -> Any:
    def parse(text: str) -> list[str]:
        names = allowed if text == "all" else [name for name in text.split(",") if name]
        unknown = [name for name in names if name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(allowed)}, all")
        return names

    return parse


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--targets", type=_names(list(TARGETS)), default=OWN, help="default: %(default)s")
    parser.add_argument(
        "--peers", type=_names(list(PEERS)), default=[], help=f"also measure: all, or some of {','.join(PEERS)}"
    )
    parser.add_argument("--only", type=_names(KINDS), default=KINDS, help=f"some of {','.join(KINDS)}")
    parser.add_argument("--rounds", type=int, default=0, help="default 3; 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="one short round: for a look, not for a comparison")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    parser.add_argument("--idle", type=int, metavar="N", help="hold N idle streams open for 30 s instead")
    parser.add_argument("--soak", type=int, metavar="N", help="send N streams, a tenth hung up midway, instead")
    parser.add_argument("--on", choices=TARGETS, default="jan", help="the target of --idle and --soak")
    parser.add_argument(
        "--cache", type=Path, default=REPOSITORY / ".data" / "bench", help="compiled programs and peers live here"
    )
    return parser.parse_args()


def _start_all(names: list[str], scene: Scene, stack: ExitStack) -> tuple[list[Target], list[str]]:
    """The targets that run, and the names of those that could not be had."""
    started, missing = [], []
    for name in names:
        try:
            print(f"bench: starting {name}", file=sys.stderr)
            started.append(stack.enter_context(running(TARGETS[name](scene), scene.folder)))
        except UnavailableError as why:
            print(f"bench: left out: {why}", file=sys.stderr)
            missing.append(name)
    return started, missing


def _compare(arguments: argparse.Namespace, targets: list[Target]) -> tuple[dict[str, Any], bool]:
    """Measures and prints; the JSON document, and whether our own answers were all right."""
    scenarios = [scenario for scenario in SCENARIOS if scenario.kind in arguments.only]
    where = report.machine()
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    seconds = 0.7 if arguments.quick else 2.0
    results = measure(targets, scenarios, rounds=rounds, seconds=seconds, cache=arguments.cache)
    costs = {target.name: process_tree.cost(target.pid) for target in targets}
    print(report.markdown(results, scenarios, targets, costs, where))
    wrong = any(sample.failed for name in OWN for samples in results.get(name, {}).values() for sample in samples)
    return report.document(results, targets, costs, where), not wrong


def _endure(arguments: argparse.Namespace, target: Target) -> tuple[dict[str, Any], bool]:
    """Idle streams, soak or both; the JSON document, and whether nothing was lost."""
    document: dict[str, Any] = {"machine": report.machine()}
    right = True
    if arguments.idle:
        document["idle"] = endurance.idle(target, arguments.idle, arguments.cache)
        right = document["idle"]["alive"] == arguments.idle
    if arguments.soak:
        document["soak"] = endurance.soak(target, arguments.soak, arguments.cache)
        right = right and document["soak"]["series"][-1]["failed"] == 0
    return document, right


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(143)  # as an exception, so that everything we started is stopped


def main() -> int:
    """Runs what the command line asks for; 1 when a target of ours is missing or answered wrongly."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _end)
    endures = bool(arguments.idle or arguments.soak)
    names = [arguments.on] if endures else list(dict.fromkeys(arguments.targets + arguments.peers))
    arguments.cache = arguments.cache.resolve()
    compiled("load", arguments.cache)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jan-bench-", ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        port = free_port()
        stack.enter_context(upstream(port, arguments.cache))
        targets, missing = _start_all(names, Scene(port, arguments.cache, folder), stack)
        if not targets:
            return 1
        document, right = _endure(arguments, targets[0]) if endures else _compare(arguments, targets)
        if arguments.json:
            arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if right and not set(OWN) & set(missing) else 1


if __name__ == "__main__":
    sys.exit(main())
