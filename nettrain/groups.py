"""What differs from tensor to tensor, by name and shape: hyperparameters, and the rule itself.

    by(name, shape) -> {hyperparameter: factor}

says by what one tensor's hyperparameters are multiplied; those that it does not name stay. `Sweep`
and `adapter.Optimizer` take such a function. For a model whose parameters are one vector,
`multipliers` makes vectors of such factors, and `grouped` a rule that uses them. For two reasons at
once: lambda *of: mup_adam(base)(*of) | weights_only(*of).
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps

import torch
from torch import Tensor, nn

from nettrain.initializers import fan
from nettrain.optimizers import Rule, declare_as, hyperparameters

Shapes = Mapping[str, Sequence[int]]
By = Callable[[str, Sequence[int]], Mapping[str, float]]
Chosen = Callable[[str, Sequence[int]], bool]


def multipliers(shapes: Shapes, by: By) -> dict[str, Tensor]:
    """{hyperparameter: factors [P] in float64}, one for each number of a vector of all parameters.

    shapes  {name: shape} in the order of the vector, that of net.named_parameters()
    by      (name, shape) -> {hyperparameter: factor}; 1 where it names none

    Raises ValueError for a factor that is negative or not finite.
    """
    tensors = {name: by(name, tuple(shape)) for name, shape in shapes.items()}
    for name, own in tensors.items():
        for hyper, factor in own.items():
            if not 0 <= factor < math.inf:
                raise ValueError(f"{name}: the factor {factor} of {hyper} is outside [0, inf)")
    sizes = torch.tensor([math.prod(shape) for shape in shapes.values()])
    column = lambda hyper: [float(own.get(hyper, 1)) for own in tensors.values()]
    return {
        hyper: torch.tensor(column(hyper), dtype=torch.float64).repeat_interleave(sizes)
        for hyper in dict.fromkeys(hyper for own in tensors.values() for hyper in own)
    }


def grouped(rule: Rule, factors: Mapping[str, Tensor | float]) -> Rule:
    """The rule with the hyperparameters of each coordinate multiplied by that coordinate's factors.

        grouped(adamw, multipliers(shapes, weights_only))    decays weights, not biases and gains

    factors  {hyperparameter: [P], or a number for all coordinates}; with vectors among them the new
             rule steps vectors [P], and no others

    Raises ValueError for a hyperparameter that the rule does not have and, when it steps, for a
    vector of another length.
    """
    known = hyperparameters(rule)
    if unknown := [name for name in factors if name not in known]:
        allowed = ", ".join(known)
        raise ValueError(f"{rule.__name__} has no {', '.join(unknown)}; it has {allowed}")

    def step(theta, g, *state, t, **hyper):
        for name, factor in factors.items():
            if isinstance(factor, Tensor):
                if factor.shape != theta.shape:
                    n, p = list(factor.shape), list(theta.shape)
                    raise ValueError(f"the factors of {name} have shape {n}, but theta has {p}")
                factor = factor.to(theta)  # a vector in float64 would widen theta
            hyper[name] = hyper.get(name, known[name]) * factor
        return rule(theta, g, *state, t=t, **hyper)

    step.__signature__ = inspect.signature(rule)
    step.__name__ = f"{rule.__name__}_grouped"
    step.factors = factors
    return declare_as(rule, step)


def weights_only(name: str, shape: Sequence[int]) -> dict[str, float]:
    """Decay weights; leave out biases and the gains of norm layers, which have one dimension."""
    return {"decay": float(len(shape) > 1)}


def is_matrix(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor has two dimensions or more: weights have, biases and gains have not."""
    return len(shape) > 1


def partition(rule: Rule, rest: Rule, chosen: Chosen = is_matrix) -> Rule:
    """Two rules for one model: `rule` for the chosen tensors, `rest` for the vector of all others.

        partition(muon, adamw)    Muon for matrices, AdamW for biases and gains

    chosen  (name, shape) -> whether a tensor is stepped by `rule`. Of a transformer one often gives
            the embedding and the last layer to `rest`, too

    Hyperparameters are those of both, with the same value where a name is the same (the default
    then being `rule`'s), and `ratio`, 0.1 by default: the rate of `rest` over `lr`, the rate of
    `rule`. A schedule changes both rates. What comes back does not step a tensor by itself; `Sweep`
    and `adapter.Optimizer` know which tensors there are. Raises ValueError for a rule without lr,
    for a `rest` that steps matrices only and for a partition in a partition.
    """
    for one in (rule, rest):
        if hasattr(one, "parts"):
            raise ValueError(f"{one.__name__} is a partition; give it two rules that step tensors")
        if "lr" not in hyperparameters(one):
            raise ValueError(f"{one.__name__} has no hyperparameter lr, which a partition shares")
    if hasattr(rest, "tensorwise"):
        raise ValueError(f"{rest.__name__} steps matrices only, not the vector of all others")

    def both(theta, g, *, t, **hyper):
        name = both.__name__
        raise TypeError(
            f"{name} steps a model: give it to Sweep or adapter.Optimizer. What is to wrap it has "
            "to wrap its two rules"
        )

    numbers = hyperparameters(rest) | hyperparameters(rule) | {"ratio": 0.1}
    kind, first = inspect.Parameter.KEYWORD_ONLY, inspect.signature(both).parameters
    added = [inspect.Parameter(k, kind, default=v) for k, v in numbers.items()]
    kept = [first[name] for name in ("theta", "g", "t")]
    both.__signature__ = inspect.Signature([*kept, *added])
    both.__name__ = f"{rule.__name__}_{rest.__name__}"
    both.parts = rule, rest, chosen
    return both


def initial(model: Callable[[], nn.Module], by: By) -> Callable[[], nn.Module]:
    """The model, each tensor's initial weights multiplied by its factor of "theta".

        initial(lambda: mlp([64, 512, 512, 10]), mup_initial(base))

    by  (name, shape) -> {"theta": factor}; tensors for which it names none stay as they are
    """

    @wraps(model)
    def built():
        net = model()
        with torch.no_grad():
            for name, p in net.named_parameters():
                p.mul_(by(name, tuple(p.shape)).get("theta", 1))
        return net

    return built


# ----------------------------------------------------------------------------------------- muP
#
# The maximal update parametrization: a step changes the activations of a wide network as much as
# those of the narrow one, the base, whose rate was tuned. Table 3 of Yang et al. 2022 says by which
# powers of n_in and n_out; when the width grows m-fold, relative to the base that is
#
#                        input weights, biases, gains   hidden weights   output weights
#     initial weights    1                              1                1 / √m
#     rate of Adam       1                              1 / m            1 / m
#     rate of SGD        m                              1                1 / m
#
# (an output bias has 1). Which is which follows from the sides that have grown: n_out, both, n_in.


def mup_adam(base: Shapes) -> By:
    """η ← η / m_in,  m_in by how much n_in has grown: for Adam and others with steps of size η.

    base  {name: shape} of the same model with the widths for which η was tuned. Weights are [n_out,
          n_in, *kernel], as those of linear and convolutional layers but not of embeddings; a
          vector, bias or gain, has n_in = 1

    The result is for `multipliers`; it raises ValueError for a tensor without a counterpart in
    the base. Yang & Hu 2021; Yang et al. 2022.
    """
    return lambda name, shape: {"lr": 1 / _growth(base, name, shape)[0]}


def mup_sgd(base: Shapes) -> By:
    """η ← η m_out / m_in: for SGD, with momentum or without. Else as `mup_adam`."""

    def by(name, shape):
        m_in, m_out = _growth(base, name, shape)
        return {"lr": m_out / m_in}

    return by


def mup_initial(base: Shapes) -> By:
    """Initial θ ← θ / √m_in for output weights, whose n_out has not grown. Else as `mup_adam`.

    The factor is called "theta", for `initial`: weights drawn with variance ∝ 1 / n_in, as torch
    draws them, are multiplied by it, so that the variance of output weights is ∝ 1 / n_in².
    """

    def by(name, shape):
        m_in, m_out = _growth(base, name, shape)
        return {"theta": m_in**-0.5 if m_out == 1 else 1.0}

    return by


def _growth(base: Shapes, name: str, shape: Sequence[int]) -> tuple[float, float]:
    """(m_in, m_out): n_in and n_out of a tensor over those of the same tensor of the base."""
    if name not in base or len(base[name]) != len(shape):
        there = f"the shape {list(base[name])}" if name in base else "no such tensor"
        raise ValueError(f"{name} has the shape {list(shape)}; in the base it has {there}")
    if len(shape) < 2:
        return 1.0, math.prod(shape) / math.prod(base[name])
    (n_in, n_out), (base_in, base_out) = fan(shape), fan(base[name])
    return n_in / base_in, n_out / base_out
