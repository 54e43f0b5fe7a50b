"""Pages and figures of the site that are files of the repository, and links that leave docs/."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}
EXAMPLES = re.compile(r"examples/\w+\.py")
FIGURE = re.compile(r"experiments/(\w+)/figure\.png")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
log = logging.getLogger("mkdocs.hooks")


def on_files(files: Files, *, config: Any) -> Files:
    """Add CONTRIBUTING.md and CHANGELOG.md, whose links start at the root, and the experiments' figures."""
    for source in ("CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, PAGES[source], content=text))
    for figure in sorted(ROOT.glob("experiments/*/figure.png")):
        files.append(File.generated(config, f"experiments/{figure.parent.name}.png", abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Send links to files outside of docs/ to the page that has them; where there is none the label stays."""
    folder = (ROOT / "docs" / page.file.src_uri).parent
    up = "../" * page.file.src_uri.count("/")

    def moved(link: re.Match[str]) -> str:
        label, target, anchor = link[1], link[2], link[3] or ""
        path = (folder / target).resolve()
        if "://" in target or not path.is_relative_to(ROOT) or path.is_relative_to(ROOT / "docs"):
            return link[0]
        if not path.exists():
            log.warning(f"{page.file.src_uri} links to {target}, which does not exist")
        inside = path.relative_to(ROOT).as_posix()
        if inside in PAGES:
            return f"[{label}]({up}{PAGES[inside]}{anchor})"
        if figure := FIGURE.fullmatch(inside):
            return f"[{label}]({up}experiments/{figure[1]}.png)"
        if EXAMPLES.fullmatch(inside) and path.name in (ROOT / "docs/examples.md").read_text(encoding="utf-8"):
            return f"[{label}]({up}examples.md)"
        return label

    return LINK.sub(moved, markdown)
