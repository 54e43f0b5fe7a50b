"""The package's docstrings, which are plain text, as Markdown for the site.

A docstring is made of blocks with a blank line between them. What a block is shows in its first line:

    name   text     what is at the left, two or more spaces, and what it is; further lines of it are indented
    indented        a formula or a table, printed as it stands
    - text          an item of a list
    >>> code        an example and what it prints
    anything else   a paragraph
"""

from __future__ import annotations

import html
import re
from typing import Any

import griffe

ENTRY = re.compile(r"(\S(?:.*?\S)?)\s{2,}(\S.*)")
CODE = re.compile(r"(`[^`]+`)")
SPECIAL = re.compile(r"_|\*(?!\w+\*)(?<!\w\*)")


def markdown(text: str, public: dict[str, str]) -> str:
    """A docstring as Markdown; names in backticks that have a path in `public` become links."""
    blocks = re.split(r"\n\s*\n", text)
    # A comment keeps two definition lists that follow each other apart.
    return "\n\n<!-- -->\n\n".join(_block(block.splitlines(), public) for block in blocks if block.strip())


def _block(lines: list[str], public: dict[str, str]) -> str:
    if lines[0].startswith(">>>"):
        return _fenced("pycon", [re.sub(r"\s{3,}#", "  #", line) for line in lines])
    if lines[0].startswith(" "):
        lines = _dedented(lines)
        if not all(line.startswith('"') and ENTRY.fullmatch(line) for line in lines):
            return _fenced("text", lines)
    if found := ENTRY.fullmatch(lines[0]):
        return "\n\n".join(_entry(group, found.start(2), public) for group in _grouped(lines))
    first_item = next((i for i, line in enumerate(lines) if line.startswith("- ")), None)
    if first_item:  # Markdown wants a blank line before a list
        lines = [*lines[:first_item], "", *lines[first_item:]]
    return _prose("\n".join(lines), public)


def _grouped(lines: list[str]) -> list[list[str]]:
    """Each line that is not indented with the indented ones below it."""
    groups: list[list[str]] = []
    for line in lines:
        if line.startswith(" ") and groups:
            groups[-1].append(line)
        else:
            groups.append([line])
    return groups


def _entry(lines: list[str], column: int, public: dict[str, str]) -> str:
    """An item of a definition list, whose texts start at a column or after a gap; else a paragraph. A table keeps its lines."""
    name, first = lines[0][:column].strip(), lines[0][column:]
    if found := ENTRY.fullmatch(lines[0]):
        name, first = found.groups()
    elif " " in name or lines[0][column - 1 : column] != " ":
        return _prose(" ".join(line.strip() for line in lines), public)
    name = name if name.endswith(":") else f"`{name}`"
    text = [first, *(line.strip() for line in lines[1:])]
    rows = [ENTRY.fullmatch(line) for line in text]
    if all(rows):
        text = [f"`{row[1]}` {re.sub(r' {2,}', '&emsp;', _prose(row[2], public))}" for row in rows if row]
        return f"{name}\n:   " + "<br>\n    ".join(text)
    return f"{name}\n:   {_prose(' '.join(text), public)}"


def _prose(text: str, public: dict[str, str]) -> str:
    """Text in which backticks, *emphasis* and list markers alone mean anything."""
    return "".join(
        _linked(part, public) if CODE.fullmatch(part) else SPECIAL.sub(r"\\\g<0>", html.escape(part, quote=False))
        for part in CODE.split(text)
    )


def _linked(code: str, public: dict[str, str]) -> str:
    name = code.strip("`").removeprefix("jk.")
    return f"[{code}][{public[name]}]" if name in public else code


def _fenced(language: str, lines: list[str]) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def _dedented(lines: list[str]) -> list[str]:
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [line[margin:] for line in lines]


class PlainDocstrings(griffe.Extension):
    """Rewrites every docstring once the package is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        public = {name: path for name in pkg.exports or () if (path := _path(pkg, name))}
        public |= {f"nn.{name}": f"{pkg.name}.nn.{name}" for name in pkg["nn"].exports or ()}
        _rewrite(pkg, public)


def _path(pkg: griffe.Module, name: str) -> str | None:
    """Where the pages have a public name. A function hides behind a module of its name; modules themselves have no entry."""
    member = pkg[name].final_target if pkg[name].is_alias else pkg[name]
    if not member.is_module:
        return f"{pkg.name}.{name}"
    return f"{member.path}.{name}" if name in member.members else None


def _rewrite(thing: griffe.Object, public: dict[str, str]) -> None:
    if thing.docstring is not None:
        thing.docstring.value = markdown(thing.docstring.value, public)
    for member in thing.members.values():
        if not member.is_alias:
            _rewrite(member, public)
