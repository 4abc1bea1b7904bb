"""Search spaces: the laws between configurations and the unit cube, and what is refused."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nettrain import spaces
from nettrain.spaces import Choice, Integer, Real

SPACE = dict(
    lr=Real(1e-4, 1, log=True),
    width=Integer(8, 128),
    batch=Integer(1, 1000, log=True),
    act=Choice("relu", "tanh", None),
    opt=Choice(
        dict(name="sgd", rho=Real(0, 0.99), nesterov=Choice(True, False)),
        dict(name="adam", beta=dict(one=Real(0.5, 0.999), two=0.999)),
        "lbfgs",
    ),
    decay=Choice(0, Real(1e-6, 1e-1, log=True)),
    classes=10,
)
D = spaces.dims(SPACE)
points = st.lists(st.floats(0, 1), min_size=D, max_size=D)


def flat(config):
    """Leaf values by path."""
    if isinstance(config, dict):
        return {(k, *p): v for k, part in config.items() for p, v in flat(part).items()}
    return {(): config}


# ---------------------------------------------------------------------------------- laws


def test_dims_count_every_coordinate():
    # lr, width, batch, act, opt with rho, nesterov and one, decay with its number
    assert D == 10
    spaces.check(SPACE)


@given(points)
def test_there_and_back(u):
    config = spaces.from_unit(SPACE, u)
    assert spaces.validate(SPACE, config) == config == json.loads(json.dumps(config))
    back = flat(spaces.from_unit(SPACE, spaces.to_unit(SPACE, config)))
    assert back.keys() == flat(config).keys()
    for path, value in flat(config).items():
        assert type(back[path]) is type(value)
        assert back[path] == (pytest.approx(value, rel=1e-12) if type(value) is float else value)


@given(points)
def test_snapped_points_are_the_configurations_points(u):
    u = torch.tensor(u, dtype=torch.float64)
    snapped = spaces.snap(SPACE, u)
    torch.testing.assert_close(
        snapped, spaces.to_unit(SPACE, spaces.from_unit(SPACE, u)), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(spaces.snap(SPACE, snapped), snapped, rtol=0, atol=1e-12)


@given(points)
def test_features_know_no_more_than_the_configuration(u):
    u = torch.tensor(u, dtype=torch.float64)
    config = spaces.from_unit(SPACE, u)
    features = spaces.features(SPACE, config)
    torch.testing.assert_close(features, spaces.embed(SPACE, spaces.snap(SPACE, u)))
    assert features.dtype == torch.float64 and ((features >= 0) & (features <= 1)).all()
    # lr, width, batch, act 3, opt 3, rho, nesterov 2, one, decay 2 and its number
    assert features.shape == (16,)


def test_inactive_coordinates_change_nothing():
    u = torch.rand(D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u[4], u[8] = 0.9, 0.1  # lbfgs, and the option 0 of decay
    other = u.clone()
    other[[5, 6, 7, 9]] = 1 - u[[5, 6, 7, 9]]
    config = spaces.from_unit(SPACE, u)
    assert config["opt"] == "lbfgs" and config["decay"] == 0
    assert spaces.from_unit(SPACE, other) == config
    torch.testing.assert_close(spaces.embed(SPACE, u), spaces.embed(SPACE, other), rtol=0, atol=0)
    assert spaces.to_unit(SPACE, config)[[5, 6, 7, 9]].tolist() == [0.5] * 4


def test_many_points_at_once_are_each_alone():
    u = torch.rand(4, 5, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for f in (spaces.snap, spaces.embed):
        alone = torch.stack([f(SPACE, row) for row in u.view(-1, D)]).view(4, 5, -1)
        torch.testing.assert_close(f(SPACE, u), alone, rtol=0, atol=0)


def test_features_have_the_gradient_of_their_numbers():
    u = torch.full((D,), 0.3, dtype=torch.float64, requires_grad=True)
    spaces.embed(SPACE, u).sum().backward()
    assert u.grad.tolist() == [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]  # opt is sgd, decay is 0


# ------------------------------------------------------------------------- distributions

U = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000


@pytest.mark.parametrize(
    "dim, probability",
    [
        (Integer(3, 7), lambda k: 1 / 5),
        (Integer(1, 9, log=True), lambda k: math.log((k + 0.5) / (k - 0.5)) / math.log(9.5 / 0.5)),
    ],
)
def test_every_whole_number_has_its_probability(dim, probability):
    values = [dim.value(u) for u in U[::10].tolist()]
    assert set(values) == set(range(dim.low, dim.high + 1))
    for k in set(values):
        assert values.count(k) / len(values) == pytest.approx(probability(k), abs=2e-4)


def test_options_are_equally_probable():
    shares = torch.bincount(Choice("a", "b", "c").pick(U).long()) / len(U)
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), rtol=0, atol=1e-5)


def test_real_ranges():
    assert Real(-2, 6).value(0.25) == 0
    assert Real(1e-4, 1, log=True).value(0.25) == pytest.approx(1e-3, rel=1e-14)
    for dim in (Real(-2, 6), Real(1e-4, 1, log=True), Real(1e-300, 1e300, log=True)):
        assert [dim.value(0), dim.value(1)] == pytest.approx([dim.low, dim.high], rel=1e-12)
        assert dim.low <= dim.value(0) and dim.value(1) <= dim.high


# ---------------------------------------------------------------------------------- grids


def test_grid_is_the_product_of_sensible_values():
    space = dict(lr=Real(1e-4, 1, log=True), keep=Real(0.5, 1), n=Integer(1, 3), act=Choice(0, 1))
    found = spaces.grid(space, dict(lr=3, keep=2, n=9))
    assert len(found) == 3 * 2 * 3 * 2 == len({spaces.key(c) for c in found})
    assert sorted({c["lr"] for c in found}) == pytest.approx([1e-4, 1e-2, 1])
    assert sorted({c["keep"] for c in found}) == [0.5, 1]
    assert all(spaces.validate(space, c) == c for c in found)


def test_grid_of_integers():
    assert Integer(1, 1000, log=True).grid(4) == [1, 10, 100, 1000]
    assert Integer(0, 10).grid(3) == [0, 5, 10]
    assert Integer(0, 2).grid(3) == Integer(0, 2).grid(99) == [0, 1, 2]
    assert Integer(0, 100).grid(1) == [50]


def test_grid_visits_a_nested_number_only_beside_its_option():
    space = dict(opt=Choice(dict(name="sgd", rho=Real(0, 1)), dict(name="adam")))
    assert spaces.grid(space, {"opt.rho": 2}) == [
        dict(opt=dict(name="sgd", rho=0.0)),
        dict(opt=dict(name="sgd", rho=1.0)),
        dict(opt=dict(name="adam")),
    ]
    with pytest.raises(ValueError, match="opt.rho"):
        spaces.grid(space, dict(rho=2))
    with pytest.raises(ValueError, match="1 point or more"):
        spaces.grid(space, 0)


# ------------------------------------------------------------------------------ validation


def test_scalars_of_numpy_and_torch_become_plain():
    space = dict(a=Real(0, 4), b=Integer(0, 4), c=Choice(True, False), d=Choice([1, 2], [3]))
    config = dict(a=np.float64(2), b=np.int32(3), c=np.bool_(True), d=(1, 2))
    plain = spaces.validate(space, config)
    assert json.dumps(plain) == '{"a": 2.0, "b": 3, "c": true, "d": [1, 2]}'
    assert spaces.validate(space, config | dict(a=torch.tensor(1))) == plain | dict(a=1.0)


def test_true_is_not_one():
    space = dict(c=Choice(1, True, "1"))
    for i, value in enumerate(space["c"].options):
        (u,) = spaces.to_unit(space, dict(c=value)).tolist()
        assert u == pytest.approx((i + 0.5) / 3)
        assert type(spaces.from_unit(space, [u])["c"]) is type(value)
    assert spaces.key(dict(a=1)) == spaces.key(dict(a=1.0)) != spaces.key(dict(a=True))


def test_keys():
    a, b = dict(x=1, y=[dict(z=2), 3]), dict(y=(dict(z=np.int64(2)), 3.0), x=np.float32(1))
    assert spaces.key(a) == spaces.key(b) and hash(spaces.key(a)) == hash(spaces.key(b))
    assert spaces.key(a) != spaces.key(dict(x=1, y=[dict(z=2), 4]))


GOOD = dict(
    lr=0.1, width=8, batch=5, act=None, opt=dict(name="sgd", rho=0.5, nesterov=True), decay=0
) | dict(classes=10)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(lr=3), ["lr=3", "0.0001, 1"]),
        (dict(lr=math.nan), ["lr=nan"]),
        (dict(lr=True), ["lr=True"]),
        (dict(lr="0.1"), ["lr='0.1'"]),
        (dict(width=8.0), ["width=8.0", "whole", "8, 128"]),
        (dict(width=True), ["width=True"]),
        (dict(act="gelu"), ["act='gelu'", "relu"]),
        (dict(opt=dict(name="sgd", rho=2, nesterov=True)), ["opt.rho=2", "0, 0.99"]),
        (dict(opt=dict(name="sgd")), ["opt={'name': 'sgd'}", "none of"]),
        (dict(decay=5), ["decay=5", "none of"]),
        (dict(classes=9), ["classes=9", "10"]),
        (dict(rate=1), ["rate", "unknown"]),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    with pytest.raises(ValueError) as error:
        spaces.validate(SPACE, GOOD | change)
    assert all(word in str(error.value) for word in words), error.value


def test_a_missing_name_is_named():
    with pytest.raises(ValueError, match=r"\['lr'\] missing"):
        spaces.validate(SPACE, {k: v for k, v in GOOD.items() if k != "lr"})
    with pytest.raises(ValueError, match="no dict"):
        spaces.validate(SPACE, 3)
    with pytest.raises(ValueError, match="lr=3"):
        spaces.to_unit(SPACE, GOOD | dict(lr=3))


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: Real(1, 1), ValueError, "low < high"),
        (lambda: Real(0, math.inf), ValueError, "finite"),
        (lambda: Real(0, 1, log=True), ValueError, "above 0"),
        (lambda: Real("0", 1), TypeError, "'0' is no real number"),
        (lambda: Real(True, 2), TypeError, "True"),
        (lambda: Integer(0, 1.5), TypeError, "1.5 is no integral number"),
        (lambda: Integer(0, 10**13), ValueError, "use Real"),
        (lambda: Choice("a"), ValueError, "two options"),
        (lambda: Choice("a", "a"), ValueError, "equal"),
        (lambda: Choice(1, 1.0), ValueError, "equal"),
        (lambda: Choice(torch.nn.ReLU, "tanh"), TypeError, "look the name up"),
        (lambda: Choice(dict(f=math.sin), "tanh"), TypeError, "f: "),
        (lambda: spaces.check([Real(0, 1)]), TypeError, "dict"),
        (lambda: spaces.check({1: Real(0, 1)}), TypeError, "1 is no str"),
        (lambda: spaces.check(dict(a=math.nan, b=Real(0, 1))), TypeError, "a: nan"),
        (lambda: spaces.check(dict(a=1)), ValueError, "nothing to search"),
        (lambda: spaces.from_unit(dict(a=Real(0, 1)), [1.5]), ValueError, "unit cube"),
        (lambda: spaces.from_unit(dict(a=Real(0, 1)), [math.nan]), ValueError, "unit cube"),
        (lambda: spaces.from_unit(dict(a=Real(0, 1)), [0, 0]), ValueError, "unit cube"),
    ],
)
def test_errors_say_what_is_wrong(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_descriptions_are_json_and_tell_spaces_apart():
    text = json.dumps(spaces.describe(SPACE))
    assert json.loads(text) == spaces.describe(SPACE)
    assert text != json.dumps(spaces.describe(SPACE | dict(lr=Real(1e-4, 1))))
    assert text != json.dumps(spaces.describe(SPACE | dict(act=Choice("relu", "tanh"))))
