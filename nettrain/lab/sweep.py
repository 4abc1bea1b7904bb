"""Many runs at once: one run is written, `torch.func.vmap` adds the rows.

No other file knows about rows.
"""

import itertools
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.utils._pytree import tree_map

from nettrain import draws, losses
from nettrain.data import Data, Split
from nettrain.groups import By
from nettrain.lab import applying, training
from nettrain.lab.recording import record
from nettrain.normalization import BatchNorm, full_batch
from nettrain.optimizers import Rule, check_hyper

CACHE = 1 << 20  # bytes of parameters that are worked on at once on a CPU: about its L2 cache


@dataclass(frozen=True)
class Runs:
    """R runs after t steps; `len(runs)` is R, `runs[rows]` selects some and keeps all they know."""

    theta: Tensor  # [R, P] parameters
    state: tuple[Tensor, ...]  # each [R, P], or [R, ...] as the rule starts it: its memory
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
    gradient  what computes the gradient, of what computes it at one point:
              `partial(contenders.sam, rho=0.05)`. The loss of a step and running statistics are
              those that it returns
    by        (name, shape) -> {hyperparameter: factor} of a tensor, as `groups.weights_only`
    dtype     of parameters and data; float64 for tests
    compile   compile the step of all runs: seconds for each number of rows, then faster steps
    graph     on a GPU repeat a step as one CUDA graph, so that it costs one launch

    torch.nn.Dropout is refused by vmap: its masks would depend on the neighbours. Use
    `dropout.Dropout`, or derive a random layer from `draws.Keyed`. A step is recorded and
    then repeated: what changes from step to step must be a buffer, and a Python number that a
    training pass changes is refused with RuntimeError by the first `advance`. Raises ValueError for
    frozen parameters and for labels that do not fit the outputs.
    """

    def __init__(
        self,
        model: Callable[[], nn.Module],
        rule: Rule,
        data: Data,
        *,
        batch: int = 64,
        loss: Callable = losses.cross_entropy,
        schedule: Callable | None = None,
        clip: Callable | None = None,
        gradient: Callable | None = None,
        by: By | None = None,
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
        graph: bool = True,
    ):
        self.compile, self.graph = compile, graph and data.train.x.device.type == "cuda"
        self._fuse = data.train.x.device.type == "cpu"  # a loop in numba, where that is installed
        self._most = sys.maxsize  # rows that a GPU's memory holds, as far as is known
        self.model, self.rule, self.data, self.batch = model, rule, data.to(dtype), batch
        self.loss, self.schedule, self.clip, self.dtype = loss, schedule, clip, dtype
        self.gradient, self.by = gradient, by
        self.device = data.train.x.device
        self.per_epoch = training.steps_per_epoch(len(data.train), batch)
        with torch.random.fork_rng(devices=[]):
            self._net = model().to(self.device, dtype)
        if frozen := [name for name, p in self._net.named_parameters() if not p.requires_grad]:
            raise ValueError(f"a sweep trains every parameter, but {frozen} need no gradient")
        training.check_data(self._net, self.data, loss)
        self._shapes = {name: p.shape for name, p in self._net.named_parameters()}
        self._sizes = [shape.numel() for shape in self._shapes.values()]
        like = next(self._net.parameters())
        self._on = applying.OnVector(rule, self._shapes, by, like)
        layers = [k for k, m in self._net.named_modules() if isinstance(m, BatchNorm)]
        both = ("running_mean", "running_var")
        self._running = {f"{k}.{name}".lstrip(".") for k in layers for name in both}
        self._traced: dict = {}

    def _build(self, seed: int) -> nn.Module:
        return training.build(self.model, seed).to(self.device, self.dtype)

    # ------------------------------------------------------------------------------- one run

    def _call(self, theta, buffers, x):
        """Outputs of the network at theta [P]; in training mode it writes into the buffers."""
        parts = zip(self._shapes.items(), theta.split(self._sizes), strict=True)
        params = {name: part.view(shape) for (name, shape), part in parts}
        return functional_call(self._net, params | buffers, x)

    def _step(self, theta, state, buffers, hyper, x, y, t):
        """One step of one run: the only place where model, loss, clipping and rule meet."""

        def objective(theta):
            after = {name: b.clone() for name, b in buffers.items()}  # the model writes into these
            return self.loss(self._call(theta, after, x), y), after

        gradient = grad_and_value(objective, has_aux=True)  # θ -> g, (loss, buffers)
        g, (loss, buffers) = (self.gradient(gradient) if self.gradient else gradient)(theta)
        if self.clip:
            g = self.clip(g)
        theta, *state = self._on.step(theta, g, *state, t=t, **hyper)
        return theta, state, buffers, loss

    def _measure(self, theta, buffers, x, y):
        out = self._call(theta, buffers, x)
        return self.loss(out, y), losses.accuracy(out, y)

    # ------------------------------------------------------------------------------- all runs

    def start(self, seeds: Sequence[int], **hyper) -> Runs:
        """One run per seed; a hyperparameter is a number for all or a sequence, one for each.

        Raises ValueError for no seeds, for lengths that differ and for values out of range,
        TypeError for a hyperparameter that the rule does not have.
        """
        seeds = [draws.check_seed(s) for s in seeds]
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
        nets = {s: self._build(s) for s in dict.fromkeys(seeds)}
        flat = {s: nn.utils.parameters_to_vector(net.parameters()) for s, net in nets.items()}
        theta = torch.stack([flat[s] for s in seeds]).detach()
        names = [name for name, _ in self._net.named_buffers()]
        buffers = {k: torch.stack([nets[s].get_buffer(k) for s in seeds]) for k in names}
        state = tuple(s.contiguous() for s in vmap(self._on.start)(theta))
        return Runs(theta, state, buffers, columns, torch.tensor(seeds, device=self.device), 0)

    def _chunks(self, runs: Runs) -> list[Runs]:
        """On a CPU as many rows as the cache holds, else all; no row's numbers depend on it."""
        row = runs.theta[0].numel() * runs.theta.element_size()
        rows = max(1, CACHE // row) if self.device.type == "cpu" else min(len(runs), self._most)
        pieces = -(-len(runs) // rows)
        rows = -(-len(runs) // pieces)  # pieces of nearly equal size share one trace
        return [runs[i : i + rows] for i in range(0, len(runs), rows)]

    def advance(self, runs: Runs, steps: int) -> tuple[Runs, Tensor]:
        """Train every run `steps` further; also the mean mini-batch loss over these steps, [R].

        A run that diverges stays a row, with NaN or infinite losses. Raises ValueError for no runs.
        """
        if not len(runs):
            raise ValueError("no runs to advance: the selection is empty")
        if steps < 0:
            raise ValueError(f"steps={steps} must not be negative")
        advance = partial(self._advance, steps=steps)
        done = [d for part in self._chunks(runs) for d in self._by_halves(advance, part)]
        return join([part for part, _ in done]), torch.cat([loss for _, loss in done])

    def _by_halves(self, work: Callable, runs: Runs) -> list:
        """[work(runs)], or of parts of them where a GPU's memory does not hold all at once."""
        try:
            return [work(runs)]
        except torch.OutOfMemoryError:
            if len(runs) == 1:
                raise
        self._traced.clear()  # a graph keeps the memory that it works in
        torch.cuda.empty_cache()
        half = -(-len(runs) // 2)
        self._most = min(self._most, half)  # so that it is tried once
        return self._by_halves(work, runs[:half]) + self._by_halves(work, runs[half:])

    def _advance(self, runs: Runs, steps: int) -> tuple[Runs, Tensor]:
        split, flat = self.data.train, self.data.train.x.flatten(1)
        self._net.train()
        theta, state, buffers, hyper = runs.theta, runs.state, runs.buffers, dict(runs.hyper)
        rate = self.schedule(runs.hyper["lr"]) if self.schedule else None
        total = torch.zeros(len(runs), dtype=self.dtype, device=self.device)
        seeds, which = runs.seed.unique(return_inverse=True)
        shape, step, epoch = (len(runs), self.batch), None, None
        until = runs.t + steps
        times = torch.arange(runs.t + 1, until + 1, dtype=torch.float64, device=self.device)
        for done in range(runs.t, until):
            if done // self.per_epoch != epoch:
                epoch = done // self.per_epoch
                order = training.order(seeds, epoch, len(split))[which]
                # [steps of the epoch, examples of all runs]: a step takes one row of it
                order = order[:, : self.per_epoch * self.batch].unflatten(1, (-1, self.batch))
                order = order.transpose(0, 1).flatten(1)
            i = order[done % self.per_epoch]
            # index_select is many times faster than x[i]
            x = flat.index_select(0, i).view(*shape, *self.data.shape)
            y = split.y.index_select(0, i).view(*shape, *split.y.shape[1:])
            if rate:
                hyper["lr"] = rate(done)
            args = (theta, state, buffers, hyper, x, y, times[done - runs.t])
            if step is None:
                step = self._trace(args)
            theta, state, buffers, loss = step(*args)
            total += loss
        if self.graph:  # a later call writes into the graph's own tensors
            theta, state, buffers = tree_map(torch.clone, (theta, tuple(state), buffers))
        after = replace(runs, theta=theta, state=tuple(state), buffers=buffers, t=until)
        return after, total / max(steps, 1)

    def _trace(self, args) -> Callable:
        """The step of all rows as one list of tensor operations, recorded once per shape.

        Recording removes the cost of vmap, grad and functional_call from every later step.
        """
        key = (args[0].shape, tuple(args[3]))
        if key not in self._traced:
            step, changed = vmap(self._step, in_dims=(0, 0, 0, 0, 0, 0, None)), set()

            def watched(*args):
                before = _python_numbers(self._net)
                out = step(*args)
                changed.clear()  # a first pass may fill a cache; only the second one counts
                changed.update(dict(_python_numbers(self._net).items() - before.items()))
                return out

            numbers = (args[3], args[6])  # hyperparameters and t
            try:
                how = {"compile": self.compile, "graph": self.graph}
                how["fuse"] = self._fuse and not (self.compile or self.graph)
                recorded = record(watched, *args, numbers=numbers, **how)
            except RuntimeError:
                if not changed:
                    raise
            if changed:
                raise RuntimeError(
                    f"a training pass changes {', '.join(sorted(changed))}, which a recorded step "
                    "would never see change; make it a buffer (register_buffer)"
                )
            self._traced[key] = recorded
        return self._traced[key]

    @torch.no_grad()
    def evaluate(self, runs: Runs, split: Split) -> tuple[Tensor, Tensor]:
        """(loss [R], accuracy [R]) of every run on a split, in evaluation mode."""
        split = split.to(self.dtype)
        measure = vmap(self._measure, in_dims=(0, 0, None, None))
        parts = self._chunks(runs)
        if self.device.type == "cpu" and any(isinstance(m, nn.Conv2d) for m in self._net.modules()):
            parts = [runs[[row]] for row in range(len(runs))]  # faster than batched over filters
        pieces = _pieces(split)

        def how(part: Runs) -> tuple[Tensor, Tensor]:
            theta, buffers = self._evaluated(part)
            self._net.eval()
            each = [measure(theta, buffers, s.x, s.y) for s in pieces]
            shares = [len(s) / len(split) for s in pieces]
            mean = lambda column: sum(k * m for k, m in zip(shares, column, strict=True))
            return tuple(map(mean, zip(*each, strict=True)))

        parts = [d for part in parts for d in self._by_halves(how, part)]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    @torch.no_grad()
    def _evaluated(self, runs: Runs) -> tuple[Tensor, dict[str, Tensor]]:
        """(theta [R, P], buffers) where the rule has the networks evaluated.

        Statistics of batch norm are computed there, over all training examples.
        """
        if not self._on.evaluated:
            return runs.theta, runs.buffers
        weights = vmap(partial(self._on.weights, t=runs.t))
        theta, buffers = weights(runs.theta, *runs.state), dict(runs.buffers)
        if self._running:
            with full_batch(self._net):
                fresh = vmap(self._statistics, in_dims=(0, 0, None))
                buffers = fresh(theta, buffers, self.data.train.x)
        return theta, buffers

    def _statistics(self, theta, buffers, x):
        """The buffers of one run with the running statistics of all of x."""
        of = lambda name, b: torch.zeros_like(b) if name in self._running else b.clone()
        after = {name: of(name, b) for name, b in buffers.items()}
        self._call(theta, after, x)
        return after

    def network(self, runs: Runs, row: int) -> nn.Module:
        """One run as a separate module, with the weights at which its rule is evaluated."""
        [theta], buffers = self._evaluated(runs[[row]])
        net = self._build(int(runs.seed[row]))
        nn.utils.vector_to_parameters(theta.clone(), net.parameters())
        for name, buffer in net.named_buffers():
            buffer.copy_(buffers[name][0])
        return net


AT_ONCE = 1_000  # examples with several labels each, such as the tokens of a text, at evaluation


def _pieces(split: Split) -> list[Split]:
    """Pieces that are measured at once, since a network has many outputs for a long text."""
    if split.y.ndim < 2 or split.y.is_floating_point():
        return [split]
    return [split[i : i + AT_ONCE] for i in range(0, len(split), AT_ONCE)]


def _python_numbers(net: nn.Module) -> dict[str, str]:
    """{name of a module's attribute: its value as text}, of numbers and collections of numbers."""
    plain = (int, float, str, bool, np.generic, type(None))

    def is_plain(value):
        if isinstance(value, dict):
            return all(map(is_plain, value.values()))
        return isinstance(value, plain) or (
            isinstance(value, list | tuple | set) and all(map(is_plain, value))
        )

    return {
        f"{path}.{name}".lstrip("."): repr(value)
        for path, module in net.named_modules()
        for name, value in vars(module).items()
        if is_plain(value)
    }


def sweep(
    model: Callable[[], nn.Module],
    rule: Rule,
    data: Data,
    *,
    seeds: Sequence[int],
    steps: int,
    every: int | None = None,
    final: bool = False,
    show: bool = True,
    batch: int = 64,
    loss: Callable = losses.cross_entropy,
    schedule: Callable | None = None,
    clip: Callable | None = None,
    gradient: Callable | None = None,
    by: By | None = None,
    executor: Executor | None = None,
    **axes,
) -> pd.DataFrame:
    """Train one run for every combination of a seed and values of the axes; a tidy table.

        sweep(net, adam, data, seeds=range(32), steps=500, lr=[1e-3, 1e-2], beta1=[0, 0.9])

    axes      hyperparameters of the rule: a number, or a list of numbers to combine
    every     steps between two rows of a run (default: an epoch; always at the end)
    gradient  and by: as in `Sweep`
    final     at the end measure the whole training split and the test split too
    executor  a pool of processes, or of machines, that shares the rows; what it is given must be
              picklable (`functools.partial(mlp, [196, 32, 10])`, not a lambda). Give each process
              one thread: ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,))

    Columns: the axes, seed, step, epoch, train_loss (mean over the mini-batches since the last
    row), valid_loss, valid_accuracy and, if asked for, fit_loss, fit_accuracy (all training data)
    and test_loss, test_accuracy, which are NaN before the end. Raises ValueError for steps or every
    below 1, no seeds, an axis without a value or with one out of range, TypeError for an axis that
    the rule does not have.
    """
    training.check_count("steps", steps)
    training.check_count("every", every)
    lists = {name: values_of(name, v) for name, v in axes.items()}
    check_hyper(rule, lists)
    seeds = [draws.check_seed(s) for s in seeds]
    table = pd.DataFrame(itertools.product(*lists.values(), seeds), columns=[*lists, "seed"])
    how = {"batch": batch, "loss": loss, "schedule": schedule, "clip": clip}
    how |= {"gradient": gradient, "by": by}
    train = partial(_train, model, rule, data, how, steps=steps, every=every, final=final)
    if executor is None:
        return train(table, show=show)
    parts = np.array_split(np.arange(len(table)), min(len(table), os.cpu_count() or 1))
    done = list(executor.map(train, [table.iloc[rows] for rows in parts]))
    return pd.concat(done).sort_values("step", kind="stable", ignore_index=True)


def values_of(name: str, axis) -> list:
    """A number of Python, numpy or torch, or a sequence of them, as a list of Python numbers."""
    values = np.atleast_1d(np.asarray(axis))
    if values.ndim > 1 or not values.size or values.dtype.kind not in "iuf":
        raise ValueError(f"{name}={axis!r} is neither a number nor a list of numbers")
    return values.tolist()


def _train(model, rule, data, how, table, *, steps, every, final, show=False) -> pd.DataFrame:
    """Train the runs that a table lists, a row each; the table that `sweep` returns."""
    names = [name for name in table.columns if name != "seed"]
    work = Sweep(model, rule, data, **how)
    runs = work.start(table["seed"], **{name: table[name].tolist() for name in names})
    every = every or work.per_epoch
    rows = []
    with training.progress(steps * len(runs), f"{len(runs)} runs of {rule.__name__}", show) as bar:
        while runs.t < steps:
            todo = min(every, steps - runs.t)
            runs, train_loss = work.advance(runs, todo)
            epoch = runs.t / work.per_epoch
            row = table.assign(step=runs.t, epoch=epoch, train_loss=train_loss.tolist())
            splits = {"valid": data.valid}
            if final and runs.t == steps:
                splits |= {"fit": data.train, "test": data.test}
            for name, split in splits.items():
                mean_loss, right = work.evaluate(runs, split)
                row[f"{name}_loss"], row[f"{name}_accuracy"] = mean_loss.tolist(), right.tolist()
            rows.append(row)
            bar.update(todo * len(runs))
            bar.set_postfix(best=f"{row['valid_loss'].min():.3g}")
    return pd.concat(rows, ignore_index=True)
