"""What `make mutate` changes in a file: one thing at a time, on lines that are reached."""

from __future__ import annotations

import ast
import copy
import pathlib
from collections.abc import Iterator


class Mutation(ast.NodeTransformer):
    """The `which`-th mutation of a tree, made; with `which` beyond the last one, only counted."""

    def __init__(self, which: int) -> None:
        self.which, self.count = which, 0
        self.line, self.words = 0, ""

    def _turn(self, node: ast.AST, words: str) -> bool:
        self.count += 1
        if self.count - 1 != self.which:
            return False
        self.line, self.words = node.lineno, f"{words}: {ast.unparse(node)}"
        return True

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        other = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
        if type(node.op) in other:
            changed = "flip the sign" if isinstance(node.op, (ast.Add, ast.Sub)) else "invert a factor"
            if self._turn(node, changed):
                return ast.BinOp(node.left, other[type(node.op)](), node.right)
            if self._turn(node, "drop the right side"):
                return node.left
            if isinstance(node.op, (ast.Add, ast.Mult)) and self._turn(node, "drop the left side"):
                return node.right
            for side in ("left", "right"):
                operand = getattr(node, side)
                whole = isinstance(operand, ast.Constant) and isinstance(operand.value, int)
                if whole and self._turn(node, "change the whole number"):
                    setattr(node, side, ast.Constant(operand.value + 1))
                    return node
        return self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """Negative whole numbers are axes, and places counted from the end."""
        whole = isinstance(node.operand, ast.Constant) and isinstance(node.operand.value, int)
        if isinstance(node.op, ast.USub) and not whole and self._turn(node, "flip the sign"):
            return node.operand
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Whole numbers elsewhere than in sums and products are axes and counts."""
        if isinstance(node.value, float) and self._turn(node, "change the constant"):
            return ast.Constant(node.value + 0.5)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """a, b, c = ...: neighbours change places."""
        target = node.targets[0]
        if isinstance(target, ast.Tuple):
            for i in range(len(target.elts) - 1):
                pair = target.elts[i : i + 2]
                words = [ast.unparse(name) for name in pair]
                if words[0] != words[1] and "*" not in "".join(words) and self._turn(node, f"swap {i}"):
                    target.elts[i : i + 2] = pair[::-1]
                    return node
        return self.generic_visit(node)


def mutants(file: str, reached: set[int]) -> Iterator[tuple[Mutation, ast.AST]]:
    """Every mutation of the functions of a file, on lines that are reached."""
    tree = ast.parse(pathlib.Path(file).read_text())
    for i, statement in enumerate(tree.body):
        which = 0
        while True:
            changed, mutation = copy.deepcopy(tree), Mutation(which)
            changed.body[i] = mutation.visit(changed.body[i])
            if mutation.count <= which:
                break
            which += 1
            if mutation.line in reached and isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                yield mutation, ast.fix_missing_locations(changed)
