"""Measure this service beside a real Zaqar, in the same run, trial by trial in turns.

    make bench                              the whole: 60 minutes; fills docs/performance.md
    make bench ARGS="--minutes 15"          the same with fewer trials
    make bench ARGS="--sections pollers"    one table of it
    make bench ARGS=--quick                 a first look in 10 minutes; leaves the document alone
    python bench/run.py --sections mongodb --scenarios list,consume --trials 3

Sections:
  sqlite      `zaqar-notify up` on SQLite, beside Zaqar on Redis
  mongodb     our cluster, one API process and one worker, beside Zaqar on the same MongoDB and on Redis
  stores      our cluster on MongoDB, and on Redis as its message and control store
  pools       `up` and our cluster, with queues in the store of the settings, and on a pool
  processes   the same in other sizes: one and two API processes, one and two workers
  depth       a short queue beside a million messages waiting, on SQLite and on MongoDB
  pollers     a thousand long polls that wait: their cost, and how soon they are answered
  clients     5,000 idle connections, 5,000 long polls, 5,000 WebSockets, 100 clients that post: memory, CPU, latencies
  tenants     the cost of one project for the others, and of bad receivers for good ones, on `zaqar-notify up` and on our cluster
  broker      our cluster with Redis, and with a Redis that was killed

Zaqar is installed from PyPI at the first run; `mongod` and `redis-server` are those that the tests
use. Results go to --out: `results.md` and, with every trial, `results.json`. The scenarios of the first
four sections and of the last are those of `load.py`.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import clients
import comparison
import depth
import load
import pollers
import report
import tenants

ROOT = Path(__file__).resolve().parent.parent
FULL_MINUTES, QUICK_MINUTES = 57, 11
"""Trials already begun, and the first of each line, may come on top."""
QUICK = {
    "trials": 1,
    "seconds": 1.5,
    "concurrency": [16],
    "consumers": [4],
    "subscribers": [10],
    "fanout_producers": [16],
    "consume_messages": 1500,
    "mixed_messages": 1000,
    "fanout_deliveries": 2000,
    "calm_wait": 5,
    "noise_retries": 0,
    "depth": 100_000,
    "poll_seconds": 4,
    "poll_queues": [1, 1000],
    "connections": 500,
    "clients_seconds": 3,
    "hanging": 300,
    "backlog": 1000,
    "unread": 300,
    "owed": 3000,
    "popped": 10_000,
    "poppers": [32],
}


@dataclass(frozen=True)
class Section:
    """One table, or a few that belong together.

    `measure` takes the options, a directory on disk, and the instant of `time.perf_counter` after
    which it begins no trial that it can do without. It returns Markdown and all figures.
    """

    measure: Callable[[argparse.Namespace, Path, float], tuple[str, dict]]
    part: float
    """Of the time, in relation to the others."""


SECTIONS = {
    "sqlite": Section(comparison.sqlite, 8),
    "mongodb": Section(comparison.mongodb, 13),
    "stores": Section(comparison.stores, 6),
    "pools": Section(comparison.pools, 5),
    "processes": Section(comparison.processes, 14),
    "depth": Section(depth.compare, 6),
    "pollers": Section(pollers.compare, 3),
    "clients": Section(clients.compare, 2),
    "tenants": Section(tenants.compare, 5),
    "broker": Section(comparison.broker, 2),
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sections", type=load.words, default=list(SECTIONS), help="comma separated; default: all")
    add("--quick", action="store_true", help="fewer sizes and shorter trials")
    add("--minutes", type=float, help=f"for all of it (default {FULL_MINUTES})")
    add("--out", type=Path, default=ROOT / "build/bench", metavar="DIR")
    load.add_options(parser)
    depth.add_options(parser)
    pollers.add_options(parser)
    clients.add_options(parser)
    tenants.add_options(parser)
    every_scenario = parser.get_default("scenarios")
    if "--quick" in sys.argv:
        parser.set_defaults(**QUICK)
    a = parser.parse_args()
    if unknown := [name for name in a.sections if name not in SECTIONS]:
        parser.error(f"no such section: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    a.minutes = a.minutes or (QUICK_MINUTES if a.quick else FULL_MINUTES)
    a.fills_document = a.scenarios == every_scenario and not a.quick
    return a


def measure(a: argparse.Namespace, directory: Path) -> tuple[dict[str, str], dict[str, dict]]:
    """The tables and the figures of each section."""
    end = time.perf_counter() + 60 * a.minutes
    texts, figures = {}, {}
    for done, name in enumerate(a.sections):
        section, left = SECTIONS[name], [SECTIONS[each] for each in a.sections[done:]]
        now = time.perf_counter()
        deadline = now + (end - now) * section.part / sum(each.part for each in left)
        texts[name], figures[name] = section.measure(a, directory / name, deadline)
        took = time.perf_counter() - now
        print(f"{name} took {took:.0f} s", file=sys.stderr, flush=True)
        if a.fills_document:
            report.put(name, texts[name])
    return texts, figures


def main() -> None:
    a = options()
    # SIGTERM is an interrupt like Ctrl-C: all started processes are stopped on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    a.out = a.out.resolve()
    a.out.mkdir(parents=True, exist_ok=True)
    # Beside the results, as temporary directories may be in memory, where a disk costs nothing.
    with tempfile.TemporaryDirectory(prefix="run-", dir=a.out) as name:
        texts, figures = measure(a, Path(name))
    (a.out / "results.md").write_text("\n\n".join(texts.values()) + "\n")
    load.write_json(a.out / "results.json", figures)
    print("\n\n".join(texts.values()))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped")
