"""A function of tensors as the list of tensor operations that one call of it makes.

`torch.fx.experimental.proxy_tensor.make_fx` makes the same list, ten times slower: it also keeps a
stack trace and an imitation of every tensor, which a replay does not need.
"""

import operator
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

READS_A_NUMBER = torch.ops.aten._local_scalar_dense.default
RANGES = {getattr(torch.ops.aten.arange, name) for name in torch.ops.aten.arange.overloads()}


class _Recorder(TorchDispatchMode):
    """Sees every operation below autograd and vmap, with plain tensors."""

    def __init__(self, inputs: list[Tensor]):
        super().__init__()
        self.graph, self.constants = Graph(), nn.Module()
        self._nodes, self._storages = {}, set()
        self._known = []  # keeps all tensors alive, so that no id and no address is given twice
        for i, x in enumerate(inputs):
            self._learn(x, self.graph.placeholder(f"x{i}"))

    def _learn(self, x: Tensor, node) -> None:
        self._nodes[id(x)] = node
        self._storages.add(x.untyped_storage().data_ptr())
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

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op is READS_A_NUMBER:
            raise RuntimeError(
                "cannot be recorded: a tensor is read as a number (item, float, bool or if)"
            )
        out = op(*args, **(kwargs or {}))
        if op in RANGES:  # compiled, its overflowing multiples would be undefined in C++
            return out  # so it becomes a constant when it is used
        node = self.graph.call_function(op, *pytree.tree_map(self.node, (args, kwargs or {})))
        if isinstance(out, Tensor):
            self._learn(out, node)
        else:
            for k, x in enumerate(out):
                if isinstance(x, Tensor):  # a gradient that nobody asked for is None
                    self._learn(x, self.graph.call_function(operator.getitem, (node, k)))
        return out


def record(f: Callable, *args, compile: bool = False) -> Callable:
    """Call f once; what it did to tensors, as a function of the same tensors.

    args     tensors, or tuples, lists and dicts of them; f returns the like
    compile  fuse the operations by `torch.compile`, which takes seconds

    The result repeats the same operations, whatever the values are: a tensor that f took from
    elsewhere stays as it was. Raises RuntimeError if f reads a tensor as a number.
    """
    inputs, _ = pytree.tree_flatten(args)
    with _Recorder(inputs) as recorder:
        outputs, form = pytree.tree_flatten(f(*args))
    recorder.graph.output([recorder.node(x) for x in outputs])
    run = GraphModule(recorder.constants, recorder.graph)
    if compile:
        run = torch.compile(run, dynamic=False)
    return lambda *args: pytree.tree_unflatten(run(*pytree.tree_leaves(args)), form)
