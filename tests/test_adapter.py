"""A rule as a torch.optim.Optimizer: all that torch does with one, against torch's own."""

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from sweep_law import assert_law
from torch import nn

from nettrain import optimizers as o
from nettrain.data import Data, mnist
from nettrain.lab import adapter, training
from nettrain.lab.adapter import Optimizer
from nettrain.lab.sweep import Sweep
from nettrain.models import mlp
from nettrain.penalties import l2, penalized

digits = mnist(side=7).train[:64].to(torch.float64)


def net(seed=0):
    return training.build(lambda: mlp([49, 12, 10]), seed).double()


def train(model, opt, steps, scheduler=None, start=0):
    for k in range(start, start + steps):
        i = torch.arange(8) + 8 * (k % 8)
        opt.zero_grad()
        F.cross_entropy(model(digits.x[i]), digits.y[i]).backward()
        opt.step()
        if scheduler:
            scheduler.step()
    return model


def difference(a, b):
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max((x - y).abs().max().item() for x, y in pairs)


def with_gradients(*shapes, dtype=torch.float64):
    """Parameters whose gradients are set by hand."""
    params = [nn.Parameter(torch.ones(s, dtype=dtype)) for s in shapes]
    for p in params:
        p.grad = torch.full_like(p, 0.5)
    return params


# ------------------------------------------------------------------------ against torch's own

SCHEDULERS = {
    "none": None,
    "step": lambda opt: torch.optim.lr_scheduler.StepLR(opt, 7, 0.5),
    "cosine": lambda opt: torch.optim.lr_scheduler.CosineAnnealingLR(opt, 30),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_groups_with_their_own_rates_and_a_scheduler_as_in_torch(scheduler):
    schedule = SCHEDULERS[scheduler] or (lambda opt: None)
    ours, theirs = net(), net()
    first, *_, last = (list(m.parameters()) for m in ours if isinstance(m, nn.Linear))
    opt = Optimizer([{"params": first, "lr": 0.02, "beta1": 0.5}, {"params": last}], o.adam)
    train(ours, opt, 30, schedule(opt))
    first, *_, last = (list(m.parameters()) for m in theirs if isinstance(m, nn.Linear))
    groups = [{"params": first, "lr": 0.02, "betas": (0.5, 0.999)}, {"params": last}]
    twin = torch.optim.Adam(groups)
    train(theirs, twin, 30, schedule(twin))
    assert difference(ours, theirs) < 1e-10 < 1e-2 < difference(ours, net())
    assert [g["lr"] for g in opt.param_groups] == [g["lr"] for g in twin.param_groups]


@pytest.mark.parametrize("small", [0, 1 << 30])
@pytest.mark.parametrize("rule", o.RULES, ids=lambda r: r.__name__)
def test_stepping_tensors_together_changes_nothing(monkeypatch, rule, small):
    monkeypatch.setattr(adapter, "SMALL", small)
    model = net()
    opt = Optimizer(model.parameters(), rule, lr=0.01)
    train(model, opt, 5)
    theta = [p.detach() for p in net().parameters()]
    state = [[torch.zeros_like(p) for _ in o.state_names(rule)] for p in theta]
    for k in range(5):  # the definition: the rule on every tensor by itself
        i = torch.arange(8) + 8 * k
        names = dict(net().named_parameters())
        params = {name: p.requires_grad_() for name, p in zip(names, theta, strict=True)}
        out = torch.func.functional_call(net(), params, digits.x[i])
        gradients = torch.autograd.grad(F.cross_entropy(out, digits.y[i]), theta)
        with torch.no_grad():
            new = [
                rule(p, g, *s, t=k + 1, lr=0.01)
                for p, g, s in zip(theta, gradients, state, strict=True)
            ]
        theta, state = [x[0] for x in new], [x[1:] for x in new]
    for p, x, s in zip(model.parameters(), theta, state, strict=True):
        torch.testing.assert_close(p.detach(), x, rtol=0, atol=1e-12)
        ours = [opt.state[p][name] for name in o.state_names(rule)]
        torch.testing.assert_close(ours, list(s), rtol=0, atol=1e-12)


def test_a_rate_may_be_a_tensor():
    models = net(), net()
    for model, lr in zip(models, (0.01, torch.tensor(0.01, dtype=torch.float64)), strict=True):
        opt = Optimizer(model.parameters(), o.adam, lr=lr)
        train(model, opt, 10, torch.optim.lr_scheduler.StepLR(opt, 4, 0.5))
    assert difference(*models) < 1e-14


def test_parameters_of_different_dtypes_keep_their_own():
    ours, theirs = (with_gradients(3) + with_gradients(2, dtype=torch.float32) for _ in range(2))
    opt, twin = Optimizer(ours, o.adam, lr=0.1), torch.optim.Adam(theirs, lr=0.1)
    for optimizer in (opt, opt, twin, twin):
        optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        assert opt.state[a]["m"].dtype == a.dtype
        torch.testing.assert_close(a, b)


def test_a_parameter_without_gradient_is_left_alone_and_counts_its_own_steps():
    ours, theirs = with_gradients(3, 2), with_gradients(3, 2)
    opt, twin = Optimizer(ours, o.adam, lr=0.1), torch.optim.Adam(theirs, lr=0.1)
    for k in range(6):
        for params, optimizer in ((ours, opt), (theirs, twin)):
            params[1].grad = torch.full_like(params[1], 2.0 + k) if k in (2, 4) else None
            optimizer.step()
        if k < 2:
            assert (ours[1] == 1).all() and ours[1] not in opt.state
    assert [opt.state[p]["t"] for p in ours] == [6, 2]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_a_nan_gradient_spreads_exactly_as_far_as_in_torch():
    ours, theirs = with_gradients(3, 2), with_gradients(3, 2)
    opt, twin = Optimizer(ours, o.adam, lr=0.1), torch.optim.Adam(theirs, lr=0.1)
    for k in range(4):
        for params, optimizer in ((ours, opt), (theirs, twin)):
            params[0].grad = torch.tensor([1.0, torch.nan if k == 1 else 1.0, 2.0]).double()
            optimizer.step()
    assert ours[0].isnan().tolist() == [False, True, False]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, equal_nan=True)


def test_closure_is_called_with_gradients_on_and_its_loss_comes_back():
    models = net(), net()
    opt = Optimizer(models[0].parameters(), o.momentum, lr=0.1)
    losses = []

    def closure():
        assert torch.is_grad_enabled()
        opt.zero_grad()
        losses.append(F.cross_entropy(models[0](digits.x), digits.y))
        losses[-1].backward()
        return losses[-1]

    assert opt.step(closure) is losses[0] and len(losses) == 1
    twin = torch.optim.SGD(models[1].parameters(), lr=0.1, momentum=0.9)
    F.cross_entropy(models[1](digits.x), digits.y).backward()
    twin.step()
    assert difference(*models) < 1e-14


def test_step_reads_gradients_and_zero_grad_drops_them():
    params = with_gradients(3, (2, 2))
    opt = Optimizer(params, o.adamw)
    opt.step()
    assert all((p.grad == 0.5).all() for p in params)
    opt.zero_grad(set_to_none=False)
    assert all((p.grad == 0).all() for p in params)
    opt.zero_grad()
    assert all(p.grad is None for p in params)


def test_named_parameters_keep_their_names():
    model = net()
    opt = Optimizer(model.named_parameters(), o.adam)
    names = opt.state_dict()["param_groups"][0]["param_names"]
    assert names == [name for name, _ in model.named_parameters()]
    assert difference(train(model, opt, 3), train(net(), opt, 0)) > 0


def test_a_group_may_be_added_later():
    a, b = with_gradients(2, 2)
    opt = Optimizer([a], o.sgd, lr=0.1)
    opt.add_param_group({"params": b, "lr": 0.2})
    opt.step()
    assert (a == 1 - 0.1 * 0.5).all() and (b == 1 - 0.2 * 0.5).all()


# ------------------------------------------------------------------------ saving and copying


@pytest.mark.parametrize("rule", o.RULES, ids=lambda r: r.__name__)
def test_saved_half_way_and_resumed_is_the_run_without_a_break(rule):
    whole, half, rest = net(), net(), net(1)
    train(whole, Optimizer(whole.parameters(), rule, lr=0.01), 12)
    opt = Optimizer(half.parameters(), rule, lr=0.01)
    train(half, opt, 5)
    file = io.BytesIO()
    torch.save({"model": half.state_dict(), "optimizer": opt.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    rest.load_state_dict(saved["model"])
    opt = Optimizer(rest.parameters(), rule)  # the rate comes back with the state
    opt.load_state_dict(saved["optimizer"])
    train(rest, opt, 7, start=5)
    assert difference(whole, rest) == 0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_alone_and_alike(copied):
    model = net()
    opt = Optimizer(model.parameters(), o.nadam, lr=0.01)
    train(model, opt, 5)
    twin, twin_opt = copied((model, opt))
    assert twin_opt.rule is o.nadam
    train(twin, twin_opt, 5, start=5)
    assert difference(model, twin) > 1e-3  # the original has not moved
    train(model, opt, 5, start=5)
    assert difference(model, twin) == 0
    twin_opt.add_param_group({"params": with_gradients(2)})  # and is as good as new


@pytest.mark.parametrize("source", [o.momentum, o.adamw, torch.optim.Adam])
def test_the_state_of_another_rule_is_refused(source):
    params = with_gradients(3)
    other = source(params) if source is torch.optim.Adam else Optimizer(params, source)
    other.step()
    opt = Optimizer(params, o.nesterov)
    theirs = "another optimizer" if source is torch.optim.Adam else source.__name__
    with pytest.raises(ValueError, match=f"this is the state of {theirs}, not of nesterov"):
        opt.load_state_dict(other.state_dict())
    assert not opt.state


def test_a_model_that_changes_its_dtype_goes_on():
    model = net().float()
    opt = Optimizer(model.parameters(), o.adam, lr=0.01)
    F.cross_entropy(model(digits.x.float()), digits.y).backward()
    opt.step()
    model.double()
    before = copy.deepcopy(model)
    train(model, opt, 3)
    assert difference(model, before) > 1e-3
    for p in model.parameters():
        assert p.dtype == opt.state[p]["m"].dtype == torch.float64 and opt.state[p]["t"] == 4


# ------------------------------------------------------------------------ torch's contract

lr_scheduler = torch.optim.lr_scheduler
CYCLES = {
    "one cycle": lambda opt: lr_scheduler.OneCycleLR(opt, max_lr=0.05, total_steps=30),
    "cyclic": lambda opt: lr_scheduler.CyclicLR(opt, base_lr=0.01, max_lr=0.05, step_size_up=7),
}
MOMENTA = [  # (our rule, its twin in torch)
    (o.adam, torch.optim.Adam),
    (o.adamw, torch.optim.AdamW),
    (o.adamax, torch.optim.Adamax),
    (o.momentum, lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)),
    (o.nesterov, lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, nesterov=True)),
]


@pytest.mark.parametrize("cycle", CYCLES)
@pytest.mark.parametrize("rule, twin", MOMENTA, ids=lambda x: getattr(x, "__name__", ""))
def test_schedulers_move_the_decay_rate_of_the_velocity_as_in_torch(rule, twin, cycle):
    ours, theirs = net(), net()
    opt, other = Optimizer(ours.parameters(), rule, lr=0.01), twin(theirs.parameters(), lr=0.01)
    train(ours, opt, 30, CYCLES[cycle](opt)), train(theirs, other, 30, CYCLES[cycle](other))
    assert difference(ours, theirs) < 1e-10
    (ours,), (theirs,) = opt.param_groups, other.param_groups
    name = "betas" if "betas" in theirs else "momentum"
    assert ours[name] == pytest.approx(theirs[name], rel=1e-12)


@pytest.mark.parametrize("rule", [o.sgd, o.adagrad, o.rmsprop, o.adadelta])
def test_a_rule_without_a_velocity_is_refused_by_a_cycle_of_momentum(rule):
    opt = Optimizer([one()], rule)
    with pytest.raises(ValueError, match="must support momentum"):
        lr_scheduler.OneCycleLR(opt, max_lr=0.1, total_steps=10)
    lr_scheduler.OneCycleLR(opt, max_lr=0.1, total_steps=10, cycle_momentum=False)


def test_a_group_answers_to_torchs_names():
    opt = Optimizer([one()], o.adam, beta1=0.8)
    (group,) = opt.param_groups
    group["betas"] = (0.7, 0.99)
    assert (group["beta1"], group["beta2"], group["betas"]) == (0.7, 0.99, (0.7, 0.99))
    group["beta1"] = 0.6
    assert group["betas"] == (0.6, 0.99) and "betas" not in opt.state_dict()["param_groups"][0]
    with pytest.raises(KeyError, match="momentum"):
        group["momentum"]
    with pytest.raises(ValueError, match="zip"):  # one number for two
        group["betas"] = (0.5,)


def test_a_group_keeps_what_its_user_puts_there():
    params = with_gradients(3, 2)
    groups = [{"params": [p], "name": n, "lr_scale": 2.0} for p, n in zip(params, "ab")]
    opt = Optimizer(groups, o.adam)
    assert [g["name"] for g in opt.state_dict()["param_groups"]] == ["a", "b"]
    other = Optimizer(opt.param_groups, o.adam)  # its own groups make another optimizer
    assert [g["lr_scale"] for g in other.param_groups] == [2.0, 2.0]
    with pytest.raises(ValueError, match="^a group of adam is not one of nadam$"):
        Optimizer(opt.param_groups, o.nadam)


@pytest.mark.parametrize("key", ["weight_decay", "betas", "maximize", "rho", "beta_1", "epss"])
def test_a_group_may_not_hold_a_hyperparameter_that_nobody_reads(key):
    with pytest.raises(TypeError, match=f"^adam has no hyperparameter '{key}'; it has lr, beta1"):
        Optimizer([{"params": [one()], key: 0.1}], o.adam)


def translated(opt, state):
    """The state of torch.optim.Adam as that of `adam`: what a pre-hook is for."""
    rows = {
        k: {"m": s["exp_avg"], "v": s["exp_avg_sq"], "t": s["step"]}
        for k, s in state["state"].items()
    }
    names = ("beta1", "beta2")
    groups = [
        {"params": g["params"], "lr": g["lr"], "eps": g["eps"], "rule": "adam"}
        | dict(zip(names, g["betas"], strict=True))
        for g in state["param_groups"]
    ]
    return {"state": rows, "param_groups": groups}


def test_a_load_hook_comes_first_and_may_translate():
    ours, theirs = net(), net()
    twin = torch.optim.Adam(theirs.parameters(), lr=0.02)
    train(theirs, twin, 5)
    ours.load_state_dict(theirs.state_dict())
    opt = Optimizer(ours.parameters(), o.adam)
    opt.register_load_state_dict_pre_hook(translated)
    opt.load_state_dict(twin.state_dict())
    train(ours, opt, 5, start=5), train(theirs, twin, 5, start=5)
    assert difference(ours, theirs) < 1e-12


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s["param_groups"][0].pop("beta2"), "this state of adam has no beta2 in a group"),
        (lambda s: s["state"][0].pop("v"), "this state of adam has no v$"),
        (lambda s: s["state"][0].pop("t"), "this state of adam has no t$"),
        (lambda s: s["param_groups"][0].update(beta1=1.5), r"adam: beta1=1.5 is outside \[0, 1\)"),
    ],
)
def test_a_state_that_lacks_something_is_refused_before_anything_changes(change, message):
    params = with_gradients(3)
    source = Optimizer(params, o.adam, lr=0.5)
    source.step()
    state = copy.deepcopy(source.state_dict())
    change(state)
    opt = Optimizer(params, o.adam, lr=0.1)
    with pytest.raises(ValueError, match=message):
        opt.load_state_dict(state)
    assert not opt.state and opt.param_groups[0]["lr"] == 0.1


def test_memory_does_not_grow_with_the_sets_that_have_gradients():
    shapes = [3, 5, (2, 2), 7, 1, 4]
    ours, theirs = with_gradients(*shapes), with_gradients(*shapes)
    opt, twin = Optimizer(ours, o.adam, lr=0.1), torch.optim.Adam(theirs, lr=0.1)
    g = torch.Generator().manual_seed(0)
    for _ in range(100):
        mask = torch.rand(len(shapes), generator=g) < 0.5
        for params, optimizer in ((ours, opt), (theirs, twin)):
            for p, keep in zip(params, mask, strict=True):
                p.grad = torch.full_like(p, 0.5).cumsum(0) if keep else None
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
        assert opt.state[a]["t"] == int(twin.state[b]["step"])
    storages = {
        x.untyped_storage().data_ptr(): x.untyped_storage().nbytes()
        for memory in opt.state.values()
        for x in (memory["m"], memory["v"])
    }
    held = {
        v.untyped_storage().data_ptr(): v.untyped_storage().nbytes()
        for _, vectors in opt._joined.values()
        for v in vectors
    }
    assert sum((storages | held).values()) == 2 * 8 * sum(p.numel() for p in ours)


def test_large_and_small_tensors_of_one_kind_keep_their_own_state(monkeypatch):
    monkeypatch.setattr(adapter, "SMALL", 4)
    monkeypatch.setattr(adapter, "BLOCK", 1 << 15)
    ours, theirs = with_gradients(3, 9), with_gradients(3, 9)
    opt, twin = Optimizer(ours, o.adam, lr=0.1), torch.optim.Adam(theirs, lr=0.1)
    opt.step()
    first = opt.state[ours[0]]["m"], opt.state[ours[1]]["m"]
    for optimizer in (opt, opt, twin, twin, twin):
        optimizer.step()
    assert opt.state[ours[0]]["m"] is first[0] and opt.state[ours[1]]["m"] is first[1]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------ the vector of all


def length(theta, *, lam=0.1):
    """λ ‖θ‖₂, the penalty as the textbook prints it: it couples all coordinates."""
    return lam * theta.norm()


@pytest.mark.parametrize("rule", o.RULES, ids=lambda r: r.__name__)
def test_every_rule_is_coordinatewise_and_a_norm_is_not(rule):
    assert o.is_coordinatewise(rule)
    assert o.is_coordinatewise(penalized(rule, l2))
    assert not o.is_coordinatewise(penalized(rule, length), lam=0.1)


@pytest.mark.parametrize("rule", [o.sgd, o.adam])
def test_a_rule_that_couples_coordinates_sees_all_of_them_as_in_a_sweep(monkeypatch, rule):
    monkeypatch.setattr(adapter, "SMALL", 10)
    monkeypatch.setattr(adapter, "BLOCK", 50)
    work = Sweep(
        lambda: mlp([49, 12, 10]), penalized(rule, length), Data("", digits, digits, digits),
        batch=8, dtype=torch.float64,
    )  # fmt: skip
    runs, losses = work.advance(work.start([0, 1], lr=0.1, lam=0.3), 12)
    assert_law(work, runs, losses)


def test_what_a_coupled_rule_needs_is_said():
    coupled = penalized(o.sgd, length)
    with pytest.raises(ValueError, match="^compile=True steps tensor by tensor, but sgd_length"):
        Optimizer([one()], coupled, compile=True)
    params = with_gradients(3, 2)
    params[1].grad = None
    with pytest.raises(RuntimeError, match="sgd_length steps all .* but only 1 of 2 have a gradi"):
        Optimizer(params, coupled).step()


# ------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("steps_before", [0, 2])
def test_a_sparse_gradient_is_refused_before_anything_changes(steps_before, compile):
    dense, table = with_gradients(3, (4, 2))
    opt = Optimizer([dense, table], o.adam, lr=0.1)
    for _ in range(steps_before):
        opt.step()
    opt._compile = compile  # the check comes before the compiler
    before = copy.deepcopy([dense.detach(), table.detach(), opt.state_dict()["state"]])
    table.grad = table.grad.to_sparse()
    with pytest.raises(RuntimeError, match="^adam needs a dense gradient, not a sparse one$"):
        opt.step()
    after = [dense.detach(), table.detach(), opt.state_dict()["state"]]
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def one():
    return nn.Parameter(torch.ones(2))


whole_numbers = nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False)
complex_numbers = nn.Parameter(torch.ones(2, dtype=torch.complex64))
REFUSED = [
    (lambda: ([one()], {"momentum": 0.9}), TypeError, "adam has no hyperparameter 'momentum'; it"),
    (lambda: ([{"params": [one()], "beta3": 0}], {}), TypeError, "adam has no hyperparameter 'be"),
    (lambda: ([one()], {"beta1": 1.0}), ValueError, r"adam: beta1=1 is outside \[0, 1\)"),
    (lambda: ([{"params": [one()], "lr": -1}], {}), ValueError, r"adam: lr=-1 is outside \[0, in"),
    (lambda: ([], {}), ValueError, "empty parameter list"),
    (lambda: ([one()] * 2, {}), ValueError, "a parameter group holds the same parameter twice"),
    (
        lambda: ((lambda p: [{"params": [p]}, {"params": [p]}])(one()), {}),
        ValueError,
        "some parameters appear in more than one parameter group",
    ),
    (lambda: ([whole_numbers], {}), TypeError, "adam needs real floating point, not torch.int64"),
    (lambda: ([complex_numbers], {}), TypeError, "adam needs real .* not torch.complex64"),
    (lambda: (one(), {}), TypeError, "should be an iterable of Tensors"),
]


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
@pytest.mark.parametrize("arguments, error, message", REFUSED)
def test_the_constructor_says_what_is_wrong(arguments, error, message):
    params, hyper = arguments()
    with pytest.raises(error, match=message):
        Optimizer(params, o.adam, **hyper)


@pytest.mark.parametrize(
    "group, error",
    [
        ({"params": one(), "beta3": 0}, TypeError),
        ({"params": one(), "lr": -1}, ValueError),
        ({"params": whole_numbers}, TypeError),
        ([one()], TypeError),
    ],
)
def test_a_refused_group_leaves_the_optimizer_as_it_was(group, error):
    opt = Optimizer([one()], o.adam)
    with pytest.raises(error):
        opt.add_param_group(group)
    assert len(opt.param_groups) == 1


# ------------------------------------------------------------------------ compiled


@pytest.mark.compiler
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
@pytest.mark.parametrize("rule", [o.adam, o.nadam, o.amsgrad, o.adadelta])
def test_compiled_is_eager_and_compiles_once(rule, monkeypatch):
    compiled, inductor = [], torch._inductor.compile
    monkeypatch.setattr(
        torch._inductor, "compile", lambda *args: compiled.append(args) or inductor(*args)
    )
    models = net(), net()
    for model, compile in zip(models, (False, True), strict=True):
        opt = Optimizer(model.parameters(), rule, compile=compile, lr=0.01)
        train(model, opt, 12, torch.optim.lr_scheduler.ExponentialLR(opt, 0.9))
    assert difference(*models) < 1e-12
    assert len(compiled) == 1  # neither t nor the rate compiles anew
    twin, twin_opt = copy.deepcopy((model, opt))
    train(twin, twin_opt, 2), train(model, opt, 2)
    assert difference(twin, model) == 0


# ------------------------------------------------------------------------ large tensors


@pytest.mark.parametrize("rule", o.RULES, ids=lambda r: r.__name__)
def test_a_large_tensor_is_stepped_in_blocks_as_if_whole(monkeypatch, rule):
    monkeypatch.setattr(adapter, "SMALL", 10)  # every tensor on its own
    monkeypatch.setattr(adapter, "BLOCK", 50)  # of 588 and 120 numbers; the biases are smaller
    blocks, whole = net(), net()
    train(blocks, Optimizer(blocks.parameters(), rule, lr=0.01), 12)
    monkeypatch.setattr(adapter, "BLOCK", 10**9)
    train(whole, Optimizer(whole.parameters(), rule, lr=0.01), 12)
    assert difference(blocks, whole) < 1e-14
