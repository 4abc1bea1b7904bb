"""Laws of exercise 1-2. Truth is Adam's recursion, and averages over all equally likely paths."""

from itertools import product

import numpy as np

from exercises.laws import Exercise, apart, show

exercise = Exercise("1-2", "the bias correction of Adam")


def running_mean(g, beta):
    """M_T of the recursion; g [T, ...]."""
    m = 0.0
    for g_t in g:
        m = beta * m + (1 - beta) * g_t
    return m


def setting(rng):
    """(t, β)"""
    return int(rng.integers(2, 9)), rng.uniform(0.5, 0.97)


@exercise.law("mean_factor", points=2)
def stationary_gradients_lose_this_factor(ask, rng):
    """For stationary gradients E[M_t] is mean_factor(t, β) times E[g], at every t."""
    t, beta = setting(rng)
    want = running_mean(np.ones(t), beta)
    ask.same(
        "mean_factor",
        t,
        beta,
        want=want,
        slips={
            "That holds at t = 1 only. Later gradients add to the mean.": 1 - beta,
            "This is the share of the zero start, the part that is missing.": beta**t,
            "The first gradient counts already: t steps, not t − 1.": 1 - beta ** (t - 1),
        },
    )


@exercise.law("moments", points=2)
def moments_are_averages_over_all_paths(ask, rng):
    """moments(...) is the average of M_t and G_t over all paths of gradients μ ± σ."""
    t, (b1, b2) = int(rng.integers(2, 7)), rng.uniform(0.5, 0.97, 2)
    mu, sigma = rng.normal(), rng.uniform(0.3, 2)
    paths = np.array(list(product([mu - sigma, mu + sigma], repeat=t))).T  # [t, 2^t]
    want = np.array([running_mean(paths, b1).mean(), running_mean(paths**2, b2).mean()])
    factors = np.array([1 - b1**t, 1 - b2**t])
    ask.same(
        "moments",
        mu,
        sigma,
        t,
        b1,
        b2,
        want=want,
        slips={
            "G_t is a mean of squares: E[g²] = μ² + σ², not μ².": factors * [mu, mu**2],
            "G_t is a mean of squares, not a variance: E[g²] = μ² + σ².": factors * [mu, sigma**2],
            "These are the moments of g; M_t and G_t start at zero.": want / factors,
        },
    )


@exercise.law("corrected", points=1)
def corrected_is_adams(ask, rng):
    """corrected gives M̂_t = M_t / (1 − β^t) for t = 1, ..., T."""
    T, beta = setting(rng)
    g = rng.normal(size=T)
    m = np.array([running_mean(g[:t], beta) for t in range(1, T + 1)])
    ask.same(
        "corrected",
        g,
        beta,
        want=m / (1 - beta ** np.arange(1, T + 1)),
        slips={
            "These means are not corrected.": m,
            "You divide by 1 − β at every step; that is right at t = 1 only.": m / (1 - beta),
            "You divide every mean by the last factor; each t has its own.": m / (1 - beta**T),
        },
    )


@exercise.law("corrected", points=1)
def equal_gradients_are_met_exactly(ask, rng):
    """If all gradients are equal, every corrected mean is that gradient."""
    T, beta = setting(rng)
    g = np.full(T, rng.normal())
    m = np.array([running_mean(g[:t], beta) for t in range(1, T + 1)])
    ask.same(
        "corrected",
        g,
        beta,
        want=g,
        slips={
            "These means are not corrected.": m,
            "You divide by 1 − β at every step; that is right at t = 1 only.": m / (1 - beta),
        },
    )


@exercise.law("corrected_weights", points=1)
def corrected_weights_make_the_corrected_mean(ask, rng):
    """The weights are positive, add up to one, and each is β times the next newer one."""
    t, beta = setting(rng)
    # the mean of a sequence that is one at step τ only is the weight of step τ
    want = running_mean(np.eye(t), beta) / running_mean(np.ones(t), beta)
    ask.same(
        "corrected_weights",
        t,
        beta,
        want=want,
        slips={
            "These are the weights in M_t; those in M̂_t add up to one.": want
            * running_mean(np.ones(t), beta),
            "The order is reversed: the oldest comes first and weighs least.": want[::-1],
        },
    )


@exercise.law("noise_factor", points=1)
def noise_factor_is_the_sum_of_squared_weights(ask, rng):
    """For independent gradients var(M̂_t) / var(g) is the sum of the squared weights."""
    t, beta = setting(rng)
    w = running_mean(np.eye(t), beta)
    ask.same(
        "noise_factor",
        t,
        beta,
        want=(w**2).sum() / w.sum() ** 2,
        slips={
            "This is the limit for large t.": (1 - beta) / (1 + beta),
            "This is the variance of M_t; dividing by 1 − β^t raises it.": (w**2).sum(),
            "The weights are not equal: the older ones count less.": 1 / t,
        },
    )


@exercise.law("drift_error", points=2)
def a_drift_leaves_an_error(ask, rng):
    """With E[g_τ] = c + slope · τ the corrected mean lags: E[M̂_t] − E[g_t], for any c."""
    t, beta = setting(rng)
    slope, c = rng.normal(), rng.normal()
    g = c + slope * np.arange(1, t + 1)
    want = running_mean(g, beta) / (1 - beta**t) - g[-1]
    ask.same(
        "drift_error",
        t,
        beta,
        slope,
        want=want,
        slips={
            "The correction is exact only without drift: the mean lags behind.": 0.0,
            "The sign: the mean lags behind a gradient that grows.": -want,
            "This is the limit for large t; early on the mean is younger.": -slope
            * beta
            / (1 - beta),
        },
    )


@exercise.law("counterexample", points=1)
def the_counterexample_is_one(ask, rng):
    """The exhibited gradients lie between −1 and 1 and |M̂_t − g_t| is at least 1/2."""
    longer, beta = setting(rng)
    for t in (2, longer):
        g = ask("counterexample", t, beta, shape=(t,))
        size = np.abs(g).max()
        ask.require(
            size <= 1 or ask.close(size, 1),
            f"A gradient of size {apart(size, 1)[0]} was used; at most 1 is allowed.",
        )
        error = abs(running_mean(g, beta) / (1 - beta**t) - g[-1])
        ask.require(
            error >= 0.5,
            f"For t={t}, β={beta:.3g} your |M̂_t − g_t| is only {apart(error, 0.5)[0]}.",
            "Equal gradients are met exactly: let g_t be unlike the ones before."
            if np.ptp(g) < 1e-12
            else None,
        )


@exercise.law("first_step", points=1)
def the_first_step_has_the_size_of_the_rate(ask, rng):
    """Δθ_1 follows (1.19)-(1.23) at t = 1, with g of any scale, zeros too."""
    g = rng.normal(size=4) * 10.0 ** rng.integers(-9, 4, 4)
    g[rng.integers(4)] = 0
    alpha, eps = rng.uniform(0.01, 1), 1e-8
    b1, b2 = rng.uniform(0.5, 0.95), rng.uniform(0.9, 0.999)
    m_hat = (1 - b1) * g / (1 - b1)
    v_hat = (1 - b2) * g**2 / (1 - b2)
    ask.same(
        "first_step",
        g,
        alpha,
        b1,
        b2,
        eps,
        want=-alpha * m_hat / (np.sqrt(v_hat) + eps),
        atol=1e-12,
        lost="At g = 0 this is 0/0; with ε in the denominator, as in (1.23), it is 0.",
        slips={
            "The sign: a step goes against the gradient.": alpha * g / (np.abs(g) + eps),
            "ε stands inside the root here; in (1.23) as written above it is outside.": -alpha
            * g
            / np.sqrt(g**2 + eps),
            "Without ε: a small gradient moves less, and a zero does not move.": -alpha
            * np.sign(g),
            "This is the step without the corrections.": -alpha
            * (1 - b1)
            * g
            / (np.sqrt((1 - b2) * g**2) + eps),
        },
    )


@exercise.law("first_step_uncorrected", points=1)
def without_corrections_the_first_step_is_wrong(ask, rng):
    """Without corrections Δθ_1 is −α M_1 / √G_1."""
    g = rng.normal(size=3) * 10.0 ** rng.integers(-3, 4, 3)
    alpha, b1, b2 = rng.uniform(0.01, 1), rng.uniform(0.5, 0.95), rng.uniform(0.9, 0.999)
    want = -alpha * (1 - b1) * g / np.sqrt((1 - b2) * g**2)
    ask.same(
        "first_step_uncorrected",
        g,
        alpha,
        b1,
        b2,
        want=want,
        slips={
            "This is the corrected step.": -alpha * np.sign(g),
            "The mean of squares stands under a root: √(1 − β₂).": want / np.sqrt(1 - b2),
            "The mean of g has the factor 1 − β₁ too.": want / (1 - b1),
        },
    )


def uphill_means(one, other, chance, eps):
    """E[g] and E[Δθ_1]/α of (1.23), for g of two values."""
    g, q = np.array([one, other]), np.array([chance, 1 - chance])
    return np.array([(q * g).sum(), (q * -g / (np.abs(g) + eps)).sum()])


@exercise.law("uphill", points=2)
def the_mean_first_step_can_go_uphill(ask, rng):
    """With the exhibited values of g and their chances E[g] ≥ mean, and yet E[Δθ_1] ≥ α/4.

    The values lie between −1 and 1, and both expectations are taken exactly.
    """
    eps, least = 1e-8, rng.uniform(0.05, 0.3)
    one, other, chance = map(float, ask("uphill", least, shape=(3,)))
    size = max(abs(one), abs(other))
    ask.require(
        size <= 1 or ask.close(size, 1),
        f"A gradient of size {apart(size, 1)[0]} was used; at most 1 is allowed.",
    )
    ask.require(0 <= chance <= 1, f"{chance:.3g} is no probability.")
    mean, step = uphill_means(one, other, chance, eps)
    least_of_both = np.array([least, 0.25])
    reached = lambda x, wanted: bool(np.all(x >= wanted)) or ask.close(x, wanted)
    swapped = reached(uphill_means(one, other, 1 - chance, eps), least_of_both)
    slip = "The third number is the chance of the first value." if swapped else None
    ask.require(
        reached(mean, least), f"E[g] = {apart(mean, least)[0]} is below {show(least)}.", slip
    )
    ask.require(
        reached(step, 0.25),
        f"E[g] = {mean:.3g} and E[Δθ_1] = {step:.3g} α.",
        slip or "The first step, −α g/(|g| + ε), knows the gradient's sign and not its size.",
    )
