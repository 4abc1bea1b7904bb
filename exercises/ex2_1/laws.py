"""Laws of exercise 2-1.

Truth: all sequences of signs, examples one by one, complex-step derivatives, recursions run long
enough to settle.
"""

from itertools import product

import numpy as np

from exercises.laws import Exercise, apart, show

exercise = Exercise("2-1", "facts behind the disputes")

ZERO = "0 · ln 0 is NaN in a program; its limit is 0, so leave out the pairs that never occur."
MUON = (3.4445, -4.7750, 2.0315)  # of Muon's iteration (Jordan et al. 2024)


def within(ask, x, most) -> bool:
    """Whether x ≤ most, as far as the precision of the answers allows."""
    return bool(x <= most or ask.close(x, most))


# -------------------------------------------------------------------------- warmup


def lengths(t, beta1):
    """Root mean square of m̂_1, ..., m̂_t over all 2^t sequences of signs, each run by itself."""
    m, out = np.zeros(2**t), []
    for k, g in enumerate(np.array(list(product([-1.0, 1.0], repeat=t))).T, 1):
        m = beta1 * m + (1 - beta1) * g
        out.append(np.sqrt((m**2 / (1 - beta1**k) ** 2).mean()))
    return np.array(out)


def late_length(t, beta1):
    """The same for a long run: variances of independent terms add up, step by step."""
    variance = 0.0
    for _ in range(t):
        variance = beta1**2 * variance + (1 - beta1) ** 2
    return np.sqrt(variance) / (1 - beta1**t)


@exercise.law("first_steps", points=1)
def noise_makes_later_steps_shorter(ask, rng):
    """first_steps is the root mean square of m̂_t over all sequences of signs, also for large t."""
    t, beta1 = int(rng.integers(2, 9)), rng.uniform(0.5, 0.97)
    want = lengths(t, beta1)[-1]
    known = {
        "That is the mean square: take the root.": want**2,
        "That is m_t: the bias correction divides it by 1 − β₁^t.": want * (1 - beta1**t),
        "That is the limit for many steps; here t counts.": late_length(3000, beta1),
        "That is the first step. From the second on signs cancel.": 1.0,
        "Weights of independent terms are squared before they are added.": np.sqrt(
            (1 - beta1) / (1 - beta1**t)
        ),
        "There are t gradients, not t − 1.": lengths(t, beta1)[-2],
        "There are t gradients, not t + 1.": late_length(t + 1, beta1),
    }
    ask.same("first_steps", t, beta1, want=want, slips=known)
    t = int(rng.integers(50, 400))
    ask.same("first_steps", t, beta1, want=late_length(t, beta1))
    ask.same("first_steps", 1, beta1, want=1.0)


@exercise.law("level_share", points=1)
def the_share_makes_all_steps_equally_long(ask, rng):
    """level_share times the length of step t is the same number at every t; it tends to 1."""
    t, beta1 = int(rng.integers(1, 9)), rng.uniform(0.5, 0.97)
    length, last = lengths(t, beta1)[-1], late_length(3000, beta1)
    known = {
        "The other way round: the first steps are too long, so their share is small.": length
        / last,
        "That makes every step as long as the first. The share must tend to 1.": 1 / length,
        "That is the length itself, not what makes up for it.": length,
        "That is the share's square: take the root.": (last / length) ** 2,
    }
    ask.same("level_share", t, beta1, want=last / length, slips=known)


def adam_step(g, b1=0.9, b2=0.999):
    """The last step of Adam in units of the rate, ε = 0; g [T, ...]."""
    m = v = 0.0
    for g_t in g:
        m, v = b1 * m + (1 - b1) * g_t, b2 * v + (1 - b2) * g_t**2
    return -m / (1 - b1 ** len(g)) / np.sqrt(v / (1 - b2 ** len(g)))


@exercise.law("over_the_rate", points=2)
def a_step_of_adam_can_exceed_the_rate(ask, rng):
    """After the exhibited gradients of size at most 1, step T of Adam is longer than 2 rates."""
    T = int(rng.integers(150, 301))
    g = ask("over_the_rate", T, shape=(T,))
    size = np.abs(g).max()
    ask.require(within(ask, size, 1), f"A gradient of size {apart(size, 1)[0]} was used.")
    ask.require(size > 1e-4, "Every gradient is (almost) zero: 0/0 is no step.")
    step = abs(float(adam_step(g)))
    slip = None
    if step < 1.05:
        slip = (
            "m̂ and √v̂ are of one size here. v̂ remembers a thousand steps and m̂ ten: let them "
            "remember different things."
        )
    elif np.abs(g[:-1]).max() < 0.1 * size:
        slip = "A single gradient moves m by its share 1 − β₁ only: let several follow each other."
    ask.require(step > 2, f"With T={T} step T is {step:.4g} rates long.", slip)


# -------------------------------------------------------------------------- batch size


@exercise.law("whole_gradient", points=1)
def every_example_counts_alike(ask, rng):
    """whole_gradient is the mean over all examples, whatever pieces they came in."""
    K, d = int(rng.integers(2, 6)), int(rng.integers(2, 5))
    sizes = np.append(rng.integers(1, 9, K - 1), 9)
    pieces = [rng.normal(size=d) + rng.normal(size=(n, d)) for n in sizes]
    means = np.array([p.mean(axis=0) for p in pieces])
    one = means.mean(axis=0)
    known = {
        "That is the mean of the pieces' means: an example of a small piece counts more.": one,
        "That is the sum over all examples: the loss is a mean.": sum(
            p.sum(axis=0) for p in pieces
        ),
        "That adds the pieces' means up.": means.sum(axis=0),
        "Each piece's mean stands for as many examples as the piece has.": means.sum(axis=0)
        / sizes.sum(),
        "Divide by the number of examples, not by the number of pieces.": sizes @ means / K,
    }
    want = np.concatenate(pieces).mean(axis=0)
    ask.same("whole_gradient", means, sizes, want=want, slips=known)


@exercise.law("kept_beta", points=1)
def half_is_forgotten_after_the_same_examples(ask, rng):
    """With kept_beta a gradient's weight falls in the same way from example to example."""
    beta, K0 = rng.uniform(0.5, 0.95), 2 ** int(rng.integers(5, 9))
    times, smaller = int(rng.integers(2, 5)), int(rng.integers(1, 5))
    larger = np.prod([beta] * times)  # one step forgets as much as so many before
    root = beta
    for _ in range(smaller):  # two steps of half the batch forget as much as one before
        root = np.sqrt(root)
    part = 2.0**-smaller
    known = {
        "The exponent is upside down: larger batches need a smaller β.": beta ** (1 / part),
        "β stays a memory of so many steps; asked is one of so many examples.": beta,
        "1 − β in proportion to K is the rule for β near 1; the exact one is a power.": 1
        - (1 - beta) * part,
    }
    ask.same("kept_beta", beta, K0, K0 >> smaller, want=root, slips=known)
    ask.same("kept_beta", beta, K0, K0 * times, want=larger)


@exercise.law("opposed", points=2)
def the_mean_of_means_can_point_backwards(ask, rng):
    """With the exhibited pieces the mean of means and the whole gradient are opposed.

    The cosine of their angle is at most −0.9; entries have at most size 1, both lengths at
    least 0.01.
    """
    K, small = int(rng.integers(2, 6)), int(rng.integers(1, 5))
    sizes = rng.permutation(
        np.append(rng.integers(small, 3 * small + 1, K - 2), [small, 3 * small])
    )
    g = ask("opposed", sizes, shape=(K, 2))
    size = np.abs(g).max()
    ask.require(within(ask, size, 1), f"An entry of size {apart(size, 1)[0]} was used.")
    examples = np.repeat(g, sizes, axis=0)
    one, whole = g.mean(axis=0), examples.mean(axis=0)
    shortest = min(np.linalg.norm(one), np.linalg.norm(whole))
    told = f"For sizes {show(sizes)} the mean of means is {show(one)}, the whole {show(whole)}"
    ask.require(
        within(ask, 0.01, shortest),
        f"{told}: one of them is shorter than 0.01.",
        "A vector of (almost) no length points nowhere." if shortest < 1e-6 else None,
    )
    cosine = float(one @ whole / np.linalg.norm(one) / np.linalg.norm(whole))
    slip = None
    if np.ptp(g, axis=0).max() < 1e-9 * size:
        slip = "Where all pieces agree, both gradients are the same."
    elif cosine > 0:
        slip = (
            "The mean of means gives an example of a small piece more weight: let the small pieces "
            "win there, and the large ones in the whole."
        )
    ask.require(within(ask, cosine, -0.9), f"{told}: their cosine is {cosine:.3g}.", slip)


# -------------------------------------------------------------------------- bigrams


def bigram_loss(q, W, b):
    """−Σ q_ky log p(y | k), pair by pair; W and b may be complex."""
    total = 0.0
    for k, y in np.ndindex(*q.shape):
        total += q[k, y] * (np.log(sum(np.exp(w + c) for w, c in zip(W[k], b))) - W[k, y] - b[y])
    return total


def shares(rng, c):
    """Shares of all pairs [c, c]; some pairs, and the previous word 0, never occur."""
    q = rng.uniform(0.05, 1, (c, c)) * (rng.random((c, c)) < 0.7)
    q[0] = 0
    q[1, :2] = 0.5, 0.2
    return q / q.sum()


@exercise.law("bigram_gradient", points=2)
def the_gradient_of_the_bigram_model(ask, rng):
    """Row k of bigram_gradient holds ∂L/∂w_ky, its last row ∂L/∂b_y."""
    c = int(rng.integers(3, 5))
    q, W, b = shares(rng, c), rng.normal(size=(c, c)), rng.normal(size=c)
    both = np.vstack([W, b])
    want = np.empty_like(both)
    for at in np.ndindex(*both.shape):
        step = both.astype(complex)
        step[at] += 1e-30j
        want[at] = bigram_loss(q, step[:-1], step[-1]).imag / 1e-30
    p = np.exp(W + b) / np.exp(W + b).sum(axis=1, keepdims=True)
    rows, given = q.sum(axis=1, keepdims=True), want[:-1]
    blind = p - q / np.where(rows > 0, rows, 1)
    unweighted = p - q
    without = np.exp(W) / np.exp(W).sum(axis=1, keepdims=True) * rows - q
    known = {
        "The sign.": -want,
        "A row of W is asked for as often as its previous word occurs: p(y | k) has the share of "
        "k as a factor.": np.vstack([unweighted, unweighted.sum(axis=0)]),
        "A row of W is asked for as often as its previous word occurs: the whole row has the "
        "share of k as a factor.": np.vstack([blind, blind.sum(axis=0)]),
        "b is added for every previous word: the sum over k, not the mean.": np.vstack(
            [given, given.mean(axis=0)]
        ),
        "b belongs into the softmax as well.": np.vstack([without, without.sum(axis=0)]),
        "The sum over the previous words, not over the next ones, is the gradient of b.": np.vstack(
            [given, given.sum(axis=1)]
        ),
    }
    ask.same("bigram_gradient", q, W, b, want=want, slips=known)


def entropy(p):
    return -sum(float(x) * np.log(float(x)) for x in np.ravel(p) if x > 0)


@exercise.law("least_loss", points=2)
def no_bigram_model_is_better(ask, rng):
    """least_loss is the greatest number that no W and b bring the loss below, in nats."""
    q = shares(rng, int(rng.integers(3, 6)))
    pair, previous, following = (entropy(x) for x in (q, q.sum(axis=1), q.sum(axis=0)))
    known = {
        "That is the entropy of a pair; the previous word is given.": pair,
        "That is the least loss of a model with b only, which does not see the previous word.": (
            following
        ),
        "That is the entropy of the previous word given the next one.": pair - following,
        "In nats: the natural logarithm.": (pair - previous) / np.log(2),
        "The sign: an entropy is not negative.": previous - pair,
        "Cross-entropy cannot be zero where one word has several successors.": 0.0,
    }
    want = pair - previous
    ask.same("least_loss", q, want=want, slips=known, lost=ZERO)


@exercise.law("far_from_steepest", points=1)
def the_first_step_leaves_the_steepest_descent(ask, rng):
    """Adam's first step after the exhibited gradient is more than 80° away from −g.

    No entry of g is smaller than a thousandth of the largest.
    """
    d = int(rng.integers(50, 101))
    g = ask("far_from_steepest", d, shape=(d,))
    size = np.abs(g)
    ask.require(
        within(ask, size.max(), 1000 * size.min()) and size.min() > 0,
        f"The entries of g have sizes from {size.min():.3g} to {size.max():.3g}.",
    )
    g = g / size.max()
    step = adam_step(g[None])
    cosine = float(-(g * step).sum() / np.sqrt((g**2).sum() * (step**2).sum()))
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    slip = None
    if np.ptp(size) < 1e-3 * size.max():
        slip = "Where all entries have one size, Adam's first step is along −g."
    elif angle < 60:
        slip = (
            "Adam moves all coordinates alike: the gradient is farthest from that where nearly all "
            "of it is in one of them."
        )
    ask.require(angle > 80, f"With d={d} the angle is {angle:.4g}°.", slip)


# -------------------------------------------------------------------------- averaging


def settled(h, alpha, sigma, T):
    """Variances of the last iterate and of the mean of T, by the recursion of all covariances."""
    keep, variance = 1 - alpha * h, 0.0
    for _ in range(3000):
        variance = keep**2 * variance + (alpha * sigma) ** 2
    of_sum, with_last, last = variance, variance, variance  # of θ_1; then of sums of iterates
    for _ in range(T - 1):
        with_last = keep * with_last  # cov(sum so far, next iterate)
        last = keep**2 * last + (alpha * sigma) ** 2
        of_sum, with_last = of_sum + 2 * with_last + last, with_last + last
    return np.array([last, of_sum / T**2])


@exercise.law("variances", points=2)
def averages_of_iterates_are_quieter(ask, rng):
    """The two variances are those of the recursion, in its stationary state."""
    h, alpha = rng.uniform(0.5, 2), rng.uniform(0.1, 0.8)
    sigma, T = rng.uniform(0.5, 2), int(rng.integers(2, 40))
    want = settled(h, alpha, sigma, T)
    last, mean = want
    around = last * h * (2 - alpha * h) / alpha  # σ² again
    known = {
        "Iterates are no independent numbers: neighbours share most of their noise.": [
            last,
            last / T,
        ],
        "The noise is a part of the gradient, so the rate multiplies it.": want / alpha**2,
        "α σ²/(2h) holds for small rates; the recursion gives it exactly.": (
            want * (2 - alpha * h) / 2
        ),
        "Those are standard deviations.": np.sqrt(want),
        "First the last iterate, then the mean.": want[::-1],
        "The mean divides the sum by T, so that its variance has T².": [last, mean * T],
        "The variance of the noise is σ²; you put σ there.": want * sigma / around,
    }
    ask.same("variances", h, alpha, sigma, T, want=want, slips=known)


@exercise.law("worse_mean", points=1)
def a_mean_can_be_worse_than_the_last(ask, rng):
    """With the exhibited noise, of size at most 1, the last iterate is nearer to the minimum.

    SGD starts at the minimum, 0. The last is at most α/10 away, the mean of all at least α/2.
    """
    h, alpha, T = rng.uniform(0.2, 1), rng.uniform(0.1, 0.9), int(rng.integers(10, 60))
    noise = ask("worse_mean", h, alpha, T, shape=(T,))
    size = np.abs(noise).max()
    ask.require(within(ask, size, 1), f"Noise of size {apart(size, 1)[0]} was used.")
    theta, path = 0.0, []
    for xi in noise:
        theta = theta - alpha * (h * theta + xi)
        path.append(theta)
    last, mean = abs(path[-1]) / alpha, abs(np.mean(path)) / alpha
    told = f"With h={h:.3g}, α={alpha:.3g}, T={T} the last iterate is {last:.3g} α away"
    slip = "Noise pulls θ away from 0; the last noise has to bring it back in one step, so that θ "
    slip += "must not be more than α/(1 − αh) away before."
    ask.require(within(ask, last, 0.1), f"{told}.", slip if last >= 0.5 else None)
    none = "Without noise nothing moves." if size == 0 else None
    ask.require(within(ask, 0.5, mean), f"{told}, and the mean {mean:.3g} α.", none)


# -------------------------------------------------------------------------- beyond Adam


@exercise.law("lion", points=2)
def lion_steps_by_one_mean_and_keeps_another(ask, rng):
    """Fed its own m, lion makes the steps and keeps the means that sums over all gradients give."""
    d, T = 8, int(rng.integers(2, 5))
    b1, b2 = rng.uniform(0.5, 0.8), rng.uniform(0.9, 0.99)
    g = rng.normal(size=(T, d)) * [[3.0 if t % 2 else 1.0] for t in range(T)]
    m = np.zeros(d)
    for t in range(T):
        past = (1 - b2) * sum((b2 ** (t - 1 - k) * g[k] for k in range(t)), np.zeros(d))
        kept = (1 - b2) * sum(b2 ** (t - k) * g[k] for k in range(t + 1))
        seen = (1 - b1) * g[t] + b1 * past
        known = {
            "β₁ and β₂ are exchanged: β₁ mixes what the step sees, β₂ what is kept.": [
                -np.sign((1 - b2) * g[t] + b2 * past),
                (1 - b1) * g[t] + b1 * past,
            ],
            "The step takes the sign of its own mixture, with β₁, not of the mean that is kept.": [
                -np.sign(kept),
                kept,
            ],
            "What is kept is mixed with β₂, out of the old mean and the gradient.": [
                -np.sign(seen),
                seen,
            ],
            "What is kept is mixed out of the old mean, not out of what the step has seen.": [
                -np.sign(seen),
                b2 * seen + (1 - b2) * g[t],
            ],
            "The step's mixture is made of the old mean, not of the new one.": [
                -np.sign(b1 * kept + (1 - b1) * g[t]),
                kept,
            ],
            "The sign: the step goes against the mean.": [np.sign(seen), kept],
            "The sign of the mean is taken, so that every number moves by one rate.": [-seen, kept],
            "β is the weight of the old mean, 1 − β that of the gradient.": [
                -np.sign(b1 * g[t] + (1 - b1) * past),
                b2 * g[t] + (1 - b2) * past,
            ],
            "First the step, then the mean.": [kept, -np.sign(seen)],
        }
        want = np.array([-np.sign(seen), kept])
        m = ask.same("lion", g[t], m, b1, b2, want=want, slips=known)[1]


def with_singular_values(rng, shape, values):
    """A random matrix of this shape with these singular values."""
    rotation = lambda n: np.linalg.qr(rng.normal(size=(n, n)))[0][:, : len(values)]
    return rotation(shape[0]) * values @ rotation(shape[1]).T


@exercise.law("orthogonal_factor", points=1)
def all_singular_values_become_one(ask, rng):
    """orthogonal_factor is the nearest matrix to G all of whose singular values are one."""
    shape = rng.permutation([int(rng.integers(2, 5)), int(rng.integers(4, 6))])
    G = with_singular_values(rng, shape, 10 ** rng.uniform(-0.7, 0.7, shape.min()))
    tall = G if shape[0] >= shape[1] else G.T
    values, axes = np.linalg.eigh(tall.T @ tall)
    want = tall @ (axes / np.sqrt(values)) @ axes.T  # G (Gᵀ G)^(−1/2)
    columns = np.linalg.qr(tall)[0]
    columns = columns * np.sign((columns * tall).sum(axis=0))
    u, _, vt = np.linalg.svd(tall, full_matrices=False)
    muon, length = tall / np.linalg.norm(tall), np.linalg.norm(tall)
    for _ in range(5):
        square = muon.T @ muon
        muon = muon @ (MUON[0] * np.eye(len(square)) + MUON[1] * square + MUON[2] * square @ square)
    known = {
        "Dividing by the norm makes the squares of the singular values add up to one.": (
            tall / length
        ),
        "Dividing by the largest singular value makes that one, not each of them.": tall
        / np.sqrt(values.max()),
        "`np.linalg.svd` gives Vᵀ, not V: do not transpose it again.": u @ vt.T,
        "Columns made orthonormal one after the other favour the first: that is not the nearest.": (
            columns
        ),
        "That is the sign of each entry, as in sign descent.": np.sign(tall),
        "Muon's five steps leave singular values between 0.7 and 1.2; asked is the limit.": muon,
        "The sign: it is the nearest matrix to G, not to −G.": -want,
    }
    turn = (lambda x: x) if tall is G else np.transpose
    slips = {words: turn(value) for words, value in known.items()}
    ask.same("orthogonal_factor", G, want=turn(want), slips=slips)


@exercise.law("muon_misses", points=1)
def five_steps_do_not_reach_every_singular_value(ask, rng):
    """After five steps of Muon's iteration a singular value of the exhibited matrix is below 0.1.

    The smallest singular value of the matrix is at least a millionth of its largest.
    """
    n = int(rng.integers(2, 7))
    G = ask("muon_misses", n, shape=(n, n))
    s = np.linalg.svd(G, compute_uv=False)
    ask.require(
        s[0] > 0 and within(ask, s[0], 1e6 * s[-1]),
        f"The singular values run from {s[-1]:.3g} to {s[0]:.3g}.",
        "A singular value of zero stays zero under any iteration; that is no find.",
    )
    x = s / np.sqrt((s**2).sum())
    for _ in range(5):
        x = MUON[0] * x + MUON[1] * x**3 + MUON[2] * x**5
    slip = None
    if s[-1] > 1e-2 * s[0]:
        slip = "All of its singular values are of one size, and five steps are enough for those."
    ask.require(x.min() < 0.1, f"With n={n} the smallest ends at {x.min():.3g}.", slip)
