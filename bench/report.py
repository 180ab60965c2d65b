"""Markdown tables of what was measured, and the place in the docs where they go."""

import importlib.metadata
import platform
import re
from pathlib import Path

import apsw
import load
from servers import FLOOR, OURS, PEER

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
HOW_MANY = {"c": "{} at a time", "S": "to {} webhooks"}
LIBRARIES = ("uvicorn", "httptools", "uvloop", "fastapi", "starlette", "msgspec", "orjson", "apsw")


def put(section: str, text: str, document: Path = DOCUMENT) -> None:
    """Replace what stands between the section's two marker comments."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    before, _, rest = document.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{document.name} has no place marked {begin} … {end}")
    document.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")


def title(name: str) -> str:
    """`post1 c=16` in words."""
    scenario, size = name.split()
    key, _, count = size.rpartition("=")
    how_many = HOW_MANY[key].format(count) if key else f"{size} at a time"
    return f"{WHAT[scenario]}, {how_many}"


def cpu_table(results: dict) -> str:
    """CPU of the server and its store per operation, and how many times cheaper we are."""
    rows = [row("ms of server CPU", "per", PEER, OURS, "ratio"), row(*["---"] * 5)]
    for name, line in results.items():
        unit = UNIT.get(name.split()[0])
        if unit is None:  # too few operations for the kernel's clock
            continue
        costs = {
            label: each["summary"]["server_cpu_ms_per_op"]
            for label, each in line.items()
            if each["summary"].get("server_cpu_ms_per_op")
        }
        compared = PEER in costs and OURS in costs
        times = costs[PEER]["median"] / costs[OURS]["median"] if compared else None
        rows.append(
            row(
                title(name),
                unit,
                spread(costs.get(PEER)),
                spread(costs.get(OURS)),
                f"**{times:.1f}**" if times else "–",
            )
        )
        if FLOOR in costs:
            rows.append(
                row(
                    "*the same answered by a bare uvicorn route*",
                    unit,
                    "",
                    spread(costs[FLOOR]),
                    "",
                )
            )
    return "\n".join(rows)


def speed_table(results: dict) -> str:
    """Rates and latencies, ours after the peer's, and everything that went wrong."""
    head = ("", "per second", "p50 ms", "p99 ms", "errors, lost, duplicated")
    rows = [row(f"{PEER} → {OURS}", *head[1:]), row(*["---"] * 5)]
    for name, line in results.items():
        summaries = [line[label]["summary"] for label in (PEER, OURS) if label in line]
        rows.append(
            row(
                title(name),
                " → ".join(f"{load.rate(each)['median']:,.0f}" for each in summaries),
                " → ".join(median(each.get("p50_ms")) for each in summaries),
                " → ".join(median(each.get("p99_ms")) for each in summaries),
                " → ".join(trouble(each) for each in summaries),
            )
        )
    return "\n".join(rows)


def facts(a, peer_facts: str, results: dict) -> str:
    """What the figures rest on; nothing in it names the machine or its owner."""
    versions = " · ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    trials = [
        trial for line in results.values() for each in line.values() for trial in each["trials"]
    ]
    others = max(load.noise(trial) for trial in trials)
    lines = [
        f"{load.CORES} cores ({_processor()}), Linux {_kernel()}, Python {platform.python_version()}, "
        "shared by server, load and receiver.",
        f"{OURS} {importlib.metadata.version('zaqar-notify')} · {versions} · SQLite "
        f"{apsw.sqlite_lib_version()}. `zaqar-notify up`, one process, default settings, SQLite with "
        "`synchronous=FULL` on disk.",
        *([f"{PEER}: {peer_facts}"] if peer_facts else []),
        f"Bodies of {a.size:,} bytes; median of {a.trials} trials (least–most), of {a.seconds:g} s "
        f"where timed; consume {a.consume_messages:,} and mixed {a.mixed_messages:,} messages, "
        f"fan-out about {a.fanout_deliveries:,} deliveries a trial. "
        f"Others on the machine used {others:.2f} of a core at most.",
    ]
    return "\n".join(f"- {line}" for line in lines)


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
