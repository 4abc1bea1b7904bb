"""Laws of exercise 1-1. Truth is the recursion of eq. 1.15 itself, step by step."""

import numpy as np

from exercises.laws import Exercise, apart

exercise = Exercise("1-1", "momentum is a weighted mean of gradients")


def recursion(g, alphas, rho, start=0.0):
    """Δ_t = ρ Δ_{t−1} − α_t g_t for every t, [T, d]."""
    delta, path = start, []
    for g_t, alpha in zip(g, np.broadcast_to(alphas, len(g)), strict=True):
        delta = rho * delta - alpha * g_t
        path.append(delta)
    return np.array(path)


def setting(rng):
    """(g [T, d], α, ρ)"""
    T, d = rng.integers(3, 8), rng.integers(2, 4)
    return rng.normal(size=(T, d)), rng.uniform(0.05, 0.5), rng.uniform(0.3, 0.95)


@exercise.law("weights", points=2)
def weights_are_those_of_the_recursion(ask, rng):
    """The weights make Δθ_t of (1.15) out of x_1, ..., x_t, whatever the gradients."""
    t, rho = int(rng.integers(2, 9)), rng.uniform(0.3, 0.95)
    # a gradient of −1 at step τ alone, with α = 1 − ρ, leaves its weight in Δθ_t
    want = recursion(-np.eye(t), 1 - rho, rho)[-1]
    ask.same(
        "weights",
        t,
        rho,
        want=want,
        slips={
            "These are the weights of −α g_τ. Of −α/(1 − ρ) g_τ they are smaller by 1 − ρ.": want
            / (1 - rho),
            "The order is reversed: the oldest comes first and weighs least.": want[::-1],
            "These weights add up to one; those of Δθ_t add up to 1 − ρ^t, "
            "because it starts at zero.": want / want.sum(),
            "The newest gradient has not decayed yet: the exponent is t − τ.": want * rho,
        },
    )


@exercise.law("start_weight", points=1)
def weights_and_start_add_up_to_one(ask, rng):
    """All weights and the weight of the start add up to one."""
    t, rho = int(rng.integers(2, 9)), rng.uniform(0.3, 0.95)
    start = ask.same(
        "start_weight",
        t,
        rho,
        want=rho**t,
        slips={
            "The start decays at every one of the t steps.": rho ** (t - 1),
            "This is the weight of all gradients together; the start has the rest.": 1 - rho**t,
            "The start at zero still has a weight: the share of the sum that is missing.": 0.0,
        },
    )
    total = ask("weights", t, rho, shape=(t,)).sum() + start
    ask.require(
        ask.close(total, 1),
        f"weights and start_weight add up to {apart(total, 1)[0]}.",
    )


@exercise.law("velocity", points=2)
def velocity_is_momentum(ask, rng):
    """velocity gives Δθ_1, ..., Δθ_T of equation (1.15)."""
    g, alpha, rho = setting(rng)
    want = recursion(g, alpha, rho)
    ask.same(
        "velocity",
        g,
        alpha,
        rho,
        want=want,
        slips={
            "This is the mean of −α g_τ; the factor 1/(1 − ρ) is missing.": want * (1 - rho),
            "The weights 1 − ρ are missing, or the factor 1/(1 − ρ) is there twice.": want
            / (1 - rho),
            "The sign: a step goes against the gradient.": -want,
            "The mean is divided by the sum of its weights. Momentum does not correct for its "
            "start at zero (Adam does).": want / (1 - rho ** np.arange(1, len(g) + 1))[:, None],
        },
    )


@exercise.law("velocity", points=1)
def velocity_obeys_the_induction_step(ask, rng):
    """One more gradient: the last Δθ is ρ times the one before, minus α g."""
    g, alpha, rho = setting(rng)
    before = ask("velocity", g[:-1], alpha, rho, shape=g[:-1].shape)
    after = ask("velocity", g, alpha, rho, shape=g.shape)
    step = rho * before[-1] - alpha * g[-1]
    ask.require(
        ask.close(after[:-1], before), "A later gradient changed the Δθ of the steps before it."
    )
    ask.require(ask.close(after[-1], step), "Δθ_T is not ρ Δθ_{T−1} − α g_T.")


@exercise.law("half_life", points=1)
def half_life_halves_the_weight(ask, rng):
    """After half_life(ρ) steps a gradient weighs half of what it did."""
    rho = rng.uniform(0.2, 0.99)
    ask.same(
        "half_life",
        rho,
        want=np.log(2) / -np.log(rho),
        slips={
            "1/(1 − ρ) is the time after which the weight has fallen to about 1/e.": 1 / (1 - rho),
            "ln 2/(1 − ρ) is an approximation for ρ near one; here ρ^h = 1/2 exactly.": np.log(2)
            / (1 - rho),
            "This is the mean age, not the half-life.": rho / (1 - rho),
            "A time is positive.": np.log(2) / np.log(rho),
            "Give the number as it is, not rounded.": np.round(np.log(2) / -np.log(rho)),
            "Give the number as it is, not the next whole one.": np.ceil(np.log(2) / -np.log(rho)),
        },
    )


@exercise.law("mean_age", points=1)
def mean_age_is_the_weighted_mean_of_ages(ask, rng):
    """The mean age is Σ k w_k over all ages k = 0, 1, 2, ... with their weights w_k."""
    rho = rng.uniform(0.2, 0.95)
    k = np.arange(2000)
    ask.same(
        "mean_age",
        rho,
        want=(k * (1 - rho) * rho**k).sum(),
        slips={
            "The newest gradient has age 0, not 1.": 1 / (1 - rho),
            "The weights have the factor 1 − ρ, so that they add up to one.": rho / (1 - rho) ** 2,
            "This is the half-life; the mean counts every age with its weight.": np.log(2)
            / -np.log(rho),
        },
    )


@exercise.law("averaged", points=1)
def each_gradient_keeps_its_own_rate(ask, rng):
    """With rates α_t, Δθ_t of (1.15) is the weighted mean of averaged(...)."""
    g, _, rho = setting(rng)
    alphas = rng.uniform(0.05, 0.5, len(g))
    ask.same(
        "averaged",
        g,
        alphas,
        rho,
        want=-alphas[:, None] * g / (1 - rho),
        slips={
            "The newest rate does not act on old gradients: that is the velocity u of other "
            "programs, not (1.15).": -alphas[-1] * g / (1 - rho),
            "The factor 1/(1 − ρ) is missing.": -alphas[:, None] * g,
            "The sign: a step goes against the gradient.": alphas[:, None] * g / (1 - rho),
        },
    )


@exercise.law("nesterov_gradients", points=2)
def nesterov_averages_gradients_ahead(ask, rng):
    """The weighted mean of these gradients, times −α/(1 − ρ), is Δθ of (1.18)."""
    d, T = int(rng.integers(2, 4)), int(rng.integers(3, 7))
    a, theta0 = rng.uniform(0.5, 2, d), rng.normal(size=d)
    alpha, rho = rng.uniform(0.1, 0.4), rng.uniform(0.3, 0.9)
    theta, delta, path, ahead, at = theta0, 0 * theta0, [], [], []
    for _ in range(T):
        at.append(a * theta)
        ahead.append(a * (theta + rho * delta))
        delta = rho * delta - alpha * ahead[-1]
        theta = theta + delta
        path.append(delta)
    plain, theta, delta = [], theta0, 0 * theta0
    for _ in range(T):
        plain.append(a * theta)
        delta = rho * delta - alpha * plain[-1]
        theta = theta + delta
    got = ask.same(
        "nesterov_gradients",
        a,
        theta0,
        alpha,
        rho,
        T,
        want=ahead,
        slips={
            "These are gradients at θ_{t−1}, where equation (1.18) takes none: for them the "
            "statement is false.": at,
            "This is the path of momentum (1.15): its gradients are taken at θ_{t−1}.": plain,
        },
    )
    ask.require(ask.close(recursion(got, alpha, rho), path), "Their mean is not Δθ of (1.18).")


@exercise.law("against_the_gradient", points=2)
def a_step_can_go_along_its_gradient(ask, rng):
    """The gradients are at most 1, and the last step has the sign of its gradient, at least 1/4."""
    for T in (2, int(rng.integers(3, 9))):
        rho, alpha = rng.uniform(0.5, 0.95), rng.uniform(0.05, 0.5)
        g = ask("against_the_gradient", T, rho, shape=(T,))
        size = np.abs(g).max()
        ask.require(
            size <= 1 or ask.close(size, 1),
            f"A gradient of size {apart(size, 1)[0]} was used; at most 1 is allowed.",
        )
        last = float(g[-1])
        ask.require(
            abs(last) >= 0.25 or ask.close(abs(last), 0.25),
            f"The last gradient is {last:.3g}; its size must be at least 1/4.",
            "Without a gradient no step goes against it." if last == 0 else None,
        )
        step = float(recursion(g, alpha, rho)[-1])
        steady = np.ptp(np.sign(g)) == 0
        slip = "As long as the gradients have one sign every step goes against them."
        ask.require(
            step * last > 0,
            f"For T={T}, ρ={rho:.3g} the last gradient is {last:.3g} and the last step is "
            f"{step / alpha:.3g} α.",
            slip if steady else None,
        )


@exercise.law("nesterov_differs", points=2)
def gradients_at_visited_points_are_not_those_of_nesterov(ask, rng):
    """The gradients at the visited points call for the opposite of what (1.18) does."""
    rho = rng.uniform(0.3, 0.95)
    a, start, alpha = map(float, ask("nesterov_differs", rho, shape=(3,)))
    ask.require(a > 0 and alpha > 0, f"a={a:.3g} and α={alpha:.3g} must be positive.")
    ask.require(start != 0, "From θ₀ = 0 nothing moves.")
    theta, delta, visited = start, 0.0, []
    for _ in range(2):
        visited.append(a * theta)
        delta = rho * delta - alpha * a * (theta + rho * delta)
        theta = theta + delta
    mean = float(recursion(np.array(visited), alpha, rho)[-1])
    slip = None
    if alpha * a <= 1:
        slip = "While α a is at most 1 the first step does not pass the minimum, and both agree."
    elif alpha * a >= 1 + rho:
        slip = "At α a ≥ 1 + ρ the gradients at both points turn the step back: a smaller α a does."
    ask.require(
        mean * delta < 0 and min(abs(mean), abs(delta)) >= 0.01 * abs(start),
        f"For ρ={rho:.3g} the mean of the visited gradients gives {mean:.3g}, and Δθ₂ of (1.18) is "
        f"{delta:.3g}, with θ₀ = {start:.3g}.",
        slip,
    )
