"""The weights at which a network is evaluated: averages of those that a rule went through.

    rule.weights(theta, *state, t) -> θ'

A rule of `optimizers` is evaluated where it stands, at theta. The rules below also have a function
`weights` of theta and the state after t steps: the network is evaluated at θ', and training does
not change. Before the first step, t = 0, θ' is θ. `readout` returns this function of any rule.

`ema`, `lawa` and `swa` take a rule and return it with more state and the same hyperparameters.
Running statistics of batch norm belong to θ and have to be computed again at θ': `Sweep` and
`training.fit` do so.
"""

import inspect
from collections.abc import Callable, Sequence

import torch

from nettrain.checks import check_range
from nettrain.optimizers import Rule, state_names


def readout(rule: Rule) -> Callable:
    """The function (theta, *state, t) -> θ' of a rule; θ' is theta if the rule has none."""
    return getattr(rule, "weights", lambda theta, *state, t: theta)


# ------------------------------------------------------------------------- averages around a rule


def ema(rule: Rule, decay: float) -> Rule:
    """The rule, evaluated at an exponential moving average of its weights.

        θ̄ ← β θ̄ + (1 − β) θ,  θ' = θ̄ / (1 − βᵗ)

    β is `decay`; weights of k steps ago count βᵏ times as much as the newest. θ̄ starts at zero, and
    θ' corrects that, as m̂ does in Adam: initial weights do not count. Raises ValueError unless
    0 ≤ β < 1.
    """
    check_range("decay", decay, "[0, 1)")
    inner = readout(rule)

    def step(theta, g, *state, t, **hyper):
        *state, mean = state
        theta, *state = rule(theta, g, *state, t=t, **hyper)
        mean = decay * mean + (1 - decay) * inner(theta, *state, t=t)
        return theta, *state, mean

    def weights(theta, *state, t):
        begun = torch.as_tensor(t, device=theta.device) > 0
        return torch.where(begun, state[-1] / (1 - decay**t), theta)

    return _averaged(step, weights, rule, "ema", ["ema"])


def lawa(rule: Rule, every: int, window: int) -> Rule:
    """The rule, evaluated at the mean of its latest snapshots, one every `every` steps.

        θ' = (θₙ + θₙ₋ₑ + θₙ₋₂ₑ + ...) / window,  n the latest multiple of e = every

    While there are fewer than `window` of them, θ' is the mean of those there are; before the first
    it is θ. Each snapshot is a separate state. Latest weight averaging: Kaddour 2022, with a
    snapshot at the end of each epoch and a window of 6. Raises ValueError unless both are
    positive integers.
    """
    _check_count("every", every)
    _check_count("window", window)
    inner, own = readout(rule), len(state_names(rule))

    def step(theta, g, *state, t, **hyper):
        snapshots = state[own:]
        theta, *state = rule(theta, g, *state[:own], t=t, **hyper)
        t, now = torch.as_tensor(t, device=theta.device), inner(theta, *state, t=t)
        turn = t % (every * window)  # the newest snapshot takes the place of the oldest
        due = [turn == every * k for k in range(window)]
        return theta, *state, *map(torch.where, due, [now] * window, snapshots)

    def weights(theta, *state, t):
        t = torch.as_tensor(t, device=theta.device)
        count = (t // every).clamp(max=window)
        return torch.where(count > 0, sum(state[own:]) / count, theta)

    return _averaged(step, weights, rule, "lawa", [f"snapshot{k + 1}" for k in range(window)])


def swa(rule: Rule, every: int, start: int) -> Rule:
    """The rule, evaluated at the mean of all snapshots taken since step `start`.

        θ̄ ← θ̄ + (θ − θ̄) / n  after the steps start, start + every, ...,  n = 1, 2, ...

    Before step `start`, θ' is θ. Stochastic weight averaging: Izmailov et al. 2018, who start late
    and keep the rate high from there on. swa(rule, 1, 1) is the average of Ruppert 1988 and Polyak
    & Juditsky 1992. Raises ValueError unless both are positive integers.
    """
    _check_count("every", every)
    _check_count("start", start)
    inner = readout(rule)

    def step(theta, g, *state, t, **hyper):
        *state, mean = state
        theta, *state = rule(theta, g, *state, t=t, **hyper)
        since = torch.as_tensor(t, device=theta.device) - start
        n = since // every + 1
        moved = mean + (inner(theta, *state, t=t) - mean) / n
        return theta, *state, torch.where((since >= 0) & (since % every == 0), moved, mean)

    def weights(theta, *state, t):
        begun = torch.as_tensor(t, device=theta.device) >= start
        return torch.where(begun, state[-1], theta)

    return _averaged(step, weights, rule, "swa", ["swa"])


def _averaged(
    step: Callable, weights: Callable, rule: Rule, name: str, more: Sequence[str]
) -> Rule:
    """`step` as a rule, with a name, the old rule's signature with more states, and the readout."""
    if twice := set(more) & set(state_names(rule)):
        raise ValueError(f"{rule.__name__} already has a state called {', '.join(sorted(twice))}")
    kind, old = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.signature(rule)
    first = [p for p in old.parameters.values() if p.kind is kind]
    last = [p for p in old.parameters.values() if p.kind is not kind]
    added = [inspect.Parameter(k, kind) for k in more]
    step.__signature__ = old.replace(parameters=[*first, *added, *last])
    step.__name__ = f"{rule.__name__}_{name}"
    step.weights = weights
    if hasattr(rule, "tensorwise"):  # see matrix_rules
        zeros = lambda theta: tuple(torch.zeros_like(theta) for _ in more)
        step.tensorwise, step.start = True, lambda theta: (*rule.start(theta), *zeros(theta))
    return step


def _check_count(name: str, value: int) -> None:
    if not (isinstance(value, int) and value >= 1):
        raise ValueError(f"{name}={value!r} must be a positive integer")


# --------------------------------------------------------------------------------- schedule-free


def schedule_free_sgd(theta, g, z, x, s, *, t, lr=1.0, beta1=0.9):
    """SGD on z with gradients taken at y, between z and the mean x of all z; evaluated at x.

        y = (1 − β) z + β x
        z ← z − η g(y)
        s ← s + η²,  x ← (1 − c) x + c z  with c = η² / s

    theta is y. The states z and x are kept relative to it, so that they start at zero. At a
    constant rate c = 1/t, and x is the mean of all z but the first (c = 1/(t + 1), also printed,
    would count that, too); the short steps of a warmup count less. With β = 0 this is SGD and its
    Polyak average, with β = 1 gradients are taken at the average itself. The rate is constant after
    a warmup: no schedule. β is `beta1`. Defazio et al. 2024.
    """
    return _schedule_free(theta, lr * g, z, x, s, lr, beta1)


def schedule_free_adamw(
    theta, g, z, x, s, v, *, t, lr=2.5e-3, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0
):
    """The same with g over its root mean square; the mean x does what the mean m does in Adam.

        v ← β₂ v + (1 − β₂) g²,  γ = η √(1 − β₂ᵗ)
        z ← z − γ (g / (√v + ε) + λ y)

    y, s and x as in `schedule_free_sgd`, with β₁ and γ for β and η. λ is `decay`. Algorithm 1 of
    Defazio et al. 2024; later code of the authors divides by √v̂ and has γ = η.
    """
    v = beta2 * v + (1 - beta2) * g**2
    rate = lr * (1 - beta2**t) ** 0.5
    step = rate * (g / (v.sqrt() + eps) + decay * theta)
    return *_schedule_free(theta, step, z, x, s, rate, beta1), v


def _schedule_free(theta, step, z, x, s, rate, beta):
    """z ← z − step,  x ← (1 − c) x + c z,  y ← (1 − β) z + β x.  -> y, z − y, x − y, s"""
    z, x = theta + z - step, theta + x
    s = s + rate**2
    c = rate**2 / s.clamp(min=torch.finfo(s.dtype).tiny)  # 0, not 0 / 0, while all rates were 0
    x = (1 - c) * x + c * z
    y = (1 - beta) * z + beta * x
    return y, z - y, x - y, s


schedule_free_sgd.weights = lambda theta, z, x, s, *, t: theta + x
schedule_free_adamw.weights = lambda theta, z, x, s, v, *, t: theta + x
