"""A device's numbers beside the CPU's, in float64: what a GPU must agree with.

NETTRAIN_DEVICE chooses the device. On a CPU both sides are the same code, so there these tests
prove only that they run; `python -m benchmarks.gpu` runs them where there is a GPU.

Tolerances: integers and uniform draws are equal. One operation of float64 may differ in its last
bits (EXACT); what sums in another order, by more (SUMS); some steps of training pass such
differences on, and each may multiply them (STEPS).
"""

import copy
import gc
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from sweep_law import assert_law
from test_devices import MODELS

from nettrain import augmentation, clipping, data, draws, landscape, losses, penalties, schedules
from nettrain import normalization as n
from nettrain import optimizers as o
from nettrain import preprocessing as p
from nettrain.initializers import he, initialize
from nettrain.lab import training
from nettrain.lab.adapter import Optimizer
from nettrain.lab.sweep import Sweep
from nettrain.models import cnn, mlp

DEVICE = data.device()
EXACT = {"rtol": 1e-13, "atol": 1e-14}
SUMS = {"rtol": 1e-10, "atol": 1e-12}
STEPS = {"rtol": 1e-7, "atol": 1e-9}
every_rule = pytest.mark.parametrize("rule", o.RULES, ids=lambda rule: rule.__name__)
every_model = pytest.mark.parametrize("model", MODELS)


def digits(device, count=96):
    """Some of the digits, in float64."""
    source = data.mnist(side=14)
    parts = (
        data.Split(s.x[:count].to(device, torch.float64), s.y[:count].to(device))
        for s in (source.train, source.valid, source.test)
    )
    return data.Data("digits", *parts)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def same(f, *args, **tolerance):
    """f of tensors on the device, as on the CPU."""
    here = f(*args)
    there = f(*(x.to(DEVICE) if isinstance(x, torch.Tensor) else x for x in args))
    assert there.device.type == DEVICE.type
    torch.testing.assert_close(there.cpu(), here, **tolerance or SUMS)


# ------------------------------------------------------------------- rules and the adapter


@every_rule
def test_a_rule(rule):
    gradients = random(20, 300, seed=1)

    def steps(theta, gradients):
        state = [torch.zeros_like(theta) for _ in o.state_names(rule)]
        for t, g in enumerate(gradients, 1):
            theta, *state = rule(theta, g, *state, t=t)
        return torch.stack([theta, *state])

    same(steps, random(300), gradients, rtol=1e-11, atol=1e-13)


def trained(rule, device, **how):
    """The parameters after six steps on one batch."""
    net = training.build(partial(mlp, [196, 16, 10]), 3).double().to(device)
    opt, some = Optimizer(net.parameters(), rule, **how), digits(device).train
    for _ in range(6):
        opt.zero_grad()
        losses.cross_entropy(net(some.x), some.y).backward()
        opt.step()
    return torch.nn.utils.parameters_to_vector(net.parameters()).detach().cpu()


@every_rule
def test_the_adapter(rule):
    torch.testing.assert_close(trained(rule, DEVICE), trained(rule, "cpu"), **STEPS)


@pytest.mark.compiler
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
@pytest.mark.parametrize("rule", [o.sgd, o.adam, o.amsgrad], ids=lambda rule: rule.__name__)
def test_the_compiled_adapter(rule):
    compiled = trained(rule, DEVICE, compile=True)
    torch.testing.assert_close(compiled, trained(rule, "cpu"), **STEPS)


def test_what_an_optimizer_has_kept_moves_between_devices():
    nets = [training.build(partial(mlp, [4, 3]), 0).double().to(d) for d in ("cpu", DEVICE)]
    for net in nets:
        for q in net.parameters():
            q.grad = torch.ones_like(q)
    here, there = (Optimizer(net.parameters(), o.adam) for net in nets)
    here.step()
    nets[1].load_state_dict(nets[0].state_dict())
    there.load_state_dict(copy.deepcopy(here.state_dict()))
    here.step(), there.step()
    for q, r in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(r.cpu(), q, **EXACT)


# ------------------------------------------------------------------------ draws and layers


def test_draws():
    keys = torch.tensor([[7, 0, 3], [7, 1, 3], [2**40, 5, 0]])
    for key in keys:
        same(partial(draws.uniform, shape=torch.Size([1001])), key, rtol=0, atol=0)
        same(partial(draws.normal, shape=torch.Size([1001])), key, rtol=1e-5, atol=1e-6)
    same(partial(draws.permutation, n=777), keys, rtol=0, atol=0)
    seeds = torch.tensor([0, 1, 10**9])
    same(lambda s: training.order(s, 4, 500), seeds, rtol=0, atol=0)


def test_a_seed_means_the_same_weights_everywhere():
    net = training.build(lambda: initialize(mlp([30, 20, 10]), he), 5)
    moved = copy.deepcopy(net).to(DEVICE)
    assert all(a.equal(b.cpu()) for a, b in zip(net.parameters(), moved.parameters(), strict=True))


def passes(model, x, y):
    """Outputs, gradients and buffers of two passes in training and one in evaluation."""
    net = training.build(model, 1).double().to(x.device)
    out = [losses.cross_entropy(net(x), y) for _ in range(2)]
    sum(out).backward()
    net.eval()
    numbers = [*out, net(x), *(q.grad for q in net.parameters()), *net.buffers()]
    return torch.cat([v.detach().double().flatten() for v in numbers])


@every_model
def test_a_model(model):
    some = digits("cpu").train
    single = model == "augmentation"  # its angles and noise are float32
    how = {"rtol": 1e-4, "atol": 1e-5} if single else {"rtol": 1e-9, "atol": 1e-10}
    same(partial(passes, MODELS[model]), some.x, some.y, **how)


def test_augmentation_draws_the_same_changes():
    change = augmentation.Augment(rotate=20, flip=0.5, shift=2, zoom=1.2, noise=0.1)
    layers = copy.deepcopy(change), copy.deepcopy(change).to(DEVICE)
    x = digits("cpu").train.x.float()
    for layer in layers:
        layer.set_key(3, 0)
    torch.testing.assert_close(layers[1](x.to(DEVICE)).cpu(), layers[0](x), rtol=1e-4, atol=1e-4)


FUNCTIONS = {
    "layer norm": lambda x: n.LayerNorm(6).to(x.device, x.dtype)(x),
    "by norm": lambda x: clipping.by_norm(x.flatten(), 1.0),
    "by value": lambda x: clipping.by_value(x, -0.5, 0.5),
    "softened labels": lambda x: losses.brier(x, x.argmax(1)),
    "hinge": lambda x: losses.hinge(x, x.argmax(1)),
    "elastic net": lambda x: penalties.elastic_net(x.flatten()),
    "ridge": lambda x: penalties.ridge(x, x[:, 0], lam2=0.1),
    "standardized": lambda x: p.standardize(x).transform(x),
    "whitened by ZCA": lambda x: p.zca_whitening(x).transform(x),
    "cosine": lambda x: schedules.cosine(x.abs(), 50)(7),
    "curvature": lambda x: landscape.hessian(landscape.rosenbrock, x[0, :2]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function(name):
    same(FUNCTIONS[name], random(40, 6, seed=2), rtol=1e-9, atol=1e-11)


# ---------------------------------------------------------------------------------- sweeps


HOW = {
    "eager": {"graph": False},
    "graph": {"graph": True},
    "compiled": {"graph": False, "compile": True},
    "compiled graph": {"graph": True, "compile": True},
}
SWEPT = ["mlp", "cnn", "batch normalization", "dropout"]
WAYS = [(model, "eager") for model in SWEPT]
if DEVICE.type != "cpu":
    WAYS += [(model, "graph") for model in SWEPT]
    compiled = [(model, way) for model in SWEPT for way in list(HOW)[2:]]
    WAYS += [pytest.param(*case, marks=pytest.mark.compiler) for case in compiled]


@every_rule
def test_the_law_of_sweeps(rule):
    work = Sweep(partial(mlp, [196, 8, 10]), rule, digits(DEVICE), batch=32, dtype=torch.float64)
    runs, loss = work.advance(work.start([0, 5, 5]), 7)
    with_tolerance(work, runs, loss)


def with_tolerance(work, runs, loss):
    """The law to 1e-10 on a CPU; a GPU multiplies rows and single runs in another order."""
    if DEVICE.type == "cpu":
        assert_law(work, runs, loss)
        return
    from sweep_law import alone

    for r in range(len(runs)):
        hyper = {name: column[r].item() for name, column in runs.hyper.items()}
        model, row = alone(work, int(runs.seed[r]), runs.t, hyper)
        ours, theirs = work.network(runs, r).state_dict(), model.state_dict()
        torch.testing.assert_close(dict(ours), dict(theirs), **STEPS)
        assert loss[r].item() == pytest.approx(row["train_loss"], rel=1e-7)


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
@pytest.mark.parametrize("model, way", WAYS)
def test_a_sweep_is_the_cpus_in_every_way(model, way):
    found = []
    for device, how in (("cpu", {}), (DEVICE, HOW[way])):
        source = digits(device)
        work = Sweep(MODELS[model], o.momentum, source, batch=32, dtype=torch.float64, **how)
        runs, loss = work.advance(work.start([1, 2], lr=[0.05, 0.01]), 4)
        more, _ = work.advance(runs, 3)  # from the same runs, in the same memory
        again, second = work.advance(runs, 3)
        torch.testing.assert_close(more.theta, again.theta, rtol=1e-10, atol=1e-12)
        valid, right = work.evaluate(again, source.valid)
        found.append([x.cpu() for x in (again.theta, *again.state, loss, second, valid, right)])
    torch.testing.assert_close(found[1], found[0], **STEPS)


@pytest.mark.parametrize("how", [{}, {"loss": losses.brier}], ids=["dropout", "brier"])
def test_a_graph_keeps_what_it_reads(how):
    """Constants of a recording, such as ranges, are read at their addresses by every replay."""
    found = []
    for crowded in (False, True):
        work = Sweep(MODELS["dropout"], o.adam, digits(DEVICE), batch=32, **how)
        runs, _ = work.advance(work.start([0, 1], lr=1e-2), 2)
        if crowded:
            gc.collect()
            if DEVICE.type == "cuda":
                torch.cuda.empty_cache()
            junk = [torch.full((k,), 7, device=DEVICE) for k in range(1, 200)]
        found.append(work.advance(runs, 3)[0].theta.cpu())
    assert len(junk) == 199
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


def test_selected_and_joined_rows_are_where_they_were():
    work = Sweep(MODELS["dropout"], o.adam, digits(DEVICE), batch=32, dtype=torch.float64)
    runs, _ = work.advance(work.start([0, 1, 2], lr=1e-2), 3)
    whole, _ = work.advance(runs, 4)
    part, _ = work.advance(runs[[2, 0]], 4)
    torch.testing.assert_close(part.theta, whole[[2, 0]].theta, **STEPS)


WORKLOADS = {"an MLP on digits": partial(mlp, [196, 32, 10]), "a CNN on digits": cnn}


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload(name):
    ends = []
    for device in ("cpu", DEVICE):
        work = Sweep(WORKLOADS[name], o.adam, digits(device), batch=16, dtype=torch.float64)
        runs, loss = work.advance(work.start([0, 1], lr=[1e-3, 3e-3]), 20)
        ends.append(torch.cat([loss, work.evaluate(runs, work.data.test)[0]]).cpu())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-6, atol=1e-8)


def test_one_run_is_the_loop_of_torch():
    some = digits(DEVICE)
    net = training.build(partial(mlp, [196, 8, 10]), 2).double().to(DEVICE)
    twin = copy.deepcopy(net)
    ours, theirs = Optimizer(net.parameters(), o.adam), torch.optim.Adam(twin.parameters())
    for _ in range(5):
        for model, opt in ((net, ours), (twin, theirs)):
            opt.zero_grad()
            F.cross_entropy(model(some.train.x), some.train.y).backward()
            opt.step()
    for q, r in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(q, r, **STEPS)
