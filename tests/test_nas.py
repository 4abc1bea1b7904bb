import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from nettrain import data, optimizers
from nettrain import nas as arch
from nettrain.lab import training
from nettrain.lab.sweep import Sweep
from nettrain.models import mlp
from nettrain.nas import Activation, Child, Controller, applied, formula, update_rule

QUESTIONS = dict(width=(8, 24), activation=("relu", "tanh", "sigmoid"), norm=("plain", "norm"))
TINY = dict(width=(1, 2), kind=("a", "b", "c"))


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_controller(questions=TINY, layers=2, seed=0, spread=1.0):
    """A controller in float64 whose weights, those of the heads too, are random."""
    controller = training.build(lambda: Controller(questions, layers, hidden=4), seed).double()
    g = torch.Generator().manual_seed(seed)
    for weight in controller.parameters():
        weight.data.normal_(0, spread, generator=g)
    return controller


# ------------------------------------------------------------------------------- descriptions


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_every_description_is_listed_once(layers):
    found = arch.descriptions(QUESTIONS, layers)
    assert len(set(found)) == len(found) == sum(12**k for k in range(layers + 1))


def test_descriptions_and_answers_translate_into_each_other():
    controller = random_controller(QUESTIONS, 3)
    everything = arch.descriptions(QUESTIONS, 3)
    answers = controller.tokens(everything)
    assert answers.shape == (len(everything), 9)
    assert controller.read(answers) == everything
    assert answers[0].tolist() == [0, *[-1] * 8]  # no layer: the end, and nothing is asked then


def plain_child(child, n_in, n_out):
    """The same network, put together from torch's layers."""
    layers, n = [nn.Flatten()], n_in
    for width, activation, norm in child:
        layers += [nn.Linear(n, width)]
        layers += [nn.LayerNorm(width, elementwise_affine=False)] if norm == "norm" else []
        layers += [{"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[activation]()]
        n = width
    return nn.Sequential(*layers, nn.Linear(n, n_out)).double()


@pytest.mark.parametrize("number", [0, 3, 12, 100, 500, 1884])
def test_a_child_is_the_network_that_its_description_names(number):
    child = arch.descriptions(QUESTIONS, 3)[number]
    ours = Child(arch.widths(child), 5, 3).double()
    ours.choice.copy_(arch.choices(child))
    twin = plain_child(child, 5, 3)
    weights = nn.utils.parameters_to_vector(ours.parameters())
    nn.utils.vector_to_parameters(weights, twin.parameters())
    x = randn(7, 5)
    assert_close(ours(x), twin(x), rtol=0, atol=1e-12)
    grads = [
        torch.autograd.grad(net(x).square().sum(), tuple(net.parameters())) for net in (ours, twin)
    ]
    assert_close(*grads, rtol=0, atol=1e-10)


def test_children_of_equal_widths_are_rows_of_one_sweep():
    source = data.digits()
    both = [((8, "tanh", "norm"), (8, "relu", "plain")), ((8, "sigmoid", "plain"),) * 2]
    work = Sweep(lambda: Child((8, 8), 64, 10), optimizers.adam, source, dtype=torch.float64)
    runs = work.start([3, 3], lr=0.01)
    runs = replace(runs, buffers={"choice": torch.stack([arch.choices(c) for c in both])})
    runs, _ = work.advance(runs, 5)
    for row, child in enumerate(both):
        net = training.build(lambda: Child((8, 8), 64, 10), 3)  # the same weights as the row
        twin = plain_child(child, 64, 10)
        start = nn.utils.parameters_to_vector(net.parameters()).double()
        nn.utils.vector_to_parameters(start, twin.parameters())
        split = source.to(torch.float64)
        adam = torch.optim.Adam(twin.parameters(), lr=0.01)
        training.fit(twin, split, adam, steps=5, every=5, seed=3, show=False)
        trained = nn.utils.parameters_to_vector(twin.parameters()).detach()
        assert_close(runs.theta[row], trained, rtol=0, atol=1e-10)


def test_unknown_words_are_refused():
    with pytest.raises(ValueError, match="'gelu' is unknown; choose from relu, tanh, sigmoid"):
        arch.choices(((8, "gelu", "plain"),))
    with pytest.raises(ValueError, match="'batch' is unknown; choose from plain, norm"):
        arch.choices(((8, "relu", "batch"),))


# --------------------------------------------------------------------------------- the controller


def test_probabilities_of_all_descriptions_sum_to_one():
    controller = random_controller()
    log_p = controller.log_prob(controller.tokens(arch.descriptions(TINY, 2)))
    assert_close(log_p.exp().sum().item(), 1.0, rtol=0, atol=1e-12)
    assert log_p.exp().std() > 0.01  # they are not all alike


def test_a_new_controller_finds_all_answers_equally_likely():
    controller = Controller(QUESTIONS, 3).double()
    everything = arch.descriptions(QUESTIONS, 3)
    log_p = controller.log_prob(controller.tokens(everything))
    words = torch.tensor([len(c) * math.log(18) + (len(c) < 3) * math.log(3) for c in everything])
    assert_close(-log_p, words.double(), rtol=0, atol=1e-6)


def test_what_is_written_has_the_probability_that_it_is_said_to_have():
    controller, n = random_controller(), 20_000
    answers, log_p = controller.write(n, torch.Generator().manual_seed(1))
    assert_close(log_p, controller.log_prob(answers), rtol=0, atol=1e-12)
    everything = arch.descriptions(TINY, 2)
    p = controller.log_prob(controller.tokens(everything)).exp().detach().numpy()
    count = Counter(controller.read(answers))
    seen = np.array([count[child] for child in everything])
    assert seen.sum() == n
    rare = 5 / n
    chi2 = ((seen - n * p) ** 2 / (n * p))[p > rare].sum()
    dof = (p > rare).sum()
    assert chi2 < dof + 5 * math.sqrt(2 * dof)


def all_scores(controller, texts):
    params = tuple(controller.parameters())
    rows = [
        torch.autograd.grad(controller.log_prob(text[None])[0], params, materialize_grads=True)
        for text in texts
    ]
    return torch.stack([torch.cat([d.flatten() for d in row]) for row in rows])


@pytest.mark.parametrize("seed", range(3))
def test_reinforce_is_unbiased_whatever_the_baseline_and_a_good_one_lowers_the_variance(seed):
    controller = random_controller(seed=seed)
    texts = controller.tokens(arch.descriptions(TINY, 2))
    params = tuple(controller.parameters())
    R = 0.7 + 0.1 * torch.rand(
        len(texts), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    expected = (controller.log_prob(texts).exp() * R).sum()
    exact = torch.cat([d.flatten() for d in torch.autograd.grad(expected, params)])
    p = controller.log_prob(texts).exp().detach()
    variance = {}
    for name, b in {"none": 0.0, "bad": -3.0, "mean": (p @ R).item()}.items():
        each = []
        for i, text in enumerate(texts):  # the gradient that learn() would take from this draw
            loss = arch.reinforce(controller.log_prob(text[None]), R[i : i + 1], b)
            each.append(
                torch.cat(
                    [
                        -d.flatten()
                        for d in torch.autograd.grad(loss, params, materialize_grads=True)
                    ]
                )
            )
        each = torch.stack(each)
        mean = p @ each
        assert_close(mean, exact, rtol=0, atol=1e-13)
        variance[name] = (p @ (each - mean).square().sum(1)).item()
    assert variance["mean"] < 0.1 * variance["none"] < 0.1 * variance["bad"]


def test_scores_have_mean_zero():
    controller = random_controller(seed=5)
    texts = controller.tokens(arch.descriptions(TINY, 2))
    p = controller.log_prob(texts).exp().detach()
    mean = p @ all_scores(controller, texts)
    assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-13)


def test_learning_makes_what_is_rewarded_likely():
    goal = ((2, "c"), (1, "a"))
    controller = training.build(lambda: Controller(TINY, 2), 0)
    score = lambda child: sum(a == b for a, b in zip(child, goal)) - 0.1 * (len(child) != 2)
    train = lambda children: [float(score(c)) for c in children]
    steps = arch.learn(
        controller, train, batch=10, lr=0.03, generator=torch.Generator().manual_seed(0)
    )
    target = controller.tokens([goal])
    before = controller.log_prob(target).exp().item()
    assert_close(before, 1 / 3 / 3 / 3 / 3)
    for _ in itertools.islice(steps, 80):
        pass
    assert controller.log_prob(target).exp().item() > 0.8


def test_the_first_batch_only_sets_the_baseline():
    controller = training.build(lambda: Controller(TINY, 2), 0)
    before = nn.utils.parameters_to_vector(controller.parameters()).clone()
    flat = lambda: nn.utils.parameters_to_vector(controller.parameters())
    steps = arch.learn(
        controller,
        lambda c: [float(len(x)) for x in c],
        batch=20,
        lr=0.1,
        generator=torch.Generator().manual_seed(0),
    )
    next(steps)
    assert torch.equal(flat(), before)
    next(steps)
    assert not torch.equal(flat(), before)


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
def test_a_child_that_fails_counts_as_the_worst_so_far(lost):
    def run(failed):
        controller = training.build(lambda: Controller(TINY, 2), 0)
        table = iter([[3.0, 2.0, 1.0, 4.0], [5.0, failed, 6.0, 7.0], [failed] * 4, [8.0] * 4])
        g = torch.Generator().manual_seed(0)
        steps = arch.learn(controller, lambda c: next(table), batch=4, lr=0.1, generator=g)
        rewards = [next(steps)[1] for _ in range(4)]
        return nn.utils.parameters_to_vector(controller.parameters()), rewards

    found, rewards = run(lost)
    torch.testing.assert_close(found, run(1.0)[0], rtol=0, atol=0)  # 1 is the lowest before
    assert not torch.equal(found, run(0.5)[0])
    assert rewards[1].tolist() == [5, -math.inf, 6, 7] and rewards[2].tolist() == [-math.inf] * 4


def test_learning_ends_if_nothing_can_be_learned():
    how = dict(batch=3, lr=0.1, generator=torch.Generator())
    steps = arch.learn(random_controller().float(), lambda c: [math.nan] * 3, **how)
    with pytest.raises(ValueError, match="all 3 children of the first batch failed"):
        next(steps)
    with pytest.raises(ValueError, match=r"rewards have shape \[2\], for 3 children"):
        next(arch.learn(random_controller().float(), lambda c: [1.0, 2.0], **how))
    with pytest.raises(ValueError, match="batch=0"):
        next(arch.at_random(tuple, len, batch=0))


# ---------------------------------------------------------------------------------- the searchers


@pytest.mark.parametrize("count", [1, 3])
def test_controllers_side_by_side_learn_what_each_would_learn_alone(count):
    alone = [random_controller(seed=i, spread=0.3) for i in range(count)]
    together = arch.Controllers(alone)
    worth = {d: 0.1 * len(d) + 0.01 * i for i, d in enumerate(arch.descriptions(TINY, 2))}
    train = lambda children: [worth[child] for child in children]
    g = torch.Generator().manual_seed(5)
    steps = arch.learn_together(together, train, batch=4, lr=0.05, generator=g)
    rules = [torch.optim.Adam(c.parameters(), lr=0.05) for c in alone]
    baselines = [None] * count
    for _ in range(6):
        children, found = next(steps)
        assert len(children) == 4 * count
        for i, controller in enumerate(alone):
            mine, reward = children[4 * i : 4 * i + 4], found[4 * i : 4 * i + 4]
            assert reward.tolist() == pytest.approx(train(mine))
            if baselines[i] is None:
                baselines[i] = reward.mean()
                continue
            log_p = controller.log_prob(controller.tokens(mine))
            rules[i].zero_grad()
            arch.reinforce(log_p, reward, baselines[i]).backward()
            for weight in controller.parameters():  # no child may have been asked a question
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            rules[i].step()
            baselines[i] = 0.8 * baselines[i] + 0.2 * reward.mean()
    texts = alone[0].tokens(arch.descriptions(TINY, 2))
    mine = together.log_prob(texts.repeat(count, 1)).view(count, -1)
    assert_close(mine, torch.stack([c.log_prob(texts) for c in alone]), rtol=0, atol=1e-10)
    assert (mine[0] - random_controller(seed=0, spread=0.3).log_prob(texts)).abs().max() > 0.05


def test_controllers_side_by_side_refuse_a_reward_that_is_not_finite():
    together = arch.Controllers([random_controller()] * 2)
    steps = arch.learn_together(
        together, lambda c: [math.nan] * len(c), batch=2, lr=0.1, generator=torch.Generator()
    )
    with pytest.raises(ValueError, match="not finite"):
        next(steps)


def test_drawing_by_answer_has_the_law_of_a_new_controller():
    rng, n = np.random.default_rng(0), 6000
    count = Counter(len(arch.draw(QUESTIONS, 3, rng)) for _ in range(n))
    share = np.array([count[k] / n for k in range(4)])
    assert np.abs(share - [1 / 3, 2 / 9, 4 / 27, 8 / 27]).max() < 4 * math.sqrt(0.25 / n)


def distance(a, b):
    """Least number of edits: an answer changed, a layer put in or taken out."""
    if len(a) == len(b):
        return sum(x != y for p, q in zip(a, b) for x, y in zip(p, q))
    short, long = sorted((a, b), key=len)
    cut = [long[:i] + long[i + 1 :] for i in range(len(long))]
    return 1 if short in cut else 2


@given(number=st.integers(0, 1884), seed=st.integers(0, 100))
def test_a_mutant_is_one_change_away(number, seed):
    child = arch.descriptions(QUESTIONS, 3)[number]
    mutant = arch.mutate(child, QUESTIONS, 3, np.random.default_rng(seed))
    assert len(mutant) <= 3 and distance(child, mutant) == 1
    arch.choices(mutant)  # all its words are known


def test_evolution_replaces_the_oldest_with_a_mutant_of_the_best():
    rng = np.random.default_rng(0)
    parents = []

    def change(child):
        parents.append(child)
        return (*child, "x")

    numbers = itertools.count()
    steps = arch.evolve(
        lambda: (next(numbers),),
        change,
        lambda children: [float(c[0] if len(c) == 1 else -1) for c in children],
        population=4,
        sample=4,
        rng=rng,
    )
    for _ in itertools.islice(steps, 8):
        pass
    # 0 1 2 3 start; the best, 3, is the parent until it has become the oldest and has gone
    assert parents == [(3,), (3,), (3,), (3,)]
    next(steps)
    assert parents[-1] == (3, "x")


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
@given(st.lists(st.booleans(), min_size=40, max_size=40), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_child_that_failed_is_never_a_parent(lost, fails, sample, seed):
    fails[1], parents, numbers = False, [], itertools.count()

    def change(child):
        parents.append(child[0])
        return (next(numbers),)

    rewards = lambda children: [lost if fails[children[0][0]] else children[0][0] % 7]
    steps = arch.evolve(
        lambda: (next(numbers),), change, rewards,
        population=4, sample=sample, rng=np.random.default_rng(seed),
    )  # fmt: skip
    for k in range(40):
        if k > 4 and all(fails[k - 4 : k]):
            with pytest.raises(ValueError, match="all 4 of the population failed"):
                next(steps)
            break
        children, reward = next(steps)
        assert reward.item() == (-math.inf if fails[k] else k % 7)
        assert len(parents) == max(0, k - 3)
    assert not any(fails[parent] for parent in parents)
    if sample == 4:  # the best of all that are alive and have not failed
        for k, parent in enumerate(parents, start=4):
            assert parent % 7 == max(i % 7 for i in range(k - 4, k) if not fails[i])


def test_failures_do_not_change_what_is_drawn_without_them():
    """The sample is drawn as it always was: chapters depend on it."""
    rng, truth = (np.random.default_rng(7) for _ in range(2))
    numbers, parents = itertools.count(), []
    change = lambda child: parents.append(child[0]) or (next(numbers),)
    train = lambda children: [float(-children[0][0])]
    steps = arch.evolve(lambda: (next(numbers),), change, train, population=5, sample=2, rng=rng)
    for _ in itertools.islice(steps, 30):
        pass
    draws = [truth.choice(5, 2, replace=False) for _ in range(25)]
    assert parents == [k + min(which) for k, which in enumerate(draws)]


def test_evolution_refuses_a_sample_larger_than_the_population():
    steps = arch.evolve(tuple, tuple, len, population=3, sample=4, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"sample=4 is outside \[1, 3\], the population"):
        next(steps)


# -------------------------------------------------------------------------------------- expressions


@pytest.mark.parametrize(
    "expression, text",
    [
        ("g", "g"),
        (("·", ("exp", ("·", "sign g", "sign m")), "g"), "e^(sign g·sign m)·g"),
        (("·", ("1+", ("·", "a", "b")), "g"), "(1 + a·b)·g"),
        (("−", "x", ("+", "x", "y")), "x − (x + y)"),
        (("+", ("neg", "x"), ("relu", "x")), "(−x) + relu(x)"),
        (("bell", "x"), "e^(−x²)"),
        (("square", ("+", "x", "y")), "(x + y)²"),
        (("max", ("abs", "x"), ("square", "x")), "max(|x|, x²)"),
    ],
)
def test_formulas_are_written_as_one_reads_them(expression, text):
    assert formula(expression) == text


def test_a_formula_means_what_its_expression_is_worth():
    """Every function, alone and below every other: Python reads the formula and agrees."""
    two = [k for k, (text, _) in arch.FUNCTIONS.items() if text.count("{}") == 2]
    one = [k for k in arch.FUNCTIONS if k not in two]
    leaves = ["x", "y"]
    simple = applied(one, leaves) + applied(two, leaves, leaves)
    deep = applied(one, simple) + applied(two, simple[:40:3], simple[::5])
    values = {"x": randn(6), "y": randn(6, seed=1)}
    meaning = dict(
        e=math.e, σ=torch.sigmoid, sign=torch.sign, tanh=torch.tanh, relu=torch.relu,
        softplus=nn.functional.softplus, sin=torch.sin, atan=torch.atan, max=torch.maximum,
        min=torch.minimum, abs=torch.abs,
    )  # fmt: skip
    for expression in simple + deep:
        text = formula(expression)
        for sign, python in (("−", "-"), ("·", "*"), ("²", "**2"), ("^", "**")):
            text = text.replace(sign, python)
        if text.count("|") > 2:
            continue  # bars in bars do not say which of them open and which close
        if "|" in text:
            head, inside, tail = text.split("|")
            text = f"{head}abs({inside}){tail}"
        want = arch.evaluated(expression, values)
        assert_close(eval(text, {}, meaning | values), want, rtol=1e-9, atol=1e-9, equal_nan=True)


def test_equal_functions_are_one_expression_and_the_smallest_stays():
    x = {"x": torch.linspace(-3, 3, 61, dtype=torch.float64)}
    relu, twice = ("relu", "x"), ("max", ("relu", "x"), ("neg", ("relu", "x")))
    assert arch.distinct([twice, relu, ("−", "x", "x")], x) == [relu]
    assert arch.distinct([relu, ("min", "x", ("−", "x", "x"))], x, arch.mirrored) == [relu]
    assert arch.distinct([("+", "x", "x"), "x"], x, arch.unit_rms) == ["x"]
    assert len(arch.distinct([("neg", "x"), "x"], x, arch.unit_rms)) == 2  # ascent is not descent
    assert len(arch.distinct([("sin", "x"), ("tanh", "x")], x, arch.mirrored)) == 2


@pytest.mark.parametrize("before, behind", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_a_layer_cannot_tell_an_activation_from_its_mirror_images(before, behind):
    """±f(±x) with the weights' signs changed is the same network, and gives the same gradients."""
    f = lambda x: x * torch.sigmoid(x)
    w, u, b, x = randn(5, 3), randn(2, 5, seed=1), randn(5, seed=2), randn(7, 3, seed=3)
    y = torch.tanh(f(x @ w.T + b) @ u.T)
    mirrored = lambda z: behind * f(before * z)
    same = torch.tanh(mirrored(before * (x @ w.T + b)) @ (behind * u).T)
    assert_close(same, y, rtol=0, atol=1e-13)
    grid = torch.linspace(-6, 6, 401, dtype=torch.float64)
    assert torch.equal(arch.mirrored(f(grid)), arch.mirrored(mirrored(grid)))


# ----------------------------------------------------------------------------- rules, activations

AGREE = ("·", "sign g", "sign m")
TWINS = [  # expression, rule, what the rule's rate is to ours
    ("g", optimizers.sgd, 1.0),
    ("m", optimizers.momentum, 0.1),  # u = m / (1 − ρ)
    ("m/√v", optimizers.adam, 1.0),
    (("·", ("exp", AGREE), "g"), optimizers.powersign, 1.0),
    (("·", ("1+", AGREE), "g"), optimizers.addsign, 1.0),
]


def walk(rule, gradients, **hyper):
    theta = torch.zeros(gradients.shape[1:], dtype=torch.float64)
    state = [torch.zeros_like(theta) for _ in optimizers.state_names(rule)]
    for t, g in enumerate(gradients, start=1):
        theta, *state = rule(theta, g, *state, t=t, **hyper)
    return theta


@pytest.mark.parametrize(
    "expression, twin, factor", TWINS, ids=lambda x: getattr(x, "__name__", "")
)
def test_known_rules_are_expressions_of_the_grammar(expression, twin, factor):
    gradients = randn(50, 6)
    ours = walk(update_rule(expression), gradients, lr=0.1)
    assert_close(ours, walk(twin, gradients, lr=0.1 * factor), rtol=0, atol=1e-10)


def test_a_searched_rule_is_a_rule():
    rule = update_rule(*(e for e, _, _ in TWINS))
    assert optimizers.state_names(rule) == ["m", "v"]
    assert set(optimizers.hyperparameters(rule)) == {"lr", "beta1", "beta2", "eps", "which"}
    optimizers.check_hyper(rule, dict(lr=0.1, which=2))
    assert update_rule(TWINS[3][0]).__name__ == "e^(sign g·sign m)·g"


def test_rows_of_a_sweep_follow_the_rule_that_they_chose():
    source, seeds, lr = data.digits(), [4] * len(TWINS), [0.01, 0.02, 0.003, 0.01, 0.01]
    how = dict(data=source, batch=32, dtype=torch.float64)
    net = lambda: mlp([64, 6, 10])
    work = Sweep(net, update_rule(*(e for e, _, _ in TWINS)), **how)
    together, _ = work.advance(work.start(seeds, lr=lr, which=range(len(TWINS))), 6)
    for row, (_, twin, factor) in enumerate(TWINS):
        alone = Sweep(net, twin, **how)
        runs, _ = alone.advance(alone.start([4], lr=lr[row] * factor), 6)
        assert_close(together.theta[row], runs.theta[0], rtol=0, atol=1e-10)


ACTIVATIONS = [
    (("relu", "x"), nn.ReLU()),
    (("·", "x", ("σ", "x")), nn.SiLU()),
    (("tanh", "x"), nn.Tanh()),
    (("softplus", "x"), nn.Softplus()),
]


@pytest.mark.parametrize("which", range(len(ACTIVATIONS)))
def test_an_activation_is_the_one_that_was_chosen(which):
    layer = Activation(*(e for e, _ in ACTIVATIONS))
    layer.which.fill_(which)
    x = 3 * randn(40).requires_grad_()
    y, twin = layer(x), ACTIVATIONS[which][1](x)
    assert_close(y, twin, rtol=0, atol=1e-12)
    grads = (torch.autograd.grad(z.sum(), x)[0] for z in (y, twin))
    assert_close(*grads, rtol=0, atol=1e-12)


@given(number=st.integers(0, 4), seed=st.integers(0, 50))
def test_pick_takes_value_and_derivative_of_one(number, seed):
    x = randn(5, seed=seed).requires_grad_()
    values = [x, x.sin(), x.exp(), x.square(), x.tanh()]
    chosen = arch.pick(values, torch.tensor(number))
    assert torch.equal(chosen, values[number])
    grads = [
        torch.autograd.grad(v.sum(), x, retain_graph=True)[0] for v in (chosen, values[number])
    ]
    assert_close(*grads, rtol=0, atol=0)
