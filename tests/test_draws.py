"""Draws against SplitMix64 in Python integers, published numbers and statistical tests."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.func import vmap
from torch.utils.checkpoint import checkpoint

from nettrain import draws
from nettrain.augmentation import Augment
from nettrain.dropout import DropConnect, Dropout, LayerDrop
from nettrain.lab import training
from nettrain.models import DropoutRNN

WORD = 1 << 64
GOLDEN = 0x9E3779B97F4A7C15
PUBLISHED = [  # the first five outputs of splitmix64 started at 1234567
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def mix(x):
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB % WORD
    return x ^ x >> 31


def mixed(*parts):
    state = 0
    for part in parts:
        state = mix((state + GOLDEN + part) % WORD)
    return state


def key(*parts):
    return torch.tensor(parts, dtype=torch.int64)


def unsigned(x):
    return [int(i) % WORD for i in x]


def test_the_mixer_gives_the_published_numbers():
    assert [mix((1234567 + GOLDEN * i) % WORD) for i in range(1, 6)] == PUBLISHED
    states = 1234567 + draws._GOLDEN * torch.arange(1, 6)
    assert unsigned(draws._mix(states)) == PUBLISHED


@given(parts=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4))
def test_bits_are_splitmix64_started_at_the_mixed_key(parts):
    reference = [mix((mixed(*parts) + GOLDEN * i) % WORD) for i in range(1, 6)]
    assert unsigned(draws.bits(key(*parts), 5)) == reference
    floats = [(x >> 40) / 2**24 for x in reference]
    assert draws.uniform(key(*parts), torch.Size([5])).tolist() == floats


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_uniform_is_float32_in_the_unit_interval_whatever_the_default(default):
    torch.set_default_dtype(default)
    try:
        u = draws.uniform(key(7, 0, 0), torch.Size([50, 400]))
    finally:
        torch.set_default_dtype(torch.float32)
    assert u.dtype == torch.float32 and u.shape == (50, 400)
    assert 0 <= u.min() and u.max() < 1
    assert stats.kstest(u.flatten().double(), "uniform").pvalue > 0.01


def test_the_first_draws_of_neighbouring_keys_are_uniform_too():
    for place in range(3):
        keys = torch.zeros(5000, 3, dtype=torch.int64)
        keys[:, place] = torch.arange(5000)
        u = vmap(lambda k: draws.uniform(k, torch.Size([2])))(keys).double()
        assert stats.kstest(u[:, 0], "uniform").pvalue > 0.01
        assert stats.pearsonr(u[:-1, 0], u[1:, 0]).pvalue > 0.01  # a key and the next one
        assert stats.pearsonr(u[:, 0], u[:, 1]).pvalue > 0.01  # a draw and the next one


@pytest.mark.parametrize("other", [(8, 0, 0), (7, 1, 0), (7, 0, 1), (0, 7, 0), (7, 0, -1)])
def test_different_keys_give_unrelated_streams(other):
    a, b = (draws.uniform(key(*k), torch.Size([20000])).double() for k in ((7, 0, 0), other))
    assert stats.pearsonr(a, b).pvalue > 0.01
    assert len(set(a.tolist()) & set(b.tolist())) < 100  # 24 expected by chance, not a shifted copy


def test_all_bits_are_fair():
    x = draws.bits(key(3), 20000)
    ones = torch.stack([(x >> i & 1).sum() for i in range(64)])
    assert stats.chisquare(ones.double(), 10000.0, sum_check=False).pvalue > 0.01


@given(seed=st.integers(0, 2**40), n=st.integers(1, 200))
def test_a_permutation_holds_every_number_once(seed, n):
    assert draws.permutation(key(seed, 0, -1), n).sort().values.tolist() == list(range(n))


def test_the_order_of_an_epoch_is_that_of_a_key_that_no_layer_has():
    seeds = torch.tensor([[0, 7], [2**63 - 1, 3]])
    for epoch in (0, 4):
        orders = training.order(seeds, epoch, 22)
        for seed, row in zip(seeds.flatten(), orders.flatten(0, 1), strict=True):
            drawn = [mix((mixed(int(seed), epoch, -1) + GOLDEN * i) % WORD) for i in range(1, 23)]
            signed = [x - WORD * (x >= WORD // 2) for x in drawn]
            assert row.tolist() == sorted(range(22), key=signed.__getitem__)


def test_every_order_is_equally_likely():
    keys = torch.arange(6000)[:, None]
    orders = draws.permutation(keys, 4)
    counts = (orders @ torch.tensor([64, 16, 4, 1])).unique(return_counts=True)[1]
    assert len(counts) == 24 and stats.chisquare(counts.double()).pvalue > 0.01
    first = draws.permutation(keys, 50)[:, 0]
    assert stats.chisquare(first.bincount(minlength=50).double()).pvalue > 0.01


def test_a_draw_beside_others_is_the_draw_alone():
    keys = torch.tensor([[3, 0, 0], [3, 1, 0], [9, 0, 2], [-1, 5, -1]])
    under_vmap = vmap(lambda k: draws.uniform(k, torch.Size([3, 5])))(keys)
    orders = draws.permutation(keys.view(2, 2, 3), 9).view(4, 9)
    for i, k in enumerate(keys):
        assert torch.equal(under_vmap[i], draws.uniform(k, torch.Size([3, 5])))
        assert torch.equal(orders[i], draws.permutation(k, 9))
        assert torch.equal(orders[i], draws.bits(k, 9).argsort())


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_normal_numbers_are_those_of_box_and_muller(n):
    u1, u2 = draws.uniform(key(3, 1), torch.Size([2, (n + 1) // 2])).double().numpy()
    pairs = np.sqrt(-2 * np.log1p(-u1)) * np.exp(2j * np.pi * u2)  # r e^(iφ)
    found = draws.normal(key(3, 1), torch.Size([n])).double().numpy()
    assert found == pytest.approx(np.concatenate([pairs.real, pairs.imag])[:n], abs=1e-5)


@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-24])
def test_the_ends_of_the_uniform_numbers_give_finite_normal_numbers(monkeypatch, u):
    monkeypatch.setattr(draws, "uniform", lambda _, shape: torch.full(shape, u))
    assert draws.normal(key(0), torch.Size([4])).isfinite().all()


# ------------------------------------------------------------------------ seeds


@pytest.mark.parametrize("seed", [0, 2**63 - 1, np.int64(5), np.uint32(5), torch.tensor(5)])
def test_a_seed_is_an_integer_of_any_kind(seed):
    assert draws.check_seed(seed) == int(seed) and type(draws.check_seed(seed)) is int


@pytest.mark.parametrize(
    "seed, error, message",
    [
        (-1, ValueError, r"^seed=-1 is outside \[0, 2\^63\)"),
        (2**63, ValueError, r"^seed=9223372036854775808 is outside"),
        (np.uint64(2**63 + 1), ValueError, r"^seed=9223372036854775809 is outside"),
        (1.0, TypeError, "^seed=1.0 is not an integer$"),
        (True, TypeError, "^seed=True is not an integer$"),
        ("1", TypeError, "^seed='1' is not an integer$"),
        (torch.tensor([1, 2]), TypeError, "is not an integer$"),
        (None, TypeError, "^seed=None is not an integer$"),
    ],
)
def test_other_seeds_are_refused_by_name(seed, error, message):
    for use in (draws.check_seed, lambda s: training.build(nn.Identity, s)):
        with pytest.raises(error, match=message):
            use(seed)


# ------------------------------------------------------------------------ random layers


class Jitter(draws.Keyed):
    """A layer such as a reader may write."""

    def forward(self, x):
        return x * (0.5 + self.draw(x.shape)) if self.training else x


LAYERS = {
    "jitter": Jitter,
    "dropout": lambda: Dropout(0.5),
    "connections": lambda: DropConnect(8, 8, 0.5),
    "layers": lambda: LayerDrop(nn.Linear(8, 8), 0.5),
    "images": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 4)), Augment(noise=1.0, flip=0.5), nn.Flatten()
    ),
    "recurrent": lambda: nn.Sequential(nn.Unflatten(1, (4, 2)), DropoutRNN(2, 5, 8, 0.5)),
}
inputs = torch.linspace(-1, 1, 80).view(10, 8).double()


def two(make, seed=0):
    """Two random layers between linear ones, so that both are needed for the gradient."""
    layers = lambda: [nn.Linear(8, 8), make(), nn.Tanh(), make(), nn.Linear(8, 2)]
    return training.build(lambda: nn.Sequential(*layers()), seed).double().train()


def gradient(net, losses, reentrant):
    """The gradient of the sum of losses of several passes; reentrant None: nothing repeated."""
    net.zero_grad()
    for group in losses:  # passes of one group are added before backward
        total = 0.0
        for scale in group:
            x = (scale * inputs).requires_grad_()
            repeated = reentrant is not None
            out = checkpoint(net, x, use_reentrant=reentrant) if repeated else net(x)
            total = total + out.square().sum()
        total.backward()
    return torch.cat([p.grad.flatten() for p in net.parameters()]), net.state_dict()


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("losses", [[(1,)], [(1,), (2,), (3,)], [(1, 2, 3), (4, 5)]], ids=str)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_pass_that_checkpointing_repeats_draws_what_it_drew(layer, losses, reentrant):
    want, state = gradient(two(LAYERS[layer]), losses, None)
    got, state_again = gradient(two(LAYERS[layer]), losses, reentrant)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    for name in state:  # a repeated pass is not counted
        assert torch.equal(state[name], state_again[name]), name
    other, _ = gradient(two(LAYERS[layer], seed=1), losses, None)
    assert (other - want).abs().max() > 0.1


def test_passes_between_a_pass_and_its_repetition_do_not_matter():
    def run(repeated):
        net = two(lambda: Dropout(0.5))
        x = inputs.clone().requires_grad_()
        out = checkpoint(net, x, use_reentrant=False) if repeated else net(x)
        for _ in range(5):
            net(inputs)
        out.sum().backward()
        return x.grad, net[1].key

    torch.testing.assert_close(run(True), run(False), rtol=0, atol=0)


def test_what_is_remembered_of_passes_is_bounded():
    layer = Dropout(0.5)
    for _ in range(draws.REMEMBERED + 50):
        layer(torch.ones(1))
    assert len(layer._passes) == draws.REMEMBERED and layer.key[1] == draws.REMEMBERED + 50


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_that_nobody_seeded_share_nothing_and_obey_torchs_seed(layer):
    def drawn(seed):
        torch.manual_seed(0)
        net = nn.Sequential(LAYERS[layer](), nn.Identity(), LAYERS[layer]()).double()
        torch.manual_seed(seed)
        net(inputs)
        return [m.key for m in net.modules() if isinstance(m, draws.Keyed)]

    (a, b), (again, _), (c, _) = drawn(0), drawn(0), drawn(1)
    assert a[0] >= 0 and a[0] != b[0] and torch.equal(a, again) and a[0] != c[0]


def test_build_finds_random_layers_by_their_type_alone():
    class Cache(nn.Module):  # its "key" is that of an attention's cache
        def __init__(self):
            super().__init__()
            self.register_buffer("key", torch.full((4, 2), 0.25))

        def forward(self, x):
            return x

    def masks(seed):
        net = training.build(lambda: nn.Sequential(Cache(), Jitter(), Jitter()), seed).train()
        assert (net[0].key == 0.25).all()
        assert [m.key.tolist() for m in net[1:]] == [[seed, 0, 0], [seed, 0, 1]]
        return [m(inputs) for m in net[1:]]

    (a, b), (c, _) = masks(3), masks(4)
    assert not torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copied_or_reloaded_layer_goes_on_alike(copied):
    layer = Dropout(0.5)
    layer(inputs)
    twin, loaded = copied(layer), Dropout(0.5)
    loaded.load_state_dict(layer.state_dict())
    out = layer(inputs)
    assert torch.equal(twin(inputs), out) and torch.equal(loaded(inputs), out)


def test_a_state_without_a_seed_is_seeded_at_the_next_pass():
    layer, other = Dropout(0.5), Dropout(0.5)
    layer(inputs)
    layer.load_state_dict(other.state_dict())
    assert layer.key[0] == -1
    layer(inputs)
    assert layer.key[0] >= 0
