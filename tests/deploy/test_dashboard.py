"""The dashboard for Grafana: Prometheus reads its queries, and the service has the metrics that they name."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.docs.pages import read
from tests.programs import program

DASHBOARD = Path(__file__).parents[2] / "deploy" / "dashboard.json"
_METRIC = re.compile(r"zaqar_notify_\w+")
_OF_HISTOGRAMS = re.compile("_bucket$")


def panels() -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return shown


def queries() -> Iterator[str]:
    for panel in panels():
        for target in panel.get("targets", ()):
            yield target["expr"]


def test_prometheus_reads_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))

    done = subprocess.run(
        [program("promtool"), "check", "rules", str(file)], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_of_a_query_is_one_of_the_service() -> None:
    documented = set(_METRIC.findall(read("monitoring.md")))
    asked = {_OF_HISTOGRAMS.sub("", name) for query in queries() for name in _METRIC.findall(query)}

    assert asked <= documented


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    places: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        own = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert places.isdisjoint(own), panel["title"]
        places |= own

    assert len({panel["id"] for panel in panels()}) == len(panels())
