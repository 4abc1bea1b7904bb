"""Draws against SplitMix64 in Python integers, published numbers and statistical tests."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.func import vmap

from nettrain import draws

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
    state = 0
    for part in parts:
        state = mix((state + GOLDEN + part) % WORD)
    reference = [mix((state + GOLDEN * i) % WORD) for i in range(1, 6)]
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
