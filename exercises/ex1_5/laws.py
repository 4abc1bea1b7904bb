"""Laws of exercise 1-5. Truth is the exact average over all 2^T sequences of masks."""

from itertools import product

import numpy as np

from exercises.laws import Exercise, apart

exercise = Exercise("1-5", "dropout on recurrent connections")


def sequences(p, T):
    """All sequences of T masks [2^T, T] and their probabilities [2^T]."""
    m = np.array(list(product([0.0, 1.0], repeat=T)))
    return m, np.prod(np.where(m == 1, p, 1 - p), axis=1)


def moments(values, weights):
    mean = (weights * values).sum()
    return np.array([mean, (weights * (values - mean) ** 2).sum()])


def setting(rng):
    """(h_0, u, p, T)"""
    h0, u = rng.uniform(0.5, 2) * rng.choice([-1, 1]), rng.uniform(0.6, 1.3)
    return float(h0), u, rng.uniform(0.3, 0.9), int(rng.integers(2, 8))


@exercise.law("survival", points=1)
def memory_survives_if_every_mask_keeps_it(ask, rng):
    """survival is the probability of all mask sequences that leave h_T different from zero."""
    _, _, p, T = setting(rng)
    m, weights = sequences(p, T)
    ask.same(
        "survival",
        p,
        T,
        want=weights[m.all(axis=1)].sum(),
        slips={
            "Here p is the probability of keeping a unit (E22), not of dropping it.": (1 - p) ** T,
            "That is one mask for all steps; here each step draws its own.": p,
            "Independent masks: probabilities multiply.": p * T,
            "It must be kept at every step; once is not enough.": 1 - (1 - p) ** T,
        },
    )


@exercise.law("half_life", points=1)
def half_of_the_memories_are_left(ask, rng):
    """After half_life(p) steps the chance of survival is one half."""
    p = rng.uniform(0.2, 0.98)
    ask.same(
        "half_life",
        p,
        want=np.log(2) / -np.log(p),
        slips={
            "Here p is the probability of keeping a unit (E22).": np.log(2) / -np.log(1 - p),
            "That is the mean number of steps until it is dropped.": 1 / (1 - p),
            "A time is positive.": np.log(2) / np.log(p),
            "Give the number as it is, not rounded.": np.round(np.log(2) / -np.log(p)),
            "Give the number as it is, not the next whole one.": np.ceil(np.log(2) / -np.log(p)),
        },
    )


@exercise.law("per_step_moments", points=2)
def inverted_masks_keep_the_mean_and_blow_up_the_variance(ask, rng):
    """Mean and variance of h_T, averaged over all sequences of masks with new masks m/p."""
    h0, u, p, T = setting(rng)
    m, weights = sequences(p, T)
    want = moments(u**T * h0 * (m / p).prod(axis=1), weights)
    mean, var = want
    ask.same(
        "per_step_moments",
        h0,
        u,
        p,
        T,
        want=want,
        slips={
            "Those are masks without scaling; here m/p keeps the mean.": moments(
                u**T * h0 * m.prod(axis=1), weights
            ),
            "The variance is that of one step. The masks multiply: it grows with T.": [
                mean,
                mean**2 * (1 - p) / p,
            ],
            "The second moment is not the variance: subtract the squared mean.": [
                mean,
                var + mean**2,
            ],
            "Variances of factors do not add up.": [mean, T * mean**2 * (1 - p) / p],
            "Here p is the probability of keeping a unit (E22).": [
                mean,
                mean**2 * ((1 - p) ** -T - 1),
            ],
        },
    )


@exercise.law("largest_u", points=1)
def a_quiet_memory_must_fade(ask, rng):
    """At u = largest_u(p) one step leaves E[h²] as it is, so it neither grows nor falls."""
    p = rng.uniform(0.2, 0.95)
    u = float(ask("largest_u", p, shape=()))
    m, weights = sequences(p, 1)
    growth = (weights * (u * m[:, 0] / p) ** 2).sum()
    slips = {
        "Without dropout the bound is 1; the masks add p^(−1) at each step.": 1.0,
        "E[h²] is multiplied by u²/p, not by u/p.": p,
        "That is 1/√p: scaled masks make E[h²] larger, so u must be smaller.": p**-0.5,
        "Here p is the probability of keeping a unit (E22).": np.sqrt(1 - p),
        "The largest u is the positive one of the two.": -np.sqrt(p),
    }
    ask.require(
        u > 0 and ask.close(growth, 1),
        f"With p={p:.4g} and your u={u:.4g} one step multiplies E[h²] by {apart(growth, 1)[0]}.",
        ask.slip(u, slips),
    )


@exercise.law("variational_moments", points=2)
def one_mask_pays_once(ask, rng):
    """Mean and variance of h_T when the same mask (0 or 1) is used at all steps."""
    h0, u, p, T = setting(rng)
    values, weights = u**T * h0 * np.array([0.0, 1.0]) ** T, np.array([1 - p, p])
    m, each = sequences(p, T)
    ask.same(
        "variational_moments",
        h0,
        u,
        p,
        T,
        want=moments(values, weights),
        slips={
            "That is a new mask at every step; one mask is kept or dropped once.": moments(
                u**T * h0 * m.prod(axis=1), each
            ),
            "Here the masks are not scaled.": moments(values / p, weights),
            "Here p is the probability of keeping a unit (E22).": moments(values, weights[::-1]),
        },
    )


@exercise.law("variational_inverted_mean", points=1)
def scaling_one_mask_at_every_step_is_wrong(ask, rng):
    """The mean of h_T when the same m/p is used at all T steps."""
    h0, u, p, T = setting(rng)
    ask.same(
        "variational_inverted_mean",
        h0,
        u,
        p,
        T,
        want=p * (u / p) ** T * h0 + (1 - p) * 0.0,
        slips={
            "The steps share their mask, so the mean of the product is not the product of means.": u
            ** T
            * h0,
            "The mask is zero with probability 1 − p.": (u / p) ** T * h0,
        },
    )


@exercise.law("masks", points=1)
def each_step_draws_its_own_mask(ask, rng):
    """masks is 1 where the uniform number is below p, else 0."""
    T, d, p = 5, 6, rng.uniform(0.2, 0.8)
    uniforms = rng.uniform(size=(T, d))
    uniforms[0, 0] = p  # not below p
    keep = np.array([[float(x < p) for x in row] for row in uniforms])
    ask.same(
        "masks",
        uniforms,
        p,
        want=keep,
        slips={
            "p is the probability of keeping (E22): below p means kept.": 1 - keep,
            "Zeros and ones are asked for, without scaling.": keep / p,
        },
    )


@exercise.law("one_mask", points=1)
def all_steps_share_their_mask(ask, rng):
    """one_mask gives each of the T steps the same mask, made from one uniform number per unit."""
    T, d, p = int(rng.integers(2, 6)), 8, rng.uniform(0.3, 0.7)
    uniforms = rng.uniform(size=d)
    uniforms[0] = p  # not below p
    keep = np.array([[float(x < p) for x in uniforms]] * T)
    ask.same(
        "one_mask",
        uniforms,
        p,
        T,
        want=keep,
        slips={
            "p is the probability of keeping (E22): below p means kept.": 1 - keep,
            "Zeros and ones are asked for, without scaling.": keep / p,
        },
    )


@exercise.law("run", points=2)
def the_mask_acts_on_units_before_the_weights(ask, rng):
    """run gives h_t = U (m_t ⊙ h_{t−1}), for new masks and for one mask."""
    T, d = int(rng.integers(2, 6)), int(rng.integers(2, 5))
    h0, U = rng.normal(size=d), rng.normal(size=(d, d)) / np.sqrt(d)
    for m in (rng.integers(0, 2, (T, d)), np.tile(rng.integers(0, 2, d), (T, 1))):
        m = m.astype(float)
        matrix, want, after, transposed = np.eye(d), [], [], []
        behind, other = h0, h0
        for m_t in m:
            matrix = U * m_t @ matrix  # U diag(m_t), multiplied from the left
            want.append(matrix @ h0)
            behind, other = m_t * (U @ behind), U.T @ (m_t * other)
            after.append(behind)
            transposed.append(other)
        ask.same(
            "run",
            h0,
            U,
            m,
            want=want,
            atol=1e-12,
            slips={
                "The mask acts on the old state, before the weights.": after,
                "The weights stand left of the state: U h, not Uᵀ h.": transposed,
            },
        )


@exercise.law("update_moments", points=2)
def dropping_updates_keeps_the_memory(ask, rng):
    """Mean and variance of h_T, averaged over all masks, when only the update is dropped."""
    h0, c, p, T = setting(rng)
    m, weights = sequences(p, T)
    want = moments(h0 + c * (m / p).sum(axis=1), weights)
    ask.same(
        "update_moments",
        h0,
        c,
        p,
        T,
        want=want,
        slips={
            "The masks are scaled: E[m/p] = 1.": moments(h0 + c * m.sum(axis=1), weights),
            "That is the variance with the same mask at every step; new masks are independent.": [
                want[0],
                T * want[1],
            ],
            "Here p is the probability of keeping a unit (E22).": [
                want[0],
                T * c**2 * p / (1 - p),
            ],
        },
    )


def after(U, masks):
    """The matrix that leads from h_0 to h_T."""
    whole = np.eye(len(U))
    for m in masks:
        whole = U @ np.diag(m) @ whole
    return whole


def orthogonal(ask, U):
    off = np.abs(U.T @ U - np.eye(len(U))).max()
    ask.require(off < 1e-4, f"U is not orthogonal: an entry of Uᵀ U is off by {off:.3g}.")


@exercise.law("all_lost", points=2)
def one_mask_can_lose_everything(ask, rng):
    """The exhibited U is orthogonal, and dropping unit 1 at each of d steps leaves nothing of h_0.

    h_t = U (m ⊙ h_{t−1}) with m = (0, 1, ..., 1), for every h_0.
    """
    d = int(rng.integers(2, 7))
    U = ask("all_lost", d, shape=(d, d))
    orthogonal(ask, U)
    left = np.abs(after(U, [[0.0] + [1.0] * (d - 1)] * d)).max()
    slip = "U must carry the state of every unit to unit 1 within d steps."
    if np.allclose(np.abs(U), np.eye(d), atol=1e-4):
        slip = "Here every unit keeps its own state, and only unit 1 is ever dropped."
    ask.require(left < 1e-3, f"With d={d} a share of {left:.3g} of some unit is left.", slip)


@exercise.law("all_kept", points=2)
def masks_that_drop_half_can_lose_nothing(ask, rng):
    """With the exhibited orthogonal U the length of h stays, though each mask drops half the units.

    Masks keep the first half at steps 1, 3, ... and the second at 2, 4, ...; h_0 is in the first.
    """
    d, T = 2 * int(rng.integers(1, 4)), int(rng.integers(3, 8))
    U = ask("all_kept", d, shape=(d, d))
    orthogonal(ask, U)
    first = np.arange(d) < d // 2
    whole = after(U, [(first if t % 2 else ~first).astype(float) for t in range(1, T + 1)])
    lengths = np.sqrt((whole[:, : d // 2] ** 2).sum(axis=0))
    slip = "After each step the state must live where the next mask keeps it."
    if np.allclose(np.abs(U), np.eye(d), atol=1e-4):
        slip = "Without moving, the first half is dropped at step 2."
    ask.require(
        lengths.min() > 1 - 1e-3,
        f"With d={d}, T={T} an h_0 of length 1 has the length {lengths.min():.3g} at the end.",
        slip,
    )
