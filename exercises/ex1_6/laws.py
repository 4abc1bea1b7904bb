"""Laws of exercise 1-6. Truth: sums over classes written out, and complex-step derivatives."""

import numpy as np

from exercises.laws import Exercise, apart

exercise = Exercise("1-6", "cross-entropy under label smoothing")


ZERO = "0 · ln 0 is NaN in a program; its limit is 0, so treat ε = 0 apart."
LARGE = (
    "With logits of size 1000 exp overflows, or p becomes 0 and ln 0 infinite. Subtract the "
    "largest logit of each example first; take log p = z − log Σ exp z without forming p."
)


def setting(rng):
    """(z [n, K], y [n], ε)"""
    n, K = int(rng.integers(2, 5)), int(rng.integers(3, 7))
    return rng.normal(size=(n, K)) * 2, rng.integers(0, K, n), rng.uniform(0.05, 0.5)


def target(y, K, eps):
    """The textbook's target of one example, class by class."""
    return [1 - eps if k == y else eps / (K - 1) for k in range(K)]


def target_uniform(y, K, eps):
    return [(1 - eps) * (k == y) + eps / K for k in range(K)]


def cross_entropy(q, z):
    """−Σ q_k log p_k of one example; z may be complex."""
    top = max(np.real(z))
    lse = top + np.log(sum(np.exp(v - top) for v in z))
    return sum(q_k * (lse - v) for q_k, v in zip(q, z, strict=True))


def losses(z, y, eps, targets=target):
    return np.array([cross_entropy(targets(c, len(v), eps), v) for v, c in zip(z, y, strict=True)])


@exercise.law("smooth", points=1)
def the_textbooks_targets(ask, rng):
    """The true class has 1 − ε, the others share ε equally; rows add up to one."""
    z, y, eps = setting(rng)
    K = z.shape[1]
    uniform = [target_uniform(c, K, eps) for c in y]
    known = {
        "That is the convention of Szegedy et al. and torch, ε/K to every class; here ε is shared "
        "by the K − 1 others.": uniform,
        "ε is shared by K − 1 classes, not K; your rows do not add up to one.": [
            [1 - eps if k == c else eps / K for k in range(K)] for c in y
        ],
        "Each of the others gets a share of ε, not all of it.": [
            [1 - eps if k == c else eps for k in range(K)] for c in y
        ],
    }
    ask.same("smooth", y, K, eps, want=[target(c, K, eps) for c in y], slips=known)


@exercise.law("smooth_uniform", points=1)
def the_uniform_mixture(ask, rng):
    """The one-hot target and the uniform one are mixed, 1 − ε' to ε'."""
    z, y, eps = setting(rng)
    K = z.shape[1]
    known = {"That is the textbook's convention.": [target(c, K, eps) for c in y]}
    known["The true class gets its share ε'/K of the uniform part too."] = [
        [1 - eps if k == c else eps / K for k in range(K)] for c in y
    ]
    want = [target_uniform(c, K, eps) for c in y]
    ask.same("smooth_uniform", y, K, eps, want=want, slips=known)


@exercise.law("to_uniform", points=1)
def both_conventions_are_one_family(ask, rng):
    """With ε' = to_uniform(ε, K) both conventions have the same targets."""
    K, eps = int(rng.integers(2, 12)), rng.uniform(0.01, 0.5)
    e = float(ask("to_uniform", eps, K, shape=()))
    slips = {
        "The other way round: ε' is the larger one.": eps * (K - 1) / K,
        "They differ: in one ε is shared by K − 1 classes, in the other by all K.": eps,
        "That is the share of one class; ε' is shared by all K.": eps / (K - 1),
    }
    got, want = apart(1 - e + e / K, 1 - eps)
    ask.require(
        ask.close(target(0, K, eps), target_uniform(0, K, e)),
        f"For ε={eps:.4g}, K={K} your ε'={e:.4g} gives the true class {got}, not {want}.",
        ask.slip(e, slips),
    )


@exercise.law("loss", points=2)
def the_loss_is_cross_entropy_with_smoothed_targets(ask, rng):
    """loss is −Σ q̃_k log p_k for each example, at ε = 0 too."""
    z, y, eps = setting(rng)
    want = losses(z, y, eps)
    known = {
        "That is the loss without smoothing.": losses(z, y, 0.0),
        "That is the loss in the convention of torch.": losses(z, y, eps, target_uniform),
        "The sign: the loss is positive.": -want,
        "You smooth the prediction, not the target.": -np.log(
            [(1 - eps) * p + eps / len(v) for v, p in zip(z, np.exp(-losses(z, y, 0.0)))]
        ),
        "Each example has its own loss; you gave the mean.": want.mean(),
    }
    ask.same("loss", z, y, eps, want=want, slips=known)
    ask.same("loss", z, y, 0.0, want=losses(z, y, 0.0), lost=ZERO)


@exercise.law("loss", points=1)
def the_loss_is_stable(ask, rng):
    """Logits of size 1000 give finite, right losses."""
    z, y, eps = setting(rng)
    z = z * 500
    ask.same("loss", z, y, eps, want=losses(z, y, eps), lost=LARGE)


@exercise.law("gradient", points=2)
def the_gradient_is_the_derivative_of_the_loss(ask, rng):
    """gradient holds ∂L/∂z_k for each example and class."""
    z, y, eps = setting(rng)
    want, hard = np.empty_like(z), np.empty_like(z)
    for i, k in np.ndindex(*z.shape):
        step = z[i].astype(complex)
        step[k] += 1e-30j
        want[i, k] = cross_entropy(target(y[i], z.shape[1], eps), step).imag / 1e-30
        hard[i, k] = cross_entropy(target(y[i], z.shape[1], 0.0), step).imag / 1e-30
    ask.same(
        "gradient",
        z,
        y,
        eps,
        want=want,
        slips={
            "The sign.": -want,
            "That is the gradient without smoothing.": hard,
            "Each example has its own gradient; you divided by n.": want / len(y),
        },
    )
    far = z * 500
    p = np.exp([[-cross_entropy(np.eye(len(v))[k], v) for k in range(len(v))] for v in far])
    targets = [target(c, z.shape[1], eps) for c in y]
    ask.same("gradient", far, y, eps, want=p - targets, lost=LARGE)


@exercise.law("optimal_gap", points=2)
def at_the_gap_the_gradient_is_zero(ask, rng):
    """Logits with this gap between the true class and the others make p equal to the targets."""
    K, eps = int(rng.integers(3, 12)), rng.uniform(0.02, 0.95)
    ask.same(
        "optimal_gap",
        eps,
        K,
        want=np.log(target(0, K, eps)[0] / target(0, K, eps)[1]),
        slips={
            "ε is shared by K − 1 classes: each has the target ε/(K − 1).": np.log((1 - eps) / eps),
            "That is the gap in the convention of torch.": np.log((1 - eps) * K / eps + 1),
            "The sign: the true class leads, while ε is small.": -np.log((1 - eps) * (K - 1) / eps),
        },
    )


@exercise.law("smallest_loss", points=2)
def the_smallest_loss_is_an_entropy(ask, rng):
    """The loss at p = q̃, where the gradient is zero, and its limit for ε → 0."""
    K, eps = int(rng.integers(3, 12)), rng.uniform(0.02, 0.95)
    q = target(0, K, eps)
    want = cross_entropy(q, np.log(q))
    ask.same(
        "smallest_loss",
        eps,
        K,
        want=want,
        slips={
            "With soft targets the loss cannot reach zero.": 0.0,
            "ε is shared by K − 1 classes: each has the target ε/(K − 1).": -(1 - eps)
            * np.log(1 - eps)
            - eps * np.log(eps),
            "The sign: an entropy is not negative.": -want,
        },
    )
    ask.same("smallest_loss", 0.0, K, want=0.0, lost=ZERO)


@exercise.law("slope", points=1)
def the_loss_is_linear_in_epsilon(ask, rng):
    """L at ε minus L at 0 is ε times the slope, for every ε."""
    z, y, eps = setting(rng)
    want = (losses(z, y, eps) - losses(z, y, 0.0)) / eps
    mean = z.mean(axis=1)
    true = z[np.arange(len(y)), y]
    ask.same(
        "slope",
        z,
        y,
        want=want,
        slips={
            "The mean is over the K − 1 other classes, not over all.": true - mean,
            "The sign: smoothing makes a large lead dearer.": -want,
        },
    )


@exercise.law("parts", points=1)
def smoothing_penalizes_certainty(ask, rng):
    """(1 − ε') parts₀ + ε' (parts₁ + log K) is the loss in torch's convention, at every ε'."""
    z, y, eps = setting(rng)
    K = z.shape[1]
    plain = losses(z, y, 0.0)
    to_uniform = [cross_entropy(np.full(K, 1 / K), v) - np.log(K) for v in z]
    log_p = np.array([[-cross_entropy(np.eye(K)[k], v) for k in range(K)] for v in z])
    got = ask.same(
        "parts",
        z,
        y,
        want=np.stack([plain, to_uniform], axis=1),
        slips={
            "KL(ν ‖ p), not KL(p ‖ ν): the uniform distribution is the reference.": np.stack(
                [plain, (np.exp(log_p) * (log_p + np.log(K))).sum(axis=1)], axis=1
            ),
            "log K belongs to the cross-entropy, not to the KL divergence.": np.stack(
                [plain, np.array(to_uniform) + np.log(K)], axis=1
            ),
        },
    )
    whole = (1 - eps) * got[:, 0] + eps * (got[:, 1] + np.log(K))
    ask.require(ask.close(whole, losses(z, y, eps, target_uniform)), "The parts do not add up.")


def descend(X, y, K, alpha, T, targets):
    """W [d, K] after T steps of gradient descent from 0 on the mean loss; complex-step slopes."""
    W = np.zeros((X.shape[1], K))
    for _ in range(T):
        slope = np.empty_like(W)
        for j, k in np.ndindex(*W.shape):
            step = W.astype(complex)
            step[j, k] += 1e-30j
            total = sum(cross_entropy(q, x @ step) for q, x in zip(targets, X, strict=True))
            slope[j, k] = total.imag / 1e-30 / len(y)
        W = W - alpha * slope
    return W


@exercise.law("train", points=2)
def training_is_gradient_descent_on_the_mean_loss(ask, rng):
    """train gives the weights of softmax regression after T steps from zero, with smoothed targets.

    z = X W, full batch, the textbook's ε, no bias.
    """
    n, d, K, T = (int(rng.integers(*r)) for r in ((3, 6), (2, 4), (3, 5), (2, 6)))
    X, y = rng.normal(size=(n, d)), rng.integers(0, K, n)
    eps, alpha = rng.uniform(0.1, 0.5), rng.uniform(0.2, 1)
    smoothed = [target(c, K, eps) for c in y]
    hard = [target(c, K, 0.0) for c in y]
    want = descend(X, y, K, alpha, T, smoothed)
    ask.same(
        "train",
        X,
        y,
        K,
        eps,
        alpha,
        T,
        want=want,
        slips={
            "That is training without smoothing.": descend(X, y, K, alpha, T, hard),
            "The loss is the mean over the examples, not their sum.": descend(
                X, y, K, alpha * n, T, smoothed
            ),
            "The sign: that is gradient ascent.": descend(X, y, K, -alpha, T, smoothed),
            "That is one step too few.": descend(X, y, K, alpha, T - 1, smoothed),
            "That is one step too many.": descend(X, y, K, alpha, T + 1, smoothed),
            "Those are the targets of torch's convention.": descend(
                X, y, K, alpha, T, [target_uniform(c, K, eps) for c in y]
            ),
        },
    )


@exercise.law("wrong_but_cheaper", points=2)
def a_wrong_prediction_can_have_the_smaller_loss(ask, rng):
    """Of the two exhibited logits the first are right, the second wrong and cheaper by at least 1.

    The true class is the first one. Right and wrong: its logit leads, or trails, by at least 1/10.
    """
    K, eps = int(rng.integers(3, 8)), rng.uniform(0.05, 0.4)
    right, wrong = ask("wrong_but_cheaper", K, eps, shape=(2, K))
    lead, trail = right[0] - right[1:].max(), wrong[1:].max() - wrong[0]
    enough = lambda x, least: x >= least or ask.close(x, least)
    ask.require(enough(lead, 0.1), f"In the first logits the true class leads by {lead:.3g} only.")
    ask.require(enough(trail, 0.1), f"In the second the true class trails by {trail:.3g} only.")
    q = target(0, K, eps)
    one, other = float(cross_entropy(q, right)), float(cross_entropy(q, wrong))
    ask.require(
        enough(one - other, 1),
        f"For K={K}, ε={eps:.3g} the losses are {one:.4g} (right) and {other:.4g} (wrong).",
        "Smoothing makes certainty dear, of a right prediction too: let its lead be very large.",
    )


@exercise.law("indifferent", points=1)
def some_losses_do_not_depend_on_epsilon(ask, rng):
    """The exhibited logits give the true class, the first, at most 1 %, and one loss at every ε."""
    K = int(rng.integers(3, 9))
    z = ask("indifferent", K, shape=(K,))
    p = float(np.exp(-cross_entropy([1.0] + [0.0] * (K - 1), z)))
    ask.require(
        p <= 0.01 or ask.close(p, 0.01),
        f"With K={K} the true class has the probability {p:.3g}.",
        "With equal logits the loss is log K at every ε, but p is 1/K." if np.ptp(z) == 0 else None,
    )
    found = [float(cross_entropy(target(0, K, e), z)) for e in (0.0, 0.3, 0.9)]
    ask.require(
        ask.close(found, found[0], atol=1e-4),
        f"With K={K} the loss is {found[0]:.6g} at ε = 0 and {found[2]:.6g} at ε = 0.9.",
        "The slope in ε is z_y minus the mean of all other logits, not the largest of them.",
    )
