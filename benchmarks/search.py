"""Search engines side by side: simple regret, CPU seconds per suggestion, loss against epochs.

    pip install -r benchmarks/requirements-search.txt
    python -m benchmarks.search run --engines nettrain optuna-gp --seeds 20
    python -m benchmarks.search table        (curves: also replay the multi-fidelity methods;
                                              growth: also time suggestions up to 1,000 trials)

`run` appends a line for each finished search to _build/search.jsonl and skips what stands there, so
it may be killed and started again; `table` writes benchmarks/results/search.json and prints it.
Times are CPU seconds of one thread.
"""

import argparse
import importlib.metadata
import json
import logging
import math
import os
import time
import warnings
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import mannwhitneyu
from threadpoolctl import threadpool_limits

from benchmarks.machine import machine
from benchmarks.search_problems import DIGITS, FUNCTIONS, TEST, digits, digits_curve
from nettrain.spaces import Integer
from nettrain.trials import judge

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "_build" / "search.jsonl"
RESULT = ROOT / "benchmarks" / "results" / "search.json"
PROBLEMS = (*FUNCTIONS, "digits MLP")
AT = (30, 50, 100)  # trials at which the regret is noted
CPU_AT = (20, 50, 100)  # trials at which the time of a suggestion is noted: median of 10 around
INITIAL = 10  # trials before an engine has a model
JUDGES = 16  # fresh trainings of a recommended configuration

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
        from nettrain.lab.study import Study

        self.study = Study(space, Bayes(**how), seed=seed)

    def ask(self):
        trial = self.study.ask()
        return trial, trial.config

    def recommend(self):
        """What its model expects to be lowest: values are noisy."""
        return self.study.recommended.config

    def add(self, config, value):
        self.study.tell(self.study.enqueue(config), value)

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

    def add(self, config, value):
        from optuna.trial import create_trial

        self.study.add_trial(create_trial(params=config, distributions=self.space, value=value))

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

    What is judged is the configuration that an engine recommends: that with the lowest value so
    far, unless its model says better. On digits, with no regret to be had, it is trained again with
    JUDGES fresh seeds, and the mean of their test losses counts (`nettrain.trials.judge`).
    """
    if problem in FUNCTIONS:
        f, space, minimum = FUNCTIONS[problem]
        evaluate = lambda config, i: float(f(np.array([config[name] for name in space])))
    else:
        space = DIGITS
        evaluate = lambda config, i: digits(config, 1000 * seed + i)
    searcher = ENGINES[engine](space, seed)
    configs, values, cpu, recommended = [], [], [], []
    for i in range(trials):
        start = time.process_time()
        token, config = searcher.ask()
        spent = time.process_time() - start
        value = evaluate(config, i)
        start = time.process_time()
        searcher.tell(token, value)
        cpu.append(spent + time.process_time() - start)
        configs.append(config), values.append(value)
        if i + 1 in AT:
            own = getattr(searcher, "recommend", lambda: configs[int(np.argmin(values))])
            recommended.append(dict(own()))
    if problem in FUNCTIONS:
        regret = [evaluate(config, 0) - minimum for config in recommended]
    else:
        tested = lambda configs, seeds: [digits(c, s, on=TEST) for c, s in zip(configs, seeds)]
        fresh = range(10**6, 10**6 + JUDGES)
        regret = judge(tested, recommended, fresh, worst=math.log(10)).mean(1).tolist()
    seconds = [float(np.median(cpu[n - 10 : n])) for n in CPU_AT if n <= trials]
    record = {"engine": engine, "problem": problem, "seed": seed, "regret": regret, "cpu": seconds}
    return record | {"trials": trials, "cpu_total": sum(cpu), "judges": JUDGES}


def read() -> list[dict]:
    """Finished searches; a torn last line is left out, and what was judged in another way."""
    runs = []
    for line in RUNS.read_text().splitlines() if RUNS.exists() else []:
        try:
            runs.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [run for run in runs if run.get("judges") == JUDGES]


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


# --------------------------------------------------------------------------- loss against epochs

EPOCHS, ETA, BUDGETS, REPLAYS = 27, 3, (135, 270, 540, 1080), 100
CURVES = ROOT / "_build" / "search-curves.json"


def record(count: int) -> list[list[float]]:
    """Learning curves of random configurations of the digits MLP, 27 epochs each; resumes."""
    curves = json.loads(CURVES.read_text()) if CURVES.exists() else []
    for i in range(len(curves), count):
        u = np.random.default_rng(i).random(len(DIGITS))
        curves.append(digits_curve(decode(DIGITS, u), i, EPOCHS))
        if i % 50 == 49 or i + 1 == count:
            CURVES.write_text(json.dumps(curves))
    return curves


class Replay:
    """Recorded runs as `nettrain.budgets` advances them: curve numbers, and their epochs so far."""

    def __init__(self, ids, epochs=0):
        self.ids, self.epochs = list(ids), epochs

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, rows):
        ids = self.ids[rows] if isinstance(rows, slice) else [self.ids[i] for i in rows]
        return Replay(ids, self.epochs)


def ours(method: str, curves, seed: int) -> list[tuple[int, int, float]]:
    """(epochs spent, curve, loss seen) of every evaluation of a method of `nettrain.lab.study`."""
    from nettrain.budgets import asha, brackets, hyperband

    order = np.random.default_rng(seed).integers(len(curves), size=4 * max(BUDGETS)).tolist()
    start = lambda first, n: Replay(order[first : first + n])

    def advance(runs, epochs):
        done = runs.epochs + epochs
        return Replay(runs.ids, done), [curves[i][done - 1] for i in runs.ids]

    most = max(BUDGETS)
    if method == "ASHA":
        _, history = asha(start, advance, budget=most, r_max=EPOCHS, eta=ETA)
    else:
        table = brackets(EPOCHS, eta=ETA)
        table = {"random": [[(1, EPOCHS)]], "halving": table[:1], "Hyperband": table}[method]
        _, history = hyperband(start, advance, table * (most // EPOCHS // len(table) + 1))
    columns = zip(history["spent"], history["run"], history["loss"], strict=True)
    return [(spent, order[run], loss) for spent, run, loss in columns]


def theirs(pruner: str, curves, seed: int) -> list[tuple[int, int, float]]:
    """The same with one of Optuna's pruners and its random sampler."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    how = {
        "MedianPruner": {},
        "SuccessiveHalvingPruner": {"min_resource": 1, "reduction_factor": ETA},
        "HyperbandPruner": {"min_resource": 1, "max_resource": EPOCHS, "reduction_factor": ETA},
    }[pruner]
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(sampler=sampler, pruner=getattr(optuna.pruners, pruner)(**how))
    found, spent = [], 0
    while spent < max(BUDGETS):
        trial = study.ask()
        i = trial.suggest_int("curve", 0, len(curves) - 1)
        for epoch in range(1, EPOCHS + 1):
            spent += 1
            found.append((spent, i, curves[i][epoch - 1]))
            trial.report(curves[i][epoch - 1], epoch)
            if epoch < EPOCHS and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, curves[i][-1])
    return found


def replays() -> list[dict]:
    """The final loss of the curve with the lowest loss seen, after each budget of epochs."""
    curves, rows = record(150), []
    methods = {name: ours for name in ("random", "halving", "Hyperband", "ASHA")}
    methods |= {n: theirs for n in ("MedianPruner", "SuccessiveHalvingPruner", "HyperbandPruner")}
    for name, replay in methods.items():
        for seed in range(REPLAYS if replay is ours else REPLAYS // 5):
            found = replay(name, curves, seed)
            for budget in BUDGETS:
                paid = [(loss, i) for spent, i, loss in found if spent <= budget]
                final = curves[min(paid)[1]][-1]
                rows.append({"method": name, "seed": seed, "epochs": budget, "loss": final})
    return rows


# --------------------------------------------------------------------------- many trials

GROWN, GROWING = (100, 200, 500, 1000), ("nettrain", "nettrain neural", "optuna-gp", "optuna-tpe")


def growth(suggestions: int = 3) -> list[dict]:
    """Median CPU seconds of a suggestion after so many random trials of Hartmann-6."""
    f, space, _ = FUNCTIONS["Hartmann-6"]
    evaluate = lambda config: float(f(np.array([config[name] for name in space])))
    rows = []
    for engine in GROWING:
        for n in GROWN:
            searcher, rng, cpu = ENGINES[engine](space, 0), np.random.default_rng(0), []
            for _ in range(n):
                config = decode(space, rng.random(len(space)))
                searcher.add(config, evaluate(config))
            for _ in range(suggestions):
                start = time.process_time()
                token, config = searcher.ask()
                cpu.append(time.process_time() - start)
                searcher.tell(token, evaluate(config))
            rows.append({"engine": engine, "trials": n, "cpu": float(np.median(cpu))})
            print(rows[-1], flush=True)
    return rows


# --------------------------------------------------------------------------- table


PACKAGES = ("torch", "optuna", "botorch", "gpytorch", "scikit-optimize", "numpy", "scipy")


def table(what: str) -> None:
    """Write the committed JSON from all finished searches, and print it."""
    old = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    best = {}  # of two runs of one seed the longer
    for r in sorted(read(), key=lambda r: r["trials"]):
        best[r["engine"], r["problem"], r["seed"]] = r
    order = lambda r: (list(ENGINES).index(r["engine"]), PROBLEMS.index(r["problem"]), r["seed"])
    runs = sorted(best.values(), key=order)
    for r in runs:
        r["regret"] = [float(f"{v:.4g}") for v in r["regret"]]
        r["cpu"] = [float(f"{v:.3g}") for v in r["cpu"]]
        r["cpu_total"] = round(r["cpu_total"], 3)
    result = {
        "date": date.today().isoformat(),
        "machine": {"cpu": machine()["cpu"], "cores": os.cpu_count(), "threads": 1},
        "versions": {"python": machine()["python"]}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "runs": runs,
        "curves": replays() if what == "curves" else old.get("curves", []),
        "growth": growth() if what == "growth" else old.get("growth", []),
    }
    RESULT.parent.mkdir(exist_ok=True)
    lines = json.dumps(result).replace('}, {"', '},\n{"')  # a line a run, to read and to compare
    RESULT.write_text(lines + "\n")
    show = pd.DataFrame(runs)
    for k, n in enumerate(AT):
        show[n] = show["regret"].str[k]
    for n in AT:
        values = show.dropna(subset=[n]).groupby(["problem", "engine"], sort=False)[n]
        print(f"\nregret after {n} trials: median [quartiles] n\n")
        print(values.agg(quartiles).unstack("engine").T.to_markdown())
    print("\nCPU seconds of a suggestion at", CPU_AT)
    cpu = pd.DataFrame({n: show["cpu"].str[k] for k, n in enumerate(CPU_AT)})
    cpu = cpu.groupby(show["engine"], sort=False)
    print(cpu.median().to_markdown(floatfmt=".4f"))
    print("\nnettrain against optuna-gp: Mann-Whitney p, negative where optuna-gp is ahead\n")
    print(compare(show).to_markdown(floatfmt=".4f"))
    if result["curves"]:
        loss = pd.DataFrame(result["curves"]).groupby(["method", "epochs"], sort=False)["loss"]
        print("\n", loss.agg(quartiles).unstack("epochs").to_markdown())


def quartiles(values) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.2g} [{low:.2g}, {high:.2g}] {len(values)}"


def compare(show: pd.DataFrame) -> pd.DataFrame:
    """Two-sided p of equal distributions, by problem and trials; the sign says who is ahead."""
    rows = {}
    for problem, part in show.groupby("problem", sort=False):
        ours, theirs = (part[part["engine"] == e] for e in ("nettrain", "optuna-gp"))
        for n in AT:
            a, b = ours[n].dropna(), theirs[n].dropna()
            if len(a) > 1 and len(b) > 1:
                p = mannwhitneyu(a, b).pvalue
                rows.setdefault(problem, {})[n] = p if a.median() < b.median() else -p
    return pd.DataFrame(rows).T


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search")
    parser.add_argument("what", choices=["run", "table", "curves", "growth"])
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=50)
    args = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)  # numpy's and scipy's, too: threads that wait for each other cost CPU time
    if args.what == "run":
        run(args.engines, args.problems, args.seeds, args.trials)
    else:
        table(args.what)


if __name__ == "__main__":
    main()
