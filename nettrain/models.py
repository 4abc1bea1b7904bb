"""Small models: multilayer perceptrons, convolutional and recurrent networks."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from nettrain.blocks import (
    CausalSelfAttention,
    conv,
    feedforward,
    linear,
    plain,
    pre_norm,
    residual,
)
from nettrain.checks import check_range
from nettrain.draws import Keyed
from nettrain.dropout import Dropout, variational_masks
from nettrain.normalization import BatchNorm, RMSNorm


def mlp(
    sizes: Sequence[int], *, activation: Callable = nn.ReLU, norm=None, keep=1.0
) -> nn.Sequential:
    """Layers of the given sizes, [n, ...] -> [n, sizes[-1]]; the input is flattened.

    activation  a module class, after each hidden layer
    norm        a module class that takes the layer's size, before each activation
    keep        keep rate of a dropout after each activation; 1 is none

    Raises ValueError for fewer than two sizes or a keep rate outside (0, 1].
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes={list(sizes)} needs an input and an output size at least")
    layers = [nn.Flatten()]
    for n_in, n_out in zip(sizes[:-2], sizes[1:-1], strict=True):
        layers += [nn.Linear(n_in, n_out, bias=norm is None)]  # a norm layer has its own shift
        layers += [norm(n_out)] if norm else []
        layers += [activation()]
        layers += [Dropout(keep)] if keep != 1 else []
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def cnn(channels: Sequence[int] = (8, 16), *, side: int = 14, classes: int = 10) -> nn.Sequential:
    """3x3 convolutions, each with ReLU and 2x2 max-pooling, then one linear layer.

    [n, 1, side, side] -> [n, classes]. Raises ValueError if pooling leaves no pixel.
    """
    rest = side // 2 ** len(channels)
    if rest < 1:
        raise ValueError(f"side={side} is too small for {len(channels)} poolings")
    layers = []
    for c_in, c_out in zip((1, *channels), channels, strict=False):
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * rest**2, classes))


def tower(
    n_in: int, width: int, depth: int, classes: int = 10, *, block: Callable = plain
) -> nn.Sequential:
    """A deep perceptron with batch norm: `depth` layers of weights, two in each block.

    [n, ...] -> [n, classes]; the input is flattened. Raises ValueError unless depth is even and at
    least 2.
    """
    if depth < 2 or depth % 2:
        raise ValueError(f"depth={depth} must be even and at least 2: two layers, two per block")
    first = [nn.Flatten(), linear(n_in, width), BatchNorm(width), nn.ReLU()]
    blocks = [block(width, width, layer=linear) for _ in range(depth // 2 - 1)]
    return nn.Sequential(*first, *blocks, nn.Linear(width, classes))


def resnet(
    n: int,
    *,
    block: Callable = residual,
    channels: Sequence[int] = (16, 32, 64),
    c_in: int = 3,
    classes: int = 10,
) -> nn.Sequential:
    """The network of depth 6n + 2 for small images: three stages of n blocks, halving the image.

    [n, c_in, h, w] -> [n, classes]. block=plain gives the plain network, with as many weights. He
    et al. 2016, section 4.2. Raises ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1 block per stage")
    layers = [conv(c_in, channels[0]), BatchNorm(channels[0]), nn.ReLU()]
    for k, (before, c) in enumerate(zip((channels[0], *channels), channels, strict=False)):
        layers += [block(before, c, stride=2) if k else block(before, c)]
        layers += [block(c, c) for _ in range(n - 1)]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *pool, nn.Linear(channels[-1], classes))


class RNN(nn.Module):
    """A vanilla recurrent network that reads a sequence and answers once, at its end.

        h_t = tanh(U h_{t−1} + W x_t + b),  h_0 = 0,  y = V h_T + c

    [n, T, n_in] -> [n, n_out]. Written as a loop, so that it can be one run of a sweep.
    """

    def __init__(self, n_in: int, n_hidden: int, n_out: int):
        super().__init__()
        self.input = nn.Linear(n_in, n_hidden)
        self.recurrent = nn.Linear(n_hidden, n_hidden, bias=False)
        self.output = nn.Linear(n_hidden, n_out)

    def forward(self, x: Tensor) -> Tensor:
        z = self.input(x)
        h = torch.zeros_like(z[:, 0])
        for t in range(z.shape[1]):
            h = torch.tanh(self.recurrent(h) + z[:, t])
        return self.output(h)


class DropoutRNN(RNN, Keyed):
    """The same with dropout; in training

        h_t = tanh(U (s_{t−1} ⊙ h_{t−1}) + W (i_t ⊙ x_t) + b),  y = V (o_T ⊙ h_T) + c

    masks  (key, keep, x, n_hidden) -> i, s, o, each [n, T, ·]: `dropout.naive_masks`,
           `nonrecurrent_masks` or `variational_masks`

    At evaluation an RNN. Raises ValueError unless 0 < keep ≤ 1.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        n_out: int,
        keep: float,
        *,
        masks: Callable = variational_masks,
    ):
        super().__init__(n_in, n_hidden, n_out)
        check_range("keep", keep, "(0, 1]")
        self.keep, self.masks = keep, masks

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 1:
            return super().forward(x)
        key, n_hidden = self.next_key(), self.recurrent.in_features
        inputs, states, outputs = self.masks(key, self.keep, x, n_hidden)
        z = self.input(inputs * x)
        h = torch.zeros_like(z[:, 0])
        for t in range(z.shape[1]):
            h = torch.tanh(self.recurrent(states[:, t] * h) + z[:, t])
        return self.output(outputs[:, -1] * h)

    def extra_repr(self) -> str:
        return f"keep={self.keep}, masks={self.masks.__name__}"


class Ensemble(nn.Module):
    """M networks side by side: in training their outputs, in evaluation the log of their mean.

        z = (net₁(x), …, net_M(x))                  training    [n, …] -> [n, M, classes]
        ln p = ln((1/M) Σₘ softmax(zₘ))             evaluation  [n, …] -> [n, classes]

    With `losses.ensemble_cross_entropy` each learns as if alone. Raises ValueError for no networks.
    Lakshminarayanan et al. 2017.
    """

    def __init__(self, nets: Iterable[nn.Module]):
        super().__init__()
        self.nets = nn.ModuleList(nets)
        if not len(self.nets):
            raise ValueError("nets is empty; an ensemble needs at least one network")

    def forward(self, x: Tensor) -> Tensor:
        z = torch.stack([net(x) for net in self.nets], 1)
        if self.training:
            return z
        return z.log_softmax(-1).logsumexp(1) - math.log(len(self.nets))


def transformer(
    classes: int,
    *,
    context: int = 32,
    width: int = 32,
    heads: int = 2,
    depth: int = 2,
    block: Callable = pre_norm,
    norm: Callable = RMSNorm,
) -> nn.Sequential:
    """Reads tokens and predicts at each place the next one: attention and a feedforward in turn.

    [n, T] of token numbers, T ≤ context -> [n, T, classes]: at place t after reading x₁ ... xₜ.

    depth  of layers; each is a block with `CausalSelfAttention` and one with `feedforward`
    block  `blocks.pre_norm`, or `post_norm`, which has as many weights
    norm   a module class that takes the width; there is a last one before the outputs

    No biases. Vaswani et al. 2017, the decoder alone. Raises ValueError unless heads divides width,
    for a context or depth below 1 and for a sequence longer than the context.
    """
    if depth < 1:
        raise ValueError(f"depth={depth} must be at least 1")
    layers = [TokenEmbedding(classes, width, context)]
    for _ in range(depth):
        layers += [block(width, CausalSelfAttention(width, heads), norm=norm)]
        layers += [block(width, feedforward(width), norm=norm)]
    return nn.Sequential(*layers, norm(width), linear(width, classes))


class TokenEmbedding(nn.Module):
    """hₜ = E[xₜ] + P[t]: a vector for each token, and one for each place.

    [n, T] of token numbers -> [n, T, width]. The numbers may have a floating point dtype, as in a
    sweep, which casts x; they are exact up to 2²⁴ in float32 and 256 in bfloat16. Raises ValueError
    for T > context.
    """

    def __init__(self, tokens: int, width: int, context: int):
        super().__init__()
        if context < 1:
            raise ValueError(f"context={context} must be at least 1 place")
        self.token, self.place = nn.Embedding(tokens, width), nn.Embedding(context, width)

    def forward(self, x: Tensor) -> Tensor:
        context = self.place.num_embeddings
        if x.ndim != 2 or x.shape[1] > context:
            raise ValueError(f"x has shape {list(x.shape)}; give [n, T], T at most {context}")
        return self.token(x.long()) + self.place.weight[: x.shape[1]]
