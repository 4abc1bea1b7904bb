"""A rule of `optimizers` as a torch.optim.Optimizer."""

from collections import defaultdict

import torch

from nettrain.optimizers import Rule, check_hyper, hyperparameters, state_names
from nettrain.recording import record

TORCH_KEYS = {"params", "param_names", "initial_lr"}  # what a group may hold besides numbers
SMALL = 1 << 14  # numbers; smaller tensors are stepped as one vector, since a call costs more
BLOCK = 1 << 15  # numbers; larger tensors are stepped in blocks, whose temporaries the cache holds


class Optimizer(torch.optim.Optimizer):
    """Apply `rule` to each parameter tensor; all that torch does with an optimizer works.

        opt = Optimizer(model.parameters(), adam, lr=1e-3)

    params   tensors, (name, tensor) pairs or param groups; a group may set its own hyperparameters
    hyper    the rule's hyperparameters by name; the rule's defaults for the rest
    compile  run the rule, as written, through torch.compile over all parameters at once: the same
             equation as one fused kernel a tensor. The first step takes seconds; needs a C++
             compiler

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
        super().__init__(params, hyperparameters(rule) | hyper | {"rule": rule.__name__})

    def __getstate__(self) -> dict:
        """What pickle and deepcopy keep: torch's own forgets what it does not know."""
        own = {name: self.__dict__[name] for name in ("rule", "_compile", "_state", "_hyper")}
        return super().__getstate__() | own | {"_compiled": {}, "_joined": {}}

    def add_param_group(self, param_group):
        """As torch's; the group's own hyperparameters are checked like those of the constructor."""
        if isinstance(param_group, dict):  # else torch says what is wrong
            hyper = {k: v for k, v in param_group.items() if k not in TORCH_KEYS}
            check_hyper(self.rule, hyper)
        super().add_param_group(param_group)
        params = self.param_groups[-1]["params"]
        wrong = [p.dtype for p in params if not p.is_floating_point()]
        if wrong or len(set(params)) < len(params):
            self.param_groups.pop()
            if wrong:
                raise TypeError(f"{self.rule.__name__} needs real floating point, not {wrong[0]}")
            raise ValueError("a parameter group holds the same parameter twice")

    def load_state_dict(self, state_dict):
        """As torch's. Raises ValueError for the state of another rule."""
        for group in state_dict["param_groups"]:
            if group.get("rule") != self.rule.__name__:
                theirs = group.get("rule", "another optimizer")
                raise ValueError(f"this is the state of {theirs}, not of {self.rule.__name__}")
        super().load_state_dict(state_dict)

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
        for group, params in zip(self.param_groups, ready, strict=True):
            hyper = {name: group[name] for name in self._hyper}
            for t, some in self._together(params):
                (self._step_compiled if self._compile else self._step)(some, t, hyper)
        return loss

    def _together(self, params):
        """(t, the parameters to step at once), as t, dtype and device allow; large ones alone."""
        parts = defaultdict(list)
        for p in params:
            memory = self.state[p]
            if not memory:
                memory.update({name: torch.zeros_like(p) for name in self._state}, t=0)
            key = (p.dtype, p.device, p.numel() > SMALL and id(p)) if not self._compile else ()
            parts[memory["t"] + 1, *key].append(p)
        return [(t, some) for (t, *_), some in parts.items()]

    def _step(self, params, t, hyper):
        # the rule works coordinate by coordinate: one call on one vector does for many tensors
        if self._in_blocks(params[0], t, hyper):
            return
        held = self._vectors(params)
        new, *state = self.rule(_flat(params), _flat([p.grad for p in params]), *held, t=t, **hyper)
        for old, x in zip(held, state, strict=True):
            old.copy_(x)
        parts = new.split([p.numel() for p in params])
        torch._foreach_copy_(params, [x.view_as(p) for p, x in zip(params, parts, strict=True)])
        for p in params:
            self.state[p]["t"] = t

    def _vectors(self, params) -> list[torch.Tensor]:
        """The state of these parameters, a vector for each name; what `self.state` holds are views.

        Made anew when somebody, as load_state_dict does, has put other tensors there, and when the
        parameters have become of another type.
        """
        key = (params[0].dtype, params[0].device, *map(id, params))
        views, vectors = self._joined.get(key, ((), ()))
        held = [self.state[p][name] for name in self._state for p in params]
        if not views or any(x is not y for x, y in zip(held, views, strict=True)):
            views, vectors, n = [], [], len(params)
            for i, name in enumerate(self._state):
                whole = torch.cat([x.flatten() for x in held[i * n : (i + 1) * n]])
                vectors.append(whole.to(params[0]))
                parts = vectors[-1].split([p.numel() for p in params])
                for p, x in zip(params, parts, strict=True):
                    self.state[p][name] = x.view_as(p)
                    views.append(self.state[p][name])
            self._joined[key] = views, vectors
        return vectors

    def _in_blocks(self, p, t, hyper) -> bool:
        """Step a large tensor on a CPU block by block, in place; whether it was one."""
        memory = self.state[p]
        whole = [p, p.grad, *(memory[name] for name in self._state)]
        if (
            p.numel() <= BLOCK
            or p.device.type != "cpu"
            or not all(x.is_contiguous() and x.dtype == p.dtype for x in whole)
        ):
            return False
        for theta, g, *state in zip(*(x.view(-1).split(BLOCK) for x in whole), strict=True):
            new = self.rule(theta, g, *state, t=t, **hyper)
            for old, x in zip((theta, *state), new, strict=True):
                old.copy_(x)
        memory["t"] = t
        return True

    def _step_compiled(self, params, t, hyper):
        # numbers enter as 0-d tensors: a new t or a scheduled rate must not compile anew
        like = {"dtype": torch.float64, "device": params[0].device}
        numbers = [torch.as_tensor(v, **like) for v in (*hyper.values(), t)]
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
