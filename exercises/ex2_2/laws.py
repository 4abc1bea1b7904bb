"""Laws of exercise 2-2.

Truth: complex-step derivatives, sums over all pairs, all choices of signs.
"""

from itertools import product

import numpy as np

from exercises.laws import Exercise, apart, show

exercise = Exercise("2-2", "norms, two gradients and widths")


def within(ask, x, most) -> bool:
    """Whether x ≤ most, as far as the precision of the answers allows."""
    return bool(x <= most or ask.close(x, most))


# -------------------------------------------------------------------------- norms today


def through(x, c):
    """c · x / (root mean square of x), entry by entry; x may be complex."""
    mean = sum(v * v for v in x) / len(x)
    return sum(a * v for a, v in zip(c, x)) / np.sqrt(mean)


@exercise.law("rms_backward", points=2)
def the_gradient_through_rms_norm(ask, rng):
    """rms_backward is the derivative of c · y with respect to x, where y = x / rms(x)."""
    n = int(rng.integers(3, 7))
    x, c = rng.normal(size=n) * rng.uniform(0.5, 3), rng.normal(size=n)
    want = np.empty(n)
    for i in range(n):
        step = x.astype(complex)
        step[i] += 1e-30j
        want[i] = through(step, c).imag / 1e-30
    rms = np.sqrt(np.mean(x**2))
    y = x / rms
    known = {
        "rms(x) depends on x as well: its derivative is missing.": c / rms,
        "The factor 1/rms is missing.": want * rms,
        "1/rms once, not twice.": want / rms,
        "The sign of the second term: the projection on y is taken away.": 2 * c / rms - want,
        "y · y is n, not 1: the projection on y divides by n.": (c - y * (y @ c)) / rms,
        "That is layer norm: here no mean is taken away.": ((c - c.mean() - y * (y @ c) / n) / rms),
    }
    ask.same("rms_backward", x, c, want=want, slips=known)


@exercise.law("norms_apart", points=1)
def rms_norm_can_be_far_from_layer_norm(ask, rng):
    """The RMS norm and the layer norm of the exhibited numbers are more than 80° apart.

    The largest of them is at most 1 in size, and their standard deviation at least 0.01.
    """
    n = int(rng.integers(3, 40))
    x = ask("norms_apart", n, shape=(n,))
    size, spread = np.abs(x).max(), x.std()
    ask.require(within(ask, size, 1), f"A number of size {apart(size, 1)[0]} was used.")
    ask.require(
        within(ask, 0.01, spread),
        f"The standard deviation is {spread:.3g}.",
        "All numbers are (almost) equal: layer norm would divide by zero." if spread < 1e-6 else "",
    )
    centred = x - x.mean()
    cosine = float(x @ centred / np.linalg.norm(x) / np.linalg.norm(centred))
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    slip = None
    if angle < 1:
        slip = "Where the mean is zero the two norms are the same."
    elif angle < 80:
        slip = "They differ by the mean only: let it be large beside the standard deviation."
    ask.require(angle > 80, f"With n={n} they are {angle:.4g}° apart.", slip)


# -------------------------------------------------------------------------- without norms


@exercise.law("dyt_backward", points=1)
def the_gradient_through_dynamic_tanh(ask, rng):
    """dyt_backward is the derivative of c · tanh(αx) with respect to x."""
    n = int(rng.integers(3, 7))
    x, c, alpha = rng.normal(size=n), rng.normal(size=n), rng.uniform(0.3, 2)
    want = np.array([(a * np.tanh(alpha * (v + 1e-30j))).imag / 1e-30 for a, v in zip(c, x)])
    t = np.tanh(alpha * x)
    known = {
        "The inner derivative α is missing.": want / alpha,
        "The gradient from above, c, is missing.": alpha * (1 - t**2),
        "That is right for small x only: a tanh lets less through where it is flat.": alpha * c,
        "The derivative of tanh is 1 − tanh², not 1 − tanh.": alpha * c * (1 - t),
        "tanh is taken of αx, not of x.": alpha * c * (1 - np.tanh(x) ** 2),
        "Nothing is projected away: each number is squashed by itself.": want
        - x * (x @ want) / (x @ x),
    }
    ask.same("dyt_backward", x, c, alpha, want=want, slips=known)


@exercise.law("growth", points=1)
def uncorrelated_branches_add_their_squares(ask, rng):
    """growth is the mean square behind the last block over that before the first."""
    s = rng.uniform(0.1, 1.5, int(rng.integers(3, 9)))
    square = 1.0
    for factor in s:
        branch = factor**2 * square  # of the branch, which has the mean square of what goes in
        square = square + branch
    known = {
        "That holds for factors of 1: the factors count.": 2.0 ** len(s),
        "The branch is multiplied by s, so its mean square by s².": np.prod(1 + s),
        "Block after block multiplies: what goes into a block has grown already.": 1 + sum(s**2),
        "Signal and branch are uncorrelated: squares add up, not sizes.": np.prod((1 + s) ** 2),
        "The signal itself passes by the branch and is added.": np.prod(s**2),
        "That is the root of it.": np.sqrt(square),
    }
    ask.same("growth", s, want=square, slips=known)


# -------------------------------------------------------------------------- tuning today


def slope(H, theta):
    """The gradient of ½ θᵀHθ, by complex steps on a sum over all pairs."""
    d, out = len(theta), np.empty(len(theta))
    for i in range(d):
        step = theta.astype(complex)
        step[i] += 1e-30j
        loss = sum(H[j, k] * step[j] * step[k] for j in range(d) for k in range(d)) / 2
        out[i] = loss.imag / 1e-30
    return out


@exercise.law("sam_gradient", points=1)
def sam_takes_the_gradient_uphill(ask, rng):
    """sam_gradient is the gradient of ½ θᵀHθ at the point that lies ρ uphill of θ."""
    d, rho = int(rng.integers(2, 5)), rng.uniform(0.2, 1)
    half = rng.normal(size=(d, d))
    H, theta = half + half.T, rng.normal(size=d)
    g = slope(H, theta)
    length = np.linalg.norm(g)
    known = {
        "The step uphill has length ρ: divide the gradient by its length.": slope(
            H, theta + rho * g
        ),
        "Uphill, not downhill.": slope(H, theta - rho * g / length),
        "That is the gradient at θ.": g,
        "That is the step uphill; asked is the gradient there.": rho * g / length,
        "Divide by the length of the gradient, not by its square.": slope(
            H, theta + rho * g / length**2
        ),
        "SAM steps along the gradient, not along its signs.": slope(H, theta + rho * np.sign(g)),
    }
    want = slope(H, theta + rho * g / length)
    ask.same("sam_gradient", H, theta, rho, want=want, slips=known)


@exercise.law("turned_back", points=2)
def sam_can_step_uphill(ask, rng):
    """At the exhibited point SAM's gradient points against the gradient: cosine at most −0.9.

    H is symmetric with eigenvalues between −1 and 1; both gradients are at least ρ/100 long.
    """
    rho = rng.uniform(0.05, 0.5)
    found = ask("turned_back", rho, shape=(3, 2))
    H, theta = found[:2], found[2]
    ask.require(ask.close(H, H.T), f"H = {show(H)} is not symmetric.")
    values = np.linalg.eigvalsh((H + H.T) / 2)
    ask.require(within(ask, np.abs(values).max(), 1), f"The eigenvalues of H are {show(values)}.")
    g = slope(H, theta)
    length = np.linalg.norm(g)
    told = f"With ρ={rho:.3g} the gradient is {show(g)}"
    ask.require(
        within(ask, rho / 100, length),
        f"{told}: shorter than ρ/100.",
        "Where the gradient is (almost) zero, uphill is no direction." if length < 1e-9 else None,
    )
    sam = slope(H, theta + rho * g / length)
    ask.require(
        within(ask, rho / 100, np.linalg.norm(sam)),
        f"{told}, SAM's {show(sam)}: shorter than ρ/100.",
        "The step uphill ends on the top. Let it go beyond.",
    )
    cosine = float(g @ sam / length / np.linalg.norm(sam))
    slip = None
    if values.min() >= 0:
        slip = (
            "Where the curvature is nowhere negative the gradient grows on the way uphill. It "
            "turns round only where the way leads over a top."
        )
    elif cosine > 0.9:
        slip = "The step of length ρ does not reach the top: start nearer to it."
    ask.require(
        within(ask, cosine, -0.9), f"{told}, SAM's {show(sam)}: their cosine is {cosine:.3g}.", slip
    )


def most(x):
    """The largest sum of x under all choices of signs, three numbers at a time."""
    signs = np.array(list(product([-1, 1], repeat=3)))
    return sum((signs[:, : len(part)] @ part).max() for part in np.split(x, range(3, len(x), 3)))


@exercise.law("same_change", points=1)
def wide_units_change_as_much(ask, rng):
    """A step in which each weight moves by at most same_change changes the wide unit as much."""
    n, times = int(rng.integers(3, 6)), int(rng.integers(2, 6))
    x, wide, alpha = rng.normal(size=n), rng.normal(size=n * times), rng.uniform(0.001, 0.1)
    want = alpha * most(x) / most(wide)
    known = {
        "The other way round: a unit of more inputs changes more, so its weights move less.": (
            alpha * most(wide) / most(x)
        ),
        "That is right on average; here the inputs are given.": alpha / times,
        "Each weight moves by the rate whatever its gradient is: sizes add up, not squares.": (
            alpha * np.linalg.norm(x) / np.linalg.norm(wide)
        ),
        "For the largest change each weight moves in the direction of its input's sign.": (
            alpha * x.sum() / wide.sum()
        ),
        "That is the change of the net input; asked is the rate.": alpha * most(x),
        "That is the rate as it was.": alpha,
    }
    ask.same("same_change", alpha, x, wide, want=want, slips=known)


@exercise.law("winners_luck", points=1)
def the_best_of_many_was_lucky(ask, rng):
    """winners_luck is the mean, over all signs of the errors, of true loss minus measured loss."""
    K, sigma = int(rng.integers(2, 11)), rng.uniform(0.1, 2)
    errors = sigma * np.array(list(product([-1.0, 1.0], repeat=K)))
    want = -errors.min(axis=1).mean()
    known = {
        "The lowest of the measured losses lies below the true one: a positive number.": -want,
        "For one configuration it would be zero: one measurement is right on average.": (
            sigma * (1 - 2.0**-K)
        ),
        "Not always: all measurements may have come out too high.": sigma,
        "Errors of σ, not of 1.": want / sigma,
        "The least error is not divided by √K; that is for a mean.": sigma / np.sqrt(K),
    }
    ask.same("winners_luck", K, sigma, want=want, slips=known)
    ask.same("winners_luck", 1, sigma, want=0.0)
