"""JSON Schema 2020-12, for schemas of strangers: a check takes a bounded number of steps, whatever schema and value are.

    compilation.py    a document as nodes, and all that makes it no usable schema
    keywords.py       the rules
    formats.py        formats of strings
    evaluation.py     nodes, steps and faults
    schema.py         a compiled schema, and its check of a text

docs/decisions/0026-schemas-of-queues.md has the reasons.
"""

from zaqar_notify.rules.json_schema.evaluation import TooManySteps
from zaqar_notify.rules.json_schema.schema import (
    MAX_SCHEMA_BYTES,
    Schema,
    Unfit,
    canonical_text,
    compiled,
)

__all__ = ["MAX_SCHEMA_BYTES", "Schema", "TooManySteps", "Unfit", "canonical_text", "compiled"]
