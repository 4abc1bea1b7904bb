"""A rule on a model: which tensors it steps together, from which state, with which numbers.

`sweep.Sweep` holds the parameters of a run as one vector, `adapter.Optimizer` as tensors. Both go
by `parts`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nettrain.averaging import readout
from nettrain.groups import By, Shapes, grouped, multipliers
from nettrain.optimizers import Rule, hyperparameters, starting, state_names


@dataclass(frozen=True)
class Part:
    """Tensors of a model that one call of a rule steps."""

    rule: Rule
    tensors: tuple[int, ...]  # their places in the model
    alone: bool  # one tensor in its own shape; else all as one vector
    shared: Callable[[dict], dict]  # the model's hyperparameters -> this rule's

    def numbers(self, hyper: dict) -> dict:
        """What of the model's hyperparameters the rule takes."""
        known = hyperparameters(self.rule)
        return {k: v for k, v in self.shared(hyper).items() if k in known}


def parts(rule: Rule, shapes: Shapes) -> list[Part]:
    """How a rule steps a model: the vector of all its tensors, each by itself, or a `partition`.

    shapes  {name: shape} in the order of the model's parameters

    Raises ValueError for a tensor that a rule for matrices would have to step and cannot.
    """
    if not hasattr(rule, "parts"):
        return _parts(rule, dict(enumerate(shapes.items())), lambda hyper: hyper)
    first, rest, chosen = rule.parts
    of_first = lambda hyper: hyperparameters(rule) | hyper

    def of_rest(hyper):
        numbers = of_first(hyper)
        return numbers | {"lr": numbers["lr"] * numbers["ratio"]}

    tensors, others = {}, {}
    for place, (name, shape) in enumerate(shapes.items()):
        (tensors if chosen(name, tuple(shape)) else others)[place] = name, shape
    return _parts(first, tensors, of_first) + _parts(rest, others, of_rest)


def _parts(rule: Rule, tensors: dict, shared: Callable) -> list[Part]:
    if not tensors:
        return []
    if not hasattr(rule, "tensorwise"):
        return [Part(rule, tuple(tensors), False, shared)]
    for name, shape in tensors.values():
        if len(shape) < 2:
            raise ValueError(
                f"{rule.__name__} steps matrices, but {name} has shape {list(shape)}: give such "
                f"tensors another rule, as groups.partition({rule.__name__}, adamw)"
            )
    return [Part(rule, (place,), True, shared) for place in tensors]


class OnVector:
    """A rule on the vector theta [P] of all parameters of a model, with states of any shapes.

    rule    a rule, or a `groups.partition` of two
    shapes  {name: shape} of the model's tensors, in the order of the vector
    by      (name, shape) -> {hyperparameter: factor}, as in `groups`
    like    a tensor of the parameters' dtype and device

    Raises ValueError as `parts` and `multipliers` do.
    """

    def __init__(self, rule: Rule, shapes: Shapes, by: By | None, like: Tensor):
        self._shapes = [torch.Size(shape) for shape in shapes.values()]
        self._sizes = [shape.numel() for shape in self._shapes]
        self._parts = parts(rule, shapes)
        if by:
            factors = tensor_factors(rule, shapes, by)
            self._parts = [_multiplied(p, factors, self._sizes, like) for p in self._parts]
        self._counts = [len(state_names(part.rule)) for part in self._parts]
        [first, *more] = self._parts
        whole = not more and not first.alone and not hasattr(rule, "parts")
        # the usual case costs nothing: the rule itself, on the vector itself
        self.step = first.rule if whole else self._step
        self.evaluated = any(hasattr(part.rule, "weights") for part in self._parts)

    def start(self, theta: Tensor) -> tuple[Tensor, ...]:
        """The states before the first step."""
        each = zip(self._parts, self._cut(theta), strict=True)
        return tuple(x for part, own in each for x in starting(part.rule, own))

    def weights(self, theta: Tensor, *state: Tensor, t) -> Tensor:
        """Where the network is evaluated after t steps.  -> [P]"""
        each = zip(self._parts, self._cut(theta), self._split(state), strict=True)
        return self._join([readout(part.rule)(own, *states, t=t) for part, own, states in each])

    def _step(self, theta, g, *state, t, **hyper):
        each = zip(self._parts, self._cut(theta), self._cut(g), self._split(state), strict=True)
        done = [part.rule(*x, *states, t=t, **part.numbers(hyper)) for part, *x, states in each]
        return self._join([own for own, *_ in done]), *(x for _, *states in done for x in states)

    def _cut(self, vector: Tensor) -> list[Tensor]:
        """What each part steps."""
        pieces, cut = vector.split(self._sizes), []
        for part in self._parts:
            own = [pieces[place] for place in part.tensors]
            shape = self._shapes[part.tensors[0]]
            cut.append(own[0].view(shape) if part.alone else torch.cat(own))
        return cut

    def _join(self, cut: list[Tensor]) -> Tensor:
        """The vector of all parameters, of what the parts have stepped."""
        pieces = {}
        for part, x in zip(self._parts, cut, strict=True):
            sizes = [self._sizes[place] for place in part.tensors]
            pieces |= zip(part.tensors, x.flatten().split(sizes), strict=True)
        return torch.cat([pieces[place] for place in range(len(self._sizes))])

    def _split(self, state: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
        """The states of each part."""
        rest = iter(state)
        return [tuple(next(rest) for _ in range(count)) for count in self._counts]


def tensor_factors(rule: Rule, shapes: Shapes, by: By) -> list[dict[str, float]]:
    """{hyperparameter: factor} of each tensor.

    Raises ValueError for a hyperparameter that nothing in the rule has, and as `multipliers` does.
    """
    multipliers(shapes, by)  # checks the values
    factors = [dict(by(name, tuple(shape))) for name, shape in shapes.items()]
    known = dict.fromkeys(k for part in parts(rule, shapes) for k in hyperparameters(part.rule))
    if unknown := dict.fromkeys(k for own in factors for k in own if k not in known):
        raise ValueError(f"{rule.__name__} has no {', '.join(unknown)}; it has {', '.join(known)}")
    return factors


def rule_with(part: Part, factors: list[dict[str, float]], sizes: list[int], like: Tensor) -> Rule:
    """The part's rule with the hyperparameters of some tensors, its own, multiplied by factors.

    factors  {hyperparameter: factor} of each tensor that is stepped; sizes: how many numbers it has
    """
    known, found = hyperparameters(part.rule), {}
    for name in dict.fromkeys(k for own in factors for k in own if k in known):
        column = [float(own.get(name, 1)) for own in factors]
        if len(set(column)) == 1:
            found[name] = column[0]
        else:
            each = torch.tensor(column, dtype=torch.float64)
            found[name] = each.repeat_interleave(torch.tensor(sizes)).to(like)
    return grouped(part.rule, found) if found else part.rule


def _multiplied(part: Part, factors: list[dict], sizes: list[int], like: Tensor) -> Part:
    own = [factors[place] for place in part.tensors]
    rule = rule_with(part, own, [sizes[place] for place in part.tensors], like)
    return replace(part, rule=rule)
