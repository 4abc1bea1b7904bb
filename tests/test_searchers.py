"""Searchers that repeat themselves: random and Sobol points, grids that try everything once."""

import pickle
import random
import time

import numpy as np
import pytest
import torch
from scipy import stats
from torch.quasirandom import SobolEngine

from nettrain import searchers, spaces
from nettrain.lab.study import Study
from nettrain.searchers import Grid, Random, Sobol
from nettrain.spaces import Choice, Integer, Real
from nettrain.trials import Trial

SPACE = dict(x=Real(-1, 1), n=Integer(1, 9), o=Choice(dict(name="a", r=Real(0, 1)), "b"))


@pytest.mark.parametrize("searcher", [Random(), Sobol(), Grid({"x": 3, "n": 4, "o.r": 2})])
def test_a_proposal_depends_on_seed_and_number_alone(searcher):
    study, again = Study(SPACE, searcher, seed=3), Study(SPACE, searcher, seed=3)
    told = [study.tell(study.ask(), i) for i in range(20)]
    assert [again.ask().config for _ in range(20)] == [t.config for t in told]
    assert all(spaces.validate(SPACE, t.config) == t.config for t in told)
    if not isinstance(searcher, Grid):
        other = Study(SPACE, searcher, seed=4)
        assert all(other.ask().config != t.config for t in told)


def test_random_points_are_uniform():
    points = torch.stack([searchers.point(1, i, 4) for i in range(2000)]).numpy()
    assert all(stats.kstest(column, "uniform").pvalue > 0.01 for column in points.T)
    assert abs(np.corrcoef(points.T) - np.eye(4)).max() < 0.08
    assert len(np.unique(points)) == points.size
    bits = points * 2**53  # all 53 of them are random, the last one too
    assert (bits % 1 == 0).all() and (points < 1).all()
    assert stats.binomtest(int((bits % 2).sum()), bits.size).pvalue > 0.01


def test_sobol_points_are_the_scrambled_sequence():
    space = dict(x=Real(0, 1), y=Real(0, 1))
    study = Study(space, Sobol(), seed=7)
    points = torch.tensor([list(study.ask().config.values()) for _ in range(16)])
    truth = SobolEngine(2, scramble=True, seed=7).draw(16)
    torch.testing.assert_close(points, truth, rtol=0, atol=1e-6)
    for column in points.T:  # 16 points, one in each sixteenth
        assert sorted((column * 16).int().tolist()) == list(range(16))


def test_grid_tries_everything_once_and_ends():
    study = Study(dict(x=Real(0, 1), o=Choice("a", "b")), Grid(3))
    study.enqueue(dict(x=0.5, o="b"))
    study.enqueue(dict(x=0.1, o="b"))
    study.optimize(lambda config: config["x"], 99)
    tried = [tuple(t.config.values()) for t in study.trials]
    assert tried == [(0.5, "b"), (0.1, "b"), (0, "a"), (0, "b"), (0.5, "a"), (1, "a"), (1, "b")]
    assert study.ask() is None


# ------------------------------------------------------------------------------------- grids


def test_a_huge_grid_begins_at_once_and_goes_on_in_order():
    space = {f"x{i}": Real(0, 1) for i in range(30)}
    study = Study(space, Grid(10))
    for k in range(12):  # the last digit runs fastest
        digits = [f"{k:030d}"[i] for i in range(30)]
        assert list(study.ask().config.values()) == [int(d) / 9 for d in digits]
    one = Study(dict(x=Real(0, 1), n=Integer(1, 10**9)), Grid({"x": 10**8, "n": 10**9}))
    assert [one.ask().config for _ in range(2)] == [dict(x=0.0, n=1), dict(x=0.0, n=2)]


def test_a_proposal_of_a_grid_costs_milliseconds_after_thousands_of_trials():
    space = {f"x{i}": Real(0, 1) for i in range(6)}
    every = spaces.grid(space, 4)
    trials = [Trial(i, c, 0.0) for i, c in enumerate(every[:4000])]
    searcher, start = Grid(4), time.perf_counter()
    assert searcher.ask(space, trials, 0) == every[4000]
    first, start = time.perf_counter() - start, time.perf_counter()
    for k in range(50):
        trials.append(Trial(4000 + k, every[4000 + k], 0.0))
        assert searcher.ask(space, trials, 0) == every[4001 + k]
    assert first < 1 and time.perf_counter() - start < 1  # 30 ms and 30 ms; listing: 7 s


def test_a_grid_is_worked_out_once_while_the_same_trials_go_on(monkeypatch):
    searcher, every, made, lattice = Grid(3), spaces.grid(SPACE, 3), [], spaces.lattice
    monkeypatch.setattr(spaces, "lattice", lambda *given: made.append(given) or lattice(*given))
    trials = []
    for config in every[:6]:
        assert searcher.ask(SPACE, trials, 0) == searcher.ask(SPACE, trials, 0) == config
        trials.append(Trial(len(trials), config, 0.0))
    assert len(made) == 1
    assert searcher.ask(SPACE, trials[1:], 0) == every[0] and len(made) == 2  # other trials
    assert searcher.ask(SPACE, trials[1:3], 0) == every[0] and len(made) == 3  # fewer
    assert searcher.ask({"y": Real(0, 1)}, [], 0) == {"y": 0.0} and len(made) == 4  # another space


def test_a_pickled_grid_leaves_out_what_it_has_worked_out():
    searcher, every = (
        Grid({"x": 3, "n": 4, "o.r": 2}),
        spaces.grid(SPACE, {"x": 3, "n": 4, "o.r": 2}),
    )
    trials = [Trial(i, c, 0.0) for i, c in enumerate(every[:9])]
    assert searcher.ask(SPACE, trials, 0) == every[9]
    text = pickle.dumps(searcher)
    assert text == pickle.dumps(Grid({"x": 3, "n": 4, "o.r": 2}))
    assert pickle.loads(text).ask(SPACE, trials, 0) == every[9]


def test_a_grid_remembers_nothing_that_changes_its_answer():
    study, searcher = Study(SPACE, Grid(3)), Grid(3)
    for _ in range(9):
        study.tell(study.ask(), 0.0)
    trials, other = study.trials, dict(y=Real(0, 1))
    shuffled = random.Random(0).sample(trials, len(trials))
    for some, space in ((trials, SPACE), (trials[:4], SPACE), (shuffled[:5], SPACE), ([], other)):
        assert searcher.ask(space, some, 0) == Grid(3).ask(space, some, 0)


@pytest.mark.parametrize("options", [(0, Real(0, 1)), (Integer(0, 4), Real(0, 4), 2)])
def test_a_value_that_two_options_share_is_tried_once(options):
    study = Study(dict(o=Choice(*options)), Grid(5))
    study.optimize(lambda config: config["o"], 99)
    values = [t.config["o"] for t in study.trials]
    assert len(values) == len(set(values)) == 5


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: Grid(0), ValueError, "points of all=0"),
        (lambda: Grid({"x": True}), TypeError, "points of x=True"),
    ],
)
def test_errors_say_what_is_wrong(make, error, words):
    with pytest.raises(error, match=words):
        make()


def density(centres, at):
    """The mean of 1 and of cut-off normal densities, by scipy."""
    d, total = at.shape[1], np.ones(len(at))
    h = np.maximum(centres.std(0) * len(centres) ** (-1 / (d + 4)), 0.1)
    for c in centres:
        total += stats.truncnorm(-c / h, (1 - c) / h, loc=c, scale=h).pdf(at).prod(1)
    return total / (len(centres) + 1)


def test_parzen_is_the_ratio_of_two_densities():
    rng = np.random.default_rng(0)
    x, y, at = rng.random((11, 2)), rng.permutation(11), rng.random((400, 2))
    best = y.argsort()[:3]  # a quarter of 11, rounded up
    low, high = density(x[best], at), density(np.delete(x, best, 0), at)
    found = searchers.parzen(*map(torch.as_tensor, (x, y, at)))
    np.testing.assert_allclose(found, np.log(low / high), atol=1e-12)
    cells = (np.arange(200) + 0.5) / 200
    grid = np.stack(np.meshgrid(cells, cells), -1).reshape(-1, 2)
    assert abs(density(x[best], grid).mean() - 1) < 1e-3


def test_parzen_finds_what_random_search_does_not():
    pool = torch.rand(2000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    f = ((pool - 0.3) ** 2).sum(1)
    ahead = 0
    for seed in range(20):
        rows = np.random.default_rng(seed).permutation(2000)[:40].tolist()
        tried = rows[:10]
        for _ in range(30):
            hope = searchers.parzen(pool[tried], f[tried], pool)
            hope[tried] = -np.inf
            tried.append(int(hope.argmax()))
        ahead += f[tried].min() < f[rows].min()
    assert ahead >= 18
