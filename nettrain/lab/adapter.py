"""A rule of `optimizers` as a torch.optim.Optimizer."""

from collections import defaultdict
from difflib import get_close_matches

import torch

from nettrain.lab.recording import record
from nettrain.optimizers import (
    RANGES,
    Rule,
    check_hyper,
    hyperparameters,
    is_coordinatewise,
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

    params   tensors, (name, tensor) pairs or param groups; a group may set its own hyperparameters,
             and may hold what else its user keeps there
    hyper    the rule's hyperparameters by name; the rule's defaults for the rest
    compile  run the rule, as written, through torch.compile over all parameters at once: the same
             equation as one fused kernel a tensor. The first step takes seconds; needs a C++
             compiler

    A rule that is not coordinatewise, such as `penalized` by a norm, steps the vector of all
    parameters of a group, as in a sweep; so all of them must have a gradient, and one dtype.

    Raises TypeError for a hyperparameter that the rule does not have and for parameters that are
    not real floating point, ValueError for a value out of range and for a parameter given twice,
    RuntimeError for a sparse gradient, before anything is changed. A parameter whose gradient is
    None is left alone. A NaN gradient is used as it is: the parameter and its state become NaN, as
    in torch.
    """

    def __init__(self, params, rule: Rule, *, compile: bool = False, **hyper):
        check_hyper(rule, hyper)
        self.rule, self._compile, self._compiled, self._joined = rule, compile, {}, {}
        self._state, self._hyper = state_names(rule), list(hyperparameters(rule))
        self._whole = not is_coordinatewise(rule, **hyper)
        if compile and self._whole:
            raise ValueError(f"compile=True steps tensor by tensor, but {rule.__name__} cannot")
        own = hyperparameters(rule) | hyper | {"rule": rule.__name__}
        # torch's schedulers of momentum look here for what a group goes by
        also = {name: Group(own)[name] for name in ("betas", "momentum") if Group(own)._names(name)}
        super().__init__(params, own | also)

    def __getstate__(self) -> dict:
        """What pickle and deepcopy keep: torch's own forgets what it does not know."""
        own = ("rule", "_compile", "_state", "_hyper", "_whole")
        kept = {name: self.__dict__[name] for name in own}
        return super().__getstate__() | kept | {"_compiled": {}, "_joined": {}}

    def __setstate__(self, state):
        """As torch's, which also ends `load_state_dict`, after the hooks that translate a state."""
        state = state | {"param_groups": [Group(g) for g in state["param_groups"]]}
        if "rule" in self.__dict__:
            self._check_loaded(state)
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
            for memory in (state["state"].get(p) for p in group["params"]):
                if memory and (lacks := {*self._state, "t"} - memory.keys()):
                    raise ValueError(f"this state of {mine} has no {', '.join(sorted(lacks))}")

    @torch.no_grad()
    def step(self, closure=None):
        """One step of every parameter that has a gradient; returns the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        ready = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        if any(p.grad.layout != torch.strided for params in ready for p in params):
            raise RuntimeError(f"{self.rule.__name__} needs a dense gradient, not a sparse one")
        for number, params in enumerate(ready):
            group = self.param_groups[number]
            hyper = {name: group[name] for name in self._hyper}
            for t, some in self._together(params):
                if self._whole and len(some) < len(group["params"]):
                    raise RuntimeError(
                        f"{self.rule.__name__} steps all parameters of a group as one vector, but "
                        f"only {len(some)} of {len(group['params'])} have a gradient, one dtype "
                        "and one number of steps"
                    )
                if self._compile:
                    self._step_compiled(some, t, hyper)
                else:
                    self._step(number, some, t, hyper)
        return loss

    def _together(self, params):
        """(t, the parameters to step at once), as t, dtype and device allow; large ones alone."""
        parts = defaultdict(list)
        for p in params:
            memory = self.state[p]
            if not memory:
                memory.update({name: torch.zeros_like(p) for name in self._state}, t=0)
            key = (p.dtype, p.device, self._is_large(p) and id(p)) if not self._compile else ()
            parts[int(memory["t"]) + 1, *key].append(p)
        return [(t, some) for (t, *_), some in parts.items()]

    def _is_large(self, p) -> bool:
        return p.numel() > SMALL and not self._whole

    def _step(self, number, params, t, hyper):
        # one call on one vector does for many tensors
        if self._fits_blocks(params[0]):
            self._step_blocks(params[0], t, hyper)
            return
        held = self._vectors(number, params)
        joined = held is not None
        if not joined:
            held = [_flat([self.state[p][name] for p in params]) for name in self._state]
        new, *state = self.rule(_flat(params), _flat([p.grad for p in params]), *held, t=t, **hyper)
        for name, old, x in zip(self._state, held, state, strict=True):
            if joined:
                old.copy_(x)
            else:
                _put_back([self.state[p][name] for p in params], x)
        _put_back(params, new)
        for p in params:
            self.state[p]["t"] = t

    def _vectors(self, number, params) -> list[torch.Tensor] | None:
        """The state of a group's small tensors, a vector for each name, whose views self.state has.

        None unless these are all small tensors of their group, dtype and device: only they share
        vectors, so that memory does not grow with the sets that have gradients. Rebuilt after
        load_state_dict or a change of dtype.
        """
        kinds = [
            (p.dtype, p.device)
            for p in self.param_groups[number]["params"]
            if not self._is_large(p)
        ]
        kind = (params[0].dtype, params[0].device)
        if self._is_large(params[0]) or kinds.count(kind) != len(params):
            return None
        views, vectors = self._joined.get((number, *kind), ((), ()))
        held = [self.state[p][name] for name in self._state for p in params]
        if len(views) != len(held) or any(x is not y for x, y in zip(held, views, strict=True)):
            views, vectors, n = [], [], len(params)
            for i, name in enumerate(self._state):
                whole = torch.cat([x.flatten() for x in held[i * n : (i + 1) * n]])
                vectors.append(whole.to(params[0]))
                parts = vectors[-1].split([p.numel() for p in params])
                for p, x in zip(params, parts, strict=True):
                    self.state[p][name] = x.view_as(p)
                    views.append(self.state[p][name])
            # what was of another dtype is forgotten
            other = lambda key: key[0] != number or key[1:] in kinds
            self._joined = {k: v for k, v in self._joined.items() if other(k)}
            self._joined[number, *kind] = views, vectors
        return vectors

    def _fits_blocks(self, p) -> bool:
        """Whether p is a large tensor on a CPU that can be cut into blocks."""
        large = p.numel() > BLOCK and not self._whole and p.device.type == "cpu"
        return large and all(x.is_contiguous() and x.dtype == p.dtype for x in self._all_of(p))

    def _all_of(self, p) -> list[torch.Tensor]:
        return [p, p.grad, *(self.state[p][name] for name in self._state)]

    def _step_blocks(self, p, t, hyper) -> None:
        """Step a tensor block by block, in place: the temporaries of a block stay in the cache."""
        whole = self._all_of(p)
        for theta, g, *state in zip(*(x.view(-1).split(BLOCK) for x in whole), strict=True):
            new = self.rule(theta, g, *state, t=t, **hyper)
            for old, x in zip((theta, *state), new, strict=True):
                old.copy_(x)
        self.state[p]["t"] = t

    def _step_compiled(self, params, t, hyper):
        # numbers enter as 0-d tensors: a new t or a scheduled rate must not compile again
        like = {"dtype": torch.float64, "device": params[0].device}
        # torch.full only launches; a copy from the CPU would wait for the GPU
        as_tensor = lambda v: v.to(**like) if torch.is_tensor(v) else torch.full((), v, **like)
        numbers = [as_tensor(v) for v in (*hyper.values(), t)]
        memory = [self.state[p] for p in params]
        args = numbers + [
            x for p, m in zip(params, memory) for x in (p, p.grad, *map(m.get, self._state))
        ]
        kind = tuple([(x.shape, x.stride(), x.dtype, x.device) for x in args])
        if kind not in self._compiled:  # recorded on copies, since recording makes the step
            copies = [x.clone() for x in args]
            numbers = copies[: len(numbers)]
            self._compiled[kind] = record(self._update, *copies, compile=True, numbers=numbers)
        self._compiled[kind](*args)
        for m in memory:
            m["t"] = t

    def _update(self, *args):
        names, each = [*self._hyper, "t"], 2 + len(self._state)
        numbers, tensors = dict(zip(names, args)), args[len(names) :]
        for k in range(0, len(tensors), each):
            p, g, *state = tensors[k : k + each]
            for old, new in zip((p, *state), self.rule(p, g, *state, **numbers), strict=True):
                old.copy_(new)


def _flat(tensors) -> torch.Tensor:
    flat = [x.flatten() for x in tensors]
    return torch.cat(flat) if len(flat) > 1 else flat[0]


def _put_back(tensors, flat) -> None:
    """Copy the parts of a vector into tensors."""
    parts = flat.split([x.numel() for x in tensors])
    torch._foreach_copy_(tensors, [x.view_as(y) for x, y in zip(parts, tensors, strict=True)])
