"""Rules that see shapes, averages, factors and second gradients: one law for sweeps and torch.

The run alone steps tensors (adapter.Optimizer), a row of a sweep one vector; against loops by hand.
"""

import copy
import math
from functools import partial

import pytest
import torch
from refusals import refused
from sweep_law import assert_law, close, random_data
from torch import nn
from torch.func import functional_call

from nettrain import averaging, contenders, groups
from nettrain import optimizers as o
from nettrain.data import Data, Split
from nettrain.lab import adapter, protocol, training
from nettrain.lab import sweep as sweeps
from nettrain.lab.adapter import Optimizer
from nettrain.lab.sweep import Sweep
from nettrain.losses import cross_entropy, token_cross_entropy
from nettrain.matrix_rules import muon, shampoo, soap
from nettrain.models import cnn, mlp
from nettrain.normalization import BatchNorm, full_statistics
from nettrain.penalties import l2, penalized

data = random_data(6)
net = partial(mlp, [6, 8, 3], activation=nn.Tanh)
normed = partial(net, norm=BatchNorm, keep=0.7)
deep = partial(mlp, [6, 8, 7, 3], activation=nn.Tanh)
pictures = random_data(1, 4, 4)
double = partial(Sweep, data=data, batch=4, dtype=torch.float64)

first = lambda name, shape: name.startswith("1.")
by_size = lambda name, shape: {"lr": 1 / shape[0], "decay": float(len(shape) > 1)}
sharp = partial(contenders.sam, rho=0.1)
inside = lambda name, shape: len(shape) > 1 and name.startswith("3.")

RULES = {
    "muon": groups.partition(muon, o.adamw),
    "shampoo": groups.partition(shampoo, o.momentum),
    "soap": groups.partition(soap, o.adam),
    "muon inside": groups.partition(muon, o.adamw, inside),
    "two rules on vectors": groups.partition(contenders.lion, o.sgd, first),
    "all by one": groups.partition(muon, o.adamw, lambda name, shape: False),
    "average of muon": groups.partition(averaging.ema(muon, 0.9), averaging.ema(o.adamw, 0.9)),
    "average of one": groups.partition(muon, averaging.swa(o.adamw, 2, 3)),
    "penalized muon": groups.partition(penalized(muon, l2), penalized(o.adamw, l2)),
    "prodigy": contenders.prodigy,
}


@pytest.mark.parametrize("name", RULES)
def test_a_row_is_that_run_alone(name):
    work = double(deep, RULES[name])
    runs = work.start([3, 8, 3], lr=[0.01, 0.02, 0.05])
    assert_law(work, *work.advance(runs, 9))


@pytest.mark.parametrize("name", ["muon", "soap", "average of muon", "prodigy"])
def test_a_row_with_factors_is_that_run_alone(name):
    work = double(deep, RULES[name], by=by_size)
    runs = work.start([3, 8, 3], lr=[0.1, 0.2, 0.5], decay=[0.1, 1.0, 2.0])
    assert_law(work, *work.advance(runs, 9))


@pytest.mark.parametrize("rule", o.RULES, ids=lambda r: r.__name__)
def test_every_rule_takes_factors(rule):
    by = lambda name, shape: {"lr": 1 / shape[0]}
    work = double(net, rule, by=by)
    assert_law(work, *work.advance(work.start([3, 8], lr=[0.05, 0.1]), 7))


@pytest.mark.parametrize("name", ["muon", "shampoo"])
def test_convolutions_are_matrices(name):
    work = double(partial(cnn, (2,), side=4, classes=3), RULES[name], data=pictures)
    assert_law(work, *work.advance(work.start([0, 5], lr=[0.05, 0.1]), 7))


AVERAGES = {
    "ema": averaging.ema(o.adam, 0.8),
    "lawa": averaging.lawa(o.sgd, 2, 3),
    "swa": averaging.swa(o.momentum, 2, 3),
    "schedule-free": averaging.schedule_free_adamw,
    "muon": RULES["average of muon"],
}


@pytest.mark.parametrize("steps", [0, 1, 12])
@pytest.mark.parametrize("name", AVERAGES)
def test_averages_with_batch_norm_and_dropout_are_measured_with_statistics_of_their_own(
    name, steps
):
    work = double(normed, AVERAGES[name])
    runs, losses = work.advance(work.start([0, 5], lr=[0.05, 0.1]), steps)
    if steps:
        assert_law(work, runs, losses)
    for r in range(2):
        there = work.network(runs, r)
        again = full_statistics(copy.deepcopy(there), work.data.train.x)
        close(dict(there.state_dict()), dict(again.state_dict()))


def test_a_network_is_measured_at_the_average_and_trained_where_it_was():
    work, plain = double(net, AVERAGES["ema"]), double(net, o.adam)
    runs, losses = work.advance(work.start([0, 5], lr=0.1), 12)
    same, other = plain.advance(plain.start([0, 5], lr=0.1), 12)
    close(runs.theta, same.theta)
    close(losses, other)
    mean = runs.state[-1] / (1 - 0.8**12)
    for r in range(2):
        flat = nn.utils.parameters_to_vector(work.network(runs, r).parameters())
        close(flat, mean[r])
    (there, _), (here, _) = work.evaluate(runs, data.valid), plain.evaluate(same, data.valid)
    losses = [cross_entropy(work.network(runs, r)(data.valid.x), data.valid.y) for r in range(2)]
    close(there, torch.stack(losses).detach())
    assert (there - here).abs().min() > 1e-3


# ------------------------------------------------------------------------ selected rows, pieces


@pytest.mark.parametrize("name", ["muon", "soap", "average of muon"])
def test_selected_runs_go_on_as_if_nothing_had_happened(name):
    work = double(partial(deep, norm=BatchNorm), RULES[name])
    runs = work.start([3, 8, 3], lr=[0.01, 0.02, 0.05])
    whole, _ = work.advance(runs, 9)
    some, _ = work.advance(work.advance(runs, 5)[0][[2, 0]], 4)
    close(some.theta, whole.theta[[2, 0]])
    close(list(some.state), [s[[2, 0]] for s in whole.state])


def test_rows_do_not_depend_on_how_many_fit_into_the_cache(monkeypatch):
    work = double(deep, RULES["soap"])
    runs = work.start([0, 1, 2, 3], lr=0.02)
    together, losses = work.advance(runs, 5)
    monkeypatch.setattr(sweeps, "CACHE", 1)
    apart, same = work.advance(runs, 5)
    close(apart.theta, together.theta)
    close(list(apart.state), list(together.state))
    close(same, losses)


def test_a_state_starts_in_every_row_as_the_rule_says():
    work = double(deep, RULES["soap"])
    runs = work.start([3, 8])
    shapes = [list(s.shape) for s in runs.state]
    matrices = [(8, 6), (7, 8), (3, 7)]
    expected = [[2, *x] for m, n in matrices for x in ((m, m), (n, n), (m, n), (m, n))]
    assert shapes == [*expected, [2, 18], [2, 18]]
    ramp = 1e-6 * torch.diag(torch.arange(1, 9) / 8).double()
    close(runs.state[0], ramp.expand(2, 8, 8))
    assert all(s.is_contiguous() for s in runs.state)


@pytest.mark.parametrize("size", [1, 4, 9, 1000])
def test_sequences_are_measured_in_pieces(monkeypatch, size):
    text = tokens()
    work = Sweep(Letters, o.sgd, text, batch=4, loss=token_cross_entropy, dtype=torch.float64)
    runs, _ = work.advance(work.start([0, 1], lr=0.5), 9)
    loss, right = work.evaluate(runs, text.valid)
    monkeypatch.setattr(sweeps, "AT_ONCE", size)
    again, hits = work.evaluate(runs, text.valid)
    close(again, loss)
    close(hits, right)
    out = work.network(runs, 1)(text.valid.x)
    close(right[1], (out.argmax(-1) == text.valid.y).double().mean())
    assert 0 < right[1] < 1


class Letters(nn.Module):
    """What follows a letter: one row of a table for each."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(0.1 * torch.randn(3, 3))

    def forward(self, x):
        return self.table[x.long()]


def tokens():
    g = torch.Generator().manual_seed(0)
    draw = lambda n: torch.randint(3, (n, 5), generator=g)
    return Data("tokens", *(Split(x := draw(n), (x + draw(n) // 2) % 3) for n in (22, 9, 5)))


def test_the_constant_prediction_of_sequences_counts_their_places():
    y = tokens().valid.y.flatten()
    share = torch.bincount(y, minlength=3).double() / len(y)
    entropy = -(share * share.log()).sum().item()
    constant = partial(protocol._constant_score, tokens())
    assert constant("valid_loss", token_cross_entropy) == pytest.approx(entropy, abs=1e-6)
    assert constant("valid_accuracy", token_cross_entropy) == pytest.approx(1 - share.max().item())


def test_labels_of_sequences_are_checked_before_training():
    wrong = tokens()
    wrong.valid.y[2, 3] = 3
    message = "valid labels[13] is 3, but with 3 outputs they are 0 ... 2"
    work = lambda: Sweep(Letters, o.sgd, wrong, loss=token_cross_entropy, batch=4)
    refused(work, ValueError, message)


# ------------------------------------------------------------------------ by hand


def by_hand(model, step, steps, seed=0):
    """Parameters by name after so many steps of `step(name, theta, g, state, t)`."""
    one = training.build(model, seed).double()
    params = {k: p.detach().clone() for k, p in one.named_parameters()}
    state = {k: {} for k in params}
    stream = training.batches(22, 4, seed)
    for t, i in zip(range(1, steps + 1), stream, strict=False):
        leaves = {k: p.requires_grad_() for k, p in params.items()}
        out = functional_call(one, leaves, data.train.x[i])
        g = torch.autograd.grad(cross_entropy(out, data.train.y[i]), list(leaves.values()))
        with torch.no_grad():
            params = {
                k: step(k, p, own, state[k], t)
                for (k, p), own in zip(params.items(), g, strict=True)
            }
    return params


def network(work, lr, steps, **hyper):
    runs, _ = work.advance(work.start([0], lr=lr, **hyper), steps)
    return {k: p.detach() for k, p in work.network(runs, 0).named_parameters()}


def test_a_partition_steps_matrices_by_one_rule_and_the_rest_by_the_other():
    def step(name, theta, g, state, t):
        if theta.ndim == 1:
            return theta - 0.5 * 0.3 * g  # sgd, ratio 0.3
        state["m"] = 0.8 * state.get("m", 0) + 0.2 * g
        u, s, v = torch.linalg.svd(0.8 * state["m"] + 0.2 * g, full_matrices=False)
        s = s / s.norm()
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        return theta - 0.5 * max(1, theta.shape[0] / theta.shape[1]) ** 0.5 * (u * s) @ v

    work = double(net, groups.partition(muon, o.sgd))
    close(network(work, 0.5, 6, ratio=0.3, beta=0.8), by_hand(net, step, 6))


def test_a_schedule_changes_both_rates_and_the_ratio_stays():
    """All by SGD: the rest at a quarter of the rate."""
    step = lambda name, theta, g, state, t: (
        theta - (0.1 if first(name, ()) else 0.025) * (1 - (t - 1) / 6) * g
    )
    rule = groups.partition(o.sgd, o.sgd, first)
    work = double(net, rule, schedule=lambda lr: lambda done: lr * (1 - done / 6))
    close(network(work, 0.1, 6, ratio=0.25), by_hand(net, step, 6))


def test_factors_multiply_what_they_name_tensor_by_tensor():
    step = lambda name, theta, g, state, t: (
        theta * (1 - 0.1 / len(theta) * 2.0 * (theta.ndim > 1)) - 0.1 / len(theta) * g
    )
    rule = decayed_sgd
    close(network(double(net, rule, by=by_size), 0.1, 6, decay=2.0), by_hand(net, step, 6))


def decayed_sgd(theta, g, *, t, lr=1e-3, decay=1e-2):
    return ((1 - lr * decay) * theta - lr * g,)


def test_the_same_name_is_the_same_number_in_both_rules_and_defaults_are_the_first_ones():
    rule = groups.partition(muon, o.adamw)
    assert o.hyperparameters(rule) == {
        "lr": 0.02, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "decay": 0.0, "beta": 0.95,
        "ratio": 0.1,
    }  # fmt: skip
    assert rule.__name__ == "muon_adamw" and o.state_names(rule) == []
    biases = lambda **hyper: network(double(net, rule), 0.1, 5, **hyper)["1.bias"]
    assert (biases(decay=1.0) - biases()).abs().max() > 1e-3


def test_sam_asks_twice_with_the_same_masks_and_keeps_the_first_answer():
    work = double(normed, o.momentum, gradient=sharp)
    runs, losses = work.advance(work.start([0, 5], lr=[0.05, 0.1]), 9)
    assert_law(work, runs, losses)
    plain = double(normed, o.momentum)
    other, _ = plain.advance(plain.start([0, 5], lr=[0.05, 0.1]), 9)
    assert (other.theta - runs.theta).abs().max() > 1e-3
    keys = [name for name in runs.buffers if name.endswith("key")]
    assert len(keys) == 1  # masks were drawn once a step
    assert torch.equal(other.buffers[keys[0]], runs.buffers[keys[0]])


def test_sam_in_a_sweep_is_sam_by_hand():
    def two_steps(x, y, params):
        loss = lambda params: cross_entropy(functional_call(one, params, x), y)
        g = torch.func.grad(loss)(params)
        length = math.sqrt(sum((v**2).sum().item() for v in g.values()))
        moved = {k: p + 0.1 * g[k] / length for k, p in params.items()}
        g = torch.func.grad(loss)(moved)
        return {k: p - 0.2 * g[k] for k, p in params.items()}

    one = training.build(net, 0).double()
    params = {k: p.detach() for k, p in one.named_parameters()}
    for _, i in zip(range(7), training.batches(22, 4, 0), strict=False):
        params = two_steps(data.train.x[i], data.train.y[i], params)
    close(network(double(net, o.sgd, gradient=sharp), 0.2, 7), params)


def test_backward_leaves_parameters_and_gives_the_loss_at_them():
    one = training.build(normed, 3).double()
    twin = copy.deepcopy(one)
    x, y = data.train.x[:8], data.train.y[:8]
    loss = training.backward(one, lambda: cross_entropy(one(x), y), lambda gradient: gradient)
    expected = training.backward(twin, lambda: cross_entropy(twin(x), y))
    assert not loss.requires_grad and torch.equal(loss, expected.detach())
    close(dict(one.state_dict()), dict(twin.state_dict()))
    close([p.grad for p in one.parameters()], [p.grad for p in twin.parameters()])


# ------------------------------------------------------------------------ as a torch optimizer


def train(model, opt, steps, start=0, scheduler=None, gradient=None, closure=False):
    for k in range(start, start + steps):
        i = torch.arange(4) + 4 * (k % 5)
        forward = lambda i=i: cross_entropy(model(data.train.x[i]), data.train.y[i])

        def compute(forward=forward):
            opt.zero_grad()
            return training.backward(model, forward, gradient)

        if closure:
            opt.step(compute)
        else:
            compute()
            opt.step()
        if scheduler:
            scheduler.step()
    return dict(model.state_dict())


def made(name, seed=0, **hyper):
    model = training.build(deep, seed).double()
    rule = RULES[name]
    return model, Optimizer(model.named_parameters(), rule, by=by_size, lr=0.1, **hyper)


each = pytest.mark.parametrize("name", ["muon", "soap", "average of muon"])


@each
def test_a_state_dict_goes_on_where_it_was_saved(name):
    model, opt = made(name)
    train(model, opt, 4)
    other, fresh = made(name, seed=1)
    other.load_state_dict(model.state_dict())
    fresh.load_state_dict(copy.deepcopy(opt.state_dict()))
    close(train(other, fresh, 4, start=4), train(model, opt, 4, start=4))


@each
def test_a_deep_copy_goes_on_by_itself(name):
    model, opt = made(name)
    train(model, opt, 3)
    other, twin = copy.deepcopy((model, opt))
    first = train(other, twin, 3, start=3)
    close(first, train(model, opt, 3, start=3))


@each
def test_schedulers_closures_and_sam_are_those_of_any_torch_optimizer(name):
    model, opt = made(name)
    ends = train(
        model, opt, 6, scheduler=torch.optim.lr_scheduler.StepLR(opt, 2, 0.5), closure=True,
        gradient=sharp,
    )  # fmt: skip
    twin, other = made(name)
    for k in range(3):
        other.param_groups[0]["lr"] = 0.1 * 0.5**k
        again = train(twin, other, 2, start=2 * k, gradient=sharp)
    close(ends, again)
    assert opt.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**3)


@pytest.mark.compiler
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
def test_compiled_is_eager_and_compiles_once_for_each_part():
    (model, opt), (twin, other) = made("muon"), made("muon", compile=True)
    close(train(twin, other, 5), train(model, opt, 5))
    assert len(other._compiled) == 4  # three matrices, and the vectors


def test_groups_have_their_own_hyperparameters():
    model = training.build(deep, 0).double()
    names = dict(model.named_parameters())
    two = [
        {"params": [(k, p) for k, p in names.items() if k.startswith("1.")], "lr": 0.1},
        {"params": [(k, p) for k, p in names.items() if not k.startswith("1.")], "lr": 0.01},
    ]
    train(model, Optimizer(two, RULES["muon"]), 5)
    by = lambda name, shape: {"lr": 1.0 if name.startswith("1.") else 0.1}
    twin = training.build(deep, 0).double()
    opt = Optimizer(twin.named_parameters(), RULES["muon"], by=by, lr=0.1)
    train(twin, opt, 5)
    close(dict(model.state_dict()), dict(twin.state_dict()))


@pytest.mark.parametrize("small, block", [(0, 1 << 20), (1 << 20, 1 << 20), (0, 16)])
def test_factors_do_not_depend_on_which_tensors_are_stepped_together(monkeypatch, small, block):
    ours = train(*made_adamw(), 5)
    monkeypatch.setattr(adapter, "SMALL", small)
    monkeypatch.setattr(adapter, "BLOCK", block)
    close(train(*made_adamw(), 5), ours)


def made_adamw():
    model = training.build(deep, 0).double()
    return model, Optimizer(model.named_parameters(), o.adamw, by=by_size, lr=0.1, decay=1.0)


def test_a_parameter_without_gradient_keeps_its_place_among_the_factors():
    (model, opt), (twin, other) = made_adamw(), made_adamw()
    train(model, opt, 2), train(twin, other, 2)
    still = dict(model.named_parameters())["1.weight"]
    still.grad = None
    before = still.detach().clone()
    opt.step(), other.step()
    close(still.detach(), before)
    for (k, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        if k != "1.weight":
            close(p.detach(), q.detach())


def test_inside_of_evaluated_the_parameters_are_averages_and_no_step_is_lost():
    model, opt = made("average of muon")
    with opt.evaluated():  # before the first step: where they are
        close(dict(model.state_dict()), dict(training.build(deep, 0).double().state_dict()))
    train(model, opt, 5)
    before = copy.deepcopy(dict(model.state_dict()))
    with opt.evaluated():
        for p in model.parameters():
            close(p.detach(), opt.state[p]["ema"] / (1 - 0.9**5))
        with pytest.raises(RuntimeError, match="^a step inside of `with opt.evaluated"):
            opt.step()
    close(dict(model.state_dict()), before)
    with pytest.raises(KeyError), opt.evaluated():
        raise KeyError
    close(dict(model.state_dict()), before)
    train(model, opt, 1)


def test_initial_multiplies_weights_of_a_seed():
    base = {k: p.shape for k, p in mlp([6, 4, 4, 3]).named_parameters()}
    by = groups.mup_initial(base)
    wide = partial(mlp, [6, 16, 16, 3])
    plain = training.build(wide, 3)
    scaled = dict(training.build(groups.initial(wide, by), 3).named_parameters())
    for name, p in plain.named_parameters():
        factor = 0.5 if name == "5.weight" else 1.0
        close(scaled[name].detach(), factor * p.detach())


# ------------------------------------------------------------------------ refusals

P = [("weight", nn.Parameter(torch.ones(2, 3))), ("bias", nn.Parameter(torch.ones(2)))]
bare = [p for _, p in P]
partitioned = groups.partition(muon, o.adamw)
REFUSED = {
    "a vector in a sweep": (
        lambda: double(net, muon),
        ValueError,
        "muon steps matrices, but 1.bias has shape [8]: give such tensors another rule, as "
        "groups.partition(muon, adamw)",
    ),
    "a vector": (
        lambda: Optimizer(P, soap),
        ValueError,
        "soap steps matrices, but bias has shape [2]: give such tensors another rule, as "
        "groups.partition(soap, adamw)",
    ),
    "no names for factors": (
        lambda: Optimizer(bare, o.adam, by=by_size),
        TypeError,
        "tensors are chosen by name: give model.named_parameters()",
    ),
    "no names for a choice": (
        lambda: Optimizer(bare, groups.partition(muon, o.adamw, inside)),
        TypeError,
        "tensors are chosen by name: give model.named_parameters()",
    ),
    "an unknown factor": (
        lambda: double(net, o.adam, by=by_size),
        ValueError,
        "adam has no decay; it has lr, beta1, beta2, eps",
    ),
    "an unknown factor in torch": (
        lambda: Optimizer(P, o.sgd, by=lambda *of: {"theta": 1.0}),
        ValueError,
        "sgd has no theta; it has lr",
    ),
    "a negative factor": (
        lambda: double(net, o.adam, by=lambda *of: {"lr": -1.0}),
        ValueError,
        "1.weight: the factor -1.0 of lr is outside [0, inf)",
    ),
    "matrices as the rest": (
        lambda: groups.partition(o.adam, muon),
        ValueError,
        "muon steps matrices only, not the vector of all others",
    ),
    "a partition in a partition": (
        lambda: groups.partition(partitioned, o.sgd),
        ValueError,
        "muon_adamw is a partition; give it two rules that step tensors",
    ),
    "a rule without a rate": (
        lambda: groups.partition(muon, lambda theta, g, *, t: (theta,)),
        ValueError,
        "<lambda> has no hyperparameter lr, which a partition shares",
    ),
    "a step of one tensor": (
        lambda: partitioned(torch.ones(2, 3), torch.ones(2, 3), t=1),
        TypeError,
        "muon_adamw steps a model: give it to Sweep or adapter.Optimizer. What is to wrap it has "
        "to wrap its two rules",
    ),
    "a ratio below zero": (
        lambda: double(net, partitioned).start([0], ratio=-1.0),
        ValueError,
        "muon_adamw: ratio=-1 is outside [0, inf)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    wrong, error, message = REFUSED[name]
    refused(wrong, error, message)
