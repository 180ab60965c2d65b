"""A process's /metrics, to be asked for by name and labels."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


class Samples:
    """The samples of an exposition, by name and labels."""

    def __init__(self, text: str) -> None:
        self.all = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.all.get((f"zaqar_notify_{name}", frozenset(labels.items())))

    def labels(self, name: str) -> set[str]:
        """The values of a label, over all samples."""
        return {value for _, pairs in self.all for key, value in pairs if key == name}
