"""From one jit function to its mutants: each differs from it in one place of the syntax tree."""

from __future__ import annotations

import ast
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from . import sources

MOST = 16  # mutants of one function; `python -m tests.mutants --most 1000` takes all of them, for hours

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
TWINS = {
    one: other
    for pair in (
        *(("N", "M"), ("row", "col"), ("rows", "cols"), ("f", "g"), ("r", "c"), ("f_rescaled", "g_rescaled"), ("low", "high")),
        *(("least", "most"), ("first_i", "first_j"), ("first", "start"), ("begin", "end"), ("down", "across")),
        *(("x_squares", "y_squares"), ("bias_row", "bias_col"), ("u_row", "u_col"), ("a", "b"), ("u", "v")),
        *(("of_a", "of_b"), ("a_unit", "b_unit"), ("a_norm", "b_norm"), ("a_first", "b_first"), ("ahead", "behind")),
        *(("raw", "positive"), ("largest", "total"), ("i", "here"), ("row_spread", "col_spread"), ("row_mean", "col_mean")),
        *(("negatives", "positives"), ("to_negatives", "to_positives"), ("references", "totals"), ("linear", "count")),
        *(("of_n", "of_p"), ("count", "positives_count"), ("reference", "level"), ("P", "spread")),
    )
    for one, other in (pair, pair[::-1])
} | {"ld": "M"}  # fmt: skip
ATTRIBUTES = {
    one: other
    for pair in (
        ("reference", "total"),
        ("linear", "count"),
        ("factor", "rescaled"),
        ("spread", "mean"),
        ("first", "last"),
    )
    for one, other in (pair, pair[::-1])
}  # of what a kernel is handed together


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


def chosen(most: int = MOST) -> list[Mutant]:
    """Up to `most` of each function, in the order of the source; by their words, so that an edit elsewhere changes no choice."""
    found: list[Mutant] = []
    for function in sources.functions().values():
        every = list(of(function))
        kept = {mutant.key for mutant in sorted(every, key=_draw)[:most]}
        found += [mutant for mutant in every if mutant.key in kept]
    return found


def _draw(mutant: Mutant) -> int:
    return zlib.crc32(mutant.key.encode())


def of(function: sources.Function) -> Iterator[Mutant]:
    original = function.node
    names = {a.arg for a in original.args.args} | {
        n.id for n in ast.walk(original) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    seen: Counter[tuple[str, str]] = Counter()
    done = {ast.unparse(original)}
    for node, field, index in list(_places(original)):
        child = _get(node, field, index)
        for new in _changes(child, names):
            _put(node, field, index, ast.fix_missing_locations(new))
            text = ast.unparse(original)
            _put(node, field, index, child)
            if text in done:
                continue
            done.add(text)
            words = _short(child), _short(new)
            seen[words] += 1
            yield Mutant(function.module, function.name, *words, seen[words], text)


def _places(function: ast.FunctionDef) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Every node of the body, as where it hangs; the docstring and annotations are left out."""
    todo: list[ast.AST] = [function]
    while todo:
        node = todo.pop(0)
        fields = ["body"] if node is function else node._fields
        for field in fields:
            value = getattr(node, field, None)
            if field == "annotation":
                continue
            for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(child, ast.AST) and not _is_words(child) and not _is_other(child):
                    yield node, field, index
                    todo.append(child)


def _is_words(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_other(node: ast.AST) -> bool:
    """What a load takes beyond its mask, which is changed with the load."""
    return isinstance(node, ast.keyword) and node.arg == "other"


def _get(node: ast.AST, field: str, index: int | None) -> ast.AST:
    return getattr(node, field) if index is None else getattr(node, field)[index]


def _put(node: ast.AST, field: str, index: int | None, new: ast.AST) -> None:
    if index is None:
        setattr(node, field, new)
    else:
        getattr(node, field)[index] = new


def _short(node: ast.AST) -> str:
    """The code, on one line; of a block its head alone."""
    return ast.unparse(node).split("\n")[0]


def _changes(node: ast.AST, names: set[str]) -> Iterator[ast.AST]:
    """What the node may become."""
    match node:
        case ast.BinOp():
            yield from _of_operation(node)
        case ast.UnaryOp(op=ast.USub() | ast.Invert(), operand=operand):
            if ast.unparse(operand) != "1":
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
        case ast.Name(id=name, ctx=ast.Load()):
            if TWINS.get(name) in names:
                yield ast.Name(TWINS[name], ast.Load())
        case ast.Attribute(value=ast.Name() as of, attr=name, ctx=ast.Load()) if name in ATTRIBUTES:
            yield ast.Attribute(of, ATTRIBUTES[name], ast.Load())
        case ast.Constant(value=float() as number):
            yield ast.Constant(number + 1.0)


def _of_operation(node: ast.BinOp) -> Iterator[ast.AST]:
    left, right = node.left, node.right
    match node.op:
        case ast.BitAnd() | ast.BitOr() | ast.Mult():  # a mask, a factor dropped
            yield left
            yield right
        case ast.Add():  # a term dropped
            yield left
        case ast.Sub():  # a term dropped, the order
            yield left
            yield ast.BinOp(right, ast.Sub(), left)
        case ast.Div():
            yield left
            yield ast.BinOp(right, ast.Div(), left)
        case ast.FloorDiv():
            yield ast.BinOp(left, ast.Mod(), right)
        case ast.Mod():
            yield ast.BinOp(left, ast.FloorDiv(), right)
        case ast.RShift():
            yield left


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
