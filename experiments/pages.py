"""Tables of docs/experiments.md and of the experiments' READMEs, made anew from the committed results.

python -m experiments.pages            writes them; a test compares

A table stands between <!-- table: NAME TABLE --> and <!-- end -->, where NAME is a folder and TABLE a key of its study's tables.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from .study import Study
from .trials import ROOT, read

PLACE = re.compile(r"<!-- table: (\w+) ([\w-]+) -->\n.*?<!-- end -->", re.DOTALL)
NONE_YET = "No full run yet."


def studies() -> dict[str, Study]:
    """Of each folder that has a run.py with a STUDY."""
    folders = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/run.py"))
    return {name: importlib.import_module(f"experiments.{name}.run").STUDY for name in folders}


def pages() -> list[Path]:
    """Those that may have tables."""
    return [ROOT / "docs/experiments.md", *sorted((ROOT / "experiments").glob("*/README.md"))]


def filled(page: str, tables: dict[str, dict[str, str]]) -> str:
    """The page with each table in its place; KeyError names a table that no study makes."""

    def table(place: re.Match[str]) -> str:
        name, key = place[1], place[2]
        rows = tables[name][key] if tables[name] else NONE_YET
        return f"<!-- table: {name} {key} -->\n\n{rows}\n\n<!-- end -->"

    return PLACE.sub(table, page)


def tables() -> dict[str, dict[str, str]]:
    """Of all studies; none of a study without results."""
    found = {name: (study, read(study.results())) for name, study in studies().items()}
    return {name: study.tables(trials) if trials else {} for name, (study, trials) in found.items()}


def main() -> None:
    """Write the pages."""
    made = tables()
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = filled(before, made)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
