"""The scenarios of `load.py` on several servers, in turns: ours, a real Zaqar, ours in other sizes."""

import argparse
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import load
import report
import servers
import uvloop

OF_ONE_MONGODB = ("post1", "post10", "list", "consume", "mixed", "fanout", "fanout_paced")
OF_POOLS = ("post1", "list", "consume", "fanout")
OF_PROCESSES = ("post1", "post10", "list", "consume", "fanout")
SIZES = ((1, 1), (1, 2), (2, 1), (2, 2))
"""API processes and workers of our cluster."""

OF_BROKER = {"scenarios": "post1,consume", "concurrency": [16], "consumers": [16]}
"""One size is enough: the expected difference is none, whatever the size."""
NOBODY = "http://127.0.0.1:9/hook"
"""A subscriber that gets no delivery, because no worker runs."""


def sqlite(a: argparse.Namespace, directory: Path, deadline: float) -> tuple[str, dict]:
    """`zaqar-notify up` beside Zaqar on Redis."""
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(servers.zaqar(directory / "zaqar", a.out / "zaqar-venv"))
        ours = stack.enter_context(servers.zaqar_notify(directory / "zaqar-notify"))
        running = [peer, ours, stack.enter_context(servers.bare_route(directory))]
        results = uvloop.run(_measure(a, running, deadline))
    text = [
        report.facts(report.machine(), report.up(), report.peer(peer), report.trials(a, results)),
        report.cpu_table(results, [peer.label]),
        report.speed_table(results, [peer.label]),
    ]
    return "\n\n".join(text), results


def mongodb(a: argparse.Namespace, directory: Path, deadline: float) -> tuple[str, dict]:
    """Our cluster beside Zaqar on the same MongoDB, and beside Zaqar on Redis."""
    a = _many_at_a_time(a, OF_ONE_MONGODB)
    venv = a.out / "zaqar-venv"
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(servers.mongod(directory / "mongod"))
        peers = [
            stack.enter_context(
                servers.zaqar(directory / "redis", venv, label=servers.PEER_ON_REDIS)
            ),
            stack.enter_context(
                servers.zaqar(
                    directory / "mongodb", venv, label=servers.PEER_ON_MONGODB, store=store
                )
            ),
        ]
        ours = stack.enter_context(servers.cluster(directory / "zaqar-notify", store))
        results = uvloop.run(_measure(a, [*peers, ours], deadline))
    labels = [peer.label for peer in peers]
    text = [
        _facts_of_cluster(a, results, peers),
        report.cpu_table(results, labels),
        report.speed_table(results, labels),
        report.parts_table(results, [peers[-1], ours]),
    ]
    return "\n\n".join(text), results


def stores(a: argparse.Namespace, directory: Path, deadline: float) -> tuple[str, dict]:
    """Our cluster on MongoDB, and on Redis."""
    a = _many_at_a_time(a, OF_ONE_MONGODB)
    with contextlib.ExitStack() as stack:
        mongod = stack.enter_context(servers.mongod(directory / "mongod"))
        redis = stack.enter_context(servers.redis_store(directory / "redis"))
        running = [
            stack.enter_context(servers.cluster(directory / f"on-{label}", store, label=label))
            for label, store in (("MongoDB", mongod), ("Redis", redis))
        ]
        results = uvloop.run(_measure(a, running, deadline))
    text = [
        _facts_of_cluster(a, results),
        report.change_table(results, *(each.label for each in running)),
        report.parts_table(results, running),
    ]
    return "\n\n".join(text), results


def pools(a: argparse.Namespace, directory: Path, deadline: float) -> tuple[str, dict]:
    """Our service with all queues in the store of its settings, and with all on a pool: `up`, and a cluster."""
    a = _many_at_a_time(a, OF_POOLS)
    plain, pooled = "no pools", "on a pool"
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(servers.mongod(directory / "mongod"))
        ups = [
            stack.enter_context(servers.zaqar_notify(directory / label, label=label))
            for label in (plain, pooled)
        ]
        clusters = [
            stack.enter_context(
                servers.cluster(
                    directory / f"cluster-{number}", store, label=label, database=f"cluster{number}"
                )
            )
            for number, label in enumerate((plain, pooled))
        ]
        servers.add_pool(f"sqlite://{directory}/pool.db", data=directory / pooled)
        servers.add_pool(store.uri("pool"), store_uri=store.uri("cluster1"))
        halves = time.perf_counter() + (deadline - time.perf_counter()) / 2
        of_up = uvloop.run(_measure(a, ups, halves))
        of_cluster = uvloop.run(_measure(a, clusters, deadline))
        servers.check_in_use(data=directory / pooled)
        servers.check_in_use(store_uri=store.uri("cluster1"))
    text = [
        report.facts(report.machine(), report.up(), report.trials(a, of_up)),
        report.change_table(of_up, plain, pooled),
        _facts_of_cluster(a, of_cluster),
        report.change_table(of_cluster, plain, pooled),
    ]
    return "\n\n".join(text), {"up": of_up, "cluster": of_cluster}


def processes(a: argparse.Namespace, directory: Path, deadline: float) -> tuple[str, dict]:
    """Our cluster with more API processes and more workers, beside Zaqar on the same MongoDB."""
    a = _many_at_a_time(a, OF_PROCESSES)
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(servers.mongod(directory / "mongod"))
        peer = stack.enter_context(
            servers.zaqar(
                directory / "zaqar",
                a.out / "zaqar-venv",
                label=servers.PEER_ON_MONGODB,
                store=store,
            )
        )
        running = [
            stack.enter_context(
                servers.cluster(
                    directory / f"cluster{number}",
                    store,
                    label=f"API × {count}, worker × {workers}",
                    database=f"cluster{number}",
                    processes=count,
                    workers=workers,
                )
            )
            for number, (count, workers) in enumerate(SIZES)
        ]
        results = uvloop.run(_measure(a, [*running, peer], deadline))
    text = [
        _facts_of_cluster(a, results, [peer]),
        report.sizes_table(results, peer.label),
    ]
    return "\n\n".join(text), results


def broker(a: argparse.Namespace, directory: Path, deadline: float) -> tuple[str, dict]:
    """Our cluster with its Redis, and with a Redis that was killed.

    Queues have a subscriber, so each post rings. There is no worker: with rings it would deliver at
    other moments than without, and take a core from the requests for it.
    """
    a = argparse.Namespace(**vars(a) | OF_BROKER)
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(servers.mongod(directory / "mongod"))
        running, stopped = (
            stack.enter_context(
                servers.cluster(
                    directory / database, store, label=label, database=database, workers=0
                )
            )
            for database, label in (("running", "with Redis"), ("stopped", "Redis stopped"))
        )
        [killed] = stopped.parts["Redis"]
        os.kill(killed, signal.SIGKILL)
        results = uvloop.run(_measure(a, [running, stopped], deadline, subscriber=NOBODY))
    text = [
        _facts_of_cluster(a, results),
        report.change_table(results, running.label, stopped.label),
    ]
    return "\n\n".join(text), results


def _facts_of_cluster(
    a: argparse.Namespace, results: dict, peers: Sequence[servers.Server] = ()
) -> str:
    """The versions and options of our cluster, and of its peers on the same MongoDB."""
    return report.facts(
        report.machine(),
        report.cluster(),
        report.mongod(),
        *map(report.peer, peers),
        report.trials(a, results),
    )


def _many_at_a_time(a: argparse.Namespace, scenarios: Sequence[str]) -> argparse.Namespace:
    """Without the lines of one client at a time, and with those scenarios only."""
    wanted = [name for name in load.words(a.scenarios) if name in scenarios]
    return argparse.Namespace(
        **vars(a)
        | {
            "scenarios": ",".join(wanted),
            "concurrency": [count for count in a.concurrency if count > 1],
            "consumers": [count for count in a.consumers if count > 1],
        }
    )


async def _measure(
    a: argparse.Namespace,
    running: Sequence[servers.Server],
    deadline: float,
    *,
    subscriber: str | None = None,
) -> dict:
    """Every line of every scenario: `{line: {server's label: result}}`."""
    lines = list(load.plan(a))
    results = {}
    with contextlib.closing(load.Sink()) as sink:
        contexts = {
            each.label: load.Ctx(a, each.url, each.parts, sink, subscriber) for each in running
        }
        for done, (name, scenario) in enumerate(lines):
            runs = {
                label: partial(scenario, context)
                for label, context in contexts.items()
                if label != servers.FLOOR or name.startswith("post1 ")
            }
            until = load.share(deadline, left=len(lines) - done)
            results[name] = await load.repeat(a, name, runs, deadline=until)
    return results
