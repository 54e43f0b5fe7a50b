"""The jit functions of jessl_kernels/triton, read from the source: which module, which a kernel reaches."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "jessl_kernels" / "triton"


@dataclass(frozen=True)
class Function:
    """One function under @triton.jit: its module's name, its own, and which functions it mentions."""

    module: str
    name: str
    node: ast.FunctionDef
    mentions: frozenset[str]


def text_of(module: str) -> str:
    return (PACKAGE / f"{module}.py").read_text()


def tree_of(module: str) -> ast.Module:
    return ast.parse(text_of(module))


@functools.cache
def modules() -> tuple[str, ...]:
    """Modules that hold jit functions, those that others import from first."""
    found = [path.stem for path in sorted(PACKAGE.glob("*.py")) if any(map(_is_jit, tree_of(path.stem).body))]
    needs = {name: {other for other in found if other in _imported(name)} for name in found}
    ordered: list[str] = []
    while len(ordered) < len(found):
        ordered += [name for name in found if name not in ordered and needs[name] <= set(ordered)]
    return tuple(ordered)


@functools.cache
def functions() -> dict[str, Function]:
    """By name, which is unique over all modules: kernels share functions by importing them."""
    found: dict[str, Function] = {}
    for module in modules():
        for node in filter(_is_jit, tree_of(module).body):
            assert node.name not in found, f"two jit functions are named {node.name}"
            names = frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
            found[node.name] = Function(module, node.name, node, names)
    return found


@functools.cache
def reached(kernel: str) -> frozenset[str]:
    """The functions that a kernel of this source, also one of a test, mentions, and all that these call, however far down."""
    every, found = functions(), set()
    nodes = list(ast.walk(ast.parse(kernel)))
    todo = [node.name for node in nodes if isinstance(node, ast.FunctionDef)]
    todo += [node.id for node in nodes if isinstance(node, ast.Name)]
    todo += [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    while todo:
        name = todo.pop()
        if name in every and name not in found:
            found.add(name)
            todo += every[name].mentions
    return frozenset(found)


def code(node: ast.FunctionDef) -> str:
    """Without its docstring, its comments and its line breaks."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return ast.unparse(ast.FunctionDef(node.name, node.args, body, node.decorator_list, lineno=1))


def _is_jit(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and any("triton.jit" in ast.unparse(d) for d in node.decorator_list)


def _imported(module: str) -> set[str]:
    return {node.module or "" for node in tree_of(module).body if isinstance(node, ast.ImportFrom) and node.level == 1}
