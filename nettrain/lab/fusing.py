"""Elementwise operations at the end of a recorded step, as one loop made by numba.

An update rule reads and writes every parameter a dozen times, operation by operation; as one loop
it does so once. The loop computes what torch computes, operation by operation, in the same type:
where torch rounds correctly, its numbers are torch's to the last bit (sqrt, exp, log and tanh may
differ in it).
"""

import hashlib
import operator
import os
import re
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import ModuleType

import torch
from torch.fx import Graph, Node

aten = torch.ops.aten
LEAST = 3  # fewer operations than this are not worth a loop

# {operation: Python of it}; {0}, {1} are its arguments and {T} the type of its result
PYTHON = {
    aten.add.Tensor: "{0} + {1}",
    aten.add.Scalar: "{0} + {1}",
    aten.sub.Tensor: "{0} - {1}",
    aten.sub.Scalar: "{0} - {1}",
    aten.rsub.Scalar: "{1} - {0}",
    aten.mul.Tensor: "{0} * {1}",
    aten.mul.Scalar: "{0} * {1}",
    aten.div.Tensor: "{0} / {1}",
    aten.div.Scalar: "{0} / {1}",
    aten.neg.default: "-{0}",
    aten.abs.default: "abs({0})",
    aten.sqrt.default: "sqrt({0})",
    aten.reciprocal.default: "{T}(1) / {0}",
    aten.exp.default: "exp({0})",
    aten.log.default: "log({0})",
    aten.tanh.default: "tanh({0})",
    aten.sign.default: "{T}({0} > 0) - {T}({0} < 0)",  # of NaN it is 0, as torch has it
    # NaN wins, as torch has it
    aten.maximum.default: "{0} if {0} > {1} or {0} != {0} else {1}",
    aten.minimum.default: "{0} if {0} < {1} or {0} != {0} else {1}",
    aten.clamp_min.default: "{0} if {0} > {1} or {0} != {0} else {T}({1})",
    aten.clamp_max.default: "{0} if {0} < {1} or {0} != {0} else {T}({1})",
    aten.gt.Scalar: "{0} > {1}",
    aten.ge.Scalar: "{0} >= {1}",
    aten.lt.Scalar: "{0} < {1}",
    aten.le.Scalar: "{0} <= {1}",
    aten.gt.Tensor: "{0} > {1}",
    aten.ge.Tensor: "{0} >= {1}",
    aten.lt.Tensor: "{0} < {1}",
    aten.le.Tensor: "{0} <= {1}",
    aten.where.self: "{1} if {0} else {2}",
    aten._to_copy.default: "{0}",
    aten.clone.default: "{0}",
}
POWERS = {2: "{0} * {0}", 0.5: "sqrt({0})", 1: "{0}", -1: "{T}(1) / {0}"}
COPIES = (aten._to_copy.default, aten.clone.default)
TYPES = {torch.float32: "float32", torch.float64: "float64", torch.bool: "bool_"}
KINDS = {name: dtype for dtype, name in TYPES.items()}
PLAIN = int | float


def fuse(graph: Graph) -> bool:
    """Put one loop in place of the elementwise operations that nothing but the outputs needs.

    The operations are those on matrices [R, P] of one shape, with numbers and columns [R, 1]; their
    results are used by others of them and returned. Returns whether a loop was put in: this
    needs numba and at least LEAST such operations.
    """
    if not find_spec("numba"):
        return False
    chosen = _chosen(graph)
    if len(chosen) < LEAST:
        return False
    inputs = list(dict.fromkeys(x for n in chosen for x in n.all_input_nodes if x not in chosen))
    inside = set(chosen)
    outputs = [n for n in chosen if any(user not in inside for user in n.users)]
    shape = _like(chosen[0])[0]
    loop = _loop(_source(chosen, inputs, outputs, shape))
    types = [_like(n)[1] for n in outputs]

    def fused(*tensors):
        rows = [x.contiguous().numpy() for x in tensors]
        out = [torch.empty(shape, dtype=dtype) for dtype in types]
        loop(*rows, *(x.numpy() for x in out))
        return out

    last = chosen[-1]
    with graph.inserting_after(last):
        call = graph.call_function(fused, tuple(inputs))
    with graph.inserting_after(call):
        for k in reversed(range(len(outputs))):
            item = graph.call_function(operator.getitem, (call, k))
            outputs[k].replace_all_uses_with(item, lambda user: user not in inside)
    for node in reversed(chosen):
        graph.erase_node(node)
    return True


def _like(node: Node) -> tuple[tuple[int, ...] | None, torch.dtype | None]:
    """Shape and type of what a node makes; (None, None) if that is not a tensor."""
    return node.meta.get("like", (None, None))


def _form(node: Node) -> str | None:
    """Python of an operation; None if it is not among those that are known."""
    if node.target is aten.pow.Tensor_Scalar:
        return POWERS.get(node.args[1])
    return PYTHON.get(node.target)


def _chosen(graph: Graph) -> list[Node]:
    """Elementwise operations, in order, whose results only others of them and the output use."""
    end = next(n for n in graph.nodes if n.op == "output")
    shapes = [_like(n)[0] for n in end.all_input_nodes if n.op == "call_function"]
    shape = max((s for s in shapes if s and len(s) == 2), key=lambda s: s[1], default=None)
    chosen: set[Node] = set()
    for node in reversed(graph.nodes):
        if _fits(node, shape) and all(user in chosen or user is end for user in node.users):
            chosen.add(node)
    return [n for n in graph.nodes if n in chosen]


def _fits(node: Node, shape: tuple[int, ...] | None) -> bool:
    """Whether a loop over the elements of a matrix of this shape can do it."""
    if node.op != "call_function" or not node.users or shape is None or _like(node)[0] != shape:
        return False
    form, types = _form(node), [_like(x)[1] for x in node.all_input_nodes]
    if form is None or not {_like(node)[1], *types} <= TYPES.keys():
        return False
    given = {k: v for k, v in node.kwargs.items() if v is not None}
    if node.target in COPIES:
        given = {k: v for k, v in given.items() if k not in ("dtype", "memory_format")}
    number = 2 if node.target is aten.pow.Tensor_Scalar else len(set(re.findall(r"{\d}", form)))
    plain = all(isinstance(x, Node) or (isinstance(x, PLAIN) and isfinite(x)) for x in node.args)
    if given or len(node.args) != number or not plain:
        return False
    if _like(node)[1] is torch.bool and len(set(types)) > 1:
        return False  # compared in which type?
    spread = {shape, (shape[0], 1), (1, shape[1]), (1, 1), (shape[1],), (1,), ()}
    return {_like(x)[0] for x in node.all_input_nodes} <= spread


def _source(chosen, inputs, outputs, shape) -> str:
    """Python of the loop: matrices element by element, columns and numbers once for each row."""
    names = {node: f"x{k}" for k, node in enumerate(inputs)}
    kinds = {node: _like(node)[0] for node in inputs}
    once, each = [], []
    for node, name in names.items():
        pairs = zip("ri"[2 - len(kinds[node]) :], kinds[node], strict=True)
        index = ", ".join("0" if size == 1 else letter for letter, size in pairs)
        (each if "i" in index else once).append(f"v{name} = {name}[{index or '()'}]")
    value = {node: f"v{name}" for node, name in names.items()}
    for k, node in enumerate(chosen):
        value[node] = f"w{k}"
        kind = TYPES[_like(node)[1]]
        # numbers of another type are rounded first, as torch does; what is compared has one type
        own = kind if kind != "bool_" else TYPES[_like(node.all_input_nodes[0])[1]]
        words = [
            value[x]
            if isinstance(x, Node) and _like(x)[1] in (torch.bool, KINDS[own])
            else f"{own}({value[x] if isinstance(x, Node) else repr(x)})"
            for x in node.args
        ]
        each.append(f"w{k} = {kind}({_form(node).format(*words, T=own)})")
    each += [f"y{k}[r, i] = {value[node]}" for k, node in enumerate(outputs)]
    arguments = [*names.values(), *(f"y{k}" for k in range(len(outputs)))]
    lines = ["from numpy import bool_, exp, float32, float64, log, sqrt, tanh", "", ""]
    lines += [f"def loop({', '.join(arguments)}):", "    for r in range(y0.shape[0]):"]
    lines += [f"        {line}" for line in once]
    lines += ["        for i in range(y0.shape[1]):", *(f"            {line}" for line in each)]
    return "\n".join([*lines, ""])


@cache
def _loop(source: str) -> Callable:
    """The loop, compiled without fastmath, so that no operation is reordered or contracted.

    numba keeps compiled functions beside their files; so the source becomes a file in the user's
    cache (NUMBA_CACHE_DIR, else XDG_CACHE_HOME or ~/.cache), if one can be written there.
    """
    import numba

    name = f"nettrain_loop_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    file = _cached(f"{name}.py", source)
    module = sys.modules[name] = ModuleType(name)  # numba looks it up by this name
    exec(compile(source, str(file or name), "exec"), vars(module))  # the operations above only
    return numba.njit(module.loop, error_model="numpy", cache=file is not None)


def _cached(name: str, text: str) -> Path | None:
    """A file with this text in the user's cache, or None where none can be written."""
    top = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or top) / "nettrain"
    file = folder / name
    try:
        if not file.exists() or file.read_text("utf-8") != text:
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile("w", dir=folder, encoding="utf-8", delete=False) as part:
                part.write(text)
            os.replace(part.name, file)  # whole, whoever else writes it now
    except OSError:
        return None
    return file
