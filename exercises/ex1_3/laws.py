"""Laws of exercise 1-3. Truth is one number at a time: means and variances of explicit lists."""

import statistics
from itertools import product

import numpy as np

from exercises.laws import Exercise, apart

exercise = Exercise("1-3", "batch norm in a recurrent network")


def normalized(values, eps):
    """One list of numbers standardized by its own mean and (biased) variance."""
    mean, var = statistics.fmean(values), statistics.pvariance(values)
    return [(v - mean) / (var + eps) ** 0.5 for v in values]


def along(z, axes, eps):
    """z with every list of numbers along these axes standardized on its own."""
    rest = [a for a in range(z.ndim) if a not in axes]
    out = np.empty_like(z)
    for place in product(*(range(z.shape[a]) for a in rest)):
        index = [slice(None)] * z.ndim
        for a, i in zip(rest, place, strict=True):
            index[a] = i
        block = z[tuple(index)]
        out[tuple(index)] = np.reshape(normalized(list(block.flat), eps), block.shape)
    return out


def batch(rng, T=None):
    """z [n, T, d] whose mean and size change with the step, and ε."""
    n, T, d = rng.integers(3, 6), T or rng.integers(3, 7), rng.integers(2, 4)
    step = np.arange(1, T + 1)[:, None]
    z = rng.normal(size=(n, T, d)) * step * rng.uniform(0.5, 2) + step * rng.normal(size=d)
    return z, 10.0 ** rng.uniform(-5, -1)


def slips(z, eps):
    spread = z.std(axis=0, ddof=1) ** 2
    return {
        "These statistics are taken over time, within each sequence; batch norm takes them over "
        "the sequences of the batch.": along(z, (1,), eps),
        "These statistics are taken over the units: that is layer norm.": along(z, (2,), eps),
        "The variance (1.45) divides by n, not by n − 1.": (z - z.mean(axis=0))
        / np.sqrt(spread + eps),
        "ε stands under the root, with the variance.": (z - z.mean(axis=0)) / (z.std(axis=0) + eps),
    }


@exercise.law("per_step", points=2)
def per_step_takes_statistics_over_the_batch(ask, rng):
    """At every step and unit the values of the batch are standardized by (1.43)-(1.45)."""
    z, eps = batch(rng)
    known = slips(z, eps) | {
        "Here all steps share their statistics.": along(z, (0, 1), eps),
    }
    ask.same("per_step", z, eps, want=along(z, (0,), eps), slips=known)


@exercise.law("per_step", points=1)
def per_step_keeps_time_in_order(ask, rng):
    """A change at one step changes per_step at that step only: nothing is shuffled or mixed."""
    z, eps = batch(rng)
    t = rng.integers(z.shape[1])
    other = z.copy()
    other[:, t] += rng.normal(size=other[:, t].shape)
    before, after = (ask("per_step", x, eps, shape=z.shape) for x in (z, other))
    rest = np.arange(z.shape[1]) != t
    ask.require(
        ask.close(before[:, rest], after[:, rest]), f"A change at step {t + 1} is seen elsewhere."
    )
    ask.require(not ask.close(before[:, t], after[:, t]), f"A change at step {t + 1} is lost.")


@exercise.law("shared", points=1)
def shared_takes_statistics_over_batch_and_time(ask, rng):
    """Per unit all values of all steps are standardized together: each step sees all others."""
    z, eps = batch(rng)
    known = slips(z, eps) | {"Here every step has its own statistics.": along(z, (0,), eps)}
    ask.same("shared", z, eps, want=along(z, (0, 1), eps), slips=known)


@exercise.law("pooled", points=1)
def pooled_moments_are_those_of_all_values(ask, rng):
    """pooled gives the mean and variance of all steps' values taken together."""
    z, _ = batch(rng)
    values, means, variances = z[..., 0], z[..., 0].mean(axis=0), z[..., 0].var(axis=0)
    mean = values.mean()
    ask.same(
        "pooled",
        means,
        variances,
        want=[mean, values.var()],
        slips={
            "The means of the steps differ, and their spread counts too.": [mean, variances.mean()],
            "Variances add up to the mean variance here, not to their sum.": [
                mean,
                variances.sum() + means.var(),
            ],
            "The spread of the means is divided by T, not by T − 1.": [
                mean,
                variances.mean() + means.var(ddof=1),
            ],
        },
    )


def recursion(u, s, T):
    v, path = 0.0, []
    for _ in range(T):
        v = u**2 * v + s
        path.append(v)
    return np.array(path)


AT_ONE = "At |u| = 1 the sum of the geometric series is 0/0: add up its terms, they are all s."


def unit(rng):
    u = rng.choice([rng.uniform(0.2, 0.95), -rng.uniform(0.2, 0.95), rng.uniform(1.05, 1.5)])
    return float(u), rng.uniform(0.3, 3), int(rng.integers(3, 9))


@exercise.law("state_variance", points=2)
def the_variance_of_the_state_grows(ask, rng):
    """var(h_t) = u² var(h_{t−1}) + s from var(h_0) = 0, for |u| below, at and above one."""
    _, s, T = unit(rng)
    for u in (rng.uniform(0.2, 0.95), 1.0, -1.0, -rng.uniform(1.05, 1.5)):
        want = recursion(u, s, T)
        known = {
            "The index starts at t = 1: var(h_1) = s.": np.append(0, want[:-1]),
            "s is a variance already; a factor u multiplies a variance by u².": np.cumsum(
                s * u ** np.arange(T)
            ),
        }
        if abs(u) < 1:
            known["This is the limit for large t; the state starts at zero."] = s / (1 - u**2)
        ask.same("state_variance", u, s, T, want=want, slips=known, lost=AT_ONE)


@exercise.law("after_sharing", points=1)
def sharing_normalizes_no_step(ask, rng):
    """After sharing the steps' variances average one, in the proportions they had before."""
    u, s, T = unit(rng)
    u = rng.choice([u, 1.0, -1.0])
    v = recursion(u, s, T)
    ask.same(
        "after_sharing",
        u,
        s,
        T,
        want=v / v.mean(),
        lost=AT_ONE,
        slips={
            "Only statistics for each step would make every variance one.": 1.0,
            "You divide by the variance of the last step; the shared one is the mean.": v / v[-1],
            "A variance is divided by the square of the standard deviation.": v / np.sqrt(v.mean()),
            "These are standard deviations.": np.sqrt(v / v.mean()),
        },
    )


@exercise.law("masked", points=2)
def padding_does_not_count(ask, rng):
    """At each step only the sequences that still run count; a single one gives 0."""
    z, eps = batch(rng, T=7)
    n, T, d = z.shape
    lengths = rng.permutation([T, T - 1, *rng.integers(1, T, n - 2)])
    want = np.zeros_like(z)
    for t, j in product(range(T), range(d)):
        runs = np.flatnonzero(lengths > t)
        want[runs, t, j] = normalized(list(z[runs, t, j]), eps)
    ended = np.arange(T)[None, :, None] >= lengths[:, None, None]
    padded = np.where(ended, 0, z)
    known = {
        "The padding counts in your statistics.": np.where(ended, 0, along(z, (0,), eps)),
        "Zeros in place of the padding still count as examples.": np.where(
            ended, 0, along(padded, (0,), eps)
        ),
        "A sequence of length L runs at the first L steps.": 0.0,
    }
    ask.same("masked", z, lengths, eps, want=want, slips=known)
    z[np.broadcast_to(ended, z.shape)] = 1e6
    ask.same("masked", z, lengths, eps, want=want, slips=known)


@exercise.law("expected_variance", points=1)
def a_small_batch_underestimates_the_variance(ask, rng):
    """The batch variance averaged over all equally likely batches of n examples."""
    n, values = int(rng.integers(1, 6)), rng.normal(size=3)
    batches = np.array(list(product(values, repeat=n)))  # independent draws of one of three
    var = values.var()
    ask.same(
        "expected_variance",
        var,
        n,
        want=batches.var(axis=1).mean(),
        slips={
            "The mean of the batch lies nearer to its values than the true mean: the batch "
            "variance is too small on average.": var,
            "This is the variance of the batch's mean.": var / n,
        },
    )


@exercise.law("without_statistics", points=1)
def longer_sequences_meet_no_statistics(ask, rng):
    """Steps beyond the longest training sequence have no statistics; count them."""
    train, test = rng.integers(2, 9, 5), rng.integers(2, 20, 4)
    test[0] = train.max() + rng.integers(1, 6)
    longest = max(train)
    steps = [t for length in test for t in range(1, length + 1)]
    ask.same(
        "without_statistics",
        train,
        test,
        want=sum(t > longest for t in steps) / len(steps),
        slips={
            "This is the share of sequences; count steps.": np.mean(test > longest),
            "Some training sequence reaches up to the longest length, not the mean.": sum(
                t > train.mean() for t in steps
            )
            / len(steps),
            "Up to its longest sequence training has statistics.": sum(t >= longest for t in steps)
            / len(steps),
        },
    )


@exercise.law("layer", points=2)
def layer_norm_needs_no_other_sequence_or_step(ask, rng):
    """Each sequence and step is standardized over its own units, whatever the others are."""
    z, eps = batch(rng)
    known = slips(z, eps)
    del known["These statistics are taken over the units: that is layer norm."]
    known["Mean and variance over the units of all steps: take each step by itself."] = along(
        z, (1, 2), eps
    )
    ask.same("layer", z, eps, want=along(z, (2,), eps), slips=known)
    ask.same("layer", z[:1, -1:], eps, want=along(z[:1, -1:], (2,), eps))


@exercise.law("sees_the_future", points=2)
def shared_statistics_see_the_future(ask, rng):
    """The two exhibited batches agree before step T, yet shared outputs differ by 1/2 at step 1.

    One unit, values between −1 and 1, ε = 1e-5.
    """
    n, T = int(rng.integers(2, 6)), int(rng.integers(2, 7))
    pair = ask("sees_the_future", n, T, shape=(2, n, T))
    size = np.abs(pair).max()
    ask.require(
        size <= 1 or ask.close(size, 1),
        f"A value of size {apart(size, 1)[0]} was used; at most 1 is allowed.",
    )
    now = np.abs(pair[0] - pair[1])[:, :-1].max()
    ask.require(now == 0, f"The batches differ by {now:.3g} at a step before the last.")
    outputs = [along(z[..., None], (0, 1), 1e-5)[:, 0, 0] for z in pair]
    gap = np.abs(outputs[0] - outputs[1]).max()
    slip = "What comes at step T must change the mean or the spread of all values a lot."
    ask.require(
        gap >= 0.5 or ask.close(gap, 0.5),
        f"For n={n}, T={T} the outputs at step 1 differ by {apart(gap, 0.5)[0]}.",
        "The two batches are equal." if np.array_equal(*pair) else slip,
    )


@exercise.law("indistinguishable", points=2)
def per_step_statistics_forget_the_scale(ask, rng):
    """The two exhibited batches differ by at least 1 everywhere, but their per_step is the same.

    One unit, ε = 0; at each step the values of a batch spread by at least 1/10.
    """
    n, T = int(rng.integers(3, 6)), int(rng.integers(2, 7))
    pair = ask("indistinguishable", n, T, shape=(2, n, T))
    spread = pair.std(axis=1).min()
    ask.require(
        spread >= 0.1 or ask.close(spread, 0.1),
        f"At some step the standard deviation over the batch is {spread:.3g}; 1/10 is needed.",
        "Equal values have no spread, and (1.43) divides by it." if spread < 1e-9 else None,
    )
    apart_by = np.abs(pair[0] - pair[1]).min()
    ask.require(
        apart_by >= 1 or ask.close(apart_by, 1),
        f"Some value differs by {apart(apart_by, 1)[0]} only between the batches.",
    )
    first, second = (along(z[..., None], (0,), 0.0)[..., 0] for z in pair)
    off = np.abs(first - second).max()
    slip = "At each step move and stretch the values of all sequences alike, each step as it likes."
    if np.abs(first + second).max() < 1e-3:
        slip = "A negative factor turns the signs of the outputs."
    fine = 1e-4 + 2 * ask.epsilon * np.abs(pair).max() / spread  # values are rounded
    ask.require(off < fine, f"For n={n}, T={T} the outputs differ by {off:.3g}.", slip)
