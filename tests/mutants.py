"""Small mutations of code, one at a time: an operator, constant, comparison or sign changed."""

import ast
import copy

OPERATORS = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
}
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.LtE: (ast.Lt,),
    ast.GtE: (ast.Gt,),
}


def variants(node):
    """Copies of one node with one thing changed, each with a word on what was changed."""
    if isinstance(node, ast.BinOp):
        for operator in OPERATORS.get(type(node.op), ()):
            yield operator.__name__, ast.BinOp(node.left, operator(), node.right)
        yield "left only", node.left
        yield "right only", node.right
    elif isinstance(node, ast.Compare):
        for operator in COMPARISONS.get(type(node.ops[0]), ()):
            yield operator.__name__, ast.Compare(node.left, [operator()], node.comparators)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "no minus", node.operand
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for value in (node.value + 1, node.value - 1):
            yield f"{value} for {node.value}", ast.Constant(value)
    elif isinstance(node, ast.Return):
        yield "minus", ast.Return(ast.UnaryOp(ast.USub(), node.value))
    elif isinstance(node, ast.AugAssign):
        for operator in OPERATORS.get(type(node.op), ()):
            yield operator.__name__, ast.AugAssign(node.target, operator(), node.value)


def mutants(source):
    """(what was changed, source) for every single change in the bodies of a cell's functions."""
    tree = ast.parse(source)
    count = len(list(ast.walk(tree)))
    for number in range(count):
        node = list(ast.walk(tree))[number]
        for word, _ in variants(node):
            other = copy.deepcopy(tree)
            target = list(ast.walk(other))[number]
            new = dict(variants(target))[word]
            replace(other, target, new)
            ast.fix_missing_locations(other)
            line = ast.unparse(node).split("\n")[0]
            yield f"line {node.lineno}: {word} in `{line}`", ast.unparse(other)


def replace(tree, old, new):
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list) and any(v is old for v in value):
                setattr(parent, name, [new if v is old else v for v in value])
