"""Many runs at once. One run is written; `torch.func.vmap` adds the rows. No other file knows rows."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from nettrain import training
from nettrain.data import Data, Split
from nettrain.optimizers import Rule, check_hyper, state_names

CACHE = 1 << 20  # bytes of parameters that are worked on at once on a CPU: about its L2 cache


@dataclass(frozen=True)
class Runs:
    """R runs after t steps; `len(runs)` is R, `runs[rows]` selects some and keeps all they know."""

    theta: Tensor  # [R, P] parameters
    state: tuple[Tensor, ...]  # each [R, P], the rule's memory
    buffers: dict[str, Tensor]  # each [R, ...], the model's: running statistics, keys of masks
    hyper: dict[str, Tensor]  # each [R], float64
    seed: Tensor  # [R]
    t: int

    def __len__(self) -> int:
        return len(self.theta)

    def __getitem__(self, rows) -> "Runs":
        rows = torch.arange(len(self), device=self.theta.device)[rows].view(-1)
        return replace(
            self,
            theta=self.theta[rows],
            state=tuple(s[rows] for s in self.state),
            buffers={k: b[rows] for k, b in self.buffers.items()},
            hyper={k: h[rows] for k, h in self.hyper.items()},
            seed=self.seed[rows],
        )


def join(parts: Sequence[Runs]) -> Runs:
    """Runs of equal t and model, one after the other."""
    first = parts[0]
    return Runs(
        torch.cat([p.theta for p in parts]),
        tuple(torch.cat(s) for s in zip(*(p.state for p in parts), strict=True)),
        {k: torch.cat([p.buffers[k] for p in parts]) for k in first.buffers},
        {k: torch.cat([p.hyper[k] for p in parts]) for k in first.hyper},
        torch.cat([p.seed for p in parts]),
        first.t,
    )


class Sweep:
    """One model, one rule, one batch size; any number of seeds, rates and other hyperparameters.

        sweep = Sweep(lambda: mlp([196, 32, 10]), adam, mnist(side=14), batch=64)
        runs = sweep.start(seeds=[0, 0, 1, 1], lr=[1e-3, 1e-2, 1e-3, 1e-2])
        runs, losses = sweep.advance(runs, steps=500)

    Law: a row is that run alone. It has its own initial weights, data order and masks (functions of
    its seed) and its own buffers, whatever rows stand beside it; `training.fit` gives the same run.
    What cannot be a row (batch size, widths, rule, schedule) is another Sweep.

    model     () -> module, called once per distinct seed
    loss      (outputs, labels) -> number
    schedule  lr [R] -> schedule, as `lambda lr: schedules.cosine(lr, 500)`
    clip      gradient [P] -> gradient [P]
    dtype     of parameters and data; float64 for tests

    torch.nn.Dropout is refused by vmap: its masks would depend on the neighbours. Use
    `regularization.Dropout`.
    """

    def __init__(
        self,
        model: Callable[[], nn.Module],
        rule: Rule,
        data: Data,
        *,
        batch: int = 64,
        loss: Callable = F.cross_entropy,
        schedule: Callable | None = None,
        clip: Callable | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        self.model, self.rule, self.data, self.batch = model, rule, data.to(dtype), batch
        self.loss, self.schedule, self.clip, self.dtype = loss, schedule, clip, dtype
        self.device = data.train.x.device
        self.per_epoch = training.steps_per_epoch(len(data.train), batch)
        with torch.random.fork_rng(devices=[]):
            self._net = model().to(self.device, dtype)
        self._shapes = {name: p.shape for name, p in self._net.named_parameters()}
        self._sizes = [shape.numel() for shape in self._shapes.values()]
        self._traced: dict = {}

    # ------------------------------------------------------------------------------- one run

    def _call(self, theta, buffers, x):
        """Outputs of the network with parameters theta [P]; in training mode it changes the buffers."""
        parts = zip(self._shapes.items(), theta.split(self._sizes), strict=True)
        params = {name: part.view(shape) for (name, shape), part in parts}
        return functional_call(self._net, params | buffers, x)

    def _step(self, theta, state, buffers, hyper, x, y, t):
        """One step of one run: the only place where model, loss, clipping and rule meet."""

        def objective(theta):
            after = {name: b.clone() for name, b in buffers.items()}  # the model writes into these
            return self.loss(self._call(theta, after, x), y), after

        g, (loss, buffers) = grad_and_value(objective, has_aux=True)(theta)
        if self.clip:
            g = self.clip(g)
        theta, *state = self.rule(theta, g, *state, t=t, **hyper)
        return theta, state, buffers, loss

    def _measure(self, theta, buffers, x, y):
        out = self._call(theta, buffers, x)
        right = (
            (out.argmax(-1) == y).double().mean() if out.ndim == 2 else y.new_tensor(float("nan"))
        )
        return self.loss(out, y), right

    # ------------------------------------------------------------------------------- all runs

    def start(self, seeds: Sequence[int], **hyper) -> Runs:
        """One run per seed; a hyperparameter is a number for all or a sequence, one for each.

        Raises ValueError for no seeds, for lengths that differ and for values out of range, TypeError
        for a hyperparameter that the rule does not have.
        """
        seeds = [int(s) for s in seeds]
        if not seeds:
            raise ValueError("seeds=[] starts no run; give one seed per run")
        check_hyper(self.rule, hyper)
        if self.schedule and "lr" not in hyper:
            raise ValueError("a schedule needs lr, the rate that it starts from")
        columns = {}
        for name, value in hyper.items():
            value = torch.as_tensor(value, dtype=torch.float64, device=self.device)
            if value.ndim > 1 or (value.ndim and len(value) != len(seeds)):
                raise ValueError(
                    f"{name} has shape {list(value.shape)}, but there are {len(seeds)} seeds"
                )
            columns[name] = value.expand(len(seeds)).clone()
        nets = {
            s: training.build(self.model, s).to(self.device, self.dtype)
            for s in dict.fromkeys(seeds)
        }
        flat = {
            s: torch.cat([p.detach().flatten() for p in net.parameters()])
            for s, net in nets.items()
        }
        theta = torch.stack([flat[s] for s in seeds])
        names = [name for name, _ in self._net.named_buffers()]
        buffers = {k: torch.stack([nets[s].get_buffer(k) for s in seeds]) for k in names}
        state = tuple(torch.zeros_like(theta) for _ in state_names(self.rule))
        return Runs(theta, state, buffers, columns, torch.tensor(seeds, device=self.device), 0)

    def _chunks(self, runs: Runs) -> list[Runs]:
        """On a CPU as many rows as the cache holds, else all; a row's numbers do not depend on it."""
        row = runs.theta[0].numel() * runs.theta.element_size()
        rows = max(1, CACHE // row) if self.device.type == "cpu" else len(runs)
        pieces = -(-len(runs) // rows)
        rows = -(-len(runs) // pieces)  # pieces of nearly equal size share one trace
        return [runs[i : i + rows] for i in range(0, len(runs), rows)]

    def advance(self, runs: Runs, steps: int) -> tuple[Runs, Tensor]:
        """Train every run `steps` further; also the mean mini-batch loss over these steps, [R].

        A run that diverges stays a row, with NaN or infinite losses. Raises ValueError for no runs.
        """
        if not len(runs):
            raise ValueError("no runs to advance: the selection is empty")
        parts, losses = zip(
            *(self._advance(part, steps) for part in self._chunks(runs)), strict=True
        )
        return join(parts), torch.cat(losses)

    def _advance(self, runs: Runs, steps: int) -> tuple[Runs, Tensor]:
        net, n = self._net.train(), len(self.data.train)
        theta, state, buffers, hyper = runs.theta, runs.state, runs.buffers, dict(runs.hyper)
        rate = self.schedule(runs.hyper["lr"]) if self.schedule else None
        total = torch.zeros(len(runs), dtype=self.dtype, device=self.device)
        step = epoch = None
        for done in range(runs.t, runs.t + steps):
            if done // self.per_epoch != epoch:
                epoch = done // self.per_epoch
                rows = vmap(training.order, in_dims=(0, None, None))(runs.seed, epoch, n)
            k = done % self.per_epoch * self.batch
            i = rows[:, k : k + self.batch]
            # index_select on a flat index is several times faster than x[i]
            x = self.data.train.x.index_select(0, i.reshape(-1)).view(*i.shape, *self.data.shape)
            y = self.data.train.y[i]
            if rate:
                hyper["lr"] = rate(done)
            t = torch.tensor(done + 1, dtype=torch.float64, device=self.device)
            args = (theta, state, buffers, hyper, x, y, t)
            if step is None:
                step = self._trace(args)
            theta, state, buffers, loss = step(*args)
            total += loss
        net.eval()
        return replace(
            runs, theta=theta, state=tuple(state), buffers=buffers, t=runs.t + steps
        ), total / max(steps, 1)

    def _trace(self, args) -> Callable:
        """The step of all rows as one list of tensor operations, recorded once per shape.

        Recording removes the cost of vmap, grad and functional_call from every later step.
        """
        key = (args[0].shape, tuple(args[3]))
        if key not in self._traced:
            step = vmap(self._step, in_dims=(0, 0, 0, 0, 0, 0, None))
            self._traced[key] = make_fx(lambda *args: step(*args))(*args)
        return self._traced[key]

    @torch.no_grad()
    def evaluate(self, runs: Runs, split: Split) -> tuple[Tensor, Tensor]:
        """(loss [R], accuracy [R]) of every run on a split, in evaluation mode."""
        self._net.eval()
        split = split.to(self.dtype)
        measure = vmap(self._measure, in_dims=(0, 0, None, None))
        parts = [measure(part.theta, part.buffers, split.x, split.y) for part in self._chunks(runs)]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def network(self, runs: Runs, row: int) -> nn.Module:
        """One run as a module of its own."""
        net = training.build(self.model, int(runs.seed[row])).to(self.device, self.dtype)
        nn.utils.vector_to_parameters(runs.theta[row].clone(), net.parameters())
        for name, buffer in net.named_buffers():
            buffer.copy_(runs.buffers[name][row])
        return net
