"""What speed was aimed at, read from a file of results."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """A bound on one number of one benchmark's rows."""

    says: str
    benchmark: str
    value: Callable[[list[dict]], float]
    bound: float
    at_most: bool = False

    def met(self, rows: list[dict]) -> bool:
        value = self.value(rows)
        return value <= self.bound if self.at_most else value >= self.bound


def worst(column: str, *, above: float = 0, up_to: float = float("inf")) -> Callable:
    """The largest number of a column, over models of so many parameters."""
    return lambda rows: max(r[column] for r in rows if above < r["parameters"] <= up_to)


def best(column: str, model: str = "") -> Callable:
    """The largest number of a column, over rows of a model."""
    return lambda rows: max(r[column] for r in rows if model in r["model"] and column in r)


def alone(rows: list[dict]) -> float:
    """How much slower than the plain loop a sweep of one run is, at worst."""
    return max(1 / r["ratio"] for r in rows if r["runs"] == 1 and not r.get("compiled"))


def beside_jax(compiled: bool, column: str = "ratio to JAX", worst: Callable = min) -> Callable:
    """The worst of a column of the rows that have one; NaN where JAX was not at hand."""
    return lambda rows: worst(
        (r[column] for r in rows if column in r and r["compiled"] == compiled), default=float("nan")
    )


def processes(rows: list[dict]) -> float:
    """How many times as fast the rows of a sweep are trained by one process per core."""
    one, all_cores = (r["seconds"] for r in rows if r["grows"] == "processes")
    return one / all_cores


def slow(peer: str) -> Callable:
    """The worst of the compiled step, over the models for which it is meant."""
    return worst(f"compiled / {peer}", above=1e5)


def cold(rows: list[dict]) -> float:
    return next(r["number"] for r in rows if r["what"] == "cold build")


def importing(rows: list[dict]) -> float:
    return next(r["ratio to torch"] for r in rows if r["import"] == "nettrain")


LARGE = "0.3 to 11 M parameters"
STEP, SWEEP, FIRST = "optimizer_step", "sweep_throughput", "first / JAX"
GOALS = {
    "cpu": [
        Goal(f"compiled step / torch foreach, {LARGE}", STEP, slow("foreach"), 0.7, True),
        Goal(f"compiled step / torch fused, {LARGE}", STEP, slow("fused"), 1.3, True),
        Goal("eager / torch single, small", STEP, worst("rule / single", up_to=1e4), 1.1, True),
        Goal("sweep / loop, MLP 64-64-64-10", SWEEP, best("ratio", "64-64-64"), 40),
        Goal("sweep / loop, MLP 40-32-32-10", SWEEP, best("ratio", "40-32-32"), 100),
        Goal("sweep / loop, MLP 196-128-128-10", SWEEP, best("ratio", "196-128"), 20),
        Goal("one run / loop, in time", SWEEP, alone, 1.5, True),
        Goal("sweep / JAX, slowest model", SWEEP, beside_jax(False), 1.0),
        Goal("compiled sweep / JAX, slowest model", SWEEP, beside_jax(True), 1.2),
        Goal("first epoch / JAX's, in time", SWEEP, beside_jax(False, FIRST, max), 1.0, True),
        Goal("the same, compiled", SWEEP, beside_jax(True, FIRST, max), 2.0, True),
        Goal("two cores / one", "scale", processes, 1.8),
        Goal("import nettrain / import torch", "imports", importing, 1.2, True),
        Goal("cold build of the book, two cores, minutes", "book", cold, 10, True),
    ],
    "cuda": [
        Goal(f"compiled step / torch fused, {LARGE}", STEP, slow("fused"), 1.05, True),
        Goal("memory limit / compiled, largest", STEP, best("limit / compiled", "2048"), 0.8),
        Goal("sweep / loop, at best", SWEEP, best("ratio"), 500),
    ],
}
