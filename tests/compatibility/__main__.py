"""`python -m tests.compatibility [--check] NOTES...`: writes the page from the notes of runs, or holds it to them."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

from tests.compatibility.notes import read_notes
from tests.compatibility.page import PAGE, clients_of, faults, render


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.compatibility")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if it is untrue"
    )
    parser.add_argument("notes", nargs="+", type=Path, help="of runs with --note-operations")
    given = parser.parse_args()
    missing = [str(file) for file in given.notes if not file.exists()]
    if missing:
        parser.error(f"there is no {missing[0]}: `make test` writes it")
    notes = read_notes(given.notes)
    if not given.check:
        PAGE.write_text(render(clients_of(notes)))
    found = faults(PAGE.read_text(), notes)
    for fault in found:
        print(f"docs/compatibility.md: {fault}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
