"""Tables and figures of docs/experiments.md and of the experiments' READMEs, made anew from the committed results.

python -m experiments.pages            writes them; a test compares

A table stands between <!-- table: NAME TABLE --> and <!-- end -->, where NAME is a folder and TABLE a key of its study's tables;
a figure between <!-- figure: NAME what it shows --> and <!-- end -->, once there is one.
"""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path

from .study import Study
from .trials import ROOT, read

PLACE = re.compile(r"<!-- (table|figure): (\w+) ([^\n]+) -->\n.*?<!-- end -->", re.DOTALL)
NONE_YET = "No full run yet."


def studies() -> dict[str, Study]:
    """Of each folder that has a run.py with a STUDY."""
    folders = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/run.py"))
    return {name: importlib.import_module(f"experiments.{name}.run").STUDY for name in folders}


def pages() -> list[Path]:
    """Those that may have tables."""
    return [ROOT / "docs/experiments.md", *sorted((ROOT / "experiments").glob("*/README.md"))]


def filled(page: Path, made: dict[str, dict[str, str]], figures: dict[str, Path]) -> str:
    """The page's text with each table and figure in its place; KeyError names a table that no study makes."""

    def content(place: re.Match[str]) -> str:
        kind, name, key = place[1], place[2], place[3]
        if kind == "table":
            inside = made[name][key] if made[name] else NONE_YET
        else:
            inside = f"![{key}]({os.path.relpath(figures[name], page.parent)})" if name in figures else ""
        return f"<!-- {kind}: {name} {key} -->\n" + (f"\n{inside}\n\n" if inside else "") + "<!-- end -->"

    return PLACE.sub(content, page.read_text(encoding="utf-8"))


def tables() -> dict[str, dict[str, str]]:
    """Of all studies; none of a study without results."""
    found = {name: (study, read(study.results())) for name, study in studies().items()}
    return {name: study.tables(trials) if trials else {} for name, (study, trials) in found.items()}


def figures() -> dict[str, Path]:
    """Of the studies that have one."""
    return {name: study.figure() for name, study in studies().items() if study.figure().exists()}


def main() -> None:
    """Write the pages."""
    made, drawn = tables(), figures()
    for page in pages():
        text = filled(page, made, drawn)
        if text != page.read_text(encoding="utf-8"):
            page.write_text(text, encoding="utf-8")
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
