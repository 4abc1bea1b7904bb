"""Attention, the blocks of a transformer and the whole, against torch's own in float64; causality
as a law; in a sweep."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_law import assert_law
from torch import nn

from nettrain import optimizers as o
from nettrain.blocks import (
    CausalSelfAttention,
    causal_attention,
    cost,
    feedforward,
    post_norm,
    pre_norm,
)
from nettrain.data import CHARACTERS, Data, Split, austen
from nettrain.lab import training
from nettrain.lab.sweep import Sweep
from nettrain.losses import token_cross_entropy
from nettrain.models import TokenEmbedding, transformer
from nettrain.normalization import LayerNorm, RMSNorm

g = torch.Generator().manual_seed(0)
exact = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


def randn(*shape):
    return torch.randn(shape, generator=g, dtype=torch.float64)


def assert_same(ours, theirs, *inputs):
    """Equal values and gradients for the inputs and for what stands in place of parameters."""
    a, b = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))
    y, expected = ours(*a), theirs(*b)
    exact(y, expected)
    weights = randn(*y.shape)
    mine = torch.autograd.grad((y * weights).sum(), a)
    exact(mine, torch.autograd.grad((expected * weights).sum(), b))


# ------------------------------------------------------------------------------- attention

torchs_attention = partial(F.scaled_dot_product_attention, is_causal=True)


@pytest.mark.parametrize("shape", [(5, 4), (1, 3), (2, 7, 4), (2, 3, 6, 4)])
@pytest.mark.parametrize("d_v", [4, 2])
def test_causal_attention_is_torchs(shape, d_v):
    q, k, v = 2 * randn(*shape), 2 * randn(*shape), randn(*shape[:-1], d_v)
    assert_same(causal_attention, torchs_attention, q, k, v)


def test_causal_attention_is_its_sum():
    q, k, v = (randn(6, 3).numpy() for _ in range(3))
    expected = np.zeros((6, 3))
    for t in range(6):
        a = np.array([np.exp(q[t] @ k[s] / np.sqrt(3)) for s in range(t + 1)])
        expected[t] = sum(a[s] / a.sum() * v[s] for s in range(t + 1))
    exact(causal_attention(*map(torch.from_numpy, (q, k, v))), torch.from_numpy(expected))


def test_the_first_place_reads_itself_and_equal_keys_are_averaged():
    q, k, v = randn(5, 4), randn(1, 4).expand(5, 4), randn(5, 4)
    out = causal_attention(q, k, v)
    assert torch.equal(out[0], v[0])
    exact(out, v.cumsum(0) / torch.arange(1, 6)[:, None])


def attend(q, k, v, *, scale=math.sqrt, mask=lambda T: torch.ones(T, T).tril() > 0, dim=-1):
    """Attention with its parts exchanged."""
    scores = q @ k.mT / scale(q.shape[-1])
    return scores.masked_fill(~mask(q.shape[-2]), -torch.inf).softmax(dim) @ v


def masked_afterwards(q, k, v):
    T, d = q.shape[-2:]
    return (q @ k.mT / math.sqrt(d)).softmax(-1).tril() @ v


ATTENTIONS = {
    "right": attend,
    "no scale": partial(attend, scale=lambda d: 1),
    "scaled by d": partial(attend, scale=lambda d: d),
    "reads what is later": partial(attend, mask=lambda T: torch.ones(T, T).triu() > 0),
    "reads everything": partial(attend, mask=lambda T: torch.ones(T, T) > 0),
    "reads one place more": partial(attend, mask=lambda T: torch.ones(T, T).tril(1) > 0),
    "softmax over queries": partial(attend, dim=-2),
    "masked after the softmax": masked_afterwards,
    "queries and keys exchanged": lambda q, k, v: attend(k, q, v),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_torchs_attention_tells_wrong_ones_apart(name):
    q, k, v = randn(2, 6, 4), randn(2, 6, 4), randn(2, 6, 4)
    if name == "right":
        assert_same(ATTENTIONS[name], torchs_attention, q, k, v)
    else:
        with pytest.raises(AssertionError):
            assert_same(ATTENTIONS[name], torchs_attention, q, k, v)


# --------------------------------------------------------------------------------- the layer


def stacked(ours):
    """The weights of query, key and value as torch keeps them."""
    return torch.cat([layer.weight.data for layer in (ours.query, ours.key, ours.value)])


def torchs_layer(ours):
    """torch's attention with the weights of ours and a causal mask."""
    width = ours.query.in_features
    theirs = nn.MultiheadAttention(width, ours.heads, bias=False, batch_first=True).double()
    theirs.in_proj_weight.data = stacked(ours)
    theirs.out_proj.weight.data = ours.output.weight.data.clone()

    def call(x):
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return theirs(x, x, x, attn_mask=later, need_weights=False)[0]

    return theirs, call


@pytest.mark.parametrize("heads", [1, 2, 3, 6])
@pytest.mark.parametrize("n, T", [(4, 5), (1, 7), (3, 1)])
def test_self_attention_is_torchs_with_a_causal_mask(n, T, heads):
    ours = CausalSelfAttention(6, heads).double()
    theirs, call = torchs_layer(ours)
    x = 2 * randn(n, T, 6)
    assert_same(ours, call, x)
    weights, names = randn(n, T, 6), ("query", "key", "value", "output")
    mine = torch.autograd.grad(
        (ours(x) * weights).sum(), [ours.get_submodule(k).weight for k in names]
    )
    expected = torch.autograd.grad(
        (call(x) * weights).sum(), [theirs.in_proj_weight, theirs.out_proj.weight]
    )
    exact(torch.cat(mine[:3]), expected[0])
    exact(mine[3], expected[1])


def test_self_attention_takes_any_number_of_leading_dimensions():
    layer, x = CausalSelfAttention(6, 2).double(), randn(2, 3, 5, 6)
    exact(layer(x), layer(x.flatten(0, 1)).unflatten(0, (2, 3)))
    exact(layer(x[0, 0]), layer(x)[0, 0])


class Changed(CausalSelfAttention):
    """Self-attention with one line exchanged."""

    def __init__(self, change):
        super().__init__(6, 2)
        self.change = change
        self.double()

    def forward(self, x):
        layers, heads = [self.query, self.key, self.value], self.heads
        apart = lambda z: z.unflatten(-1, (heads, -1)).transpose(-3, -2)
        together = lambda h: h.transpose(-3, -2).flatten(-2)
        output = self.output
        if self.change == "heads interleaved":
            apart = lambda z: z.unflatten(-1, (-1, heads)).movedim(-1, -3)
        elif self.change == "heads joined place by place":
            together = lambda h: h.reshape(x.shape)
        elif self.change == "queries and keys exchanged":
            layers = [self.key, self.query, self.value]
        elif self.change == "values and keys exchanged":
            layers = [self.query, self.value, self.key]
        elif self.change == "no output weights":
            output = nn.Identity()
        elif self.change == "output weights transposed":
            output = lambda h: h @ self.output.weight
        elif self.change == "scaled as one head":
            layers[0] = lambda z: self.query(z) / math.sqrt(heads)
        return output(together(causal_attention(*(apart(layer(x)) for layer in layers))))


CHANGES = [
    "heads interleaved",
    "heads joined place by place",
    "queries and keys exchanged",
    "values and keys exchanged",
    "no output weights",
    "output weights transposed",
    "scaled as one head",
]


@pytest.mark.parametrize("change", [None, *CHANGES])
def test_torchs_layer_tells_wrong_ones_apart(change):
    layer, x = Changed(change), 2 * randn(3, 5, 6)
    _, call = torchs_layer(layer)
    if change is None:
        assert_same(layer, call, x)
    else:
        with pytest.raises(AssertionError):
            assert_same(layer, call, x)


# ----------------------------------------------------------------------- blocks, whole layers


def layer_of(block, width=6, heads=2, norm=LayerNorm):
    """One layer of a transformer: attention and a feedforward, each in its block."""
    bodies = CausalSelfAttention(width, heads), feedforward(width)
    return nn.Sequential(*(block(width, body, norm=norm) for body in bodies)).double()


def torchs_encoder_layer(ours, first):
    """torch's whole layer with the weights of ours."""
    theirs = nn.TransformerEncoderLayer(
        6, 2, 24, 0.0, F.gelu, batch_first=True, norm_first=first
    ).double()
    norms = [m for m in ours.modules() if isinstance(m, LayerNorm)]
    attention = next(m for m in ours.modules() if isinstance(m, CausalSelfAttention))
    mlp = [m for m in ours[1].modules() if isinstance(m, nn.Linear)]
    for p in theirs.parameters():
        nn.init.zeros_(p)
    theirs.self_attn.in_proj_weight.data = stacked(attention)
    theirs.self_attn.out_proj.weight.data = attention.output.weight.data
    theirs.linear1.weight.data, theirs.linear2.weight.data = (m.weight.data for m in mlp)
    for mine, own in zip(norms, (theirs.norm1, theirs.norm2), strict=True):
        own.weight.data, own.bias.data = mine.gamma.data, mine.beta.data
    later = torch.ones(5, 5, dtype=torch.bool).triu(1)
    return partial(theirs, src_mask=later)


def trained(net):
    """Gains and shifts that are not 1 and 0."""
    for p in net.parameters():
        if p.ndim == 1:
            p.data += 0.3 * randn(*p.shape)
    return net


BLOCKS = {"pre-norm": pre_norm, "post-norm": post_norm}
WRONG_BLOCKS = {
    "norm on the shortcut": lambda w, body, *, norm: Chain(
        norm(w), body, lambda n, f, x: n(x) + f(n(x))
    ),
    "no shortcut": lambda w, body, *, norm: Chain(norm(w), body, lambda n, f, x: f(n(x))),
    "norm of the branch": lambda w, body, *, norm: Chain(
        norm(w), body, lambda n, f, x: x + n(f(x))
    ),
}


class Chain(nn.Module):
    def __init__(self, norm, body, formula):
        super().__init__()
        self.norm, self.body, self.formula = norm, body, formula

    def forward(self, x):
        return self.formula(self.norm, self.body, x)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("name", [*BLOCKS, *WRONG_BLOCKS])
def test_two_blocks_are_torchs_encoder_layer_and_wrong_ones_are_not(name, kind):
    ours = trained(layer_of((BLOCKS | WRONG_BLOCKS)[name]))
    theirs = torchs_encoder_layer(ours, first=kind == "pre-norm")
    x = randn(3, 5, 6)
    if name == kind:
        assert_same(ours, theirs, x)
    else:
        with pytest.raises(AssertionError):
            assert_same(ours, theirs, x)


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
def test_both_blocks_have_the_same_weights(norm):
    shapes = [sorted(p.shape for p in layer_of(b, norm=norm).parameters()) for b in BLOCKS.values()]
    assert shapes[0] == shapes[1]


def test_what_passes_a_pre_norm_block_is_the_sum_and_post_norm_normalizes_it():
    x, still = 100 * randn(4, 6), nn.Linear(6, 6, bias=False).double()
    nn.init.zeros_(still.weight)
    assert torch.equal(pre_norm(6, still).double()(x), x)
    exact(post_norm(6, still).double()(x), F.layer_norm(x, (6,)))


# --------------------------------------------------------------------------------- the whole


@pytest.mark.parametrize("block", BLOCKS.values())
def test_a_transformer_is_torchs_parts(block):
    net = trained(transformer(7, context=8, width=6, block=block, norm=LayerNorm).double())
    x = torch.randint(7, (3, 5), generator=g)
    h = F.embedding(x, net[0].token.weight) + net[0].place.weight[:5]
    for k in (1, 3):
        h = torchs_encoder_layer(net[k : k + 2], first=block is pre_norm)(h)
    h = F.layer_norm(h, (6,), net[-2].gamma, net[-2].beta)
    exact(net(x), h @ net[-1].weight.T)
    assert net(x).shape == (3, 5, 7)


@pytest.mark.parametrize("depth, width, heads, context", [(1, 6, 3, 4), (2, 32, 2, 32)])
def test_its_size_is_counted_by_hand(depth, width, heads, context):
    net = transformer(81, context=context, width=width, heads=heads, depth=depth)
    gains = 2 * depth + 1
    weights = (81 + context + 81) * width + depth * 12 * width**2 + gains * width
    x = torch.zeros(2, context, dtype=torch.int64)
    assert cost(net, x) == (weights, context * (depth * 12 * width**2 + 81 * width))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.float32])
def test_numbers_of_tokens_may_have_any_dtype(dtype):
    net, x = transformer(81, context=4, width=6).double(), torch.randint(81, (3, 4), generator=g)
    assert torch.equal(net(x.to(dtype)), net(x))


def test_a_shorter_sequence_gives_the_beginning_of_a_longer_one():
    net, x = transformer(7, context=8, width=6).double(), torch.randint(7, (3, 8), generator=g)
    exact(net(x[:, :3]), net(x)[:, :3])


# --------------------------------------------------------------------------------- causality


def net_of(block, norm, heads, depth):
    build = lambda: transformer(
        5, context=9, width=6, heads=heads, depth=depth, block=block, norm=norm
    )
    return training.build(build, heads + 10 * depth).double()


def influence(net, T, place, token):
    """Largest change of the outputs [T] when the token at one place is exchanged."""
    x = torch.arange(T)[None] * 2 % 5
    y = x.clone()
    y[0, place] = (x[0, place] + 1 + token) % 5
    return (net(y) - net(x))[0].abs().amax(-1)


@settings(max_examples=40, deadline=None)
@given(
    block=st.sampled_from([pre_norm, post_norm]),
    norm=st.sampled_from([LayerNorm, RMSNorm]),
    heads=st.sampled_from([1, 2, 3]),
    depth=st.integers(1, 3),
    T=st.integers(1, 9),
    place=st.integers(0, 8),
    token=st.integers(0, 3),
)
def test_a_later_token_changes_no_earlier_output(block, norm, heads, depth, T, place, token):
    place %= T
    change = influence(net_of(block, norm, heads, depth), T, place, token)
    assert (change[:place] == 0).all()
    assert (change[place:] > 1e-9).all()  # and every later one


class Peeking(CausalSelfAttention):
    def forward(self, x):
        apart = lambda z: z.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
        h = F.scaled_dot_product_attention(
            *(apart(layer(x)) for layer in (self.query, self.key, self.value))
        )
        return self.output(h.transpose(-3, -2).flatten(-2))


class OverPlaces(RMSNorm):
    def forward(self, x):
        return x / (x.square().mean((-2, -1), keepdim=True) + self.eps).sqrt()


def test_the_law_of_causality_finds_what_peeks():
    peeking = nn.Sequential(TokenEmbedding(5, 6, 9), pre_norm(6, Peeking(6, 2))).double()
    assert (influence(peeking, 6, 4, 0)[:4] > 1e-9).all()
    assert (influence(net_of(pre_norm, OverPlaces, 2, 1), 6, 4, 0)[:4] > 1e-9).all()


# --------------------------------------------------------------------------------- in a sweep


def tokens(rule, *, T=6, classes=3, sizes=(22, 9, 5), seed=0):
    """Random tokens x [n, T] and the labels rule(x) [n, T]."""
    random = torch.Generator().manual_seed(seed)
    parts = (torch.randint(classes, (n, T), generator=random) for n in sizes)
    return Data("tokens", *(Split(x, rule(x)) for x in parts))


def before(x):
    """Each token's predecessor; of the first, itself."""
    return torch.cat([x[:, :1], x[:, :-1]], 1)


IN_SWEEPS = [(pre_norm, RMSNorm, o.adam, 2), (post_norm, LayerNorm, o.momentum, 1)]


@pytest.mark.parametrize("block, norm, rule, depth", IN_SWEEPS)
def test_a_row_of_a_sweep_is_that_run_alone(block, norm, rule, depth):
    how = {"context": 6, "width": 4, "depth": depth, "block": block, "norm": norm}
    work = Sweep(
        partial(transformer, 3, **how),
        rule,
        tokens(before),
        batch=4,
        loss=token_cross_entropy,
        dtype=torch.float64,
    )
    runs, losses = work.advance(work.start(seeds=[0, 5, 0], lr=[0.02, 0.05, 0.01]), 7)
    assert_law(work, runs, losses)
    rest, _ = work.advance(runs[[2, 0]], 2)  # after selection
    both, _ = work.advance(runs, 2)
    exact(rest.theta, both.theta[[2, 0]])


def test_in_float32_a_sweep_reads_the_tokens_that_were_given():
    data = tokens(before, classes=81)
    work = Sweep(
        partial(transformer, 81, context=6, width=4), o.sgd, data, batch=4, loss=token_cross_entropy
    )
    assert work.data.train.x.dtype == torch.float32 and work.data.train.y.dtype == torch.int64
    runs = work.start([3], lr=0.1)
    net = work.network(runs, 0)
    exact(net(work.data.train.x), net(data.train.x))
    loss, right = work.evaluate(runs, data.valid)
    torch.testing.assert_close(loss[0], token_cross_entropy(net(data.valid.x), data.valid.y))
    hits = net(data.valid.x).argmax(-1) == data.valid.y
    assert right[0] == hits.double().mean()


def test_it_learns_to_look_one_place_back():
    """What no function of the present token can do: they are independent."""
    data = tokens(before, classes=4, sizes=(512, 128, 1))
    model = partial(transformer, 4, context=6, width=16, depth=1)
    work = Sweep(model, o.adam, data, batch=32, loss=token_cross_entropy)
    runs, _ = work.advance(work.start([0, 1], lr=0.01), 50)
    loss, _ = work.evaluate(runs, data.valid)
    without = 5 / 6 * math.log(4)
    assert (loss < 0.02 * without).all(), loss


def test_it_learns_austen_beyond_the_frequencies_of_characters(monkeypatch):
    monkeypatch.setenv("NETTRAIN_DEVICE", "cpu")
    data = austen(context=16, n=2_000)
    model = partial(transformer, len(CHARACTERS), context=16, width=16)
    work = Sweep(model, o.adam, data, batch=16, loss=token_cross_entropy)
    runs, _ = work.advance(work.start([0, 1], lr=0.02), 100)
    loss, _ = work.evaluate(runs, data.valid)
    y = data.valid.y.flatten()
    frequencies = -(y.bincount() / len(y))[y].log().mean()
    assert frequencies > 3 and (loss < 2.75).all(), loss


# --------------------------------------------------------------------------------- refusals

REFUSED = [
    (lambda: CausalSelfAttention(6, 4), "heads=4 does not divide width=6"),
    (lambda: CausalSelfAttention(6, 0), "heads=0 does not divide width=6"),
    (lambda: CausalSelfAttention(0, 1), "heads=1 does not divide width=0"),
    (lambda: transformer(5, depth=0), "depth=0 must be at least 1"),
    (lambda: transformer(5, context=0), "context=0 must be at least 1 place"),
    (lambda: transformer(5, width=6, heads=4), "heads=4 does not divide width=6"),
    (
        lambda: transformer(5, context=3)(torch.zeros(2, 4)),
        r"x has shape \[2, 4\]; give \[n, T\], T at most 3",
    ),
    (lambda: transformer(5)(torch.zeros(2)), r"x has shape \[2\]; give \[n, T\], T at most 32"),
]


@pytest.mark.parametrize("wrong, message", REFUSED)
def test_errors_name_the_argument(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        wrong()
