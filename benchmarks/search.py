"""Search engines side by side: simple regret, CPU seconds per suggestion, loss against epochs.

    pip install -r benchmarks/requirements-search.txt
    python -m benchmarks.search run --engines nettrain optuna-gp --seeds 20
    python -m benchmarks.search table

`run` appends a line for each finished search to _build/search.jsonl and skips what stands there, so
it may be killed and started again; `table` writes benchmarks/results/search.json and prints it.
Times are CPU seconds of one thread.
"""

import argparse
import importlib.metadata
import json
import logging
import os
import sys
import time
import warnings
from datetime import date
from pathlib import Path

import numpy as np
import torch

from benchmarks.search_problems import DIGITS, FUNCTIONS, digits
from nettrain.spaces import Integer

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "_build" / "search.jsonl"
RESULT = ROOT / "benchmarks" / "results" / "search.json"
PROBLEMS = (*FUNCTIONS, "digits MLP")
AT = (30, 50, 100)  # trials at which the regret is noted
CPU_AT = (20, 50, 100)  # trials at which the time of a suggestion is noted: median of 10 around
INITIAL = 10  # trials before an engine has a model

# --------------------------------------------------------------------------- engines: ask and tell


def decode(space, u):
    """A point of the unit cube as a configuration, for engines that know numbers only."""
    config = {}
    for (name, p), t in zip(space.items(), map(float, u), strict=True):
        if isinstance(p, Integer):
            config[name] = min(p.low + int(t * (p.high - p.low + 1)), p.high)
        else:
            config[name] = p.low * (p.high / p.low) ** t if p.log else p.low + t * (p.high - p.low)
    return config


class Random:
    def __init__(self, space, seed):
        self.space, self.rng = space, np.random.default_rng(seed)

    def ask(self):
        return None, decode(self.space, self.rng.random(len(self.space)))

    def tell(self, token, value):
        pass


class Nettrain:
    def __init__(self, space, seed, **how):
        from nettrain.bayesian import Bayes
        from nettrain.search import Study

        self.study = Study(space, Bayes(**how), seed=seed)

    def ask(self):
        trial = self.study.ask()
        return trial, trial.config

    def tell(self, trial, value):
        self.study.tell(trial, value)


class Optuna:
    def __init__(self, space, seed, sampler):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        real, integer = optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution
        self.space = {
            name: integer(p.low, p.high)
            if isinstance(p, Integer)
            else real(p.low, p.high, log=p.log)
            for name, p in space.items()
        }
        self.study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=seed))

    def ask(self):
        trial = self.study.ask(self.space)
        return trial, dict(trial.params)

    def tell(self, trial, value):
        self.study.tell(trial, value)


class Skopt:
    def __init__(self, space, seed):
        from skopt import Optimizer
        from skopt.space import Integer as SInteger
        from skopt.space import Real as SReal

        dims = [
            SInteger(p.low, p.high)
            if isinstance(p, Integer)
            else SReal(p.low, p.high, "log-uniform" if p.log else "uniform")
            for p in space.values()
        ]
        self.names = list(space)
        self.optimizer = Optimizer(dims, random_state=seed, n_initial_points=INITIAL)

    def ask(self):
        x = self.optimizer.ask()
        return x, dict(zip(self.names, x, strict=True))

    def tell(self, x, value):
        self.optimizer.tell(x, value)


class BoTorch:
    """Its tutorial's recipe: SingleTaskGP with default priors, LogEI, optimize_acqf."""

    def __init__(self, space, seed):
        torch.manual_seed(seed)
        self.space, self.x, self.y = space, [], []
        sobol = torch.quasirandom.SobolEngine(len(space), scramble=True, seed=seed)
        self.first = sobol.draw(INITIAL, dtype=torch.float64)

    def ask(self):
        if len(self.x) < INITIAL:
            u = self.first[len(self.x)]
        else:
            from botorch.acquisition import LogExpectedImprovement
            from botorch.fit import fit_gpytorch_mll
            from botorch.models import SingleTaskGP
            from botorch.models.transforms import Standardize
            from botorch.optim import optimize_acqf
            from gpytorch.mlls import ExactMarginalLogLikelihood

            y = -torch.tensor(self.y, dtype=torch.float64)[:, None]
            gp = SingleTaskGP(torch.stack(self.x), y, outcome_transform=Standardize(m=1))
            fit_gpytorch_mll(ExactMarginalLogLikelihood(gp.likelihood, gp))
            bounds = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, len(self.space))
            gain = LogExpectedImprovement(gp, best_f=y.max())
            u = optimize_acqf(gain, bounds, q=1, num_restarts=10, raw_samples=512)[0][0]
        return u, decode(self.space, u)

    def tell(self, u, value):
        self.x.append(u)
        self.y.append(value)


ENGINES = {  # name: how to make one for a space and a seed
    "nettrain": Nettrain,
    "nettrain neural": lambda space, seed: Nettrain(space, seed, surrogate="neural"),
    "optuna-gp": lambda space, seed: Optuna(space, seed, "GPSampler"),
    "optuna-tpe": lambda space, seed: Optuna(space, seed, "TPESampler"),
    "random": Random,
    "skopt": Skopt,
    "botorch": BoTorch,
}

# --------------------------------------------------------------------------- one search


def search(engine: str, problem: str, seed: int, trials: int) -> dict:
    """One search: the regret at AT trials, and the CPU seconds of suggestions at CPU_AT trials.

    Regret on digits: validation loss of the best configuration so far, trained again with five
    fresh seeds, since the lowest of n noisy losses is lower than what it promises.
    """
    if problem in FUNCTIONS:
        f, space, minimum = FUNCTIONS[problem]
        evaluate = lambda config, i: float(f(np.array([config[name] for name in space])))
    else:
        space = DIGITS
        evaluate = lambda config, i: digits(config, 1000 * seed + i)
    searcher = ENGINES[engine](space, seed)
    configs, values, cpu = [], [], []
    for i in range(trials):
        start = time.process_time()
        token, config = searcher.ask()
        spent = time.process_time() - start
        value = evaluate(config, i)
        start = time.process_time()
        searcher.tell(token, value)
        cpu.append(spent + time.process_time() - start)
        configs.append(config), values.append(value)
    if problem in FUNCTIONS:
        regret = [min(values[:n]) - minimum for n in AT if n <= trials]
    else:
        best = [configs[int(np.argmin(values[:n]))] for n in AT if n <= trials]
        regret = [float(np.mean([digits(c, 10**6 + k) for k in range(5)])) for c in best]
    seconds = [float(np.median(cpu[n - 10 : n])) for n in CPU_AT if n <= trials]
    record = {"engine": engine, "problem": problem, "seed": seed, "regret": regret, "cpu": seconds}
    return record | {"trials": trials, "cpu_total": sum(cpu)}


def read() -> list[dict]:
    """Finished searches; a torn last line is left out."""
    runs = []
    for line in RUNS.read_text().splitlines() if RUNS.exists() else []:
        try:
            runs.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return runs


def run(engines, problems, seeds, trials) -> None:
    warnings.filterwarnings("ignore")  # the peers', about their own defaults
    logging.disable(logging.WARNING)
    done = {(r["engine"], r["problem"], r["seed"]) for r in read() if r["trials"] >= trials}
    RUNS.parent.mkdir(exist_ok=True)
    for seed in range(seeds):
        for problem in problems:
            for engine in engines:
                if (engine, problem, seed) in done:
                    continue
                record = search(engine, problem, seed, trials)
                with RUNS.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                print(engine, problem, seed, record["regret"], record["cpu_total"], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search")
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=50)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "run":
        run(args.engines, args.problems, args.seeds, args.trials)


if __name__ == "__main__":
    main()
