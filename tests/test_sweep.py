"""The law of sweeps: a row is that run alone, whatever stands beside it."""

import itertools
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sweep_law import assert_law, random_data
from torch import nn

from nettrain import clipping, schedules
from nettrain import optimizers as o
from nettrain.data import Data, Split, mnist
from nettrain.lab import protocol
from nettrain.lab import sweep as module
from nettrain.lab.sweep import Sweep
from nettrain.models import RNN, cnn, mlp

g = torch.Generator().manual_seed(0)
exact = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


data = random_data(6)
net = partial(mlp, [6, 5, 3], activation=nn.Tanh)
double = partial(Sweep, data=data, batch=4, dtype=torch.float64)


# ------------------------------------------------------------------------ the law


@pytest.mark.parametrize("rule", o.RULES, ids=lambda r: r.__name__)
def test_a_row_is_that_run_alone_for_every_rule(rule):
    work = double(net, rule)
    runs = work.start(seeds=[3, 8, 3], lr=[0.01, 0.02, 0.05])
    assert_law(work, *work.advance(runs, 12))


def test_every_number_of_a_rule_may_differ_by_row():
    work = double(net, o.adamw)
    hyper = {"lr": [0.01, 0.02], "beta1": [0.0, 0.9], "beta2": 0.9, "eps": [1e-8, 0.1]}
    runs = work.start(seeds=[1, 1], decay=[0.0, 0.5], **hyper)
    assert_law(work, *work.advance(runs, 8))


def narrow(n):
    return nn.BatchNorm1d(n, momentum=0.3)


MODELS = {
    "batch norm": (partial(net, norm=narrow), data),
    "dropout": (partial(mlp, [6, 8, 5, 3], keep=0.6), data),
    "both": (partial(net, norm=narrow, keep=0.7), data),
    "cnn": (partial(cnn, (2,), side=4, classes=3), random_data(1, 4, 4)),
    "rnn": (partial(RNN, 2, 4, 3), random_data(5, 2)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_row_has_its_own_statistics_masks_and_layers(name):
    model, own = MODELS[name]
    work = double(model, o.momentum, data=own)
    runs = work.start(seeds=[0, 5], lr=[0.05, 0.1])
    assert_law(work, *work.advance(runs, 7))


@pytest.mark.parametrize(
    "how",
    [
        {"schedule": partial(schedules.cosine, total=10)},
        {"schedule": lambda lr: schedules.warmup(schedules.step(lr, [6]), 4)},
        {"clip": partial(clipping.by_norm, threshold=0.3)},
        {"clip": partial(clipping.by_value, low=-0.05, high=0.05)},
        {"loss": partial(F.cross_entropy, label_smoothing=0.2)},
    ],
    ids=["cosine", "warmup", "by norm", "by value", "loss"],
)
def test_the_law_with_a_schedule_clipping_or_another_loss(how):
    work = double(net, o.adam, **how)
    runs = work.start(seeds=[0, 5, 5], lr=[0.01, 0.01, 0.1])
    assert_law(work, *work.advance(runs, 9))


def assert_the_law_when_compiled():
    work = double(partial(net, norm=narrow, keep=0.7), o.adam, compile=True)
    runs = work.start(seeds=[0, 5, 5], lr=[0.01, 0.01, 0.1], beta2=0.99)
    assert_law(work, *work.advance(runs, 9))


@pytest.mark.compiler
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
def test_the_law_when_compiled():
    assert_the_law_when_compiled()


def test_powers_of_hyperparameters_are_not_left_to_the_compiler(graphs):
    assert_the_law_when_compiled()
    [graph] = graphs
    names = [str(node.target) for node in graph.graph.nodes]
    assert [name for name in names if "pow" in name] == ["aten.pow.Tensor_Scalar"]  # g²


def of_data(x, y):
    """The random data with inputs x(x) and labels y(x, y)."""
    splits = (Split(x(s.x), y(s.x, s.y)) for s in (data.train, data.valid, data.test))
    return Data("random", *splits)


regression = of_data(lambda x: x, lambda x, y: x[:, :2] ** 2)
fits = partial(double, partial(mlp, [6, 5, 2], norm=narrow), data=regression, loss=F.mse_loss)


def test_a_regression_has_the_law_too_and_no_accuracy():
    work = fits(o.sgd)
    runs, losses = work.advance(work.start(seeds=[0, 1], lr=[0.01, 0.1]), 8)
    assert_law(work, runs, losses)
    assert work.evaluate(runs, regression.valid)[1].isnan().tolist() == [True, True]


def test_a_diverging_neighbour_stays_a_row_and_changes_nobody():
    work = fits(o.momentum)
    beside, losses = work.advance(work.start([4, 4, 9], lr=[0.01, 1e6, 0.02]), 60)
    by_itself, loss = work.advance(work.start([4], lr=0.01), 60)
    exact(beside.theta[0], by_itself.theta[0])
    exact(losses[0], loss[0])
    assert len(beside) == 3 and losses.isfinite().tolist() == [True, False, True]
    valid, _ = work.evaluate(beside, regression.valid)
    assert valid.isfinite().tolist() == [True, False, True]


def test_whole_numbers_are_cast_like_all_data():
    work = double(net, o.adam, data=of_data(lambda x: (9 * x).to(torch.int16), lambda x, y: y))
    assert_law(work, *work.advance(work.start(seeds=[2], lr=0.01), 6))


# ------------------------------------------------------------------------ rows


@pytest.mark.parametrize(
    "rows",
    [[2, 0], torch.tensor([True, False, True]), slice(None, None, 2), -1, torch.tensor([1, 1])],
)
def test_selected_runs_go_on_as_if_nothing_had_happened(rows):
    work = double(partial(net, norm=narrow, keep=0.7), o.adam)
    runs = work.start(seeds=[3, 8, 3], lr=[0.01, 0.02, 0.05])
    whole, _ = work.advance(runs, 11)
    some, _ = work.advance(work.advance(runs, 7)[0][rows], 4)
    chosen = whole[rows]
    assert len(some) == len(np.atleast_1d(np.arange(3)[rows]))
    for name in ("theta", "state", "buffers", "hyper", "seed", "t"):
        exact(getattr(some, name), getattr(chosen, name))


@pytest.mark.parametrize("a, b", [(3, 9), (5, 5), (7, 1), (0, 4)])
def test_advancing_twice_is_advancing_once(a, b):
    work = double(partial(net, keep=0.7), o.adam, schedule=partial(schedules.cosine, total=12))
    start = work.start(seeds=[3, 8], lr=0.05)
    once, loss = work.advance(start, a + b)
    middle, first = work.advance(start, a)
    twice, second = work.advance(middle, b)
    exact(twice.theta, once.theta)
    exact((a * first + b * second) / (a + b), loss)
    assert (start.t, middle.t, twice.t) == (0, a, a + b)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_rows_do_not_depend_on_how_many_fit_into_the_cache(monkeypatch, rows):
    work = double(partial(net, norm=narrow, keep=0.7), o.adam)
    runs = work.start(seeds=[0, 1, 2, 3, 4], lr=0.02)
    together, losses = work.advance(runs, 6)
    monkeypatch.setattr(module, "CACHE", rows * runs.theta[0].numel() * 8)
    apart, apart_losses = work.advance(runs, 6)
    for name in ("theta", "state", "buffers", "hyper", "seed", "t"):
        exact(getattr(apart, name), getattr(together, name))
    exact(apart_losses, losses)
    exact(work.evaluate(apart, data.valid), work.evaluate(together, data.valid))


ROW = 53 * 8  # 53 parameters of 8 bytes


@pytest.mark.parametrize(
    "cache, sizes",
    [
        (1, [1, 1, 1, 1, 1]),
        (2 * ROW, [2, 2, 1]),
        (3 * ROW - 1, [2, 2, 1]),
        (3 * ROW, [3, 2]),
        (4 * ROW, [3, 2]),  # not 4 and 1
        (5 * ROW, [5]),
        (module.CACHE, [5]),
    ],
)
def test_as_few_pieces_as_the_cache_allows_and_of_nearly_equal_size(monkeypatch, cache, sizes):
    work = double(net, o.adam)
    runs = work.start(seeds=[4, 3, 2, 1, 0])
    monkeypatch.setattr(module, "CACHE", cache)
    pieces = work._chunks(runs)
    assert [len(piece) for piece in pieces] == sizes
    assert module.join(pieces).seed.tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("name, calls", [("both", 1), ("cnn", 3)])
def test_rows_are_measured_at_once_but_one_by_one_with_convolutions_on_a_cpu(name, calls):
    model, own = MODELS[name]
    work, seen = double(model, o.sgd, data=own), []
    measure = work._measure
    work._measure = lambda *args: seen.append(1) or measure(*args)
    work.evaluate(work.start(seeds=[0, 1, 2]), own.valid)
    assert len(seen) == calls


def test_a_step_is_recorded_once_per_number_of_rows_and_choice_of_hyperparameters(monkeypatch):
    rows, record = [], module.record
    counted = lambda f, *args, **how: rows.append(len(args[0])) or record(f, *args, **how)
    monkeypatch.setattr(module, "record", counted)
    work = double(net, o.momentum)
    three, other = work.start([0, 1, 2], lr=0.1), work.start([5, 6, 7], lr=[0.1, 0.2, 0.3])
    for runs in (three, three[[0, 2]], three, other, work.start([0, 1, 2], lr=0.1, rho=0.5)):
        assert_law(work, *work.advance(runs, 6))
    assert rows == [3, 2, 3]


def test_data_are_shuffled_once_per_epoch(monkeypatch):
    epochs, order = [], module.training.order
    counted = lambda seed, epoch, n: epochs.append(epoch) or order(seed, epoch, n)
    monkeypatch.setattr(module.training, "order", counted)
    work = double(net, o.sgd)
    runs, _ = work.advance(work.start([0, 1], lr=0.1), 12)
    work.advance(runs, 3)
    assert epochs == [0, 1, 2, 2]


def test_nothing_that_is_given_is_changed():
    work = double(partial(net, norm=narrow, keep=0.7), o.adam, schedule=schedules.inverse_sqrt)
    runs = work.start(seeds=[0, 1], lr=0.02)
    before = runs[:]
    generator = torch.get_rng_state()
    work.advance(runs, 6)
    for name in ("theta", "state", "buffers", "hyper", "seed", "t"):
        exact(getattr(runs, name), getattr(before, name))
    double(net, o.adam).start(seeds=[5])
    assert torch.equal(torch.get_rng_state(), generator)


def test_in_single_precision_a_row_is_nearly_the_run_in_double():
    single = Sweep(net, o.adam, data.to(torch.float32), batch=4)
    a, _ = single.advance(single.start(seeds=[0, 1], lr=[0.01, 0.02]), 10)
    work = double(net, o.adam)
    b, _ = work.advance(work.start(seeds=[0, 1], lr=[0.01, 0.02]), 10)
    assert a.theta.dtype == a.state[0].dtype == torch.float32
    torch.testing.assert_close(a.theta.double(), b.theta, rtol=0, atol=1e-4)


# ------------------------------------------------------------------------ refusals


def frozen():
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    model[0].weight.requires_grad_(False)
    return model


REFUSED = [
    (lambda: double(net, o.adam).start(seeds=[]), ValueError, r"seeds=\[\] starts no run"),
    (
        lambda: (lambda w: w.advance(w.start([0, 1])[[]], 1))(double(net, o.adam)),
        ValueError,
        "no runs to advance: the selection is empty",
    ),
    (
        lambda: double(net, o.adam).start([0, 1, 2], lr=[0.1, 0.2]),
        ValueError,
        r"lr has shape \[2\], but there are 3 seeds",
    ),
    (
        lambda: double(net, o.adam).start([0, 1], lr=[[0.1, 0.2]]),
        ValueError,
        r"lr has shape \[1, 2\], but there are 2 seeds",
    ),
    (
        lambda: double(net, o.adam).start([0, 1], lr=[[0.1], [0.2]]),
        ValueError,
        r"lr has shape \[2, 1\], but there are 2 seeds",
    ),
    (lambda: double(net, o.adam).start([0], rho=0.9), TypeError, "adam has no hyperparameter 'rh"),
    (
        lambda: double(net, o.adam).start([0, 1], beta1=[0.9, 1.5]),
        ValueError,
        r"adam: beta1=1.5 is outside \[0, 1\)",
    ),
    (lambda: double(net, o.adam).start([0, -1]), ValueError, "seed=-1 is outside"),
    (lambda: double(net, o.adam, batch=23), ValueError, r"batch=23 is outside \[1, 22\]"),
    (
        lambda: double(net, o.adam, schedule=schedules.constant).start([0]),
        ValueError,
        "a schedule needs lr",
    ),
    (
        lambda: (lambda w: w.advance(w.start([0]), -1))(double(net, o.adam)),
        ValueError,
        "steps=-1",
    ),
    (lambda: double(frozen, o.adam), ValueError, "0.weight"),
    (
        lambda: (lambda w: w.advance(w.start([0]), 1))(
            double(lambda: nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)), o.adam)
        ),
        RuntimeError,
        "random",
    ),
]


@pytest.mark.parametrize("wrong, error, message", REFUSED)
def test_errors_say_what_is_wrong(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


# ------------------------------------------------------------------------ tables

table = partial(module.sweep, net, data=data.to(torch.float32), batch=4, show=False)


def test_a_table_has_one_row_for_every_run_and_evaluation():
    frame = table(o.adam, seeds=[0, 1], steps=7, every=3, lr=[0.01, 0.1], beta1=0.5, final=True)
    assert len(frame) == 4 * 3 and frame["step"].tolist() == [3] * 4 + [6] * 4 + [7] * 4
    assert (frame["epoch"] == frame["step"] / 5).all() and (frame["beta1"] == 0.5).all()
    work = Sweep(net, o.adam, data.to(torch.float32), batch=4)
    runs, _ = work.advance(work.start([0, 1, 0, 1], lr=[0.01, 0.01, 0.1, 0.1], beta1=0.5), 6)
    runs, losses = work.advance(runs, 1)
    last = frame[frame["step"] == 7]
    assert last["seed"].tolist() == runs.seed.tolist()
    assert last["lr"].tolist() == runs.hyper["lr"].tolist()
    assert last["train_loss"].tolist() == pytest.approx(losses.tolist(), rel=1e-5)
    for name, split in (("valid", data.valid), ("fit", data.train), ("test", data.test)):
        loss, right = work.evaluate(runs, split)
        assert last[f"{name}_loss"].tolist() == pytest.approx(loss.tolist(), rel=1e-5)
        assert last[f"{name}_accuracy"].tolist() == pytest.approx(right.tolist())
    assert frame.loc[frame["step"] < 7, "test_loss"].isna().all()


def test_a_pool_of_processes_gives_the_same_table():
    how = {"seeds": [0, 1, 2], "steps": 6, "every": 3, "lr": [0.01, 0.1], "final": True}
    model = partial(mlp, [6, 5, 3])  # a module-level class: it can be sent to another process
    work = partial(module.sweep, model, o.adam, data.to(torch.float32), batch=4, show=False)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        shared = work(**how, executor=pool)
    pd.testing.assert_frame_equal(shared, work(**how), rtol=1e-5)


@pytest.mark.parametrize(
    "cores, sizes", [(None, [6]), (1, [6]), (4, [2, 2, 1, 1]), (64, [1, 1, 1, 1, 1, 1])]
)
def test_an_executor_is_given_a_part_for_every_core(monkeypatch, cores, sizes):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    parts = []
    here = SimpleNamespace(map=lambda f, some: map(f, parts.extend(some) or parts))
    how = {"seeds": [0, 1, 2], "steps": 6, "every": 4, "lr": [0.01, 0.1], "final": True}
    shared = table(o.adam, **how, executor=here)
    assert [len(part) for part in parts] == sizes
    pd.testing.assert_frame_equal(shared, table(o.adam, **how), rtol=1e-5)


def test_tuning_brackets_the_rate_and_the_decay_of_real_runs():
    digits = mnist(side=7)
    how = {"seeds": [0, 1, 2], "steps": 30, "every": 15, "show": False, "batch": 32}
    grid = {"lr": [1e-4, 1e-3], "decay": [0.1, 1.0]}  # the rates are far too low
    best, frame = protocol.tune(partial(mlp, [49, 10]), o.adamw, digits, grid=grid, **how)
    medians = frame[frame["step"] == 30].groupby(["lr", "decay"])["valid_loss"].median()
    assert tuple(best.values()) == medians.idxmin() and best["lr"] > 1e-3
    for name in best:
        lowest = medians.groupby(name).min()
        worse = lowest.index[lowest > medians.min()]
        assert worse.min() < best[name] < worse.max()


AXES = [0.5, np.float32(0.5), np.float64(0.5), torch.tensor(0.5), [0.5], (np.float64(0.5),)]
AXES += [np.array([0.5]), torch.tensor([0.5]), [torch.tensor(0.5)], pd.Series([0.5])]


@pytest.mark.parametrize("axis", AXES, ids=lambda x: type(x).__name__)
def test_an_axis_may_be_numbers_of_any_library(axis):
    frame = table(o.momentum, seeds=np.arange(2), steps=2, lr=0.1, rho=axis)
    pd.testing.assert_frame_equal(frame, table(o.momentum, seeds=[0, 1], steps=2, lr=0.1, rho=0.5))
    assert frame.dtypes["rho"] == np.float64 and frame.dtypes["seed"] == np.int64


@pytest.mark.parametrize(
    "wrong, error, message",
    [
        ({"steps": 0}, ValueError, "^steps=0 must be a positive integer$"),
        ({"steps": 5, "every": 0}, ValueError, "^every=0 must be a positive integer$"),
        ({"steps": 5, "rho": "0.5"}, ValueError, "^rho='0.5' is neither a number nor"),
        ({"steps": 5, "rho": []}, ValueError, r"^rho=\[\] is neither a number nor"),
        ({"steps": 5, "lr": [[0.1], [0.2]]}, ValueError, r"^lr=\[\[0.1\], \[0.2\]\] is neither"),
        ({"steps": 5, "rho": 1.5}, ValueError, r"rho=1.5 is outside \[0, 1\)"),
        ({"steps": 5, "beta1": 0.5}, TypeError, "momentum has no hyperparameter 'beta1'"),
        ({"steps": 5, "seeds": [0.5]}, TypeError, "^seed=0.5 is not an integer$"),
        ({"steps": 5, "seeds": []}, ValueError, "seeds=.* starts no run"),
    ],
)
def test_a_table_says_what_is_wrong_before_it_trains(monkeypatch, wrong, error, message):
    monkeypatch.setattr(Sweep, "advance", lambda *_: pytest.fail("trained"))
    with pytest.raises(error, match=message):
        table(o.momentum, **({"seeds": [0], "lr": 0.1} | wrong))


# ------------------------------------------------------------------------ Python in a step


class Counting(nn.Module):
    """Counts its training passes outside of tensors; what is done with the count is `use`."""

    def __init__(self, use):
        super().__init__()
        self.use, self.passes, self.shape, self.body = use, 0, None, nn.Linear(6, 3)

    def forward(self, x):
        self.shape = tuple(x.shape)  # a cache, which changes once
        if self.training and self.use:
            self.passes += 1
        return self.body(x) * (self.use(self.passes) if self.use else 1)


@pytest.mark.parametrize(
    "use", [lambda n: min(1.0, n / 10), lambda n: 1.0 if n < 50 else 0.5, lambda n: 1.0]
)
def test_a_number_that_a_step_changes_is_refused_by_name(use):
    work = double(lambda: nn.Sequential(Counting(use)), o.sgd)
    with pytest.raises(RuntimeError, match=r"^a training pass changes 0.passes, which a recorded"):
        work.advance(work.start([0], lr=0.1), 1)


class Keeping(nn.Module):
    """Keeps something of every training pass under a name."""

    def __init__(self, name, keep):
        super().__init__()
        self.name, self.keep, self.body = name, keep, nn.Linear(6, 3)
        self.passes = itertools.count()  # no number itself

    def forward(self, x):
        if self.training:
            setattr(self, self.name, self.keep(next(self.passes)))
        return self.body(x)


@pytest.mark.parametrize("name", ["kept", "_kept"])
@pytest.mark.parametrize(
    "keep",
    [
        lambda n: n,
        lambda n: n / 2,
        lambda n: np.int64(n),
        lambda n: f"pass {n}",
        lambda n: [n],
        lambda n: (n,),
        lambda n: {n},
        lambda n: {"passes": n},
        lambda n: {"passes": [("train", n)]},
    ],
    ids=["int", "float", "numpy", "str", "list", "tuple", "set", "dict", "nested"],
)
def test_numbers_are_found_in_all_collections_and_under_private_names(name, keep):
    work = double(partial(Keeping, name, keep), o.sgd)
    with pytest.raises(RuntimeError, match=f"^a training pass changes {name}, which a recorded"):
        work.advance(work.start([0], lr=0.1), 1)


def test_a_number_outside_of_the_network_is_refused():
    calls = []

    def loss(out, y):
        calls.append(1)
        return F.cross_entropy(out, y) * len(calls)

    work = double(net, o.sgd, loss=loss)
    with pytest.raises(RuntimeError, match="a second call does something else"):
        work.advance(work.start([0], lr=0.1), 1)


def test_what_a_first_pass_fills_in_is_no_obstacle():
    work = double(lambda: Counting(None), o.sgd)
    assert_law(work, *work.advance(work.start([0, 1], lr=0.1), 7))


def test_fresh_seeds_are_not_tuning_seeds():
    with pytest.raises(ValueError, match=r"seeds \[3\] were used for tuning"):
        protocol.contest({"sgd": {"rule": o.sgd}}, net, data, tuning_seeds=[1, 3], seeds=[3, 4])
