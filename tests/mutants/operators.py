"""From one jit function to its mutants: each differs from it in one place of the syntax tree."""

from __future__ import annotations

import ast
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from . import sources

MOST = 16  # mutants of one function

# Calls, comparisons and names that a slip of the hand exchanges.
CALLS = {
    "exp": "tl.exp2",
    "tl.exp": "tl.exp2",
    "tl.exp2": "tl.exp",
    "tl.log": "tl.exp",
    "tl.max": "tl.min",
    "tl.min": "tl.max",
    "tl.maximum": "tl.minimum",
    "tl.minimum": "tl.maximum",
}
COMPARISONS = {
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt, ast.GtE],
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
}
PAIRS = (
    "N M, row col, rows cols, f g, r c, f_rescaled g_rescaled, low high, least most, first_i first_j, first start, begin end, "
    "down across, x_squares y_squares, bias_row bias_col, u_row u_col, a b, u v, of_a of_b, a_unit b_unit, a_norm b_norm, "
    "a_first b_first, ahead behind, raw positive, largest total, i here, row_spread col_spread, row_mean col_mean, "
    "negatives positives, to_negatives to_positives, references totals, linear count, of_n of_p, count positives_count, "
    "reference level, P spread"
)
# Of what a kernel is handed together.
PAIRS_OF_ATTRIBUTES = "reference total, linear count, factor rescaled, spread mean, first last"


def _both_ways(pairs: str) -> dict[str, str]:
    """A later pair counts where a name is in several."""
    return {one: other for pair in pairs.split(", ") for one, other in (pair.split(), pair.split()[::-1])}


TWINS = _both_ways(PAIRS) | {"ld": "M"}
ATTRIBUTES = _both_ways(PAIRS_OF_ATTRIBUTES)


@dataclass(frozen=True)
class Mutant:
    """One change in a function: `before` became `after`.

    nth   which of the places in the function that read like this
    code  the function that results
    """

    module: str
    function: str
    before: str
    after: str
    nth: int
    code: str

    @property
    def key(self) -> str:
        again = f" ({self.nth})" if self.nth > 1 else ""
        return f"{self.function}: {self.before} → {self.after}{again}"

    @property
    def source(self) -> str:
        """The module that results; the lines of other functions stay as they are, so that Triton takes them for the same."""
        node = sources.functions()[self.function].node
        lines = sources.text_of(self.module).splitlines()
        first = node.decorator_list[0].lineno - 1
        changed = self.code.splitlines()
        changed += [""] * (node.end_lineno - first - len(changed))
        return "\n".join([*lines[:first], *changed, *lines[node.end_lineno :]]) + "\n"


def chosen(names: Iterable[str] | None = None) -> list[Mutant]:
    """Some of each function, or of these; drawn by their words, so that an edit elsewhere changes no choice."""
    found: list[Mutant] = []
    for name, function in sources.functions().items():
        if names is None or name in names:
            every = list(of(function))
            kept = sorted(every, key=lambda mutant: zlib.crc32(mutant.key.encode()))[:MOST]
            found += [mutant for mutant in every if mutant in kept]
    return found


def of(function: sources.Function) -> Iterator[Mutant]:
    original = function.node
    names = {a.arg for a in original.args.args} | {
        n.id for n in ast.walk(original) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    seen: Counter[tuple[str, str]] = Counter()
    done = {ast.unparse(original)}
    for holder, place in list(_places(original)):
        child = holder[place]
        for new in _changes(child, names):
            holder[place] = ast.fix_missing_locations(new)
            text = ast.unparse(original)
            holder[place] = child
            if text not in done:
                done.add(text)
                words = _short(child), _short(new)
                seen[words] += 1
                yield Mutant(function.module, function.name, *words, seen[words], text)


def _places(function: ast.FunctionDef) -> Iterator[tuple[Any, Any]]:
    """Every node of the body, as what holds it and where; docstrings, annotations and what a load takes beyond its mask, which is
    changed with the load, are left out."""
    todo: list[ast.AST] = [function]
    while todo:
        node = todo.pop(0)
        for field in ["body"] if node is function else node._fields:
            value = getattr(node, field, None)
            held = [(value, n) for n in range(len(value))] if isinstance(value, list) else [(vars(node), field)]
            for holder, place in held if field != "annotation" else ():
                match holder.get(place) if isinstance(holder, dict) else holder[place]:
                    case ast.Expr(value=ast.Constant()) | ast.keyword(arg="other"):
                        pass
                    case ast.AST() as child:
                        yield holder, place
                        todo.append(child)


def _short(node: ast.AST) -> str:
    """The code, on one line; of a block its head alone."""
    return ast.unparse(node).split("\n")[0]


def _changes(node: ast.AST, names: set[str]) -> Iterator[ast.AST]:
    """What the node may become."""
    match node:
        case ast.BinOp(left, op, right):
            yield from _of_operation(node, left, op, right)
        case ast.UnaryOp(op=ast.USub() | ast.Invert(), operand=operand) if ast.unparse(operand) != "1":
            yield operand
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            for other in COMPARISONS.get(type(op), ()):
                yield ast.Compare(left, [other()], [right])
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.AugAssign(target=target, value=value):
            yield ast.Assign([target], value)
            yield ast.Pass()
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Call():
            yield from _of_call(node)
        case ast.Name(id=name, ctx=ast.Load()) if TWINS.get(name) in names:
            yield ast.Name(TWINS[name], ast.Load())
        case ast.Attribute(value=ast.Name() as of, attr=name, ctx=ast.Load()) if name in ATTRIBUTES:
            yield ast.Attribute(of, ATTRIBUTES[name], ast.Load())
        case ast.Constant(value=float() as number):
            yield ast.Constant(number + 1.0)


def _of_operation(node: ast.BinOp, left: ast.expr, op: ast.operator, right: ast.expr) -> Iterator[ast.AST]:
    match op:
        case ast.BitAnd() | ast.BitOr() | ast.Mult():  # a mask, a factor dropped
            yield left
            yield right
        case ast.Add() | ast.RShift():  # a term dropped
            yield left
        case ast.Sub() | ast.Div():  # a term dropped, the order
            yield left
            yield ast.BinOp(right, op, left)
        case ast.FloorDiv():
            yield ast.BinOp(left, ast.Mod(), right)
        case ast.Mod():
            yield ast.BinOp(left, ast.FloorDiv(), right)


def _of_call(node: ast.Call) -> Iterator[ast.AST]:
    name, args, words = ast.unparse(node.func), node.args, {k.arg: k.value for k in node.keywords}

    def called(function: str = name, args: list[ast.expr] = args, **changed: ast.expr | None) -> ast.Call:
        keywords = [ast.keyword(k, v) for k, v in (words | changed).items() if v is not None]
        return ast.Call(ast.parse(function, mode="eval").body, args, keywords)

    if name in CALLS:
        yield called(CALLS[name])
    if "mask" in words:
        yield called(mask=None, other=None)
    if "other" in words:
        yield called(other=ast.Constant(0 if ast.unparse(words["other"]) == "-1" else 7.0))
    if "axis" in words:
        yield called(axis=ast.Constant(1 - words["axis"].value))
    if "propagate_nan" in words:
        yield called(propagate_nan=None)
    match name:
        case "exp" | "tl.exp" | "tl.exp2":
            yield called(args=[ast.UnaryOp(ast.USub(), args[0])])
        case "tl.arange" | "tl.zeros":
            yield ast.BinOp(node, ast.Add(), ast.Constant(1))
        case "tl.where":
            yield called(args=[args[0], args[2], args[1]])
            yield from (arg for arg in args[1:] if not _is_fixed(arg))
        case "tl.dot":
            yield called(args=[args[1], args[0], *args[2:]])
            if len(args) > 2:
                yield called(args=args[:2])
        case "tl.trans" | "tl.abs" | "phi_of" | "softplus" | "sigmoid" | "base_of":
            yield args[0]
        case "tl.program_id":
            yield called(args=[ast.Constant(1 - args[0].value)])
        case "float":
            yield ast.Constant(0.0)
        case "range" if len(args) == 3:
            yield called(args=[ast.BinOp(args[0], ast.Add(), args[2]), *args[1:]])
            yield called(args=[args[0], ast.BinOp(args[1], ast.Sub(), args[2]), args[2]])
        case "tl.store":
            yield ast.Constant(None)
        case _ if name.endswith(".to") and ast.unparse(args[0]) != "tl.int64":  # that shows beyond 2³¹ elements only
            assert isinstance(node.func, ast.Attribute)
            yield node.func.value


def _is_fixed(node: ast.expr) -> bool:
    """Whether it is what stands in for a value."""
    return isinstance(node, ast.Constant) or ast.unparse(node).startswith(("float(", "tl.zeros"))
