"""The Gaussian process, what a trial is worth, and the searcher, against independent truths."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from nettrain import bayesian, spaces
from nettrain.bayesian import ACQUISITIONS, FLOAT, GP, Bayes, Neural
from nettrain.lab.study import Study
from nettrain.spaces import Choice, Integer, Real
from nettrain.trials import Trial

SURROGATES = [GP, Neural]


def problem(n=15, p=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, p, generator=g, dtype=FLOAT)
    y = torch.sin(6 * x).sum(1) + 0.1 * torch.randn(n, generator=g, dtype=FLOAT)
    return x, (y - y.mean()) / y.std()


THETA = torch.tensor([0.2, -1.0, 0.5, 0.3, -4.0], dtype=FLOAT)  # 3 lengthscales, signal, noise


def known_matern(s):
    return bayesian.Known.apply(s, *bayesian.matern(s.detach()))


def known_log_h(z):
    return bayesian.Known.apply(z, *bayesian.log_h(z.detach()))


def slope(f, x, h=1e-6):
    """Central differences of a number, over every entry of x."""
    steps = h * torch.eye(x.numel(), dtype=FLOAT).view(-1, *x.shape)
    return torch.stack([(f(x + e) - f(x - e)) / (2 * h) for e in steps]).view(x.shape)


# --------------------------------------------------------------------------- Gaussian process


def peer(x, y):
    lengths, signal = THETA[:3].exp().numpy(), THETA[3].exp().item()
    kernel = ConstantKernel(signal) * Matern(lengths, nu=2.5)
    noise = THETA[4].exp().item() + bayesian.FLOOR
    return GaussianProcessRegressor(kernel, alpha=noise, optimizer=None).fit(x, y)


@pytest.mark.parametrize("n", [1, 2, 15, 60])
def test_posterior_and_evidence_equal_scikit_learns(n):
    x, y = problem(60)
    x, y, new = x[:n], y[:n], problem(9, seed=1)[0]
    reference = peer(x, y)
    mean, sd = reference.predict(new, return_std=True)
    ours = GP(x, y, THETA).predict(new)
    assert ours[0].numpy() == pytest.approx(mean, abs=1e-8)
    assert ours[1].sqrt().numpy() == pytest.approx(sd, abs=1e-8)
    evidence = bayesian.log_evidence(THETA, x, y)[0].item()
    assert evidence == pytest.approx(reference.log_marginal_likelihood_value_, abs=1e-8)


def test_evidence_is_the_density_of_a_normal_distribution():
    x, y = problem()
    K = bayesian.kernel(x, x, THETA) + (THETA[-1].exp() + bayesian.FLOOR) * torch.eye(
        15, dtype=FLOAT
    )
    truth = stats.multivariate_normal(np.zeros(15), K.numpy()).logpdf(y.numpy())
    assert bayesian.log_evidence(THETA, x, y)[0].item() == pytest.approx(truth, abs=1e-8)


@pytest.mark.parametrize("repeat", [False, True], ids=["distinct", "repeated points"])
def test_gradient_of_the_evidence(repeat):
    x, y = problem()
    x = torch.cat([x[:8], x[:7]]) if repeat else x  # distances of zero off the diagonal too
    f = lambda theta: bayesian.log_evidence(theta, x, y)[0]
    ours = bayesian.log_evidence(THETA, x, y)[1]
    assert torch.allclose(ours, slope(f, THETA), atol=1e-6)
    leaf = THETA.clone().requires_grad_()  # the same by autograd, with torch's own normal density
    K = bayesian.kernel(x, x, leaf) + (leaf[-1].exp() + bayesian.FLOOR) * torch.eye(15, dtype=FLOAT)
    density = torch.distributions.MultivariateNormal(torch.zeros(15, dtype=FLOAT), K)
    assert torch.allclose(ours, torch.autograd.grad(density.log_prob(y), leaf)[0], atol=1e-8)


def test_gradient_of_the_prior():
    f = lambda theta: bayesian.log_prior(theta)[0]
    assert torch.allclose(bayesian.log_prior(THETA)[1], slope(f, THETA), atol=1e-8)


def test_prior_is_log_normal():
    f = lambda theta: bayesian.log_prior(torch.tensor(theta, dtype=FLOAT))[0].item()
    laws = [stats.lognorm(1, scale=math.sqrt(3) / 2)] * 3
    laws += [stats.lognorm(1), stats.lognorm(2, scale=math.exp(-8))]
    # a density of log θ is that of θ times θ; only differences are defined
    truth = lambda t: sum(law.logpdf(np.exp(v)) + v for law, v in zip(laws, t, strict=True))
    a, b = [0.0, 1.0, -1.0, 0.5, -3.0], [0.3, -2.0, 0.1, 1.5, -9.0]
    assert f(a) - f(b) == pytest.approx(truth(a) - truth(b), abs=1e-10)


def test_matern_has_its_own_derivative_also_at_distance_zero():
    s = torch.tensor([0.0, 1e-12, 0.3, 4.0, 50.0], dtype=FLOAT, requires_grad=True)
    k = known_matern(s)
    by_formula = torch.autograd.grad(k.sum(), s)[0]
    h = 1e-7
    forward = (bayesian.matern(s.detach() + h)[0] - k.detach()) / h
    assert torch.allclose(by_formula, forward, atol=1e-4)
    assert by_formula[0] == pytest.approx(-1 / 6, abs=1e-15)
    assert torch.autograd.gradcheck(known_matern, s.detach()[2:].requires_grad_())


def test_a_gp_without_noise_goes_through_its_points_and_returns_to_the_prior():
    x, y = problem(8)
    theta = torch.tensor([-0.5, -0.5, -0.5, 0.0, -40.0], dtype=FLOAT)
    gp = GP(x, y, theta)
    mean, variance = gp.predict(x)
    assert torch.allclose(mean, y, atol=1e-3) and variance.max() < 1e-4
    mean, variance = gp.predict(x + 1000)
    assert mean.abs().max() < 1e-12 and variance.min() == pytest.approx(1, abs=1e-12)


def search_of_a_gp(x, y):
    """What `GP.fit` asks `climb` for: function, start, lower and upper ends, ..."""
    with pytest.MonkeyPatch.context() as patch:
        asked = []
        patch.setattr(bayesian, "climb", lambda *a: asked.extend(a) or a[1])
        GP.fit(x, y)
    return asked


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_no_hyperparameter_that_is_searched_breaks_the_cholesky_decomposition(seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(40, 4, generator=g, dtype=FLOAT)
    x[20:] = x[:20] + 1e-6 * torch.rand(20, 4, generator=g, dtype=FLOAT)
    _, start, low, high, *_ = search_of_a_gp(x, x[:, 0])
    assert ((low < start) & (start < high)).all()
    corner = torch.where(torch.rand(6, generator=g) < 0.5, low, high)
    assert bayesian.log_evidence(corner, x, x[:, 0])[0].isfinite()


@pytest.mark.parametrize("kind", SURROGATES)
def test_fit_climbs_and_is_deterministic(kind):
    x, y = problem(25)
    a, b = kind.fit(x, y), kind.fit(x, y)
    assert torch.equal(a.theta, b.theta)
    objective = kind.objective(a.theta, x, y)[0]
    g = torch.Generator().manual_seed(0)
    for _ in range(5):
        other = a.theta + 0.3 * torch.randn(a.theta.shape, generator=g, dtype=FLOAT)
        assert objective > kind.objective(other, x, y)[0]


@pytest.mark.parametrize("p, speed, n", [(1, 20, 8), (1, 30, 8), (2, 12, 12), (2, 30, 8)])
def test_a_gp_is_fitted_as_well_as_by_the_best_of_many_climbs(p, speed, n):
    """Also where the evidence has two peaks: at a short lengthscale, and at noise alone."""
    g = torch.Generator().manual_seed(n)
    x, noise = torch.rand(n, p, generator=g, dtype=FLOAT), torch.randn(n, generator=g, dtype=FLOAT)
    y = torch.sin(speed * x).sum(1) + 0.05 * noise
    y = (y - y.mean()) / y.std()

    def fall(theta):
        value, slope = GP.objective(torch.from_numpy(theta), x, y)
        return -value.item(), -slope.numpy()

    rng, ends = np.random.default_rng(0), np.array([[-4, 2]] * p + [[-3, 3], [-12, 0]]).T
    climbs = [optimize.minimize(fall, rng.uniform(*ends), jac=True, bounds=[(-14, 6)] * (p + 2))
              for _ in range(8)]  # fmt: skip
    ours = GP.objective(GP.fit(x, y).theta, x, y)[0].item()
    assert ours == pytest.approx(max(-found.fun for found in climbs), abs=1e-3)


def test_a_network_is_fitted_to_a_peak_that_its_two_variances_alone_do_not_reach():
    x, y = problem(60)
    theta = Neural.fit(x, y).theta
    ours, slope = Neural.objective(theta, x, y)
    assert slope.norm() < 0.1 and theta.abs().max() < 6  # a peak, inside of what is searched

    def fall(variances):
        still = torch.cat([torch.from_numpy(variances), torch.zeros_like(theta[2:])])
        value, slope = Neural.objective(still, x, y)
        return -value.item(), -slope[:2].numpy()

    best = optimize.minimize(fall, np.array([0.0, -4.0]), jac=True, bounds=[(-9, 9)] * 2)
    assert best.success and ours > 2 - best.fun


def test_lengthscales_tell_what_matters():
    x, _ = problem(40)
    gp = GP.fit(x, torch.sin(5 * x[:, 1]))
    assert gp.theta[1] < gp.theta[[0, 2]].min() - 1


@pytest.mark.parametrize("kind", SURROGATES)
def test_a_surrogate_predicts_what_it_has_not_seen(kind):
    x, y = problem(60)
    model = kind.fit(x[:50], y[:50])
    mean, variance = model.predict(x[50:])
    assert (mean - y[50:]).square().mean() < 0.25 * y[50:].var()
    assert (variance > 0).all()


@pytest.mark.parametrize("kind", SURROGATES)
def test_a_believed_trial_leaves_the_mean_and_lowers_the_variance(kind):
    x, y = problem(20)
    model, new = kind.fit(x, y), problem(3, seed=2)[0]
    believed = model.believe(new)
    assert torch.allclose(believed.predict(x)[0], model.predict(x)[0], atol=1e-6)
    assert (believed.predict(new)[1] < model.predict(new)[1]).all()


# --------------------------------------------------------------------------- neural surrogate


def neural_theta():
    g = torch.Generator().manual_seed(0)
    layers = torch.randn(4 * 50 + 2 * 51 * 50, generator=g, dtype=FLOAT)
    return torch.cat([torch.tensor([0.1, -3.0], dtype=FLOAT), layers])


def test_neural_evidence_and_posterior_are_those_of_bayesian_linear_regression():
    x, y = problem(12)
    theta = neural_theta()
    phi, (a, b) = Neural.basis(x, theta), theta[:2].exp()
    K = a * phi @ phi.mT + (b + bayesian.FLOOR) * torch.eye(12, dtype=FLOAT)
    truth = stats.multivariate_normal(np.zeros(12), K.numpy()).logpdf(y.numpy())
    prior = theta[0] ** 2 / 8 + (theta[1] + 6) ** 2 / 8
    prior = prior + theta[2:].square().sum() / 2
    ours = Neural.objective(theta, x, y)[0]
    assert (ours + prior).item() == pytest.approx(truth, abs=1e-8)
    new = problem(5, seed=3)[0]
    k = a * Neural.basis(new, theta) @ phi.mT  # the same regression, seen as a Gaussian process
    mean, variance = Neural(x, y, theta).predict(new)
    solved = torch.linalg.solve(K, torch.cat([y[:, None], k.mT], 1))
    own = a * Neural.basis(new, theta).square().sum(1)
    assert torch.allclose(mean, k @ solved[:, 0], atol=1e-8)
    assert torch.allclose(variance, own - (k * solved[:, 1:].mT).sum(1), atol=1e-8)


def test_gradient_of_the_neural_objective():
    x, y = problem(12)
    theta = neural_theta()
    value, ours = Neural.objective(theta, x, y)
    some = torch.tensor([0, 1, 5, 100, 140, 1500, len(theta) - 1])
    for i in some:
        e = 1e-5 * torch.nn.functional.one_hot(i, len(theta))
        up, down = (Neural.objective(theta + sign * e, x, y)[0] for sign in (1, -1))
        assert ours[i].item() == pytest.approx(((up - down) / 2e-5).item(), abs=1e-5)


# --------------------------------------------------------------------------- acquisition


@pytest.mark.parametrize("mean", [-1.0, 0.0, 0.7])
@pytest.mark.parametrize("sd", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("best", [-0.5, 0.0, 1.0])
def test_ei_equals_its_integral(mean, sd, best):
    density = stats.norm(mean, sd).pdf
    low = min(best, mean) - 40 * sd
    points = [p for p in (mean - 3 * sd, mean, mean + 3 * sd) if low < p < best]
    gain = lambda y: (best - y) * density(y)
    truth = integrate.quad(gain, low, best, epsabs=1e-12, points=points or None, limit=500)[0]
    ours = bayesian.ei(torch.tensor(mean, dtype=FLOAT), torch.tensor(sd, dtype=FLOAT), best)
    assert ours.item() == pytest.approx(truth, abs=1e-8)


def test_ei_and_pi_equal_monte_carlo():
    mean, sd = torch.tensor(0.3, dtype=FLOAT), torch.tensor(0.8, dtype=FLOAT)
    y = stats.norm(0.3, 0.8).rvs(400_000, random_state=0)
    for ours, gain in (
        (bayesian.ei(mean, sd, 0.1), np.maximum(0.1 - y, 0)),
        (bayesian.pi(mean, sd, 0.1), (y < 0.1).astype(float)),
    ):
        error = gain.std() / math.sqrt(len(y))
        assert abs(ours.item() - gain.mean()) < 4 * error


def test_log_ei_is_the_logarithm_of_ei_where_that_is_accurate():
    z = torch.linspace(-5, 8, 200, dtype=FLOAT)
    sd = torch.full_like(z, 0.3)
    log, plain = bayesian.log_ei(-z * sd, sd, 0.0), bayesian.ei(-z * sd, sd, 0.0)
    assert torch.allclose(log, plain.log(), atol=1e-8)


@pytest.mark.parametrize("z", [-6.0, -20.0, -100.0, -999.0, -1001.0, -1e4, -1e8, -1e100])
def test_log_ei_far_out_lies_between_the_bounds_of_the_asymptotic_series(z):
    """h(z) = φ(z)/z² (1 − 3/z² + 15/z⁴ − ...): partial sums are bounds from both sides."""
    log_phi = -(z**2) / 2 - math.log(2 * math.pi) / 2 - 2 * math.log(-z)
    low = log_phi + math.log1p(-3 / z**2)
    high = log_phi + math.log1p(-3 / z**2 + 15 / z**2 / z**2)
    ours = known_log_h(torch.tensor(z, dtype=FLOAT)).item()
    slack = 1e-12 * abs(log_phi)
    assert low - slack <= ours <= high + slack


def test_log_ei_is_the_logarithm_of_the_integral_far_out():
    """E max(z + N, 0) = φ(z) ∫ t exp(zt − t²/2) dt over t > 0, with the small factor taken out."""
    for z in (-3.0, -8.0, -15.0, -30.0):
        integral = integrate.quad(lambda t: t * math.exp(z * t - t * t / 2), 0, np.inf, epsabs=0)  # noqa: B023
        truth = stats.norm.logpdf(z) + math.log(integral[0])
        ours = known_log_h(torch.tensor(z, dtype=FLOAT)).item()
        assert ours == pytest.approx(truth, abs=1e-8)


def test_log_h_has_the_right_slope_everywhere_and_no_jump():
    z = torch.tensor([-1e3 - 1e-9, -1e3 + 1e-9, -1 - 1e-12, -1 + 1e-12], dtype=FLOAT)
    h = known_log_h(z)
    assert abs(h[0] - h[1]) < 1e-5 and abs(h[2] - h[3]) < 1e-10
    z = torch.tensor([-300.0, -40.0, -5.0, -1.5, -0.5, 0.0, 2.0, 6.0], dtype=FLOAT)
    assert torch.autograd.gradcheck(known_log_h, z.requires_grad_(), rtol=1e-6)
    far = torch.tensor([-1e5], dtype=FLOAT, requires_grad=True)
    assert torch.autograd.grad(known_log_h(far).sum(), far)[0].item() == pytest.approx(1e5)


def test_pi_and_lcb_are_what_they_say():
    mean, sd = torch.tensor([0.5, -1.0], dtype=FLOAT), torch.tensor([2.0, 0.1], dtype=FLOAT)
    truth = stats.norm.cdf(0.2, mean, sd)
    assert bayesian.pi(mean, sd, 0.2).numpy() == pytest.approx(truth, abs=1e-14)
    assert bayesian.lcb(mean, sd, 0.2).tolist() == pytest.approx([3.5, 1.2])
    assert bayesian.lcb(mean, sd, 0.2, kappa=0.0).tolist() == pytest.approx([-0.5, 1.0])


@pytest.mark.parametrize("name", ACQUISITIONS)
@given(st.floats(-3, 3), st.floats(0.01, 3), st.floats(-2, 2))
@settings(max_examples=40, deadline=None)
def test_a_lower_mean_is_never_worth_less(name, mean, sd, best):
    f = ACQUISITIONS[name]
    mean, sd = torch.tensor([mean, mean - 0.1], dtype=FLOAT), torch.full((2,), sd, dtype=FLOAT)
    worth = f(mean, sd, best)
    assert worth[1] >= worth[0]


# --------------------------------------------------------------------------- the searcher


SPACE = {"x": Real(-5, 10), "y": Real(0, 15)}


def bowl(config):
    return (config["x"] - 3) ** 2 + (config["y"] - 4) ** 2


def study(space=SPACE, objective=bowl, n=20, seed=0, **how):
    search = Study(space, Bayes(**how), seed=seed)
    for _ in range(n):
        if (trial := search.ask()) is None:
            break
        search.tell(trial, objective(trial.config))
    return search


@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_it_finds_the_bottom_of_a_bowl(acquisition):
    assert study(n=25, acquisition=acquisition).best.value < 0.05


def test_the_neural_surrogate_finds_it_too():
    assert study(n=15, surrogate="neural").best.value < study(n=10).best.value


def test_the_first_trials_are_a_sobol_sequence():
    from nettrain.searchers import Sobol

    sobol = Study(SPACE, Sobol(), seed=3)
    assert [t.config for t in study(n=10, seed=3).trials] == [sobol.ask().config for _ in range(10)]


def test_a_proposal_is_a_function_of_space_trials_and_seed():
    trials = study(n=14).trials
    torch.manual_seed(1)  # objectives do this; proposals must not care
    a = Bayes().ask(SPACE, trials, 0)
    torch.manual_seed(2)
    assert Bayes().ask(SPACE, trials, 0) == a
    assert Bayes().ask(SPACE, trials[:9], 1) != Bayes().ask(SPACE, trials[:9], 0)
    full = study(n=18).trials  # what a killed study would have proposed, from its first 14 trials
    assert full[14].config == a


def test_proposals_of_other_seeds_and_numbers_draw_other_numbers(monkeypatch):
    drawn, trials = [], study(n=12).trials
    propose = lambda self, space, u, y, pending, g: drawn.append(g.initial_seed()) or u[:1]
    monkeypatch.setattr(Bayes, "propose", propose)
    monkeypatch.setattr(bayesian, "unseen", lambda space, tried, g, points: points[0])
    for seed in range(100):
        for n in (10, 11, 12):
            Bayes().ask(SPACE, trials[:n], seed)
    assert len(set(drawn)) == 300
    ones = np.array([[n >> k & 1 for k in range(63)] for n in drawn]).mean(0)  # each bit is a coin
    assert abs(ones - 0.5).max() < 5 * 0.5 / math.sqrt(300)


def test_the_first_point_that_was_not_tried_is_proposed():
    points = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]], dtype=FLOAT)
    tried = torch.stack([points[0], points[2] + 1e-10, points[1] + torch.tensor([0, 1e-8])])
    assert torch.equal(bayesian.unseen(SPACE, tried, None, points), points[1])
    tried[2] = points[1]
    assert torch.equal(bayesian.unseen(SPACE, tried, None, points), points[3])


def test_the_state_of_torchs_generator_is_left_alone():
    trials = study(n=12).trials
    before = torch.get_rng_state()
    Bayes().ask(SPACE, trials, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="forest"):
        Bayes(surrogate="forest")
    with pytest.raises(ValueError, match="ucb"):
        Bayes(acquisition="ucb")


small = st.one_of(
    st.builds(lambda n: {"a": Integer(1, n)}, st.integers(2, 14)),
    st.builds(lambda n, m: {"a": Integer(1, n), "b": Choice(*range(m))}, *[st.integers(2, 4)] * 2),
    st.just({"a": Choice("x", {"name": "y", "k": Integer(1, 3)}), "b": Choice(True, False)}),
)


@given(small, st.integers(0, 1000))
@settings(max_examples=8, deadline=None)
def test_never_a_configuration_twice_and_none_when_all_are_tried(space, seed):
    every = {spaces.hashable(c) for c in spaces.grid(space, 100)}
    value = lambda config: float(hash(str(config)) % 97)
    search = study(space, value, n=len(every), seed=seed)
    assert {spaces.hashable(t.config) for t in search.trials} == every
    assert len(search.trials) == len(every)
    assert search.ask() is None


NESTED = {
    "lr": Real(1e-4, 1, log=True),
    "opt": Choice({"name": "sgd", "rho": Real(0, 0.99)}, {"name": "adam"}, "rprop"),
    "layers": Integer(1, 4),
}


def test_a_conditional_space():
    def loss(config):
        opt = config["opt"]
        extra = abs(opt["rho"] - 0.9) if isinstance(opt, dict) and "rho" in opt else 1.0
        return (math.log10(config["lr"]) + 2) ** 2 + extra + 0.1 * config["layers"]

    search = study(NESTED, loss, n=30)
    for trial in search.trials:
        spaces.validate(NESTED, trial.config)
    assert search.best.config["opt"]["name"] == "sgd" and search.best.value < 0.4


def test_pending_trials_are_not_proposed_again_and_push_the_next_ones_away():
    search = study(n=15)
    together = [search.ask().config for _ in range(4)]
    points = torch.stack([spaces.to_unit(SPACE, c) for c in together])
    assert torch.pdist(points).min() > 1e-3
    alone = Bayes().ask(SPACE, search.trials[:15], 0)
    assert together[0] == alone  # the first sees no pending trial


def test_trials_that_only_pend_or_fail_leave_the_sobol_sequence_running():
    configs = [spaces.from_unit(SPACE, spaces.to_unit(SPACE, bowl_)) for bowl_ in corners(12)]
    pending = [Trial(i, c) for i, c in enumerate(configs)]
    failed = [Trial(i, c, math.nan, "no") for i, c in enumerate(configs)]
    for trials in (pending, failed, pending[:11] + [Trial(11, configs[11], 1.0)]):
        spaces.validate(SPACE, Bayes().ask(SPACE, trials, 0))


def corners(n):
    g = np.random.default_rng(0)
    return [{"x": g.uniform(-5, 10), "y": g.uniform(0, 15)} for _ in range(n)]


def test_where_trials_fail_it_goes_less():
    """The optimum lies beside a region that fails: the model must not be drawn into it."""

    def risky(config):
        return math.nan if config["x"] > 3.5 else bowl(config)

    search = study(SPACE, risky, n=30)
    failed = sum(t.state == "failed" for t in search.trials[10:])
    assert failed < 12 and search.best.value < 0.5


def test_a_failed_trial_is_never_the_best_value_that_a_model_sees():
    x, y = problem(12)
    y[4] = math.nan
    pending = torch.zeros(12, dtype=torch.bool)
    model, priced = Bayes().model(x, y, pending)
    assert priced.isfinite().all() and priced[4] >= priced.median()
    assert len(model.x) == 12


class Fixed:
    """A surrogate that expects 3 at the first point and −3 at all others, give or take 2."""

    theta, fits = None, []

    @classmethod
    def fit(cls, x, y):
        cls.fits.append((x, y))
        return cls()

    objective = classmethod(lambda cls, theta, x, y: (torch.tensor(0.0), None))

    def predict(self, x):
        mean = torch.full((len(x),), -3.0, dtype=FLOAT)
        mean[:1] = 3
        return mean, torch.full_like(mean, 4.0)


def test_a_failed_trial_costs_a_deviation_more_than_expected_and_no_less_than_the_median():
    bayes, x = Bayes(), torch.arange(8.0, dtype=FLOAT)[:, None]
    bayes.surrogate = Fixed
    y = torch.tensor([1.0, math.nan, 2.0, 3.0, math.nan, 4.0, math.nan, 10.0], dtype=FLOAT)
    pending = torch.arange(8) == 6
    Fixed.believe = lambda self, x: ("believed", x)
    Fixed.fits.clear()
    model, priced = bayes.model(x, y, pending)
    assert priced[[1, 4]].tolist() == pytest.approx(
        [3 + 2, stats.zscore([1, 2, 3, 4, 10], ddof=1)[2]]
    )
    assert priced[6].isnan() and model[1].tolist() == [[6.0]]
    (of_done, _), (of_known, values) = Fixed.fits
    assert of_done.flatten().tolist() == [0, 2, 3, 5, 7]
    assert of_known.flatten().tolist() == [0, 1, 2, 3, 4, 5, 7]
    assert torch.equal(values, priced[~pending])


class Bowl:
    """A model whose mean is lowest, 0, at 0.4 in every coordinate; it notes where it is asked."""

    def __init__(self):
        self.asked = []

    def predict(self, x):
        self.asked.append(x.detach())
        return (x - 0.4).square().sum(-1), torch.full_like(x[:, 0], 0.25)


def test_candidates_are_random_ones_and_some_near_the_four_best_trials(monkeypatch):
    d, g = 100, torch.Generator().manual_seed(0)
    space = {f"x{i}": Real(0, 1) for i in range(d)}
    u = 0.25 + 0.5 * torch.rand(12, d, generator=g, dtype=FLOAT)
    y = torch.tensor([5.0, 1, 9, math.nan, 2, 8, 3, 4, math.nan, 7, 6, 11], dtype=FLOAT)
    bowl, bests, bayes = Bowl(), [], Bayes(acquisition="lcb")
    monkeypatch.setattr(Bayes, "model", lambda self, x, y, pending: (bowl, y / 2))
    worth = lambda mean, sd, best: bests.append(best) or bayesian.lcb(mean, sd, best)
    bayes.acquisition = worth
    points = bayes.propose(space, u, y, y.isnan(), g)
    best = (u - 0.4).square().sum(1).where(y.isfinite(), math.inf)  # as the model sees them
    assert torch.equal(bowl.asked[0], u[y.isfinite()])
    anywhere, near = bowl.asked[1].split([1024, 128])
    assert stats.kstest(anywhere.flatten(), "uniform").pvalue > 0.01
    moves = near.view(4, 32, d) - u[best.argsort()[:4], None]
    moved = moves != 0
    assert stats.binomtest(moved.sum().item(), moved.numel(), 0.5).pvalue > 0.01
    assert near.min() == 0 and near.max() == 1  # far moves end at the walls
    # half of the moves are less than 0.6745 deviations; the deviation is 0.001 to 0.3, each factor
    # as probable as the next
    middle = torch.where(moved, moves, math.nan).abs().nanmedian(-1).values / stats.norm.ppf(0.75)
    sizes = middle.log10().flatten()
    assert stats.kstest(sizes, stats.uniform(-3, 2.5).cdf).pvalue > 0.01
    # climbed from the best ones to the bottom of the bowl, and given in order
    assert (points[0] - 0.4).abs().max() < 1e-3 and len(points) == 8 + 1152
    assert ((points - 0.4).square().sum(1).diff() >= 0).all()
    assert set(bests) == {best.min().item()}  # y* is a mean of the model, not a noisy value


def test_where_values_are_noisy_the_mean_decides_and_not_the_luckiest_value():
    """On a noisy bowl the recommended trial lies nearer to the bottom than the lowest value."""
    gaps = []
    for seed in range(12):
        g = torch.Generator().manual_seed(seed)
        x = torch.rand(40, 1, generator=g, dtype=FLOAT)
        y = (x[:, 0] - 0.4).square() + 0.1 * torch.randn(40, generator=g, dtype=FLOAT)
        rows = enumerate(zip(x[:, 0].tolist(), y.tolist(), strict=True))
        trials = [Trial(i, {"x": a}, b) for i, (a, b) in rows]
        chosen = Bayes().recommend({"x": Real(0, 1)}, trials)
        lowest = min(trials, key=lambda t: t.value)
        assert chosen is trials[chosen.number]
        gaps.append([(t.config["x"] - 0.4) ** 2 for t in (chosen, lowest)])
    ours, theirs = np.array(gaps).mean(0)
    assert ours < theirs


def test_without_noise_the_recommended_trial_is_the_lowest():
    done = study(n=15)
    assert done.recommended.number == done.best.number


def test_failed_and_pending_trials_and_those_outside_are_not_recommended():
    space, values = {"x": Real(0, 1)}, [3.0, math.nan, 1.0, 2.0, None, 2.5]
    trials = [Trial(i, {"x": i / 8}, value) for i, value in enumerate(values)]
    trials.append(Trial(6, {"x": 9.0}, -5.0, outside="9 is not in [0, 1]"))
    assert Bayes().recommend(space, trials).number == 2
    assert Bayes().recommend(space, trials[:2]).number == 0  # too few for a model
    assert Bayes().recommend(space, trials[1:2]) is None
    with pytest.raises(ValueError, match="none of 0 trials"):
        _ = Study(space, Bayes()).recommended


@pytest.mark.parametrize("top", [0.3, -2.0, 5.0])
def test_a_climb_ends_at_the_maximum_or_at_the_wall_before_it(top):
    start, low = torch.full((2, 3), 0.5, dtype=FLOAT), torch.zeros(2, 3, dtype=FLOAT)
    f = bayesian.with_gradient(lambda x: -(x - top).square().sum() - (x - top)[0, 0] ** 4)
    found = bayesian.climb(f, start, low, low + 1, 50)
    truth = torch.full((2, 3), min(max(top, 0.0), 1.0), dtype=FLOAT)
    assert torch.allclose(found, truth, atol=1e-3)


def test_a_climb_on_what_cannot_be_computed_stays_where_it_is():
    x = torch.full((2,), 0.5, dtype=FLOAT)
    lost = lambda x: (torch.tensor(math.nan, dtype=FLOAT), torch.zeros_like(x))
    assert torch.equal(bayesian.climb(lost, x, x - 1, x + 1, 5), x)


ORDINARY = torch.tensor([3.0, 1.0, 2.0, 5.0, 4.0, 9.0, 30.0, 6.0, 7.0, 8.0], dtype=FLOAT)


@pytest.mark.parametrize(
    "position, value, kept",
    [
        (3, 1e30, False),
        (3, 1e200, False),
        (3, 4 + 1e3 * 3 + 1, False),  # 0.4-quantile 4, and 3 above the minimum, which stays 1
        (3, 4 + 1e3 * 3 - 1, True),
        (3, -1e30, True),  # better than all others: the spread is its own
        (3, math.nan, False),
    ],
)
def test_a_value_far_beyond_the_first_ones_counts_as_failed(position, value, kept):
    y = ORDINARY.clone()
    y[position] = value
    found = bayesian.beyond(y, 10)
    others = torch.arange(10) != position
    assert found[position].isfinite() == kept and torch.equal(found[others], y[others])
    later = torch.cat([ORDINARY, torch.tensor([value], dtype=FLOAT)])
    assert bayesian.beyond(later, 10)[-1].isfinite() == kept


@given(st.lists(st.floats(-1e300, 1e300), min_size=0, max_size=14), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_what_is_left_of_values_is_finite_and_keeps_its_order(values, initial):
    y = torch.tensor(values, dtype=FLOAT)
    found = bayesian.beyond(y, initial)
    kept = found.isfinite()
    assert kept.sum() >= min(2, len(y)) and found[kept].square().sum().isfinite()
    assert (found[kept][y[kept].argsort()].diff() >= 0).all()
    if (~kept).any():  # only the highest are left out
        assert y[~kept].min() > y[kept].max()


def test_values_of_ordinary_size_are_left_as_they_are():
    assert torch.equal(bayesian.beyond(ORDINARY, 10), ORDINARY)
    level = torch.tensor([2.3] * 9 + [1e30], dtype=FLOAT)  # no spread to compare with
    assert torch.equal(bayesian.beyond(level, 10), level)


@pytest.mark.parametrize(
    "bad, surrogate", [(1e5, "gp"), (1e30, "gp"), (1e200, "gp"), (math.inf, "gp"), (1e30, "neural")]
)
def test_finite_losses_of_diverged_runs_are_modelled_as_failures(bad, surrogate):
    def risky(value):
        return lambda config: value if config["x"] > 6 else bowl(config)

    found = study(objective=risky(bad), n=14, surrogate=surrogate)
    truth = study(objective=risky(math.nan), n=14, surrogate=surrogate)
    assert [t.config for t in found.trials] == [t.config for t in truth.trials]
    assert any(t.config["x"] > 6 for t in found.trials)


def test_a_trial_made_with_an_infinite_value_has_failed_too():
    trials = study(n=12).trials
    lost = [replace(trials[4], value=v) for v in (math.nan, math.inf, -math.inf)]
    asked = [Bayes().ask(SPACE, [*trials[:4], t, *trials[5:]], 0) for t in lost]
    assert asked[0] == asked[1] == asked[2]


@pytest.mark.parametrize("initial, error", [(0, ValueError), (True, TypeError), (2.5, TypeError)])
def test_the_number_of_initial_trials_is_a_count(initial, error):
    with pytest.raises(error, match=f"initial={initial}"):
        Bayes(initial=initial)


def test_trials_outside_a_changed_space_are_not_modelled():
    inside = study(n=15).trials
    outside = [Trial(15, {"z": "no"}, 0.0, outside="z is unknown")]
    assert Bayes().ask(SPACE, inside + outside, 0) is not None


def law_of_warped(y, c):
    """The law of y under which its warp is standard normal: normal, or shifted log-normal."""
    if c == math.inf:
        return stats.norm(y.mean(), y.std(ddof=1))
    low = y.min() - c * y.std(ddof=1)
    logs = np.log(y - low)
    return stats.lognorm(logs.std(ddof=1), low, np.exp(logs.mean()))


@pytest.mark.parametrize("c", bayesian.WARPS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_warp_makes_a_law_standard_normal_and_knows_its_jacobian(c, scale):
    y = scale * torch.tensor([3.0, 1.0, math.nan, 2.0, 50.0], dtype=FLOAT)
    done = y.isfinite()
    (z, slopes), known = bayesian.warp(y, done, c), y[done].numpy()
    law = law_of_warped(known, c)
    assert z[2].isnan() and z[done].numpy() == pytest.approx(stats.norm.ppf(law.cdf(known)))
    # p(y) = p(z) dz/dy; the same constant, the logarithm of y's deviation, is left out for every c
    jacobian = law.logpdf(known).sum() - stats.norm.logpdf(z[done]).sum()
    assert slopes.item() == pytest.approx(jacobian + len(known) * np.log(known.std(ddof=1)))


NOISE = {"normal": lambda y: y, "log-normal": lambda y: (2 * y).exp()}


@pytest.mark.parametrize("n", [24, 25])
@pytest.mark.parametrize("law", NOISE)
@pytest.mark.parametrize("seed", [3, 4])
def test_the_scale_of_a_model_is_the_one_in_which_the_values_are_likelier(law, seed, n):
    """Of values that do not depend on x, whose evidence is nearly that of independent ones."""
    g = torch.Generator().manual_seed(seed)
    x, y = torch.rand(n, 2, generator=g, dtype=FLOAT), torch.randn(n, generator=g, dtype=FLOAT)
    y = NOISE[law](y)
    likelihood = [law_of_warped(y.numpy(), c).logpdf(y.numpy()).sum() for c in bayesian.WARPS]
    plain = n % 2 == 0 or likelihood[0] > likelihood[1]
    z = Bayes().model(x, y, torch.zeros(n, dtype=torch.bool))[1]
    law = law_of_warped(y.numpy(), bayesian.WARPS[0 if plain else 1])
    assert z.numpy() == pytest.approx(stats.norm.ppf(law.cdf(y.numpy())), abs=1e-6)


def test_values_that_are_all_equal_are_no_trouble():
    search = study(objective=lambda config: 1.0, n=14)
    assert len({spaces.hashable(t.config) for t in search.trials}) == 14


def test_the_relaxed_features_are_those_of_the_configuration():
    g = torch.Generator().manual_seed(0)
    for u in torch.rand(20, spaces.dims(NESTED), generator=g, dtype=FLOAT):
        point = spaces.snap(NESTED, u)
        config = spaces.from_unit(NESTED, point)
        assert torch.allclose(spaces.embed(NESTED, point), spaces.features(NESTED, config))


def test_the_functions_of_the_benchmark_have_the_minima_that_it_subtracts():
    from benchmarks.search_problems import FUNCTIONS

    places = {  # from the literature, and by symmetry
        "Branin": [math.pi, 2.275],
        "Hartmann-6": [0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573],
        "Levy-5": [1] * 5,
        "Ackley-5": [0] * 5,
        "Rosenbrock-4": [1] * 4,
        "Michalewicz-5": [2.202906, 1.570796, 1.284992, 1.923058, 1.720470],
        "Styblinski-Tang-4": [-2.903534] * 4,
    }
    for name, (f, space, minimum) in FUNCTIONS.items():
        x = np.array(places[name], float)
        assert f(x) == pytest.approx(minimum, abs=1e-5), name
        assert all(p.low <= v <= p.high for p, v in zip(space.values(), x, strict=True))
        nearby = x + 0.01 * np.random.default_rng(0).normal(size=(50, len(x)))
        assert all(f(v) >= minimum - 1e-6 for v in nearby), name
