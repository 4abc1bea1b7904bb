"""What a rule does with gradients, found by feeding it gradients: the taxonomy is measured.

A probe drives one coordinate through a sequence of gradients and looks at the steps Δθ. Decay rates
are moved close to one where a long memory makes the answer sharp.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nettrain.optimizers import Rule, hyperparameters, state_names

LONG = 2000  # steps that a probe waits for a rule to settle


def path(rule: Rule, gradient: Callable, theta: Tensor, steps: int, **hyper) -> Tensor:
    """θ₀ ... θ_T of a rule that follows gradient(θ) from theta.  [...] -> [steps + 1, ...]"""
    state = [torch.zeros_like(theta) for _ in state_names(rule)]
    points = [theta]
    for t in range(1, steps + 1):
        theta, *state = rule(theta, gradient(theta), *state, t=t, **hyper)
        points.append(theta)
    return torch.stack(points)


def steps(rule: Rule, gradients: Tensor, **hyper) -> Tensor:
    """Δθ₁ ... Δθ_T of a coordinate that starts at zero and is fed these gradients.  [T] -> [T]"""
    feed = iter(gradients.to(torch.float64))
    start = torch.zeros((), dtype=torch.float64)
    return path(rule, lambda theta: next(feed), start, len(gradients), **hyper).diff()


def _settings(rule: Rule, **wanted) -> dict:
    """Of the wanted hyperparameters those that the rule has; no weight decay."""
    known = hyperparameters(rule)
    return {k: v for k, v in (wanted | {"decay": 0.0}).items() if k in known}


def impulse_response(rule: Rule, n: int = 6) -> Tensor:
    """How a small extra gradient at one step shows in that step and the next n − 1.  -> [n]

    Relative to the steady step under a constant gradient 1, with the memory of g² made so long that
    the extra gradient does not change the rate.
    """
    hyper = _settings(rule, beta2=1 - 1e-6)
    g = torch.ones(LONG + n, dtype=torch.float64)
    extra = g.clone()
    extra[LONG] -= 1e-3
    steady = steps(rule, g, **hyper)
    return ((steps(rule, extra, **hyper) - steady) / (-1e-3 * steady[LONG]))[LONG:]


def direction(rule: Rule) -> str:
    """What a step follows: "gradient", "momentum", "Nesterov" or "sign agreement"."""
    flip = torch.ones(LONG)
    flip[-1] = -1  # a rule without memory of signs takes the same step, backwards
    h = impulse_response(rule)
    if h[1] / h[0] > 0.05:
        return "Nesterov" if h[1] / h[0] < 0.9 * h[2] / h[1] else "momentum"
    last = steps(rule, flip, **_settings(rule))[-2:].abs()
    return "gradient" if last[1] > 0.9 * last[0] else "sign agreement"


def rate_norm(rule: Rule) -> float:
    """The p of the norm of past gradients by which a step is divided; 0 if it is not divided.

    With a gradient of 1 in a share q of the steps and 0 else, the p-mean is q^(1/p).
    """
    hyper = _settings(rule, rho=0.0, beta1=0.0, beta2=1 - 1e-4, psi=0.0)
    always = torch.ones(LONG)
    if abs(steps(rule, 2 * always, **hyper)[-1] / steps(rule, always, **hyper)[-1]) > 1.9:
        return 0.0
    sometimes = (torch.arange(1, LONG + 1) % 4 == 0).double()
    grown = (steps(rule, sometimes, **hyper)[-1] / steps(rule, always, **hyper)[-1]).abs().log()
    return math.log(4) / grown.item() if grown > 0.01 else math.inf


def rate(rule: Rule) -> str:
    """By what a step is divided, in the words of the slides: "/", "L2", "average L2", ..."""
    p = rate_norm(rule)
    if p == 0:
        return "/"
    constant = steps(rule, torch.ones(LONG), **_settings(rule)).abs()
    trend = (constant[-1] / constant[LONG // 4]).item()
    if trend > 1.1:
        return "average L2 / average L2 of own steps"
    norm = "L∞" if p == math.inf else f"L{p:.0f}"
    if trend < 0.9:
        return norm
    calm = torch.cat([10 * torch.ones(LONG // 2), torch.ones(LONG)])
    after = steps(rule, calm, **_settings(rule, beta2=0.9)).abs()[-1]
    return f"average {norm}" if after > 0.5 * constant[-1] else f"largest average {norm}"


def gradient_sizes(net: nn.Module, loss: Tensor) -> Tensor:
    """‖∂L/∂W‖ / ‖W‖ of each layer of weights, in the network's order.  -> [layers]

    The relative size, since behind a norm it is the angle of W that counts.
    """
    weights = [p for p in net.parameters() if p.ndim > 1]
    gradients = torch.autograd.grad(loss, weights)
    pairs = zip(gradients, weights, strict=True)
    return torch.stack([g.norm() / W.detach().norm() for g, W in pairs])
