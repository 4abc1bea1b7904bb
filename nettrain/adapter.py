"""A rule of `optimizers` as a torch.optim.Optimizer."""

import torch

from nettrain.optimizers import Rule, check_hyper, hyperparameters, state_names


class Optimizer(torch.optim.Optimizer):
    """Apply `rule` to each parameter tensor; all that torch does with an optimizer works.

        opt = Optimizer(model.parameters(), adam, lr=1e-3)

    params   tensors, (name, tensor) pairs or param groups; a group may set its own hyperparameters
    hyper    the rule's hyperparameters by name; the rule's defaults for the rest
    compile  run the rule, as written, through torch.compile over all parameters at once: the same
             equation as one fused kernel a tensor. The first step takes seconds; needs a C compiler

    Raises TypeError for a hyperparameter that the rule does not have and for parameters that are not
    real floating point, ValueError for a value out of range, RuntimeError for a sparse gradient. A
    parameter whose gradient is None is left alone. A NaN gradient is used as it is: the parameter
    and its state become NaN, as in torch.
    """

    def __init__(self, params, rule: Rule, *, compile: bool = False, **hyper):
        check_hyper(rule, hyper)
        self.rule, self._names = rule, state_names(rule)
        super().__init__(params, {**hyperparameters(rule), **hyper})
        self._update = torch.compile(self._update_all, dynamic=False) if compile else None

    def add_param_group(self, param_group):
        known = hyperparameters(self.rule)
        torch_keys = {"params", "param_names", "initial_lr"}  # torch puts these there, not the user
        check_hyper(self.rule, {k: v for k, v in param_group.items() if k not in torch_keys})
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            if not p.is_floating_point():
                self.param_groups.pop()
                raise TypeError(f"{self.rule.__name__} needs real floating point, not {p.dtype}")
        assert known.keys() <= self.param_groups[-1].keys()

    @torch.no_grad()
    def step(self, closure=None):
        """One step of every parameter that has a gradient; returns the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            hyper = {name: group[name] for name in hyperparameters(self.rule)}
            params = [p for p in group["params"] if p.grad is not None]
            if self._update is None:
                for p in params:
                    state = self._advance(p)
                    theta, *new = self.rule(p, p.grad, *self._memory(state), t=state["t"], **hyper)
                    p.copy_(theta)
                    state.update(zip(self._names, new, strict=True))
            elif params:
                self._step_compiled(params, hyper)
        return loss

    def _advance(self, p) -> dict:
        """The parameter's state with t counted up; zeros at its first step."""
        state = self.state[p]
        if not state:
            if p.grad.is_sparse:
                raise RuntimeError(f"{self.rule.__name__} needs a dense gradient, not a sparse one")
            state["t"] = 0
            state.update((name, torch.zeros_like(p)) for name in self._names)
        state["t"] += 1
        return state

    def _memory(self, state) -> list:
        return [state[name] for name in self._names]

    def _step_compiled(self, params, hyper):
        states = [self._advance(p) for p in params]
        # numbers enter as 0-d tensors: a new t or a scheduled rate must not compile anew
        number = lambda x: torch.as_tensor(x, dtype=torch.float64, device=params[0].device)  # noqa: E731
        ts = [number(s["t"]) for s in states]
        hyper = {name: number(value) for name, value in hyper.items()}
        memory = [self._memory(s) for s in states]
        self._update(params, [p.grad for p in params], memory, ts, hyper)

    def _update_all(self, params, grads, memory, ts, hyper):
        for p, g, state, t in zip(params, grads, memory, ts, strict=True):
            new = self.rule(p, g, *state, t=t, **hyper)
            for old, x in zip((p, *state), new, strict=True):
                old.copy_(x)
