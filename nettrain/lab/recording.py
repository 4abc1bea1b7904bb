"""A function of tensors as the list of tensor operations that one call of it makes.

`torch.fx.experimental.proxy_tensor.make_fx` makes the same list, about five times slower: it also
keeps a stack trace and an imitation of every tensor, which a replay does not need.
"""

import operator
import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.passes.split_module import split_module
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from nettrain.lab import fusing

READS_A_NUMBER = torch.ops.aten._local_scalar_dense.default
OF_A_RANGE = {getattr(torch.ops.aten.arange, name) for name in torch.ops.aten.arange.overloads()}


class _Recorder(TorchDispatchMode):
    """Sees every operation below autograd and vmap, with plain tensors."""

    def __init__(self, inputs: list[Tensor]):
        super().__init__()
        self.graph, self.constants = Graph(), nn.Module()
        self._nodes, self._storages, self._places = {}, set(), {}
        starts = Counter(x.untyped_storage().data_ptr() for x in inputs)
        self._shared = {start for start, count in starts.items() if count > 1}
        self._known = []  # keeps all tensors alive, so that no id and no address is given twice
        for i, x in enumerate(inputs):
            self._learn(x, self.graph.placeholder(f"x{i}"))

    def _learn(self, x: Tensor, node) -> None:
        start = x.untyped_storage().data_ptr()
        if start not in self._shared:  # inputs that share memory now may be apart when replayed
            node = self._places.setdefault(_place(x), node)
        self._nodes[id(x)] = node
        node.meta.setdefault("like", (tuple(x.shape), x.dtype))
        self._storages.add(start)
        self._known.append(x)

    def node(self, x):
        """What stands for x in the graph: its node if it is a tensor, else itself."""
        if not isinstance(x, Tensor):
            return x
        if id(x) not in self._nodes:
            if x.numel() and x.untyped_storage().data_ptr() in self._storages:
                raise RuntimeError(f"a tensor of shape {list(x.shape)} was made unseen")
            name = f"constant{len(self._known)}"
            self.constants.register_buffer(name, x)
            self._learn(x, self.graph.get_attr(name))
        return self._nodes[id(x)]

    def forget(self) -> None:
        """Let go of what the call has made; its inputs and constants are kept by others."""
        self._known.clear()

    def equals(self, other: "_Recorder") -> bool:
        """Whether both have recorded the same operations with the same constants."""
        mine, theirs = (dict(r.constants.named_buffers()) for r in (self, other))
        return (
            str(self.graph) == str(other.graph)
            and mine.keys() == theirs.keys()
            and all(_identical(x, theirs[name]) for name, x in mine.items())
        )

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op is READS_A_NUMBER:
            raise RuntimeError(
                "cannot be recorded: a tensor is read as a number (item, float, bool or if)"
            )
        out = op(*args, **(kwargs or {}))
        if op in OF_A_RANGE:  # compiled, its overflowing multiples would be undefined in C++
            return out  # so it becomes a constant when it is used
        node = self.graph.call_function(op, *pytree.tree_map(self.node, (args, kwargs or {})))
        if isinstance(out, Tensor):
            self._learn(out, node)
        else:
            for k, x in enumerate(out):
                if isinstance(x, Tensor):  # a gradient that nobody asked for is None
                    self._learn(x, self.graph.call_function(operator.getitem, (node, k)))
        return out


def _identical(x: Tensor, y: Tensor) -> bool:
    same = x.dtype == y.dtype and x.device == y.device and x.shape == y.shape
    return same and torch.allclose(x, y, rtol=0, atol=0, equal_nan=True)


def _place(x: Tensor) -> tuple:
    """Tensors that agree in this are one: `view`, `expand` and the like often change nothing."""
    return x.data_ptr(), x.shape, x.stride(), x.dtype, x.is_conj(), x.is_neg()


def _call(f: Callable, args) -> tuple[_Recorder, object]:
    """The recorder of one call, and the form of what f returned."""
    inputs, _ = pytree.tree_flatten(args)
    with _Recorder(inputs) as recorder:
        outputs, form = pytree.tree_flatten(f(*args))
    recorder.graph.output([recorder.node(x) for x in outputs])
    recorder.graph.eliminate_dead_code()
    recorder.forget()
    return recorder, form


def record(
    f: Callable,
    *args,
    compile: bool = False,
    numbers=(),
    graph: bool = False,
    fuse: bool = False,
) -> Callable:
    """Call f twice; what it did to tensors, as a function of the same tensors.

    args     tensors, or tuples, lists and dicts of them; f returns the like
    compile  fuse the operations by torch's Inductor, which takes seconds; the result then takes
             tensors of the same shapes, strides and types only
    numbers  scalar tensors among args; compiled, whatever depends on them alone is computed once,
             outside of the fused loops
    graph    replay the operations as one CUDA graph: one launch for all of them; the result then
             returns its own tensors, which its next call overwrites

    fuse     what is elementwise at the end, as an update rule is, as one loop where numba is
             installed (`fusing`)

    The result repeats the same operations, whatever the values are: a tensor that f took from
    elsewhere stays as it was. Where compiling or capturing is not possible, a warning says why, and
    the operations run one by one. Raises RuntimeError if f reads a tensor as a number, and if its
    second call does something different from the first.
    """
    recorder, form = _call(f, args)
    if not recorder.equals(_call(f, args)[0]):
        raise RuntimeError(
            "cannot be recorded: a second call does something else. What changes from call to call "
            "must be a tensor among the arguments (for a module: a buffer), not a Python number"
        )
    if fuse:
        fusing.fuse(recorder.graph)
    run = GraphModule(recorder.constants, recorder.graph)
    if compile:
        run = _compiled(run, {recorder.node(x) for x in pytree.tree_leaves(numbers)})
    if graph:
        run = _graphed(run, pytree.tree_leaves(args))

    def replay(*args):
        plain = all(isinstance(x, Tensor) for x in args)
        return pytree.tree_unflatten(run(*(args if plain else pytree.tree_leaves(args))), form)

    return replay


def _compiled(run: GraphModule, numbers: set[Node]) -> Callable:
    """What depends on numbers alone operation by operation, and the rest fused."""
    ahead = _ahead(run.graph, numbers)
    parts = split_module(run, None, lambda node: "ahead" if node in ahead else "rest")
    for name, part in list(parts.named_children()):
        delattr(parts, name)  # a module in its place would cost more to call than a small kernel
        setattr(parts, name, part.forward if name == "submod_ahead" else _late(part))
    return parts.forward


def _late(part: GraphModule) -> Callable:
    """A graph that is compiled when it is called first, for tensors of these shapes for ever."""
    done = []

    def call(*args):
        if not done:
            try:
                compiled = torch._inductor.compile(part, list(args))
                out = compiled(*args)  # kernels may be built as late as here
            except torch.OutOfMemoryError:
                raise  # fewer rows would fit
            except Exception as error:  # no compiler, no Triton, too old a device, ...
                _fall_back("compiled", error)
                done.append(part.forward)
            else:
                done.append(compiled)
                return out
        return done[0](*args)

    return call


def _graphed(run: Callable, args: list[Tensor]) -> Callable:
    """run as a CUDA graph: it reads and writes the same memory at each call."""
    static = [x.clone() for x in args]
    places = {x.untyped_storage().data_ptr() for x in static}

    def apart(*args):
        """An argument that is returned is copied, or the next arguments would overwrite it."""
        kept = lambda x: x.untyped_storage().data_ptr() in places
        return [x.clone() if kept(x) else x for x in run(*args)]

    try:
        outputs, replay = _capture(apart, static)
    except torch.OutOfMemoryError:
        raise  # fewer rows would fit
    except RuntimeError as error:
        _fall_back("captured as a CUDA graph", error)
        return run

    def call(*args):
        torch._foreach_copy_(static, args)  # an output of the last call may be an argument
        replay()
        return outputs

    call.run = run  # a graph knows addresses only: what it reads must live as long as it does
    return call


def _capture(run: Callable, static: list[Tensor]) -> tuple[list[Tensor], Callable]:
    """(what run(*static) returns, a function that computes it again in the same place)."""
    before, stream = torch.cuda.current_stream(), _side_stream()
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        for _ in range(2):  # libraries choose their kernels and get their memory before the capture
            run(*static)
    before.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            outputs = run(*static)
    finally:
        torch.cuda.set_stream(before)  # torch does not, if the end of the capture fails
    return outputs, graph.replay


@cache
def _side_stream() -> "torch.cuda.Stream":
    """One for all captures, since each stream keeps its own workspaces."""
    return torch.cuda.Stream()


def _fall_back(what: str, error: Exception) -> None:
    first = str(error).strip().split("\n")[0]
    warnings.warn(
        f"a step cannot be {what} here ({type(error).__name__}: {first}); its operations run one "
        "by one, with the same results",
        stacklevel=2,
    )


def _ahead(graph: Graph, numbers: set[Node]) -> set[Node]:
    """The operations that depend on nothing but `numbers`; each is left once."""
    once = {}
    for node in list(graph.nodes):
        needs = node.all_input_nodes
        if node.op == "call_function" and needs and numbers.issuperset(needs):
            same = (node.target, node.args, tuple(node.kwargs.items()))
            if same in once:
                node.replace_all_uses_with(once[same])
                graph.erase_node(node)
            else:
                once[same] = node
                numbers = numbers | {node}
    return set(once.values())
