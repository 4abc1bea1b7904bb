"""Replays: what a search would have done, from recorded curves."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import qmc
from torch.quasirandom import SobolEngine

from nettrain import budgets, searchers, spaces
from nettrain.replays import Replay, Table, evenly, recommended
from nettrain.spaces import Real

SPACE = dict(x=Real(0, 1), y=Real(0, 1))
CONFIGS = [spaces.from_unit(SPACE, searchers.point(0, i, 2)) for i in range(128)]
ENDS = np.array([(c["x"] - 0.3) ** 2 + (c["y"] - 0.6) ** 2 for c in CONFIGS])
TABLE = Table(SPACE, CONFIGS, (1 + ENDS)[:, None] * np.linspace(2, 1, 27), worst=5.0)


def test_a_replay_does_what_the_search_does_on_the_curves():
    order = np.random.default_rng(0).permutation(128)
    replay = Replay(TABLE, order)
    _, history = budgets.hyperband(replay.start, replay.advance, budgets.brackets(27))
    objective = lambda config: iter(TABLE.curves[CONFIGS.index(config)])

    def start(first, n):
        return budgets.Curves(objective, [CONFIGS[row] for row in order[first : first + n]])

    _, truth = budgets.hyperband(start, budgets.Curves.advance, budgets.brackets(27))
    pd.testing.assert_frame_equal(history, truth)
    assert replay.rows == order[: len(replay.rows)].tolist()


def test_a_configuration_is_never_taken_twice_and_the_pool_ends():
    replay = Replay(TABLE, range(128), lambda x, y, at: at[:, 0], among=8)
    budgets.hyperband(replay.start, replay.advance, [[(27, 1), (9, 3)]] * 4)
    assert len(set(replay.rows)) == len(replay.rows) == 108
    with pytest.raises(ValueError, match="21 runs wanted, but 20 configurations are left"):
        replay.start(108, 21)


def test_a_model_is_asked_after_the_first_trials_and_obeyed():
    asked = []

    def promise(x, y, at):
        asked.append((x, y))
        return -((at - torch.tensor([0.3, 0.6])) ** 2).sum(1)

    replay = Replay(TABLE, range(128), promise, initial=5)
    budgets.hyperband(replay.start, replay.advance, [[(1, 27)]] * 12)
    assert replay.rows[:5] == [0, 1, 2, 3, 4]
    rest = sorted(range(5, 128), key=ENDS.__getitem__)
    assert replay.rows[5:] == rest[:7]
    assert [len(x) for x, _ in asked] == [5, 6, 7, 8, 9, 10, 11]
    x, y = asked[0]
    assert x.tolist() == [list(c.values()) for c in CONFIGS[:5]]
    np.testing.assert_allclose(y, np.log(TABLE.curves[:5, -1]))


def test_the_model_learns_from_the_runs_that_got_furthest_if_they_are_enough():
    sizes = []
    promise = lambda x, y, at: sizes.append((len(x), float(y.max()))) or torch.zeros(len(at))
    curves = np.tile(np.arange(27, 0, -1.0), (128, 1))  # tells the age
    replay = Replay(Table(SPACE, CONFIGS, curves), range(128), promise, initial=8, among=4)
    budgets.hyperband(replay.start, replay.advance, budgets.brackets(27)[:1] * 4)
    ages = [(n, round(27 - math.exp(y) + 1)) for n, y in sizes]
    assert ages == [(9, 3), (18, 3), (9, 9)]


def test_losses_above_the_worst_count_as_it_and_a_third_is_random():
    seen = []
    curves = np.full((128, 27), np.inf)
    curves[1::2] = 0.5
    table = Table(SPACE, CONFIGS, curves, worst=2.0)
    hope = lambda x, y, at: seen.append(y) or at[:, 0]
    replay = Replay(table, range(128), hope, initial=4, among=50)
    replay.advance(replay.start(0, 4), 27)
    replay.start(4, 60)
    np.testing.assert_allclose(seen[0].exp(), [2.0, 0.5, 2.0, 0.5])
    x = table.points[:, 0].numpy()
    guided = [x[row] for number, row in enumerate(replay.rows) if number >= 4 and number % 3]
    random = [x[row] for number, row in enumerate(replay.rows) if number >= 4 and number % 3 == 0]
    assert np.mean(guided[:15]) > 0.8 > np.mean(random)
    again = Replay(table, range(128), hope, initial=4, among=50)
    again.advance(again.start(0, 4), 27)
    again.start(4, 60)
    assert again.rows == replay.rows


def test_recommended_is_the_lowest_loss_so_far_however_young():
    history = pd.DataFrame(
        {"run": [0, 1, 2, 0, 1], "loss": [3.0, 1.0, 2.0, 0.5, math.inf], "spent": [1, 2, 3, 5, 9]}
    )
    assert recommended(history, [1, 2, 3, 4, 5, 99]) == [0, 1, 1, 1, 0, 0]
    with pytest.raises(ValueError, match="the first loss came at 1"):
        recommended(history, [0.5])


def test_aligned_blocks_of_a_sobol_sequence_are_as_even_as_its_beginning():
    points = SobolEngine(3, scramble=True, seed=4).draw(256, dtype=torch.float64).numpy()
    for number in (0, 17, 200, 456):
        rows = evenly(256, number)
        assert sorted(rows) == list(range(256)) and rows[0] == number % 256
        for n in (8, 16, 64):
            for column in points[rows[:n]].T:  # one point in each of n equal parts
                assert sorted(np.floor(column * n)) == list(range(n))
    even = [qmc.discrepancy(points[evenly(256, k)[:16]]) for k in range(40)]
    chance = [qmc.discrepancy(np.random.default_rng(k).random((16, 3))) for k in range(40)]
    assert max(even) < np.mean(chance)
    with pytest.raises(ValueError, match="n=12 is not a power of two"):
        evenly(12, 0)
