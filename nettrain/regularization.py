"""Regularization: penalties, early stopping, the dropout family, label smoothing, distillation."""

import inspect
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nettrain import draws
from nettrain.draws import Keyed
from nettrain.optimizers import Rule, hyperparameters

# ------------------------------------------------------ penalties: θ [P], *, strengths -> number


def l1(theta, *, lam1=1e-3):
    """λ₁ Σ |θᵢ|.  Eq. 1.59 with p = 1. The slope at zero, which does not exist, is taken as 0."""
    return lam1 * theta.abs().sum()


def l1_smooth(theta, *, lam1=1e-3, smooth=1e-8):
    """λ₁ Σ √(θᵢ² + ε), ε = `smooth`: eq. 1.62. Above l1 by at most λ₁ √ε a coordinate, at zero."""
    return lam1 * (theta**2 + smooth).sqrt().sum()


def l2(theta, *, lam2=1e-3):
    """λ₂ ½ Σ θᵢ².  Half the *square* of the norm, where eqs. 1.59 and 1.63 print the norm (E20)."""
    return lam2 * (theta**2).sum() / 2


def elastic_net(theta, *, lam1=1e-3, lam2=1e-3):
    """λ₁ Σ |θᵢ| + λ₂ ½ Σ θᵢ².  Eq. 1.63; Zou & Hastie 2005.

    scikit-learn's ElasticNet with (1 / 2n) Σ (y − ŷ)² has λ₁ = α ρ, λ₂ = α (1 − ρ), ρ its l1_ratio.
    """
    return l1(theta, lam1=lam1) + l2(theta, lam2=lam2)


# --------------------------------------------------------------- from a penalty to an update rule


def penalized(rule: Rule, penalty: Callable) -> Rule:
    """The rule, fed with the gradient of loss + penalty: g + ∂ penalty / ∂θ.

        penalized(adam, elastic_net)    has lr, beta1, beta2, eps and lam1, lam2

    penalty  (θ, *, strengths) -> number; its strengths become hyperparameters of the new rule. θ
             is the vector of all parameters (with `adapter.Optimizer`: of a group's)

    Raises ValueError if rule and penalty have a hyperparameter of the same name.
    """
    strengths = hyperparameters(penalty)
    if twice := strengths.keys() & hyperparameters(rule).keys():
        raise ValueError(f"{rule.__name__} and {penalty.__name__} both have {sorted(twice)}")
    slope = torch.func.grad(penalty)

    def with_penalty(theta, g, *state, t, **hyper):
        lam = {name: hyper.pop(name, default) for name, default in strengths.items()}
        return rule(theta, g + slope(theta, **lam), *state, t=t, **hyper)

    return _signed(with_penalty, rule, penalty.__name__, strengths)


def decayed(rule: Rule) -> Rule:
    """θ ← (1 − w) θ, then the rule, which does not see the decay.  Eq. 1.64; Hanson & Pratt 1989.

    w = η λ with λ = `decay`, as in AlexNet: 0.0005 is a λ, not a w (E21). decayed(adam) is adamw.
    Raises ValueError if the rule has no rate or already a decay.
    """
    known = hyperparameters(rule)
    if "lr" not in known or "decay" in known:
        raise ValueError(f"{rule.__name__} needs a hyperparameter lr and none called decay")

    def with_decay(theta, g, *state, t, lr=known["lr"], decay=1e-2, **hyper):
        return rule((1 - lr * decay) * theta, g, *state, t=t, lr=lr, **hyper)

    return _signed(with_decay, rule, "decay", {"decay": 1e-2})


def _signed(new: Callable, rule: Rule, name: str, more: dict) -> Rule:
    """The new rule with the signature of the old one and more hyperparameters, and a name."""
    kind, old = inspect.Parameter.KEYWORD_ONLY, inspect.signature(rule)
    added = [inspect.Parameter(k, kind, default=v) for k, v in more.items()]
    new.__signature__ = old.replace(parameters=[*old.parameters.values(), *added])
    new.__name__ = f"{rule.__name__}_{name}"
    return new


def soft_threshold(x, width):
    """sign(x) · max(|x| − width, 0): the θ that minimizes ½ (θ − x)² + width |θ|."""
    return x.sign() * (x.abs() - width).clamp(min=0)


def ista(theta, g, *, t, lr=1e-3, lam1=1e-3):
    """θ ← S(θ − η g, η λ₁), S the soft threshold: an update rule for loss + l1.

    g is the gradient of the loss alone. What is smaller than η λ₁ becomes exactly zero, which steps
    along a slope of |θ| never do. penalized(ista, l2) is for the elastic net. Daubechies et al.
    2004.
    """
    return (soft_threshold(theta - lr * g, lr * lam1),)


def ridge(x, y, *, lam2):
    """(XᵀX / n + λ₂ I)⁻¹ Xᵀy / n: minimizes (1 / 2n) ‖y − Xθ‖² + λ₂ ½ ‖θ‖².  [n, d], [n] -> [d]

    Raises ValueError unless λ₂ > 0.
    """
    if not 0 < lam2 < math.inf:
        raise ValueError(f"lam2={lam2} is outside (0, inf)")
    n, d = x.shape
    identity = torch.eye(d, dtype=x.dtype, device=x.device)
    return torch.linalg.solve(x.T @ x / n + lam2 * identity, x.T @ y / n)


# ---------------------------------------------------------------------------------- early stopping
#
# Losses recorded at evaluations 1, 2, ..., T, [T] -> the evaluation after which to stop, or None.
# All look at the past only. NaN is taken as an infinite loss: it counts as a rise, and what follows
# may be a minimum. Raise ValueError for an empty record and for parameters out of range. GL, PQ and
# UP are Prechelt's (1998), a strip is k = 5 evaluations there. GL and PQ are percentages, so they
# raise ValueError for losses below zero, which UP and patience can judge.


def generalization_loss(valid):
    """GL(t) = 100 (Eᵥ(t) / min_{s ≤ t} Eᵥ(s) − 1), percent above the minimum so far.

    Zero where the loss is zero, infinite where it is. Raises ValueError for a loss below zero.
    """
    valid = _not_below_zero("valid", valid)
    percent = 100 * (valid / valid.cummin(0).values - 1)
    percent[valid == 0], percent[valid.isinf()] = 0, math.inf  # for 0 / 0 and ∞ / ∞
    return percent


def training_progress(train, *, k=5):
    """Pₖ(t) = 1000 (mean / min of the last k training losses − 1), in per mille; NaN for t < k.

    NaN too for a strip with an infinite loss, zero for one of zeros. Raises ValueError for a loss
    below zero.
    """
    _count("k", k)
    train = _not_below_zero("train", train)
    strips = train.unfold(0, k, 1) if len(train) >= k else train.new_empty(0, k)
    mean = strips.mean(1).maximum(strips.amin(1))  # which rounding may push below the minimum
    progress = 1000 * (mean / strips.amin(1) - 1)
    progress[(strips == 0).all(1)], progress[strips.isinf().any(1)] = 0, math.nan
    return torch.cat([train.new_full((len(train) - len(progress),), math.nan), progress])


def stop_gl(valid, *, alpha):
    """The first t with GL(t) > α."""
    _positive("alpha", alpha)
    return _first(~(generalization_loss(valid) <= alpha))


def stop_pq(valid, train, *, alpha, k=5):
    """The first end of a strip with GL(t) / Pₖ(t) > α: no stop while training is still fast.

    No stop at a minimum either (GL = 0), however slow training is.
    """
    _positive("alpha", alpha)
    if len(valid) != len(train):
        raise ValueError(f"{len(valid)} validation and {len(train)} training losses do not pair")
    loss, progress = generalization_loss(valid), training_progress(train, k=k)
    above = (loss > 0) & ~(loss / progress <= alpha)  # a NaN is above
    at = _first(above[k - 1 :: k])
    return at and k * at


def stop_up(valid, *, s, k=5):
    """The first end of a strip at which the loss has risen over s strips in a row."""
    _count("s", s), _count("k", k)
    ends = _record("valid", valid)[k - 1 :: k]
    rises = (ends[1:] > ends[:-1]) | (ends[1:] == math.inf)
    at = _first(rises.unfold(0, s, 1).all(1)) if len(rises) >= s else None
    return at and k * (at + s)


def stop_patience(valid, *, patience):
    """The first t that ends `patience` evaluations without a new minimum: common today."""
    _count("patience", patience)
    valid = _record("valid", valid)
    t, before = torch.arange(len(valid)), valid.cummin(0).values.roll(1)
    best = torch.where((valid < before) | (t == 0), t, 0).cummax(0).values
    return _first(t - best >= patience)


def _record(name: str, losses) -> Tensor:
    losses = torch.as_tensor(losses, dtype=torch.float64)
    if losses.ndim != 1 or not len(losses):
        raise ValueError(f"{name} has shape {list(losses.shape)}; give losses [T], T ≥ 1")
    return torch.where(losses.isnan(), math.inf, losses)


def _not_below_zero(name: str, losses) -> Tensor:
    losses = _record(name, losses)
    if (below := losses < 0).any():
        at = _first(below)
        raise ValueError(f"{name} is {losses[at - 1]:g} at evaluation {at}; percentages need ≥ 0")
    return losses


def _first(condition: Tensor) -> int | None:
    """Number, from 1, of the first true entry."""
    return int(condition.int().argmax()) + 1 if condition.any() else None


def _count(name: str, value) -> None:
    if not (isinstance(value, int) and value >= 1):
        raise ValueError(f"{name}={value} is not one of 1, 2, 3, ...")


def _positive(name: str, value) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}={value} is outside (0, inf)")


# ----------------------------------------------------------------------------------------- dropout


class Dropout(Keyed):
    """Keep each unit with probability `keep`, scaled so that the mean stays: y = m ⊙ x / keep.

    The masks m are draws of (run's seed, training passes so far, layer), see `draws.Keyed`. At
    evaluation y = x. Eq. 1.65 scales at test time instead; the expectations agree. Srivastava et
    al. 2014. Raises ValueError unless 0 < keep ≤ 1.
    """

    def __init__(self, keep: float):
        super().__init__()
        _check_keep(keep)
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 1:
            return x
        mask = self.draw(x.shape) < self.keep
        return x * mask / self.keep

    def extra_repr(self) -> str:
        return f"keep={self.keep}"


class DropConnect(nn.Linear, Keyed):
    """A linear layer that keeps each weight with probability `keep`: y = (M ⊙ W) x / keep + b.

    [..., n_in] -> [..., n_out]. One M for all examples of a step, drawn as Dropout draws its mask;
    Wan et al. 2013 draw one per example, which takes n times the memory. At evaluation
    y = W x + b. Raises ValueError unless 0 < keep ≤ 1.
    """

    def __init__(self, n_in: int, n_out: int, keep: float, *, bias: bool = True):
        super().__init__(n_in, n_out, bias)
        _check_keep(keep)
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 1:
            return super().forward(x)
        mask = self.draw(self.weight.shape) < self.keep
        return F.linear(x, self.weight * mask / self.keep, self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, keep={self.keep}"


class LayerDrop(Keyed):
    """Keep a residual layer f with probability `keep`: y = x + m f(x) / keep.

    m is 0 or 1 for each example, drawn as Dropout draws its mask. f must keep the shape of x. At
    evaluation y = x + f(x). Stochastic depth; Huang et al. 2016, who scale at test time and draw
    one m for a batch. Raises ValueError unless 0 < keep ≤ 1.
    """

    def __init__(self, layer: nn.Module, keep: float):
        super().__init__()
        _check_keep(keep)
        self.layer, self.keep = layer, keep

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 1:
            return x + self.layer(x)
        mask = self.draw(x.shape[:1]) < self.keep
        return x + mask.view(-1, *[1] * (x.ndim - 1)) * self.layer(x) / self.keep

    def extra_repr(self) -> str:
        return f"keep={self.keep}"


# ---- dropout in a recurrent network: masks of inputs, states and outputs


def naive_masks(key: Tensor, keep: float, x: Tensor, n_hidden: int) -> tuple[Tensor, ...]:
    """Masks m / keep for the sequences x, each with a draw of its own at every time.

    x [n, T, n_in] -> masks of the inputs [n, T, n_in], of the states that go on to the next time
    [n, T, n_hidden] and of the states that go on to the output [n, T, n_hidden].
    """
    n, T, n_in = x.shape
    u = draws.uniform(key, torch.Size([n, T, n_in + 2 * n_hidden]))
    return ((u < keep).to(x.dtype) / keep).split([n_in, n_hidden, n_hidden], -1)


def nonrecurrent_masks(key: Tensor, keep: float, x: Tensor, n_hidden: int) -> tuple[Tensor, ...]:
    """As naive_masks, but nothing is dropped from one time to the next.  Zaremba et al. 2014."""
    inputs, states, outputs = naive_masks(key, keep, x, n_hidden)
    return inputs, torch.ones_like(states), outputs


def variational_masks(key: Tensor, keep: float, x: Tensor, n_hidden: int) -> tuple[Tensor, ...]:
    """As naive_masks, but one draw for a sequence: the same units are missing at every time.

    Gal & Ghahramani 2016. Kingma et al. 2015 call something else variational dropout.
    """
    masks = naive_masks(key, keep, x[:, :1], n_hidden)
    return tuple(m.expand(-1, x.shape[1], -1) for m in masks)


# ---- averages over subnetworks


def subnetworks(n: int) -> Tensor:
    """All masks of n units, [2ⁿ, n], False and True.  Raises ValueError unless 1 ≤ n ≤ 16."""
    if not 1 <= n <= 16:
        raise ValueError(f"n={n} is outside [1, 16]; there are 2^n subnetworks")
    return torch.arange(2**n)[:, None] >> torch.arange(n) & 1 == 1


def exact_mean(f: Callable[[Tensor], Tensor], n: int, keep: float) -> Tensor:
    """E f(m / keep) = Σₘ keep^|m| (1 − keep)^(n − |m|) f(m / keep), over all 2ⁿ masks m.

    f takes masks [2ⁿ, n], float64, and returns [2ⁿ, ...]. Weight scaling is f(1) instead. Raises
    ValueError unless 1 ≤ n ≤ 16 and 0 < keep ≤ 1.
    """
    _check_keep(keep)
    masks = subnetworks(n)
    p = torch.where(masks, torch.tensor(keep, dtype=torch.float64), 1 - keep).prod(1)
    values = f(masks.double() / keep)
    return torch.tensordot(p.to(values), values, 1)


@torch.no_grad()
def monte_carlo(net: nn.Module, x: Tensor, passes: int) -> Tensor:
    """Outputs of `passes` random passes, -> [passes, n, ...]; their mean is eq. 1.67.

    Layers of type `draws.Keyed` are random as in training, all others work as in evaluation. The
    masks are those of the next training passes; keys and modes are put back, so that a second call
    returns the same. Raises ValueError for a network without such a layer and for passes < 1.
    """
    layers = [m for m in net.modules() if isinstance(m, Keyed)]
    if not layers or passes < 1:
        raise ValueError(f"{len(layers)} random layers, passes={passes}: give one or more of each")
    for m in layers:
        m.ensure_seed()
    modes = [(m, m.training) for m in net.modules()]
    keys = [m.key.clone() for m in layers]
    net.eval()
    for m in layers:
        m.training = True
    try:
        return torch.stack([net(x) for _ in range(passes)])
    finally:
        for m, mode in modes:
            m.training = mode
        for m, key in zip(layers, keys, strict=True):
            m.key.copy_(key)


# ---- soft labels


def smooth_others(y: Tensor, eps: float, classes: int) -> Tensor:
    """Probability 1 − ε for the label, ε / (K − 1) for each other class: [n] -> [n, K].

    The textbook's form. Raises ValueError unless 0 ≤ ε < 1.
    """
    _check_smoothing(eps, classes)
    return (1 - eps) * F.one_hot(y, classes) + eps / (classes - 1) * (1 - F.one_hot(y, classes))


def smooth_all(y: Tensor, eps: float, classes: int) -> Tensor:
    """Probability 1 − ε for the label, plus ε / K for every class: [n] -> [n, K].

    The form of Szegedy et al. 2016 and of torch. It is smooth_others with ε (K − 1) / K in place of
    ε. Raises ValueError unless 0 ≤ ε < 1.
    """
    _check_smoothing(eps, classes)
    return (1 - eps) * F.one_hot(y, classes) + eps / classes


def soft_labels(logits: Tensor, temperature: float) -> Tensor:
    """The mean over M teachers of softmax(z / T): logits [M, n, K] -> [n, K].

    Hinton et al. 2015. Raises ValueError unless T > 0.
    """
    _check_temperature(temperature)
    return (logits / temperature).softmax(-1).mean(0)


class Temperature(nn.Module):
    """z / T in training, z at evaluation: the last layer of a student.

    With soft labels of the same T the loss is the cross-entropy of equally soft distributions.
    Raises ValueError unless T > 0.
    """

    def __init__(self, temperature: float):
        super().__init__()
        _check_temperature(temperature)
        self.temperature = temperature

    def forward(self, z: Tensor) -> Tensor:
        return z / self.temperature if self.training else z

    def extra_repr(self) -> str:
        return f"{self.temperature}"


def _check_keep(keep: float) -> None:
    if not 0 < keep <= 1:
        raise ValueError(f"keep={keep} is outside (0, 1]")


def _check_smoothing(eps: float, classes: int) -> None:
    if not 0 <= eps < 1:
        raise ValueError(f"eps={eps} is outside [0, 1)")
    if classes < 2:
        raise ValueError(f"classes={classes} must be two or more")


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature={temperature} is outside (0, inf)")
