"""Schedules of the learning rate: closures t -> lr.

t counts the steps already taken: the first step of a run uses schedule(0). `lr` may be a number or
a tensor (one rate per run of a sweep); the result has its shape.
"""

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[int], float]


def constant(lr) -> Schedule:
    """ηₜ = η₀."""
    return lambda t: lr


def inverse_time(lr, beta) -> Schedule:
    """ηₜ = η₀ / (1 + β t).  Eq. 1.5; the `decay` of Keras 2."""
    return lambda t: lr / (1 + beta * t)


def exponential(lr, beta=0.96) -> Schedule:
    """ηₜ = η₀ βᵗ.  Eq. 1.6.

    β is near 1; 0.96 is meant per epoch, so pass 0.96 ** (1 / steps per epoch).
    """
    return lambda t: lr * beta**t


def natural_exponential(lr, beta) -> Schedule:
    """ηₜ = η₀ e^(−β t).  Eq. 1.7. It equals `exponential(lr, e^(−β))`; β is near 0, not 0.96."""
    return lambda t: lr * math.e ** (-beta * t)


def inverse_sqrt(lr) -> Schedule:
    """ηₜ = η₀ / √(t + 1).  The textbook's η₀/√t with t counted from 1."""
    return lambda t: lr / math.sqrt(t + 1)


def step(lr, milestones: Sequence[int], factor=0.1) -> Schedule:
    """ηₜ = η₀ · factorᵏ, where k milestones have been reached (milestone ≤ t).

    The slides' recipe is milestones at 1/2, 3/4 and 7/8 of the run, factor 1/10.
    Raises ValueError unless the milestones increase.
    """
    if list(milestones) != sorted(set(milestones)):
        raise ValueError(f"milestones={list(milestones)} must increase")
    return lambda t: lr * factor ** sum(t >= m for m in milestones)


def cosine(lr, total: int, lowest=0.0) -> Schedule:
    """ηₜ = η_low + ½ (η₀ − η_low) (1 + cos(π t / T)), constant after T steps.

    Loshchilov & Hutter 2017. Raises ValueError unless T = `total` > 0.
    """
    if not total > 0:
        raise ValueError(f"total={total} must be a positive number of steps")
    return lambda t: lowest + (lr - lowest) * (1 + math.cos(math.pi * min(t, total) / total)) / 2


def linear(lr, total: int, start: int = 0) -> Schedule:
    """ηₜ = η₀ · min(1, (T − t) / (T − start)): constant for `start` steps, then a line to zero.

    Zero after T = `total` steps. start=0 is linear decay; with a late start and a warmup it is
    "warmup, stable, decay" (Hu et al. 2024), whose last part can be run from any snapshot.

    Raises ValueError unless 0 ≤ start < total.
    """
    if not 0 <= start < total:
        raise ValueError(f"start={start} must be at least 0 and below total={total}")
    return lambda t: lr * min(1.0, max(0, total - t) / (total - start))


def warmup(schedule: Schedule, steps: int) -> Schedule:
    """ηₜ = schedule(t) · min(1, (t + 1) / steps): a linear start in front of another schedule.

    Raises ValueError unless steps > 0.
    """
    if not steps > 0:
        raise ValueError(f"steps={steps} must be a positive number of steps")
    return lambda t: schedule(t) * min(1.0, (t + 1) / steps)


def one_cycle(lr, total: int, rise=0.3) -> Schedule:
    """Half a cosine from η₀/25 up to η₀ in a share `rise` of T steps, half of one down to almost 0.

        ηₜ = η_a + ½ (η_b − η_a) (1 − cos(π s)),  s the share of the part that is done

    It ends at η₀ / 250,000, as in torch's `OneCycleLR`. "1cycle": Smith & Topin 2019, who let the
    momentum fall while the rate rises.

    Raises ValueError unless total > 1 and 1/total < rise < 1.
    """
    if not total > 1:
        raise ValueError(f"total={total} must be more than one step")
    if not 1 / total < rise < 1:
        raise ValueError(f"rise={rise} must lie between 1/total={1 / total:g} and 1")
    top = rise * total - 1

    def rate(t):
        if t <= top:
            low, high, share = lr / 25, lr, t / top
        else:
            low, high, share = lr, lr / 250_000, min(1.0, (t - top) / (total - 1 - top))
        return low + (high - low) * (1 - math.cos(math.pi * share)) / 2

    return rate
