"""Measure this service beside a real Zaqar, in the same run, trial by trial in turns.

    make bench                          the whole: 25 minutes at most; fills docs/performance.md
    make bench ARGS=--quick             a first look in 4 minutes; leaves the document alone
    python bench/run.py --scenarios list,consume --trials 3

Zaqar and its Redis are installed from PyPI at the first run. Results go to --out: `results.md` and,
with every trial, `results.json`. The scenarios are those of `load.py`, and `depth` (see `depth.py`).
"""

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import depth
import load
import report
import servers
import uvloop

ROOT = Path(__file__).resolve().parent.parent
FULL_MINUTES, QUICK_MINUTES = 17, 2.5
"""For the scenarios; installing, starting and `depth` come on top."""
QUICK = {
    "trials": 2,
    "seconds": 1.5,
    "concurrency": [16],
    "consumers": [4],
    "subscribers": [10],
    "consume_messages": 1500,
    "mixed_messages": 1000,
    "fanout_deliveries": 2000,
    "calm_wait": 2,
    "noise_retries": 0,
    "depth": 100_000,
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    load.add_options(parser)
    depth.add_options(parser)
    parser.set_defaults(scenarios=f"{parser.get_default('scenarios')},depth")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and shorter trials")
    parser.add_argument("--out", type=Path, default=ROOT / "build/bench", metavar="DIR")
    parser.add_argument(
        "--minutes",
        type=float,
        help="for the scenarios; lines have fewer trials when it gets short",
    )
    everything = parser.get_default("scenarios")
    if "--quick" in sys.argv:
        parser.set_defaults(**QUICK)
    a = parser.parse_args()
    a.minutes = a.minutes or (QUICK_MINUTES if a.quick else FULL_MINUTES)
    a.is_whole = a.scenarios == everything and not a.quick
    return a


async def measure(a: argparse.Namespace, running: list[servers.Server]) -> dict:
    """Every line of every scenario: `{line: {server's label: result}}`."""
    deadline = time.perf_counter() + 60 * a.minutes
    lines = list(load.plan(a))
    results = {}
    with contextlib.closing(load.Sink()) as sink:
        contexts = {each.label: load.Ctx(a, each.url, each.pids, sink) for each in running}
        for done, (name, scenario) in enumerate(lines):
            runs = {
                label: partial(scenario, context)
                for label, context in contexts.items()
                if label != servers.FLOOR or name.startswith("post1 ")
            }
            until = load.share(deadline, left=len(lines) - done)
            results[name] = await load.repeat(a, name, runs, deadline=until)
    return results


def compare(a: argparse.Namespace, directory: Path) -> tuple[str, dict]:
    """The comparison as Markdown, and all its figures."""
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(servers.zaqar(directory / "zaqar", a.out / "zaqar-venv"))
        running = [
            peer,
            stack.enter_context(servers.zaqar_notify(directory / "zaqar-notify")),
            stack.enter_context(servers.bare_route(directory)),
        ]
        results = uvloop.run(measure(a, running))
        facts = report.facts(a, peer.facts, results)
    return "\n\n".join((facts, report.cpu_table(results), report.speed_table(results))), results


def main() -> None:
    a = options()
    # Being told to stop is an interrupt like Ctrl-C: what was started is stopped on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    a.out = a.out.resolve()
    a.out.mkdir(parents=True, exist_ok=True)
    wanted = load.words(a.scenarios)
    sections, figures = {}, {}
    # Beside the results, as temporary directories may be in memory, where a disk costs nothing.
    with tempfile.TemporaryDirectory(prefix="run-", dir=a.out) as name:
        a.scenarios = ",".join(word for word in wanted if word != "depth")
        if a.scenarios:
            sections["comparison"], figures["comparison"] = compare(a, Path(name))
        if "depth" in wanted:
            sections["depth"], figures["depth"] = depth.compare(a, Path(name))
    (a.out / "results.md").write_text("\n\n".join(sections.values()) + "\n")
    load.write_json(a.out / "results.json", figures)
    if a.is_whole:
        for section, text in sections.items():
            report.put(section, text)
    print("\n\n".join(sections.values()))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped")
