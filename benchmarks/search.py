"""Search engines side by side: simple regret, CPU seconds per suggestion.

    pip install -r benchmarks/requirements-search.txt
    python -m benchmarks.search run --engines nettrain optuna-gp --seeds 20
    python -m benchmarks.search table        (growth: also time suggestions up to 1,000 trials)

All engines begin with the same ten Sobol points of a seed, which they are told. `run` appends a
line for each finished search to _build/search.jsonl and skips what stands there, so it may be
killed and started again; `table` writes benchmarks/results/search.json and prints it. Times are CPU
seconds of one thread.
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
from benchmarks.search_problems import DIGITS, FUNCTIONS, TEST, digits
from nettrain.bayesian import Bayes
from nettrain.spaces import Integer
from nettrain.trials import Trial, judge

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "_build" / "search.jsonl"
RESULT = ROOT / "benchmarks" / "results" / "search.json"
PROBLEMS = (*FUNCTIONS, "digits MLP")
AT = (30, 50, 100)  # trials at which the regret is noted
COMPARED = 50  # trials at which the engines are compared
MODELS = ("optuna-gp", "skopt", "botorch")  # rivals with a Gaussian process
CPU_AT = (20, 50, 100)  # trials at which the time of a suggestion is noted: median of 10 around
INITIAL = 10  # trials before an engine has a model
DESIGN = "sobol"  # what these trials are, for all engines the same
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


def design(space, seed):
    """The points of the unit cube that every engine begins with, [INITIAL, d]."""
    sobol = torch.quasirandom.SobolEngine(len(space), scramble=True, seed=seed)
    return sobol.draw(INITIAL, dtype=torch.float64)


class Random:
    def __init__(self, space, seed):
        self.space, self.rng = space, np.random.default_rng(seed)

    def add(self, u, value):
        """Be told the value of a point of the unit cube that the engine has not asked for."""

    def ask(self):
        return None, decode(self.space, self.rng.random(len(self.space)))

    def tell(self, token, value):
        pass


class Nettrain:
    def __init__(self, space, seed, **how):
        from nettrain.lab.study import Study

        self.space, self.study = space, Study(space, Bayes(**how), seed=seed)

    def ask(self):
        trial = self.study.ask()
        return trial, trial.config

    def add(self, u, value):
        self.study.enqueue(decode(self.space, u))
        self.study.tell(self.study.ask(), value)

    def tell(self, trial, value):
        self.study.tell(trial, value)


class Optuna:
    def __init__(self, space, seed, sampler):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        real, integer = optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution
        self.space = space
        self.box = {
            name: integer(p.low, p.high)
            if isinstance(p, Integer)
            else real(p.low, p.high, log=p.log)
            for name, p in space.items()
        }
        self.study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=seed))

    def ask(self):
        trial = self.study.ask(self.box)
        return trial, dict(trial.params)

    def add(self, u, value):
        from optuna.trial import create_trial

        config = decode(self.space, u)
        self.study.add_trial(create_trial(params=config, distributions=self.box, value=value))

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
        self.space, self.names = space, list(space)
        self.optimizer = Optimizer(dims, random_state=seed, n_initial_points=INITIAL)

    def add(self, u, value):
        self.tell(list(decode(self.space, u).values()), value)

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

    def add(self, u, value):
        self.tell(torch.as_tensor(u, dtype=torch.float64), value)

    def ask(self):
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

    The regret is that of the configuration with the lowest value so far. On digits, where values
    are noisy, what is judged is the configuration whose mean under nettrain's Gaussian process is
    lowest, whichever engine proposed it; under "lowest" stands what the lowest value comes to. Both
    are trained again with JUDGES fresh seeds, and the mean of their test losses counts
    (`nettrain.trials.judge`): there is no regret to be had.
    """
    noisy = problem not in FUNCTIONS
    if noisy:
        space = DIGITS
        evaluate = lambda config, i: digits(config, 1000 * seed + i)
    else:
        f, space, minimum = FUNCTIONS[problem]
        evaluate = lambda config, i: float(f(np.array([config[name] for name in space])))
    searcher, cpu, told, lowest, expected = ENGINES[engine](space, seed), [], [], [], []
    first = design(space, seed)
    for i in range(trials):
        start = time.process_time()
        token, config = searcher.ask() if i >= INITIAL else (None, decode(space, first[i]))
        spent = time.process_time() - start
        value = evaluate(config, i)
        start = time.process_time()
        searcher.tell(token, value) if i >= INITIAL else searcher.add(first[i], value)
        cpu.append(spent + time.process_time() - start)
        told.append(Trial(i, dict(config), value))
        if i + 1 in AT:
            lowest.append(min(told, key=lambda trial: trial.value))
            expected.append(Bayes().recommend(space, told) if noisy else lowest[-1])
    if noisy:
        tested = lambda configs, seeds: [digits(c, s, on=TEST) for c, s in zip(configs, seeds)]
        fresh, both = range(10**6, 10**6 + JUDGES), [t.config for t in (*expected, *lowest)]
        judged = judge(tested, both, fresh, worst=math.log(10)).mean(1).tolist()
        found = {"regret": judged[: len(expected)], "lowest": judged[len(expected) :]}
    else:
        found = {"regret": [trial.value - minimum for trial in lowest]}
    seconds = [float(np.median(cpu[n - 10 : n])) for n in CPU_AT if n <= trials]
    record = {"engine": engine, "problem": problem, "seed": seed} | found | {"cpu": seconds}
    record |= {"trials": trials, "cpu_total": sum(cpu)}
    return record | {"judges": JUDGES, "design": DESIGN}


def read() -> list[dict]:
    """Finished searches; a torn last line is left out, and what began or was judged otherwise."""
    runs, wanted = [], (JUDGES, DESIGN)
    for line in RUNS.read_text().splitlines() if RUNS.exists() else []:
        try:
            runs.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [run for run in runs if (run.get("judges"), run.get("design")) == wanted]


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
                u = rng.random(len(space))
                searcher.add(u, evaluate(decode(space, u)))
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
        for key in {"regret", "lowest"} & r.keys():
            r[key] = [float(f"{v:.4g}") for v in r[key]]
        r["cpu"] = [float(f"{v:.3g}") for v in r["cpu"]]
        r["cpu_total"] = round(r["cpu_total"], 3)
    show = pd.DataFrame(runs)
    for k, n in enumerate(AT):
        show[n] = show["regret"].str[k]
    cpu = pd.DataFrame({n: show["cpu"].str[k] for k, n in enumerate(CPU_AT)})
    cpu = cpu.groupby(show["engine"], sort=False).median()
    found = compare(show)
    aims = goal(found, cpu[COMPARED])
    result = {
        "date": date.today().isoformat(),
        "machine": {"cpu": machine()["cpu"], "cores": os.cpu_count(), "threads": 1},
        "versions": {"python": machine()["python"]}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "goal": aims,
        "runs": runs,
        "growth": growth() if what == "growth" else old.get("growth", []),
    }
    RESULT.parent.mkdir(exist_ok=True)
    lines = json.dumps(result).replace('}, {"', '},\n{"')  # a line a run, to read and to compare
    RESULT.write_text(lines + "\n")
    for n in AT:
        values = show.dropna(subset=[n]).groupby(["problem", "engine"], sort=False)[n]
        print(f"\nregret after {n} trials: median [quartiles] n\n")
        print(values.agg(quartiles).unstack("engine").T.to_markdown())
    print("\nCPU seconds of a suggestion at", CPU_AT)
    print(cpu.to_markdown(floatfmt=".4f"))
    print(f"\nnettrain against each rival after {COMPARED} trials: who is lower, p after Holm\n")
    print(found.apply(in_words, axis=1).unstack("engine").to_markdown())
    print("\nThe goal\n")
    for says, met in aims.items():
        print(f"{'met' if met else 'MISSED':8}{says}")


def quartiles(values) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.2g} [{low:.2g}, {high:.2g}] {len(values)}"


def compare(show: pd.DataFrame) -> pd.DataFrame:
    """nettrain against every rival on every problem after COMPARED trials, by (problem, engine).

    ahead      1 where nettrain has the lower median, -1 where the rival has, 0 where they are equal
    p          Mann & Whitney's, two-sided
    corrected  the same, all of them together by Holm's rule

    Raises ValueError if there is nothing to compare.
    """
    show = show.dropna(subset=[COMPARED])
    values = {k: v[COMPARED] for k, v in show.groupby(["problem", "engine"], sort=False)}
    rows = {}
    for (problem, engine), theirs in values.items():
        ours = values.get((problem, "nettrain"))
        if engine.startswith("nettrain") or ours is None or min(len(ours), len(theirs)) < 2:
            continue
        ahead = int(np.sign(theirs.median() - ours.median()))
        rows[problem, engine] = {"ahead": ahead, "p": mannwhitneyu(ours, theirs).pvalue}
    if not rows:
        raise ValueError(f"no rival of nettrain has two searches of {COMPARED} trials")
    found = pd.DataFrame(rows, index=["ahead", "p"]).T.rename_axis(["problem", "engine"])
    p = found["p"].sort_values(kind="stable")
    return found.assign(corrected=(p * np.arange(len(p), 0, -1)).cummax().clip(upper=1))


def in_words(row: pd.Series) -> str:
    who = {1: "nettrain", -1: row.name[1], 0: "neither"}[row["ahead"]]
    return f"{who}, p = {row['corrected']:.2g}"


def goal(found: pd.DataFrame, cpu: pd.Series) -> dict[str, bool]:
    """{what was aimed at, with what was found: whether it is met}

    Worse on no test, better than each rival on half of its problems, at half the CPU seconds per
    suggestion of the fastest rival that has a Gaussian process.
    """
    settled = found[found["corrected"] < 0.05]
    losses = int((settled["ahead"] == -1).sum())
    won = settled[settled["ahead"] == 1].groupby("engine").size()
    asked = found.groupby("engine", sort=False).size()
    each = ", ".join(f"{engine} {won.get(engine, 0)} of {n}" for engine, n in asked.items())
    says = {f"worse on none of {len(found)} tests: {losses}": losses == 0}
    halves = all(2 * won.get(engine, 0) >= n for engine, n in asked.items())
    says[f"better than each on half of its problems: {each}"] = halves
    if fast := min((cpu[m] for m in MODELS if m in cpu), default=None):
        ratio = cpu["nettrain"] / fast
        what = f"half the CPU seconds of the fastest Gaussian process: {ratio:.2f}"
        says[what] = bool(ratio <= 0.5)
    return says


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search")
    parser.add_argument("what", choices=["run", "table", "growth"])
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
