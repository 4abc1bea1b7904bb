"""Laws of exercise 1-4. Truth is the update rules themselves, run side by side."""

import numpy as np

from exercises.laws import Exercise, apart, show

exercise = Exercise("1-4", "weight decay and ℓ₂ regularization")


def sgd(theta, gradient, alphas, *, lam=0.0, decays=0.0):
    """The path of SGD with ℓ₂ (lam) or weight decay (decays)."""
    path = []
    for t, (alpha, w) in enumerate(zip(alphas, np.broadcast_to(decays, len(alphas)))):
        theta = (1 - w) * theta - alpha * (gradient(theta, t) + lam * theta)
        path.append(theta)
    return np.array(path)


def momentum(theta, gradient, alpha, rho, T, *, lam=0.0, w=0.0):
    """θ_T of momentum with ℓ₂ (lam) or decay outside the velocity (w)."""
    delta = 0 * theta
    for t in range(T):
        delta = rho * delta - alpha * (gradient(theta, t) + lam * theta)
        theta = (1 - w) * theta + delta
    return theta


def adam(theta, gradient, alpha, T, *, lam=0.0, w=0.0, b2=0.999, eps=1e-8):
    """θ_T of Adam with ℓ₂ (lam) or decay outside (w); w may be an array of many decays."""
    m, v, b1 = 0.0, 0.0, 0.9
    for t in range(1, T + 1):
        g = gradient(theta, t - 1) + lam * theta
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        step = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        theta = (1 - w) * theta - alpha * step
    return theta


def quadratic(rng):
    """(start [d], gradient) of ½ Σ a (θ − c)² with noise that is the same for both methods."""
    d = int(rng.integers(2, 4))
    a, c, noise = rng.uniform(0.5, 2, d), rng.normal(size=d), rng.normal(size=(9, d))
    return rng.normal(size=d), lambda theta, t: a * (theta - c) + noise[t]


@exercise.law("decay", points=2)
def under_sgd_both_walk_the_same_path(ask, rng):
    """SGD with ℓ₂ and SGD with the decay w visit the same points, on any loss."""
    (start, gradient), alpha, lam = quadratic(rng), rng.uniform(0.02, 0.3), rng.uniform(0.01, 1)
    w = ask("decay", lam, alpha, shape=())
    alphas = [alpha] * 5
    l2, decayed = (sgd(start, gradient, alphas, **k) for k in ({"lam": lam}, {"decays": float(w)}))
    slips = {
        "w = λ forgets that the rate multiplies the penalty's gradient too.": lam,
        "The gradient of ½ λ ‖θ‖² is λ θ, without a factor 2.": 2 * alpha * lam,
        "The rate multiplies the penalty's gradient; it does not divide it.": lam / alpha,
        "w is the share that is taken off; what is left is 1 − w.": 1 - alpha * lam,
        "The sign: decay makes θ smaller, with (1 − w) θ.": -alpha * lam,
    }
    ask.require(
        ask.close(l2, decayed),
        f"With λ={lam:.4g}, α={alpha:.4g} your w={w:.4g}; after 5 steps the two are "
        f"{np.abs(l2 - decayed)[-1].max():.3g} apart.",
        ask.slip(w, slips),
    )


@exercise.law("decay_schedule", points=1)
def the_decay_follows_the_schedule(ask, rng):
    """With a rate for every step, w_t makes the two paths equal at every step."""
    (start, gradient), lam = quadratic(rng), rng.uniform(0.01, 1)
    alphas = rng.uniform(0.02, 0.3, 6)
    w = ask("decay_schedule", lam, alphas, shape=alphas.shape)
    l2, decayed = sgd(start, gradient, alphas, lam=lam), sgd(start, gradient, alphas, decays=w)
    constant = "A constant w fits one rate only." if np.ptp(w) < 1e-12 else None
    slips = {
        "The rates are in their order: w_t goes with α_t.": lam * alphas[::-1],
        "The product of all factors up to t is not the factor of step t.": 1
        - np.cumprod(1 - lam * alphas),
        "Each step takes its own α_t, not the sum of those so far.": lam * np.cumsum(alphas),
        "The rate multiplies the penalty's gradient; it does not divide it.": lam / alphas,
    }
    ask.require(
        ask.close(l2, decayed),
        f"The paths are {np.abs(l2 - decayed).max():.3g} apart.",
        constant or ask.slip(w, slips),
    )


@exercise.law("momentum_gap", points=2)
def under_momentum_the_paths_part_at_the_second_step(ask, rng):
    """momentum_gap is θ_2 with ℓ₂ minus θ_2 with decay w = α λ, both run with no other gradient."""
    start, alpha = rng.normal(size=3), rng.uniform(0.02, 0.3)
    rho, lam = rng.uniform(0.3, 0.95), rng.uniform(0.1, 1)
    none = lambda theta, t: 0 * theta
    l2 = momentum(start, none, alpha, rho, 2, lam=lam)
    want = l2 - momentum(start, none, alpha, rho, 2, w=alpha * lam)
    ask.same(
        "momentum_gap",
        start,
        alpha,
        rho,
        lam,
        want=want,
        atol=1e-12,
        slips={
            "They are not the same: the velocity carries ρ times the first penalty step into the "
            "second step.": 0.0,
            "The other way round: θ_2 with ℓ₂ minus θ_2 with decay.": -want,
            "The rate multiplies the penalty's gradient.": want / alpha,
        },
    )


@exercise.law("momentum_lambda", points=2)
def momentum_with_decay_rests_where_l2_does(ask, rng):
    """Where momentum with decay w comes to rest, the gradient of the loss with ℓ₂ (λ) is zero."""
    d, alpha, rho = 3, rng.uniform(0.05, 0.2), rng.uniform(0.3, 0.9)
    w, a, c = rng.uniform(0.01, 0.1), rng.uniform(0.5, 2, d), rng.normal(size=d)
    rest = momentum(0 * c, lambda theta, t: a * (theta - c), alpha, rho, 3000, w=w)
    lam = float(ask("momentum_lambda", w, alpha, rho, shape=()))
    slips = {
        "w/α is SGD's mapping; at rest the velocity is −α g/(1 − ρ).": w / alpha,
        "The factor 1 − ρ stands on the other side.": w / (alpha * (1 - rho)),
        "That is the w for a given λ; asked is the λ for a given w.": alpha * w / (1 - rho),
        "The velocity at rest is −α g/(1 − ρ), with 1 − ρ, not ρ.": rho * w / alpha,
    }
    slope = a * (rest - c) + lam * rest
    ask.require(
        ask.close(lam * rest, a * (c - rest), atol=1e-6),
        f"For w={w:.4g}, α={alpha:.4g}, ρ={rho:.4g} your λ={lam:.4g} leaves a gradient of "
        f"{np.abs(slope).max():.3g} at the resting point.",
        ask.slip(lam, slips),
    )


@exercise.law("scaled_decay", points=1)
def each_coordinate_has_its_own_decay(ask, rng):
    """With fixed scaling a step with ℓ₂ is a step with the decays w_i, for all θ and g."""
    d, lam, alpha, eps = 3, rng.uniform(0.1, 1), rng.uniform(0.001, 0.1), 10 ** rng.uniform(-4, -1)
    v_hat, theta, g = 10 ** rng.uniform(-3, 2, d), rng.normal(size=d), rng.normal(size=d)
    scale = 1 / (np.sqrt(v_hat) + eps)
    l2 = theta - alpha * scale * (g + lam * theta)
    want = ((theta - alpha * scale * g) - l2) / theta
    ask.same(
        "scaled_decay",
        lam,
        alpha,
        v_hat,
        eps,
        want=want,
        slips={
            "That is SGD's mapping. Adam divides the penalty's gradient by √v̂ + ε too.": alpha
            * lam,
            "The scaling is the root of v̂, plus ε.": alpha * lam / (v_hat + eps),
            "Here ε stands outside the root: √v̂ + ε.": alpha * lam / np.sqrt(v_hat + eps),
            "The rate is missing.": lam * scale,
        },
    )


@exercise.law("adam_counterexample", points=2)
def no_single_decay_replaces_l2_under_adam(ask, rng):
    """For the exhibited gradients every w leaves a coordinate more than 0.1 away from ℓ₂'s end."""
    T = int(rng.integers(20, 41))
    g = ask("adam_counterexample", T, shape=(T, 2))
    size = np.abs(g).max()
    ask.require(
        size <= 10 or ask.close(size, 10),
        f"A gradient of size {apart(size, 10)[0]} was used; at most 10 is allowed.",
    )
    ends = lambda **k: adam(np.ones(2), lambda theta, t: g[t], 0.02, T, **k)
    l2, plain = ends(lam=0.1), ends()
    w = np.append(0, np.geomspace(1e-6, 1, 1999))[:, None]
    decayed = adam(np.ones((len(w), 2)), lambda theta, t: g[t], 0.02, T, w=w)
    distance = np.abs(decayed - l2).max(axis=1)
    best, moved = int(distance.argmin()), np.abs(l2 - plain)
    slip = (
        "ℓ₂ moves both coordinates alike here, so that one w does it: give them gradients that "
        "leave the penalty very unequal shares of Adam's step."
    )
    if moved.max() <= 0.1:
        slip = (
            "ℓ₂ changes next to nothing here. Adam divides by the gradients' size and is left with "
            "their signs: in one coordinate the penalty must decide the sign, so no steady gradient"
            " may push there already."
        )
    ask.require(
        distance[best] > 0.1,
        f"With T={T} ℓ₂ moves the ends by {show(moved)}, and the decay w={w[best, 0]:.3g} comes "
        f"within {apart(distance[best], 0.1)[0]} of ℓ₂ in both coordinates.",
        slip,
    )


@exercise.law("adam_l2_limit", points=1)
def adam_with_l2_ends_at_the_penalized_minimum(ask, rng):
    """At the limit of Adam with ℓ₂ the gradient of the penalized loss is zero."""
    a, c, lam = rng.uniform(0.5, 2, 3), rng.normal(size=3), rng.uniform(0.1, 2)
    want = np.linalg.solve(np.diag(a + lam), a * c)
    ask.same(
        "adam_l2_limit",
        a,
        c,
        lam,
        want=want,
        slips={
            "This is the minimum without a penalty.": c,
            "The curvature a takes part: a (θ − c) + λ θ = 0.": c / (1 + lam),
            "The gradient of ½ λ θ² is λ θ, without a factor 2.": a * c / (a + 2 * lam),
        },
    )


@exercise.law("adamw_limit", points=2)
def adamw_ends_where_its_step_meets_the_decay(ask, rng):
    """A run of AdamW settles around adamw_limit, coordinates beyond and within reach alike."""
    a, alpha, w = rng.uniform(0.5, 2, 4), 0.01, rng.uniform(0.008, 0.02)
    reach = alpha / w
    c = reach * np.array([rng.uniform(1.5, 3), -rng.uniform(1.5, 3), 0.5, -0.4])
    got = ask("adamw_limit", a, c, alpha, w, shape=(4,))
    # a short memory of g² settles soon; where, does not depend on it
    rest = adam(0 * c, lambda theta, t: a * (theta - c), alpha, 1500, w=w, b2=0.98)
    simulated = np.abs(got - rest).max() < 0.05 * reach
    slips = {
        "Beyond α/w the decay is stronger than Adam's step, whose size is about α. (The box 1/λ is "
        "that of the lecture, where a step takes off α λ; here it takes off w.)": c,
        "That is an ℓ₂ penalty's shrinking. Adam's step depends on the gradient's sign.": a
        * c
        / (a + w / alpha),
        "That is an ℓ₂ penalty's shrinking, of strength w. Adam's step depends on the "
        "gradient's sign.": a * c / (a + w),
        "Within the box nothing is shrunk: only what lies beyond ±α/w ends at its edge.": reach
        * np.sign(c),
    }
    ask.require(
        simulated,
        f"For c={np.round(c, 3)}, α={alpha}, w={w:.3g} AdamW ends near {np.round(rest, 3)}; "
        f"yours is {np.round(got, 3)}.",
        ask.slip(got, slips),
    )
    # settled values carry a small ripple; the exact law is the fixed point's
    exact = (
        "Your numbers are near the limit, as those of a run are; the fixed point itself is asked."
    )
    inside = np.abs(c) * w <= alpha
    ask.require(ask.close(got[inside], c[inside]), "Within α/w nothing is shrunk.", exact)
    ask.require(ask.close(np.abs(got[~inside]), reach), "Beyond α/w the limit is ±α/w.", exact)


@exercise.law("norm_counterexample", points=2)
def the_norm_itself_is_no_decay(ask, rng):
    """From the exhibited points no w does, to α λ/2, what a step on the penalty λ‖θ‖ does.

    Lengths above 0 and up to 10; for every w from 0 to 1 one of the two points ends too far away.
    """
    step = rng.uniform(0.05, 0.2)  # α λ
    points = ask("norm_counterexample", step, shape=(2, 2))
    length = np.sqrt((points**2).sum(axis=1))
    ask.require(length.min() > 0, "At θ = 0 the norm has no gradient.")
    ask.require(
        length.max() <= 10 or ask.close(length.max(), 10),
        f"A point of length {apart(length.max(), 10)[0]} was used; at most 10 is allowed.",
    )
    penalized = points - step * points / length[:, None]
    w = np.linspace(0, 1, 20001)[:, None, None]
    off = np.sqrt((((1 - w) * points - penalized) ** 2).sum(axis=2)).max(axis=1)
    best = int(off.argmin())
    ask.require(
        off[best] > step / 2,
        f"With α λ = {step:.3g} the decay w={w[best, 0, 0]:.3g} comes within {off[best]:.3g} at "
        f"both points, whose lengths are {show(length)}.",
        "The gradient of ‖θ‖ has length 1 everywhere: take lengths that differ much.",
    )
