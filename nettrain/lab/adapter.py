"""A rule of `optimizers` as a torch.optim.Optimizer."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial

import torch

from nettrain.averaging import readout
from nettrain.groups import By, is_matrix
from nettrain.lab import applying
from nettrain.lab.recording import record
from nettrain.optimizers import (
    RANGES,
    Rule,
    check_hyper,
    hyperparameters,
    is_coordinatewise,
    starting,
    state_names,
)

SMALL = 1 << 14  # numbers; smaller tensors are stepped as one vector, since a call costs more


BLOCK = 1 << 15  # numbers; larger tensors are stepped in blocks, whose temporaries the cache holds


TORCHS = {  # torch's names of hyperparameters and options: none of them may be passed over
    *("alpha", "amsgrad", "betas", "centered", "dampening", "differentiable", "eta", "etas"),
    *("initial_accumulator_value", "lambd", "lr_decay", "maximize", "momentum", "momentum_decay"),
    *("nesterov", "weight_decay"),
}


class Group(dict):
    """A parameter group that goes by torch's names of the decay rates, too, for its schedulers.

    group["betas"] is (beta1, beta2), group["momentum"] is rho, for reading and for writing.
    """

    def _names(self, key) -> list[str]:
        if key == "betas" and "beta1" in self:
            return [name for name in ("beta1", "beta2") if name in self]
        return ["rho"] if key == "momentum" and "rho" in self else []

    def __missing__(self, key):
        if not (names := self._names(key)):
            raise KeyError(key)
        return tuple(self[name] for name in names) if key == "betas" else self["rho"]

    def __setitem__(self, key, value):
        if names := self._names(key):
            self.update(zip(names, value if key == "betas" else (value,), strict=True))
        else:
            super().__setitem__(key, value)


class Optimizer(torch.optim.Optimizer):
    """Apply `rule` to the parameters; all that torch does with an optimizer works.

        opt = Optimizer(model.parameters(), adam, lr=1e-3)
        opt = Optimizer(model.named_parameters(), partition(muon, adamw), by=weights_only, lr=0.02)

    params   tensors, (name, tensor) pairs or param groups; a group may set its own hyperparameters,
             and may hold what else its user keeps there
    rule     a rule, or two: `groups.partition`
    hyper    the rule's hyperparameters by name; the rule's defaults for the rest
    by       (name, shape) -> {hyperparameter: factor} of a tensor, as in `groups`; needs names
    compile  run the rule, as written, through torch.compile over all parameters at once: the same
             equation as one fused kernel a tensor. The first step takes seconds; needs a C++
             compiler

    A rule that is not coordinatewise, such as `penalized` by a norm, steps the vector of all
    parameters of a group, as in a sweep; so all of them must have a gradient, and one dtype. A rule
    for matrices steps each of them in its own shape.

    averages  whether the rule has the network evaluated at other weights than its own; it has
              them inside `with opt.evaluated():`

    Raises TypeError for a hyperparameter that the rule does not have, for parameters that are not
    real floating point and for those without names where names are needed, ValueError for a value
    out of range, for a parameter given twice and for one that a rule for matrices cannot step,
    RuntimeError for a sparse gradient, before anything is changed. A parameter whose gradient is
    None is left alone. A NaN gradient is used as it is: the parameter and its state become NaN, as
    in torch.
    """

    def __init__(self, params, rule: Rule, *, by: By | None = None, compile: bool = False, **hyper):
        check_hyper(rule, hyper)
        self.rule, self._by, self._compile = rule, by, compile
        self._hyper = list(hyperparameters(rule))
        rules = rule.parts[:2] if hasattr(rule, "parts") else (rule,)
        self.averages = any(hasattr(one, "weights") for one in rules)
        given = lambda one: {k: v for k, v in hyper.items() if k in hyperparameters(one)}
        self._coupled = {
            one
            for one in rules
            if not hasattr(one, "tensorwise") and not is_coordinatewise(one, **given(one))
        }
        self._forget()
        if compile and self._coupled:
            raise ValueError(f"compile=True steps tensor by tensor, but {rule.__name__} cannot")
        own = hyperparameters(rule) | hyper | {"rule": rule.__name__}
        # torch's schedulers of momentum look here for what a group goes by
        also = {name: Group(own)[name] for name in ("betas", "momentum") if Group(own)._names(name)}
        super().__init__(params, own | also)

    def _forget(self) -> None:
        """Drop what was made of the parameters as they are; it is made again when needed."""
        self._compiled, self._joined, self._cuts, self._ruled = {}, {}, {}, {}
        self._elsewhere = False

    def __getstate__(self) -> dict:
        """What pickle and deepcopy keep: torch's own forgets what it does not know."""
        own = ("rule", "averages", "_by", "_compile", "_hyper", "_coupled")
        return super().__getstate__() | {name: self.__dict__[name] for name in own}

    def __setstate__(self, state):
        """As torch's, which also ends `load_state_dict`, after the hooks that translate a state."""
        state = state | {"param_groups": [Group(g) for g in state["param_groups"]]}
        if "rule" in self.__dict__:
            self._check_loaded(state)
        else:
            self._forget()
        super().__setstate__(state)

    def add_param_group(self, param_group):
        """As torch's; the group's own hyperparameters are checked like those of the constructor.

        What is not a hyperparameter stays in the group unread, as in torch, unless it is another
        optimizer's hyperparameter or nearly a name of this rule's: these are refused.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, not {type(param_group).__name__}")
        if param_group.get("rule", self.rule.__name__) != self.rule.__name__:
            raise ValueError(f"a group of {param_group['rule']} is not one of {self.rule.__name__}")
        check_hyper(self.rule, {k: v for k, v in param_group.items() if self._is_hyper(k)})
        before = len(self.param_groups)
        super().add_param_group(dict(param_group))
        group = self.param_groups.pop()
        wrong = [p.dtype for p in group["params"] if not p.is_floating_point()]
        if wrong:
            raise TypeError(f"{self.rule.__name__} needs real floating point, not {wrong[0]}")
        if len(set(group["params"])) < len(group["params"]):
            raise ValueError("a parameter group holds the same parameter twice")
        aliases = ("betas", "momentum")
        group = Group({k: v for k, v in group.items() if k not in aliases})
        self._cut(group)  # raises what there is to raise
        self.param_groups.insert(before, group)

    def _is_hyper(self, name: str) -> bool:
        """Whether a group's key is meant as a hyperparameter, one of this rule's or not."""
        known = {*RANGES, *TORCHS, *self._hyper}
        return name in known or bool(get_close_matches(name, self._hyper, cutoff=0.8))

    def _check_loaded(self, state) -> None:
        """Raises ValueError for the state of another rule and for one that lacks something."""
        mine = self.rule.__name__
        for group in state["param_groups"]:
            if group.get("rule") != mine:
                theirs = group.get("rule", "another optimizer")
                raise ValueError(f"this is the state of {theirs}, not of {mine}")
            if lacks := [name for name in self._hyper if name not in group]:
                raise ValueError(f"this state of {mine} has no {', '.join(lacks)} in a group")
            check_hyper(self.rule, {name: group[name] for name in self._hyper})
            for part, params in self._cut(group):
                for memory in (state["state"].get(p) for p in params):
                    if memory and (lacks := {*state_names(part.rule), "t"} - memory.keys()):
                        raise ValueError(f"this state of {mine} has no {', '.join(sorted(lacks))}")

    @torch.no_grad()
    def step(self, closure=None):
        """One step of every parameter that has a gradient; returns the closure's loss, if any."""
        if self._elsewhere:
            raise RuntimeError("a step inside of `with opt.evaluated()` would be lost")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if any(
            p.grad is not None and p.grad.layout != torch.strided
            for group in self.param_groups
            for p in group["params"]
        ):
            raise RuntimeError(f"{self.rule.__name__} needs a dense gradient, not a sparse one")
        for number, group in enumerate(self.param_groups):
            hyper = {name: group[name] for name in self._hyper}
            for k, (part, params) in enumerate(self._parts(number)):
                ready = [p for p in params if p.grad is not None]
                for t, some in self._together(part, ready):
                    if part.rule in self._coupled and len(some) < len(params):
                        raise RuntimeError(
                            f"{part.rule.__name__} steps all parameters of a group as one vector, "
                            f"but only {len(some)} of {len(params)} have a gradient, one dtype "
                            "and one number of steps"
                        )
                    how = self._step_compiled if self._compile else self._step
                    how((number, k), some, t, hyper)
        return loss

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Inside the block the parameters are those at which the rule has the network evaluated.

        Running statistics of batch norm have to be computed there, as `training.evaluated` does.
        """
        before = []
        try:
            with torch.no_grad():
                for number in range(len(self.param_groups)):
                    for part, params in self._parts(number):
                        stepped = [p for p in params if self.state.get(p)]
                        before += [(p, p.clone()) for p in stepped]
                        whole = stepped and part.rule in self._coupled
                        for some in [stepped] if whole else [[p] for p in stepped]:
                            self._read_out(part.rule, some)
            self._elsewhere = True
            yield
        finally:
            self._elsewhere = False
            with torch.no_grad():
                for p, old in before:
                    p.copy_(old)

    def _read_out(self, rule, params):
        together = lambda tensors: tensors[0] if len(tensors) == 1 else _flat(tensors)
        state = [together([self.state[p][name] for p in params]) for name in state_names(rule)]
        there = readout(rule)(together(params), *state, t=self.state[params[0]]["t"])
        _put_back(params, there.flatten())

    def _parts(self, number: int) -> list:
        """[(part of the rule, its parameters)] of a group."""
        group = self.param_groups[number]
        ids = [id(p) for p in group["params"]]
        if self._cuts.get(number, (None,))[0] != ids:
            self._cuts[number] = ids, self._cut(group)
        return self._cuts[number][1]

    def _cut(self, group: dict) -> list:
        shapes = self._shapes(group)
        if self._by:
            applying.tensor_factors(self.rule, shapes, self._by)  # raises what there is to raise
        params = group["params"]
        parts = applying.parts(self.rule, shapes)
        return [(part, [params[place] for place in part.tensors]) for part in parts]

    def _shapes(self, group: dict) -> dict[str, torch.Size]:
        """{name: shape} of a group's parameters; numbers for names, where these do not matter."""
        names = group.get("param_names")
        if not names:
            chosen = self.rule.parts[2] if hasattr(self.rule, "parts") else is_matrix
            if self._by or chosen is not is_matrix:
                raise TypeError("tensors are chosen by name: give model.named_parameters()")
            names = map(str, range(len(group["params"])))
        return dict(zip(names, (p.shape for p in group["params"]), strict=True))

    def _rule(self, place, params) -> Rule:
        """The rule of a part, with the factors of these parameters, if there are any."""
        number, k = place
        part, all_of_it = self._parts(number)[k]
        if not self._by:
            return part.rule
        key = [(id(p), p.dtype, p.device) for p in params]
        if self._ruled.get(place, (None,))[0] != key:
            group = self.param_groups[number]
            factors = applying.tensor_factors(self.rule, self._shapes(group), self._by)
            of = {id(p): factors[i] for p, i in zip(all_of_it, part.tensors, strict=True)}
            own, sizes = [of[id(p)] for p in params], [p.numel() for p in params]
            self._ruled[place] = key, applying.rule_with(part, own, sizes, params[0])
        return self._ruled[place][1]

    def _together(self, part, params):
        """(t, the parameters to step at once), as t, dtype and device allow; large ones alone."""
        kinds = defaultdict(list)
        for p in params:
            memory = self.state[p]
            if not memory:
                start = starting(part.rule, p.detach())
                memory.update(zip(state_names(part.rule), start, strict=True), t=0)
            key = () if self._compile else (p.dtype, p.device, self._is_large(part, p) and id(p))
            kinds[int(memory["t"]) + 1, *key].append(p)
        return [(t, some) for (t, *_), some in kinds.items()]

    def _is_large(self, part, p) -> bool:
        return p.numel() > SMALL and part.rule not in self._coupled

    def _step(self, place, params, t, hyper):
        # one call on one vector does for many tensors
        part, _ = self._parts(place[0])[place[1]]
        rule, names, hyper = self._rule(place, params), state_names(part.rule), part.numbers(hyper)
        if part.alone:
            [p] = params
            held = [self.state[p][name] for name in names]
            new = rule(p, p.grad, *held, t=t, **hyper)
            for old, x in zip((p, *held), new, strict=True):
                old.copy_(x)
            self.state[p]["t"] = t
            return
        if self._fits_blocks(part, params[0]):
            self._step_blocks(rule, names, params[0], t, hyper)
            return
        held = self._vectors(place, params)
        joined = held is not None
        if not joined:
            held = [_flat([self.state[p][name] for p in params]) for name in names]
        new, *state = rule(_flat(params), _flat([p.grad for p in params]), *held, t=t, **hyper)
        for name, old, x in zip(names, held, state, strict=True):
            if joined:
                old.copy_(x)
            else:
                _put_back([self.state[p][name] for p in params], x)
        _put_back(params, new)
        for p in params:
            self.state[p]["t"] = t

    def _vectors(self, place, params) -> list[torch.Tensor] | None:
        """The state of a part's small tensors, a vector for each name, whose views self.state has.

        None unless these are all small tensors of their part, dtype and device: only they share
        vectors, so that memory does not grow with the sets that have gradients. Rebuilt after
        load_state_dict or a change of dtype.
        """
        part, all_of_it = self._parts(place[0])[place[1]]
        names = state_names(part.rule)
        kinds = [(p.dtype, p.device) for p in all_of_it if not self._is_large(part, p)]
        kind = (params[0].dtype, params[0].device)
        if self._is_large(part, params[0]) or kinds.count(kind) != len(params):
            return None
        views, vectors = self._joined.get((place, *kind), ((), ()))
        held = [self.state[p][name] for name in names for p in params]
        if len(views) != len(held) or any(x is not y for x, y in zip(held, views, strict=True)):
            views, vectors, n = [], [], len(params)
            for i, name in enumerate(names):
                whole = torch.cat([x.flatten() for x in held[i * n : (i + 1) * n]])
                vectors.append(whole.to(params[0]))
                parts = vectors[-1].split([p.numel() for p in params])
                for p, x in zip(params, parts, strict=True):
                    self.state[p][name] = x.view_as(p)
                    views.append(self.state[p][name])
            # what was of another dtype is forgotten
            other = lambda key: key[0] != place or key[1:] in kinds
            self._joined = {k: v for k, v in self._joined.items() if other(k)}
            self._joined[place, *kind] = views, vectors
        return vectors

    def _fits_blocks(self, part, p) -> bool:
        """Whether p is a large tensor on a CPU that can be cut into blocks."""
        large = p.numel() > BLOCK and part.rule not in self._coupled and p.device.type == "cpu"
        whole = lambda x: x.is_contiguous() and x.dtype == p.dtype
        return large and all(map(whole, self._all_of(state_names(part.rule), p)))

    def _all_of(self, names, p) -> list[torch.Tensor]:
        return [p, p.grad, *(self.state[p][name] for name in names)]

    def _step_blocks(self, rule, names, p, t, hyper) -> None:
        """Step a tensor block by block, in place: the temporaries of a block stay in the cache."""
        whole = self._all_of(names, p)
        for theta, g, *state in zip(*(x.view(-1).split(BLOCK) for x in whole), strict=True):
            new = rule(theta, g, *state, t=t, **hyper)
            for old, x in zip((theta, *state), new, strict=True):
                old.copy_(x)
        self.state[p]["t"] = t

    def _step_compiled(self, place, params, t, hyper):
        # numbers enter as 0-d tensors: a new t or a scheduled rate must not compile again
        part, _ = self._parts(place[0])[place[1]]
        names = state_names(part.rule)
        like = {"dtype": torch.float64, "device": params[0].device}
        # torch.full only launches; a copy from the CPU would wait for the GPU
        as_tensor = lambda v: v.to(**like) if torch.is_tensor(v) else torch.full((), v, **like)
        numbers = [as_tensor(v) for v in (*hyper.values(), t)]
        memory = [self.state[p] for p in params]
        args = numbers + [
            x for p, m in zip(params, memory) for x in (p, p.grad, *map(m.get, names))
        ]
        kind = (place, *[(x.shape, x.stride(), x.dtype, x.device) for x in args])
        if self._by:
            kind = (*kind, *map(id, params))
        if kind not in self._compiled:  # recorded on copies, since recording makes the step
            copies = [x.clone() for x in args]
            numbers = copies[: len(numbers)]
            rules = [self._rule(place, [p]) for p in params]
            update = partial(_update, part, rules, [*hyper, "t"])
            self._compiled[kind] = record(update, *copies, compile=True, numbers=numbers)
        self._compiled[kind](*args)
        for m in memory:
            m["t"] = t


def _update(part, rules, names, *args) -> None:
    """A step in place. args: numbers by their names, tensors with gradient and states."""
    hyper, tensors = dict(zip(names, args)), args[len(names) :]
    t, each = hyper.pop("t"), 2 + len(state_names(part.rule))
    for rule, k in zip(rules, range(0, len(tensors), each), strict=True):
        p, g, *state = tensors[k : k + each]
        new = rule(p, g, *state, t=t, **part.numbers(hyper))
        for old, x in zip((p, *state), new, strict=True):
            old.copy_(x)


def _flat(tensors) -> torch.Tensor:
    flat = [x.flatten() for x in tensors]
    return torch.cat(flat) if len(flat) > 1 else flat[0]


def _put_back(tensors, flat) -> None:
    """Copy the parts of a vector into tensors."""
    parts = flat.split([x.numel() for x in tensors])
    torch._foreach_copy_(tensors, [x.view_as(y) for x, y in zip(parts, tensors, strict=True)])
