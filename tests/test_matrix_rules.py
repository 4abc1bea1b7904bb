"""The rules for matrices against singular value decompositions, matrix powers and Adam by hand."""

import inspect
import math
import pickle
from functools import partial
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power
from torch.func import vmap
from torch.testing import assert_close

from nettrain import matrix_rules
from nettrain import optimizers as o
from nettrain.matrix_rules import muon, newton_schulz, shampoo, soap, tensorwise

RULES = (muon, shampoo, soap)
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda r: r.__name__)
SHAPES = [(4, 4), (3, 7), (7, 3), (1, 5), (5, 1), (4, 2, 3, 2)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
seeds = st.integers(0, 2**31)
near = partial(assert_close, rtol=0, atol=1e-10)


def normal(seed, *shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def orthogonal(seed, n):
    return torch.linalg.qr(normal(seed, n, n))[0]


def walk(rule, theta, gradients, state=None, **hyper):
    """θ₁ ... θ_T of a rule fed with gradients, [T, *shape], and the state at the end."""
    state, path = rule.start(theta) if state is None else state, []
    for t, g in enumerate(gradients, 1):
        theta, *state = rule(theta, g, *state, t=t, **hyper)
        path.append(theta)
    return torch.stack(path), state


def walks(shapes=SHAPES, steps=6):
    """θ₀ and gradients of every shape, as tensors and as matrices in numpy."""
    for seed, shape in enumerate(shapes):
        theta, g = normal(seed, *shape), normal(seed + 100, steps, *shape)
        yield theta, g, theta.flatten(1).numpy(), g.flatten(2).numpy()


def svd_factor(g):
    """U Vᵀ of a matrix g = U S Vᵀ."""
    u, _, vt = np.linalg.svd(g, full_matrices=False)
    return u @ vt


def variant(name, old, new):
    """The module with `old` replaced in one of its functions."""
    part = inspect.getsource(getattr(matrix_rules, name))
    assert old in part, f"{name} has no {old!r}: adapt the wrong variant"
    module = ModuleType("variant")
    exec(inspect.getsource(matrix_rules).replace(part, part.replace(old, new)), vars(module))
    return module


# ------------------------------------------------------------------------ Newton-Schulz


def lifted(s, steps=5):
    """What the polynomial makes of the singular values of a matrix whose norm is 1."""
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


def check_newton_schulz(module, steps=5):
    """U and V stay, and the singular values go through the polynomial."""
    for g, _, matrix, _ in walks():
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        expected = (u * lifted(s / math.sqrt((s**2).sum()), steps)) @ vt
        result = module.newton_schulz(g, steps)
        assert result.shape == g.shape
        near(result.flatten(1).numpy(), expected)


@pytest.mark.parametrize("steps", [1, 2, 5, 9])
def test_newton_schulz_sends_singular_values_through_its_polynomial(steps):
    check_newton_schulz(matrix_rules, steps)


@given(seed=seeds, logs=st.lists(st.floats(-2.8, 0), min_size=1, max_size=6))
def test_singular_values_end_between_0_6_and_1_3(seed, logs):
    s, n = 10 ** torch.tensor(logs, dtype=torch.float64), len(logs)
    s = s.clamp(min=0.00141 * torch.linalg.vector_norm(s))
    u, v = orthogonal(seed, n), orthogonal(seed + 1, n + 2)[:n]
    result = newton_schulz(u * s @ v)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.6 and values.max() < 1.3
    assert torch.linalg.matrix_norm(result - u @ v, ord=2) < 0.4


def test_what_the_docstring_says_of_every_singular_value():
    s = np.geomspace(1e-9, 1, 100_001)
    ends, above = lifted(s), s >= 0.0014
    assert 0.6 < ends[above].min() and ends[above].max() < 1.3
    assert 0 < ends[~above].min() and ends[~above].max() < 0.7
    assert (ends <= 485 * s).all() and ends[0] == pytest.approx(485 * s[0], rel=1e-3)
    assert np.abs(lifted(s[above], 20) - 1).max() > 0.1  # the values do not converge to 1


@pytest.mark.parametrize("size", [1e-30, 1e-10, 1e10, 1e30])
def test_newton_schulz_takes_numbers_whose_squares_overflow_or_vanish(size):
    g = normal(0, 3, 4).float()
    assert_close(newton_schulz(g * size), newton_schulz(g), rtol=0, atol=1e-4)


def test_newton_schulz_of_zero_is_zero_and_of_nan_is_nan():
    assert torch.equal(newton_schulz(torch.zeros(2, 3)), torch.zeros(2, 3))
    for bad in (math.nan, math.inf):
        assert newton_schulz(torch.tensor([[bad, 1.0], [0.0, 1.0]])).isnan().all()


# ------------------------------------------------------------------------ Muon


def check_muon(module):
    """With the factor by SVD: the loop with the velocity of torch's documentation, B ← β B + g."""
    lr, beta, decay = 0.07, 0.8, 0.3
    with pytest.MonkeyPatch.context() as patch:
        by_svd = lambda g: torch.as_tensor(svd_factor(g.numpy()))
        patch.setattr(module, "newton_schulz", by_svd)
        for theta, g, x, gradients in walks():
            path, _ = walk(module.muon, theta, g, lr=lr, beta=beta, decay=decay)
            (m, n), velocity = x.shape, 0.0
            for after, gt in zip(path, gradients, strict=True):
                velocity = beta * velocity + gt
                step = svd_factor(gt + beta * velocity) * (math.sqrt(m / n) if m > n else 1.0)
                x = x - lr * decay * x - lr * step
                near(after.flatten(1).numpy(), x)


def test_muon_with_an_exact_factor_is_the_loop_by_hand():
    check_muon(matrix_rules)


def check_muon_beside_torch(module):
    """Every step has the direction and length of torch.optim.Muon's, which computes in bfloat16."""
    lr, beta, decay = 0.05, 0.9, 0.2
    for theta, g, _, _ in walks([(8, 8), (6, 15), (15, 6)]):
        state, p = module.muon.start(theta), torch.nn.Parameter(theta.clone())
        twin = torch.optim.Muon([p], lr=lr, momentum=beta, weight_decay=decay)
        for t, p.grad in enumerate(g, 1):
            p.data.copy_(theta)
            twin.step()
            after, *state = module.muon(theta, p.grad, *state, t=t, lr=lr, beta=beta, decay=decay)
            ours, theirs = (x - (1 - lr * decay) * theta for x in (after, p.detach()))
            assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), 0) > 0.99
            assert (ours.norm() / theirs.norm()).item() == pytest.approx(1, abs=0.02)
            theta = after


needs_torchs = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon yet")


@needs_torchs
def test_muon_steps_as_torchs():
    check_muon_beside_torch(matrix_rules)


@given(seed=seeds, log_c=st.floats(-12, 12))
@each_shape
def test_muon_does_not_see_the_scale_of_the_loss(shape, seed, log_c):
    theta, g = normal(seed, *shape), normal(seed + 1, 4, *shape)
    near(walk(muon, theta, 10**log_c * g)[0], walk(muon, theta, g)[0])
    c = 10 ** (log_c * torch.rand(4, *[1] * len(shape)).double())  # another one in each step
    near(walk(muon, theta, c * g, beta=0.0)[0], walk(muon, theta, g, beta=0.0)[0])


@given(seed=seeds, beta=st.floats(0, 0.99))
@each_shape
def test_no_step_of_muon_is_longer_than_its_rate_allows(shape, seed, beta):
    theta, g = normal(seed, *shape), normal(seed + 1, 4, *shape)
    path, _ = walk(muon, theta, g, lr=0.1, beta=beta)
    rows, columns = theta.flatten(1).shape
    lengths = torch.linalg.matrix_norm(path.diff(dim=0).flatten(2), ord=2)
    assert (lengths < 1.3 * 0.1 * math.sqrt(max(1, rows / columns))).all()


# ------------------------------------------------------------------------ Shampoo


def check_shampoo(module):
    """θ from sums over all gradients and scipy's matrix powers."""
    lr, eps, decay = 0.3, 0.02, 0.7
    power = lambda x: np.real_if_close(fractional_matrix_power(x, -1 / 4))
    for theta, g, x, gradients in walks(steps=2):
        path, (left, right) = walk(module.shampoo, theta, g, lr=lr, eps=eps, decay=decay)
        for t, after in enumerate(path):
            a = sum(g @ g.T for g in gradients[: t + 1])
            b = sum(g.T @ g for g in gradients[: t + 1])
            identity = [eps * np.eye(len(s)) for s in (a, b)]
            step = power(a + identity[0]) @ gradients[t] @ power(b + identity[1])
            x = x - lr * decay * x - lr * step
            near(after.flatten(1).numpy(), x)
        near((left.numpy(), right.numpy()), (a, b))


def test_shampoo_is_its_matrix_powers():
    check_shampoo(matrix_rules)


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_inverse_root_is_a_matrix_power_even_where_rounding_gives_negative_eigenvalues(degree):
    g = normal(0, 6, 2)
    x, identity = g @ g.mT, torch.eye(6).double()  # of rank 2
    root = matrix_rules.inverse_root(x, degree, eps=1e-3)
    near(torch.linalg.matrix_power(root, degree) @ (x + 1e-3 * identity), identity, atol=1e-9)
    below = matrix_rules.inverse_root(x - 1e-9 * identity, degree, eps=1e-10)
    assert below.isfinite().all()


@each_shape
def test_the_first_step_of_shampoo_is_the_orthogonal_factor(shape):
    theta, g = normal(0, *shape), normal(1, 1, *shape)
    path, _ = walk(shampoo, theta, g, lr=1.0, eps=1e-14)
    factor = torch.as_tensor(svd_factor(g[0].flatten(1).numpy())).view(shape)
    near(theta - path[0], factor, atol=1e-6)


def test_shampoo_of_diagonal_gradients_is_adagrad():
    g = torch.diag_embed(normal(0, 5, 4))
    path, _ = walk(shampoo, torch.zeros(4, 4).double(), g, lr=0.3, eps=1e-12)
    theta, s = torch.zeros(4, 4).double(), torch.zeros(4, 4).double()
    for t in range(5):
        theta, s = o.adagrad(theta, g[t], s, t=t + 1, lr=0.3)
        near(path[t], theta, atol=1e-9)


# ------------------------------------------------------------------------ SOAP

SOAP = {"lr": 0.1, "beta1": 0.6, "beta2": 0.9, "eps": 1e-3, "decay": 0.2}


def check_soap(module):
    """Algorithm 3 from sums over all gradients, with the bases by SVD of what stands in L and R."""
    lr, beta1, beta2, eps, decay = SOAP.values()
    for theta, g, x, gradients in walks(steps=8):
        path, _ = walk(module.soap, theta, g, **SOAP)
        starts = [np.diag(np.sqrt(1e-6 * np.arange(1, k + 1) / k)) for k in x.shape]
        v = 0.0
        for t, after in enumerate(path, 1):
            # L = Σ over the columns of all earlier gradients, so its basis is theirs
            old = [
                math.sqrt((1 - beta2) * beta2 ** (t - 2 - k)) * gradients[k] for k in range(t - 1)
            ]
            begin = [math.sqrt(beta2 ** (t - 1)) * start for start in starts]
            q = np.linalg.svd(np.hstack([begin[0], *old]))[0]
            p = np.linalg.svd(np.hstack([begin[1], *(g.T for g in old)]))[0]
            mean = (1 - beta1) * sum(beta1 ** (t - 1 - k) * gradients[k] for k in range(t))
            v = beta2 * v + (1 - beta2) * (q.T @ gradients[t - 1] @ p) ** 2
            corrected = np.sqrt(v / (1 - beta2**t)) + eps
            step = q.T @ mean @ p / (1 - beta1**t) / corrected
            x = (1 - lr * decay) * x - lr * q @ step @ p.T
            near(after.flatten(1).numpy(), x, atol=1e-9)


def test_soap_is_adam_in_a_rotated_basis_by_hand():
    check_soap(matrix_rules)


@each_shape
def test_soap_in_the_basis_of_the_coordinates_is_adamw(monkeypatch, shape):
    identity = lambda x: (x.diagonal(), torch.eye(len(x), dtype=x.dtype))
    monkeypatch.setattr(matrix_rules, "eigenbasis", identity)
    theta, g = normal(0, *shape), normal(1, 8, *shape)
    path, (_, _, m, v) = walk(soap, theta, g, **SOAP)
    adam = theta, torch.zeros_like(theta), torch.zeros_like(theta)
    for t in range(1, 9):
        adam = o.adamw(adam[0], g[t - 1], *adam[1:], t=t, **SOAP)
        near(path[t - 1], adam[0], atol=1e-13)
    near((m, v), adam[1:], atol=1e-13)


@given(seed=seeds)
def test_soap_is_adam_in_the_basis_that_all_gradients_share(seed):
    """g = Q D Pᵀ, Q and P the same in every step: θ = Q θ' Pᵀ, θ' the path of Adam with D."""
    q, p, zero = orthogonal(seed, 4), orthogonal(seed + 1, 4), torch.zeros(4, 4).double()
    d = 4.0 ** torch.arange(4) * (1 + normal(seed + 2, 6, 4).abs().clamp(max=0.5))  # one order
    left, right, *rest = soap.start(zero)
    state, rates = (q @ left @ q.mT, p @ right @ p.mT, *rest), SOAP | {"decay": 0.0}
    path, _ = walk(soap, zero, q @ torch.diag_embed(d) @ p.mT, state, **rates)
    adam = zero, zero, zero
    for t in range(1, 7):
        adam = o.adamw(adam[0], torch.diag(d[t - 1]), *adam[1:], t=t, **rates)
        near(path[t - 1], q @ adam[0] @ p.mT, atol=1e-9)


@each_shape
def test_the_first_step_of_soap_is_adams(shape):
    theta, g = normal(0, *shape), normal(1, 1, *shape)
    near(walk(soap, theta, g, lr=0.1, eps=0.0)[0][0], theta - 0.1 * g[0].sign())


# ------------------------------------------------------------------------ wrong variants fail

WRONG = [  # the check, a function, what is replaced in it by what
    (check_newton_schulz, "newton_schulz", "3.4445, -4.7750, 2.0315", "3.4445, 2.0315, -4.7750"),
    (check_newton_schulz, "newton_schulz", "3.4445, -4.7750, 2.0315", "1.5, -0.5, 0.0"),
    (check_newton_schulz, "newton_schulz", "norm(x)", "torch.linalg.matrix_norm(x, ord=2)"),
    (check_newton_schulz, "newton_schulz", "norm(x)", "norm(x, 1)"),
    (check_newton_schulz, "newton_schulz", "x @ x.mT", "x.mT @ x"),
    (check_newton_schulz, "newton_schulz", "range(steps)", "range(steps - 1)"),
    (check_newton_schulz, "newton_schulz", "x = x.mT if tall else x\n    return", "return"),
    (check_newton_schulz, "_matrix", "flatten(1)", "flatten(0, -2)"),
    *(
        (check, "muon", *change)
        for check in (check_muon, check_muon_beside_torch)
        for change in [
            (
                "newton_schulz(beta * m + (1 - beta) * g)",
                "beta * m + (1 - beta) * newton_schulz(g)",
            ),
            ("newton_schulz(beta * m + (1 - beta) * g)", "newton_schulz(m)"),
            ("newton_schulz(beta * m + (1 - beta) * g)", "newton_schulz(g)"),
            ("m = beta * m + (1 - beta) * g", "m = (1 - beta) * m + beta * g"),
            ("m = beta * m + (1 - beta) * g", "m = beta * m + g"),
            ("rows / columns", "columns / rows"),
            ("math.sqrt(max(1, rows / columns))", "1.0"),
            ("math.sqrt(max(1, rows / columns))", "0.2 * math.sqrt(max(rows, columns))"),
            ("(1 - lr * decay)", "(1 - decay)"),
            ("- lr * math", "+ lr * math"),
        ]
    ),
    (check_shampoo, "shampoo", "left + g @ g.mT", "left + g"),
    (check_shampoo, "shampoo", "left = left + g @ g.mT", "left = 0.9 * left + 0.1 * g @ g.mT"),
    (check_shampoo, "shampoo", "(left, 4", "(left, 2"),
    (check_shampoo, "shampoo", "(right, 4", "(right, 2"),
    (check_shampoo, "shampoo", "g @ inverse_root(right, 4, eps=eps)", "g"),
    (check_shampoo, "shampoo", "(1 - lr * decay)", "(1 - decay)"),
    (check_shampoo, "inverse_root", "+ eps) ** (-1 / degree)", "** (-1 / degree) + eps)"),
    (check_shampoo, "inverse_root", "+ eps) ** (-1 / degree)", "+ eps) ** (1 / degree)"),
    (check_shampoo, "inverse_root", "@ q.mT", "@ q"),
    *(
        (check_soap, "soap", *change)
        for change in [
            ('"beta1": beta1, "beta2": beta2', '"beta1": beta2, "beta2": beta1'),
            ("m = beta1 * m + (1 - beta1)", "m = beta2 * m + (1 - beta2)"),
            ("left = beta2 * left + (1 - beta2) *", "left = left +"),
            ("left = beta2 * left + (1 - beta2)", "left = beta1 * left + (1 - beta1)"),
            ("right = beta2 * right + (1 - beta2)", "right = beta1 * right + (1 - beta1)"),
            ("q.mT @ m @ p", "m"),  # the mean is not turned
            ("q.mT @ g @ p", "q @ g @ p.mT"),
            ("q @ step @ p.mT", "q.mT @ step @ p"),
            ("q @ step @ p.mT", "step"),
            ("step, _, v = adam", "step, m, v = adam"),  # the mean stays in the last basis
            ("t=t, **rates", "t=t + 1, **rates"),
            ("(1 - lr * decay) * theta", "(1 - decay) * theta"),
            (
                "eigenbasis(left), eigenbasis(right)",
                "eigenbasis(left + g @ g.mT), eigenbasis(right)",
            ),
        ]
    ),
    (check_soap, "_ramp", "1e-6", "1e-2"),
]


@pytest.mark.parametrize("check, name, old, new", WRONG)
def test_a_wrong_variant_fails_the_test_of_the_truth(check, name, old, new):
    if check is check_muon_beside_torch and not hasattr(torch.optim, "Muon"):
        pytest.skip("torch has no Muon yet")
    wrong = variant(name, old, new)
    with pytest.raises((AssertionError, RuntimeError)):  # RuntimeError: shapes that do not fit
        check(wrong)


@pytest.mark.parametrize("check", {check for check, *_ in WRONG})
def test_a_variant_that_changes_nothing_passes(check):
    check(variant("muon", "decay=0.0", "decay=0.0"))


# ------------------------------------------------------------------------ laws of turning a matrix


def states(rule, seed, m, n):
    """A state in the middle of training: L and R with all directions, any m, v above zero."""
    named = zip(o.state_names(rule), rule.start(torch.zeros(m, n).double()), strict=True)
    for k, (name, x) in enumerate(named, seed):
        noise = normal(k, *x.shape)
        yield name, noise @ noise.mT if name in ("left", "right") else noise.abs()


def turned(name, x, q, p):
    """What θ, g or a state is where θ is Q θ Pᵀ; v, which belongs to the eigenbasis, stays."""
    a, b = {"left": (q, q), "right": (p, p)}.get(name, (q, p))
    return x if name == "v" else a @ x @ b.mT


@each_rule
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)], ids=str)
@given(seed=seeds)
def test_a_turned_problem_has_the_turned_path(rule, shape, seed):
    """f(θ) and f(Qᵀ θ P) are one problem for these rules; for Adam they are two."""
    m, n = shape
    q, p = orthogonal(seed, m), orthogonal(seed + 1, n)
    theta, g, state = normal(seed + 2, m, n), normal(seed + 3, m, n), list(states(rule, seed, m, n))
    straight = rule(theta, g, *(x for _, x in state), t=3)
    other = [turned(name, x, q, p) for name, x in state]
    result = rule(q @ theta @ p.mT, q @ g @ p.mT, *other, t=3)
    names = ["theta", *o.state_names(rule)]
    expected = [turned(name, x, q, p) for name, x in zip(names, straight, strict=True)]
    near(result, tuple(expected), atol=1e-8)


def test_adam_does_not_have_that_law():
    q, g, zero = orthogonal(0, 4), normal(1, 4, 4), torch.zeros(4, 4).double()
    straight, turned_g = (o.adam(zero, x, zero, zero, t=1)[0] for x in (g, q @ g))
    assert (turned_g - q @ straight).abs().max() > 1e-4


@each_rule
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)], ids=str)
@given(seed=seeds)
def test_the_transposed_problem_has_the_transposed_step(rule, shape, seed):
    m, n = shape
    theta, g, state = normal(seed, m, n), normal(seed + 1, m, n), dict(states(rule, seed, m, n))
    after, *_ = rule(theta, g, *state.values(), t=3)
    flipped = {name: x.mT for name, x in state.items()}
    if "left" in state:
        flipped |= {"left": state["right"], "right": state["left"]}
    other, *_ = rule(theta.mT, g.mT, *flipped.values(), t=3)
    scale = math.sqrt(m / n) if rule is muon else 1  # the only line that tells rows from columns
    near((other - theta.mT) * scale, (after - theta).mT)


# ------------------------------------------------------------------------ laws of every rule


def batch(rule, rows, shape):
    """Rows of θ, g and states in the middle of training, whatever their shapes."""
    matrix = (shape[0], math.prod(shape[1:]))
    for row in range(rows):
        own = {name: x for name, x in states(rule, 50 * row, *matrix)}
        yield (
            normal(row, *shape),
            normal(row + 9, *shape),
            *(x if name in ("left", "right") else x.view(shape) for name, x in own.items()),
        )


def numbers(rule, rows):
    """A column for every hyperparameter, whose rows differ."""
    spread = torch.linspace(0.5, 1, rows, dtype=torch.float64)
    return {name: (value or 0.1) * spread for name, value in o.hyperparameters(rule).items()}


@each_rule
@each_shape
def test_batched_is_one_by_one(rule, shape):
    rows = list(batch(rule, 3, shape))
    hyper = numbers(rule, 3)
    stacked = [torch.stack(x) for x in zip(*rows, strict=True)]
    step = lambda args, hyper, t: rule(*args, t=t, **hyper)
    together = vmap(step, in_dims=(0, 0, None))(stacked, hyper, torch.tensor(4.0).double())
    for r, row in enumerate(rows):
        alone = rule(*row, t=4, **{name: x[r].item() for name, x in hyper.items()})
        near([x[r] for x in together], list(alone))


@each_rule
@each_shape
def test_a_batched_path_from_the_start_is_one_by_one(rule, shape):
    """Where earlier gradients do not span all directions, the basis must not depend on rounding."""
    theta, g = normal(0, 3, *shape), normal(1, 8, 3, *shape)
    together, state = theta, vmap(rule.start)(theta)
    for t in range(1, 9):
        together, *state = vmap(partial(rule, t=t))(together, g[t - 1], *state)
    for r in range(3):
        alone, ends = walk(rule, theta[r], g[:, r])
        near(together[r], alone[-1])
        near([x[r] for x in state], list(ends), atol=1e-8)


@each_rule
def test_newton_schulz_and_starts_are_batched(rule):
    theta = normal(0, 3, 5, 4)
    near(vmap(newton_schulz)(theta), torch.stack([newton_schulz(x) for x in theta]))
    alone = [rule.start(x) for x in theta]
    near(list(vmap(rule.start)(theta)), [torch.stack(x) for x in zip(*alone, strict=True)])


@each_rule
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_run_that_diverges_becomes_nan_and_leaves_its_neighbours_alone(rule, bad):
    stacked = [torch.stack(x) for x in zip(*batch(rule, 3, (3, 4)), strict=True)]
    theta, g, *state = stacked
    step = vmap(partial(rule, t=4))
    sound = step(theta, g, *state)
    g = g.clone()
    g[1, 0, 0] = bad
    theta, *state = step(theta, g, *state)
    theta, *_ = step(theta, g, *state)  # SOAP's basis is that of the gradients before
    assert theta[1].isnan().all()
    sound = step(*sound[:1], g, *sound[1:])
    near([theta[0], theta[2]], [sound[0][0], sound[0][2]])


@each_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2, 3), (4, 2, 3, 1)], ids=str)
def test_results_have_the_shapes_and_dtypes_of_what_was_given(rule, dtype, shape):
    theta, g = normal(0, *shape).to(dtype), normal(1, *shape).to(dtype)
    hyper = {k: torch.tensor(v).double() for k, v in o.hyperparameters(rule).items()}
    start = rule.start(theta)
    after, *state = rule(theta, g, *start, t=torch.tensor(1.0).double(), **hyper)
    assert (after.shape, after.dtype) == (theta.shape, dtype) and after.isfinite().all()
    assert [(x.shape, x.dtype) for x in state] == [(x.shape, x.dtype) for x in start]
    # a number in float64, one for each row, does not widen the parameters either
    rows = {k: x.expand(2) for k, x in hyper.items()}
    step = lambda hyper: rule(theta, g, *start, t=1, **hyper)
    assert {x.dtype for x in vmap(step)(rows)} == {x.dtype for x in (after, *state)}


@each_rule
def test_half_precision_is_computed_with_in_float32(rule):
    theta, g = normal(0, 3, 4).bfloat16(), normal(1, 3, 4).bfloat16()
    half, _ = walk(rule, theta, g[None])
    full, _ = walk(rule, theta.float(), g.float()[None])
    assert torch.equal(half, full.bfloat16())


@each_rule
@each_shape
def test_changes_and_shares_none_of_its_arguments(rule, shape):
    (arguments,) = batch(rule, 1, shape)
    before = [x.clone() for x in arguments]
    results = rule(*arguments, t=3)
    assert all(torch.equal(x, y) for x, y in zip(arguments, before, strict=True))
    assert not {x.data_ptr() for x in results} & {x.data_ptr() for x in arguments}


@each_rule
def test_a_convolution_is_stepped_as_its_matrix(rule):
    theta, g = normal(0, 4, 2, 3, 2), normal(1, 5, 4, 2, 3, 2)
    path, state = walk(rule, theta, g)
    flat, flat_state = walk(rule, theta.flatten(1), g.flatten(2))
    assert torch.equal(path.flatten(2), flat)
    assert all(torch.equal(x.flatten(1), y) for x, y in zip(state, flat_state, strict=True))


@each_rule
def test_memory_of_another_layout_gives_the_same_numbers(rule):
    theta, g = normal(0, 4, 2, 3, 2), normal(1, 3, 4, 2, 3, 2)
    channels_last = theta.to(memory_format=torch.channels_last)
    near(walk(rule, channels_last, g)[0], walk(rule, theta, g)[0])


# ------------------------------------------------------------------------ what a rule declares


def test_states_and_what_they_start_from():
    theta = normal(0, 4, 2, 3, 1)
    zeros = torch.zeros_like(theta)
    near(muon.start(theta), (zeros,))
    near(shampoo.start(theta), (torch.zeros(4, 4).double(), torch.zeros(6, 6).double()))
    left, right = (torch.diag(1e-6 * torch.arange(1, k + 1).double() / k) for k in (4, 6))
    near(soap.start(theta), (left, right, zeros, zeros), atol=1e-20)
    assert all(rule.tensorwise is True for rule in RULES)


def test_signatures_tell_states_and_hyperparameters():
    table = {rule.__name__: o.state_names(rule) for rule in RULES}
    assert table == {
        "muon": ["m"],
        "shampoo": ["left", "right"],
        "soap": ["left", "right", "m", "v"],
    }
    assert o.hyperparameters(muon) == {"lr": 0.02, "beta": 0.95, "decay": 0.0}
    assert o.hyperparameters(shampoo) == {"lr": 0.1, "eps": 1e-6, "decay": 0.0}
    rates = {"lr": 3e-3, "beta1": 0.95, "beta2": 0.95, "eps": 1e-8, "decay": 0.0}
    assert o.hyperparameters(soap) == rates


@each_rule
def test_a_rule_can_be_sent_to_another_process(rule):
    assert pickle.loads(pickle.dumps(rule)) is rule


def test_declared_states_keep_their_shape_and_others_have_thetas():
    @tensorwise(count=lambda theta: theta.new_zeros(3))
    def rule(theta, g, m, count, *, t):
        assert theta.shape == g.shape == m.shape == (4, 6) and count.shape == (3,)
        return theta - g, m + g, count + 1

    theta = normal(0, 4, 2, 3)
    m, count = rule.start(theta)
    after, m, count = rule(theta, theta, m, count, t=1)
    assert after.shape == m.shape == theta.shape and count.tolist() == [1, 1, 1]


def test_a_start_for_a_state_that_the_rule_does_not_have_is_refused():
    def rule(theta, g, m, *, t):
        return theta, m

    with pytest.raises(TypeError, match=r"^rule has no state 'left'; it has \['m'\]$"):
        tensorwise(left=torch.zeros_like)(rule)


VECTOR = r"theta has shape \[5\]: a matrix has two dimensions or more"


@each_rule
def test_what_is_not_a_matrix_is_refused(rule):
    state = rule.start(torch.zeros(5, 5))
    vector, number = torch.zeros(5), torch.tensor(1.0)
    with pytest.raises(ValueError, match=VECTOR):
        rule(vector, vector, *state, t=1)
    with pytest.raises(ValueError, match=VECTOR):
        rule.start(vector)
    with pytest.raises(ValueError, match=r"theta has shape \[\]"):
        rule(number, number, *state, t=1)
    with pytest.raises(ValueError, match=r"g has shape \[5\], but theta \[5, 5\]"):
        rule(torch.zeros(5, 5), vector, *state, t=1)
    with pytest.raises(TypeError, match="theta is torch.int64; give floating point numbers"):
        rule(torch.zeros(5, 5, dtype=int), torch.zeros(5, 5), *state, t=1)


def test_newton_schulz_refuses_vectors_and_no_steps():
    with pytest.raises(ValueError, match=r"g has shape \[5\]: a matrix has two dimensions or more"):
        newton_schulz(torch.zeros(5))
    with pytest.raises(ValueError, match=r"steps=0 is outside \[1, inf\)"):
        newton_schulz(torch.zeros(5, 5), 0)
