"""Markdown tables of the results, and their place in the docs."""

import importlib.metadata
import platform
import re
import subprocess
from pathlib import Path

import apsw
import load
from servers import FLOOR, OURS, Server

from deploy import programs

DOCUMENT = Path(__file__).resolve().parent.parent / "docs/performance.md"

WHAT = {
    "post1": "post 1 message",
    "post10": "post 10 messages",
    "list": "page of 10",
    "consume": "claim 10, delete each",
    "mixed": "post, claim and delete",
    "fanout": "fan-out",
    "fanout_paced": "fan-out, one message at a time",
}
UNIT = {
    "post1": "request",
    "post10": "request",
    "list": "page",
    "consume": "message",
    "mixed": "message",
    "fanout": "delivery",
}
CPU = "server_cpu_ms_per_op"
HOW_MANY = {"": "{} at a time", "c": "{} at a time", "S": "to {} webhooks"}
LIBRARIES = (
    "uvicorn",
    "httptools",
    "uvloop",
    "fastapi",
    "starlette",
    "msgspec",
    "orjson",
)


def put(section: str, text: str, document: Path = DOCUMENT) -> None:
    """Replace the text between the section's two marker comments."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    before, _, rest = document.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{document.name} has no place marked {begin} … {end}")
    document.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")


def title(name: str) -> str:
    """`fanout S=10 c=16` in words."""
    scenario, *sizes = name.split()
    counts = (size.rpartition("=") for size in sizes)
    return ", ".join([WHAT[scenario], *(HOW_MANY[key].format(count) for key, _, count in counts)])


def cpu_table(results: dict, peers: list[str]) -> str:
    """CPU of the server and its store per operation, and how many times cheaper we are."""
    ratios = [f"{_short(peer)} ÷ ours" for peer in peers]
    head = ("ms of server CPU", "per", *peers, OURS, *ratios)
    rows = [row(*head), row(*["---"] * len(head))]
    for name, line in _with_cpu(results).items():
        costs = {label: each["summary"].get(CPU) for label, each in line.items()}
        times = [_times(costs[peer], costs[OURS]) for peer in peers]
        cells = [spread(costs[label]) for label in (*peers, OURS)]
        rows.append(row(title(name), UNIT[name.split()[0]], *cells, *times))
        if FLOOR in costs:
            cells = [*[""] * len(peers), spread(costs[FLOOR]), *[""] * len(peers)]
            rows.append(row("*the same answered by a bare uvicorn route*", "request", *cells))
    return "\n".join(rows)


def speed_table(results: dict, peers: list[str]) -> str:
    """Rates and latencies, ours after the peers', and everything that went wrong."""
    labels = (*peers, OURS)
    head = ("per second", f"ours ÷ {_short(peers[-1])}", "p50 ms", "p99 ms")
    rows = [row(" → ".join(labels), *head, "errors, lost, duplicated"), row(*["---"] * 6)]
    for name, line in results.items():
        summaries = [line[label]["summary"] for label in labels]
        rates = [load.rate(each) for each in summaries]
        rows.append(
            row(
                title(name),
                " → ".join(f"{rate['median']:,.0f}" for rate in rates),
                _times(rates[-1], rates[-2]),
                " → ".join(median(each.get("p50_ms")) for each in summaries),
                " → ".join(median(each.get("p99_ms")) for each in summaries),
                " → ".join(trouble(each) for each in summaries),
            )
        )
    return "\n".join(rows)


def parts_table(results: dict, servers: list[Server]) -> str:
    """Which of its processes the CPU of an operation is spent in."""
    columns = [(server.label, part) for server in servers for part in server.parts]
    heads = [f"{label}: {part}" for label, part in columns]
    rows = [row("ms of server CPU", "per", *heads), row(*["---"] * (len(heads) + 2))]
    for name, line in _with_cpu(results).items():
        cells = [
            median(line[label]["summary"].get(load.PART_CPU + part)) for label, part in columns
        ]
        rows.append(row(title(name), UNIT[name.split()[0]], *cells))
    return "\n".join(rows)


def sizes_table(results: dict, peer: str) -> str:
    """CPU per operation, and rates, of our service in several sizes, and how many times cheaper and
    faster than the peer each is."""
    labels = list(next(iter(results.values())))
    rows = [row("", "per", *labels), row(*["---"] * (len(labels) + 2))]
    for name, line in _with_cpu(results).items():
        costs = {label: each["summary"][CPU] for label, each in line.items()}
        rates = {label: load.rate(each["summary"]) for label, each in line.items()}
        cells = []
        for label, each in line.items():
            cost, rate = f"{median(costs[label])} ms", f"{rates[label]['median']:,.0f}/s"
            if label != peer:
                cost += f" ({_times(costs[peer], costs[label])})"
                rate += f" ({_times(rates[label], rates[peer])})"
            went_wrong = trouble(each["summary"])
            cells.append(", ".join([cost, rate, *([] if went_wrong == "0" else [went_wrong])]))
        rows.append(row(title(name), UNIT[name.split()[0]], *cells))
    return "\n".join(rows)


def change_table(results: dict, before: str, after: str) -> str:
    """CPU per operation and rates of one service in two states, and the second's part of the first."""
    heads = [
        *(f"ms of server CPU, {before}", after, "second ÷ first"),
        *(f"per second, {before}", after, "second ÷ first"),
        "errors, lost, duplicated",
    ]
    rows = [row("", "per", *heads), row(*["---"] * (len(heads) + 2))]
    for name, line in _with_cpu(results).items():
        summaries = [line[label]["summary"] for label in (before, after)]
        costs = [each[CPU] for each in summaries]
        rates = [load.rate(each) for each in summaries]
        cells = [
            *(*map(spread, costs), _part(*costs)),
            *(*map(spread, rates), _part(*rates)),
            " → ".join(map(trouble, summaries)),
        ]
        rows.append(row(title(name), UNIT[name.split()[0]], *cells))
    return "\n".join(rows)


def facts(*lines: str) -> str:
    """The machine, versions and options of the figures."""
    return "\n".join(f"- {line}" for line in lines)


def machine() -> str:
    """Nothing in it names the machine or its owner."""
    return (
        f"{load.CORES} cores ({_processor()}), Linux {_kernel()}, Python "
        f"{platform.python_version()}, shared by server, store, load and receiver."
    )


def up() -> str:
    return (
        f"{_versions(*LIBRARIES, 'apsw')} · SQLite {apsw.sqlite_lib_version()}. `zaqar-notify up`, "
        "one process, default settings, SQLite with `synchronous=FULL` on disk."
    )


def cluster() -> str:
    return (
        f"{_versions(*LIBRARIES, 'pymongo', 'celery', 'redis')}. `zaqar-notify api` and `zaqar-notify "
        "worker`, default settings; the broker is Redis "
        f"{_version_in(programs.redis_server())} as in `make cluster`."
    )


def mongod() -> str:
    return (
        f"MongoDB {_version_in(programs.mongod())}, a replica set of one member on disk, cache of "
        "1 GB, `minSnapshotHistoryWindowInSeconds=0`; we write with `w=majority, j=true`."
    )


def peer(server: Server) -> str:
    return f"{server.label}: {server.facts}"


def trials(a, results: dict) -> str:
    """Sizes and how many trials, and how quiet the machine was."""
    lines = [each for line in results.values() for each in line.values()]
    counts = [len(each["trials"]) for each in lines]
    count = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{max(counts)}"
    others = max(load.noise(trial) for each in lines for trial in each["trials"])
    return (
        f"Bodies of {a.size:,} bytes; median of {count} trials (least–most), of {a.seconds:g} s "
        f"where timed; consume {a.consume_messages:,} and mixed {a.mixed_messages:,} messages, "
        f"fan-out about {a.fanout_deliveries:,} deliveries a trial, but two posts of each client at least. "
        f"Others on the machine used {others:.2f} of a core at most."
    )


def _versions(*libraries: str) -> str:
    names = ("zaqar-notify", *libraries)
    return " · ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _version_in(program: Path) -> str:
    """The version that `program --version` prints."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"\d+\.\d+\.\d+", said)[0]


def _with_cpu(results: dict) -> dict:
    """Without lines of too few operations for the kernel's clock."""
    return {name: line for name, line in results.items() if name.split()[0] in UNIT}


def _times(more: dict | None, less: dict | None) -> str:
    """How many times the second median the first one is."""
    if not more or not less or not less["median"]:
        return "–"
    return f"**{more['median'] / less['median']:.1f}**"


def _part(first: dict, second: dict) -> str:
    """Which part of the first median the second one is, where they hardly differ."""
    return f"**{second['median'] / first['median']:.2f}**"


def _short(label: str) -> str:
    """`Zaqar on MongoDB` in a narrow column."""
    return label.rpartition(" on ")[2]


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """Three digits that count."""
    for limit, decimals in ((0.9995, 3), (9.995, 2), (99.95, 1)):
        if value < limit:
            return f"{value:.{decimals}f}"
    return f"{value:,.0f}"


def spread(figures: dict | None) -> str:
    if not figures:
        return "–"
    return f"{number(figures['median'])} ({number(figures['min'])}–{number(figures['max'])})"


def median(figures: dict | None) -> str:
    return number(figures["median"]) if figures else "–"


def trouble(summary: dict) -> str:
    counts = {"errors": sum(summary["errors"].values())}
    counts |= {key: summary[key]["max"] for key in load.INTEGRITY if summary.get(key)}
    return ", ".join(f"{count:,.0f} {what}" for what, count in counts.items() if count) or "0"


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _kernel() -> str:
    return ".".join(platform.release().split(".")[:2])
