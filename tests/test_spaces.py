"""Search spaces: the laws between configurations and the unit cube, and what is refused."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
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
    assert len(found) == 3 * 2 * 3 * 2 == len({spaces.hashable(c) for c in found})
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


@given(st.floats(1e-300, 1e300), st.floats(1.001, 1e6), st.integers(2, 2000), st.booleans())
def test_both_ends_are_exact_and_nothing_lies_beyond(low, factor, points, log):
    assume(low * factor < math.inf)
    dim = Real(low, low * factor, log=log)
    found = dim.grid(points)
    assert (dim.value(0), dim.value(1)) == (dim.low, dim.high) == (found[0], found[-1])
    assert found == sorted(found) and (dim.unit(dim.low), dim.unit(dim.high)) == (0, 1)
    assert all(dim.check("x", x) == x for x in found)
    space = dict(x=dim)
    assert [spaces.from_unit(space, [u])["x"] for u in (0, 1)] == [dim.low, dim.high]


GRIDS = [
    (dict(lr=Real(1e-4, 1, log=True), keep=Real(0.5, 1), n=Integer(1, 3)), dict(lr=3, keep=2, n=9)),
    (dict(opt=Choice(dict(name="sgd", rho=Real(0, 1)), dict(name="adam")), c=[1, 2]), 4),
    (dict(o=Choice(0, Real(0, 1), Integer(0, 9)), d=dict(e=dict(f=Choice(True, False)))), 3),
    (dict(x=Real(0, 1, log=False), n=Integer(1, 10**6, log=True)), dict(x=1500, n=5)),
]


@pytest.mark.parametrize("space, points", GRIDS)
def test_a_lattice_is_the_grid_by_number(space, points):
    every, lattice = spaces.grid(space, points), spaces.lattice(space, points)
    assert lattice.size == len(every)
    places = {}
    for i, config in enumerate(every):
        places.setdefault(spaces.hashable(config), []).append(i)
    for i in {*range(0, len(every), max(1, len(every) // 50)), len(every) - 1}:
        config = lattice.at(i)
        assert config == every[i] == spaces.validate(space, config) and config is not every[i]
        assert sorted(lattice.find(config)) == places[spaces.hashable(config)]


@pytest.mark.parametrize(
    "config",
    [dict(x=0.3001, n=1), dict(x=0.5, n=1.5), dict(x=0.5, n=True), dict(x="0", n=1), dict(x=0.5),
     dict(x=0.5, n=99), dict(x=math.nan, n=1), dict(x=[0.5], n=1), 3],
)  # fmt: skip
def test_what_is_not_in_a_lattice_is_not_found(config):
    for points in (dict(x=3, n=9), dict(x=2001, n=2)):
        found = spaces.lattice(dict(x=Real(0, 1), n=Integer(1, 5)), points).find(config)
        assert found == []


def test_the_order_of_a_grid_is_that_of_nested_loops():
    found = spaces.grid(dict(a=Integer(0, 1), b=dict(c=Integer(0, 2)), d=Choice("p", "q")), 9)
    loops = [dict(a=a, b=dict(c=c), d=d) for a in (0, 1) for c in (0, 1, 2) for d in "pq"]
    assert found == loops


def test_a_huge_lattice_costs_nothing():
    space = dict(x=Real(0, 1), y=Real(1e-9, 1, log=True), n=Integer(1, 10**12))
    lattice = spaces.lattice(space, dict(x=10**9 + 1, y=10**9 + 1, n=10**12))
    assert lattice.size == (10**9 + 1) ** 2 * 10**12
    for i in (0, 1, 10**12, 10**30 // 7, lattice.size - 1):
        assert lattice.find(lattice.at(i)) == [i]
    assert lattice.at(lattice.size - 1) == dict(x=1.0, y=1.0, n=10**12)


# ------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    "space, name",
    [
        ({"opt": {"rho": Real(0, 1)}, "opt.rho": Real(0, 1)}, "opt.rho"),
        ({"opt": {"rho": 1}, "opt.rho": Real(0, 1)}, "opt.rho"),
        ({"o": Choice({"a": Real(0, 1)}, "b"), "o.a": Choice(1, 2)}, "o.a"),
        ({"o": Choice("b", {"p": {"q": 1}}), "o.p": {"q": Real(0, 1)}}, "o.p"),
        ({"a": {"b": {"c": Real(0, 1)}, "b.c": 2}}, "a.b.c"),
        ({"a.b": {"c": Real(0, 1)}, "a": {"b.c": 2}}, "a.b.c"),
    ],
)
def test_names_that_would_share_a_column_are_refused(space, name):
    with pytest.raises(ValueError, match=f"{name}.*two entries of the space have this name"):
        spaces.check(space)


def test_names_that_only_look_alike_are_fine():
    spaces.check({"opt": Choice({"lr": Real(0, 1)}, {"lr": Real(1, 2)}), "lr": Real(0, 1)})
    spaces.check({"a.b": Real(0, 1), "a": {"c": Real(0, 1)}, "b": Real(0, 1)})
    with pytest.raises(ValueError, match="the name '' is empty"):
        spaces.check({"": {"a": Real(0, 1)}, "a": Real(0, 1)})


def test_labels_tell_coordinates_apart():
    space = dict(
        r=Choice(dict(lr=Real(0, 1)), dict(lr=Real(1, 2), b=Real(0, 1)), Real(0, 1)), z=Real(0, 1)
    )
    names = [name for name, _ in spaces.leaves(space)]
    assert names == ["r", "r.lr", "r.lr", "r.b", "r", "z"]
    assert spaces.labels(space) == ["r", "r[0].lr", "r[1].lr", "r.b", "r[2]", "z"]


# ------------------------------------------------------------------------------ validation


def test_scalars_of_numpy_and_torch_become_plain():
    space = dict(a=Real(0, 4), b=Integer(0, 4), c=Choice(True, False), d=Choice([1, 2], [3]))
    config = dict(a=np.float64(2), b=np.int32(3), c=np.bool_(True), d=(1, 2))
    plain = spaces.validate(space, config)
    assert json.dumps(plain) == '{"a": 2.0, "b": 3, "c": true, "d": [1, 2]}'
    assert spaces.validate(space, config | dict(a=torch.tensor(1))) == plain | dict(a=1.0)


@pytest.mark.parametrize("number", [np.float32, np.float64, np.int64, np.uint8, torch.tensor])
def test_bounds_and_points_of_numpy_and_torch_are_numbers(number):
    dim = Real(number(1), number(3), log=True)
    assert dim == Real(1, 3, log=True) and type(dim.low) in (int, float)
    json.dumps(spaces.describe(dict(x=dim)))
    if number not in (np.float32, np.float64):
        whole = Integer(number(1), number(3))
        assert whole == Integer(1, 3) and type(whole.low) is int
        assert spaces.grid(dict(x=Real(0, 1)), number(3)) == [dict(x=x) for x in (0, 0.5, 1)]
        assert spaces.whole("n", number(3)) == 3 and type(spaces.whole("n", number(3))) is int


@pytest.mark.parametrize(
    "wrong", [True, 2.0, 2.5, "2", None, np.bool_(True), torch.tensor(2.0), [2]]
)
def test_what_is_not_a_count_is_refused(wrong):
    with pytest.raises(TypeError, match="n=.* is not an integer; it must be 1 or more"):
        spaces.whole("n", wrong)
    with pytest.raises(TypeError, match="points of x=.* is not an integer"):
        spaces.grid(dict(x=Real(0, 1)), dict(x=wrong))


@pytest.mark.parametrize("value", [np.bool_(True), torch.tensor(True), torch.tensor([1])])
def test_bools_and_lists_are_no_numbers(value):
    for dim in (Real(0, 4), Integer(0, 4)):
        with pytest.raises(ValueError, match="a="):
            spaces.validate(dict(a=dim), dict(a=value))


def test_true_is_not_one():
    space = dict(c=Choice(1, True, "1"))
    for i, value in enumerate(space["c"].options):
        (u,) = spaces.to_unit(space, dict(c=value)).tolist()
        assert u == pytest.approx((i + 0.5) / 3)
        assert type(spaces.from_unit(space, [u])["c"]) is type(value)
    assert (
        spaces.hashable(dict(a=1)) == spaces.hashable(dict(a=1.0)) != spaces.hashable(dict(a=True))
    )


def test_keys():
    a, b = dict(x=1, y=[dict(z=2), 3]), dict(y=(dict(z=np.int64(2)), 3.0), x=np.float32(1))
    assert spaces.hashable(a) == spaces.hashable(b) and hash(spaces.hashable(a)) == hash(
        spaces.hashable(b)
    )
    assert spaces.hashable(a) != spaces.hashable(dict(x=1, y=[dict(z=2), 4]))


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
        (dict(opt=dict(name="sgd")), ["opt={'name': 'sgd'}", "not one of"]),
        (dict(decay=5), ["decay=5", "not one of"]),
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
    with pytest.raises(ValueError, match="a configuration=3 is not a dict of"):
        spaces.validate(SPACE, 3)
    with pytest.raises(ValueError, match="lr=3"):
        spaces.to_unit(SPACE, GOOD | dict(lr=3))


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: Real(1, 1), ValueError, "low < high"),
        (lambda: Real(0, math.inf), ValueError, "finite"),
        (lambda: Real(0, 1, log=True), ValueError, "above 0"),
        (lambda: Real("0", 1), TypeError, "'0' is not a real number"),
        (lambda: Real(True, 2), TypeError, "True"),
        (lambda: Integer(0, 1.5), TypeError, "1.5 is not a whole number"),
        (lambda: Integer(0, 10**13), ValueError, "use Real"),
        (lambda: Choice("a"), ValueError, "two options"),
        (lambda: Choice("a", "a"), ValueError, "equal"),
        (lambda: Choice(1, 1.0), ValueError, "equal"),
        (lambda: Choice(torch.nn.ReLU, "tanh"), TypeError, "look the name up"),
        (lambda: Choice(dict(f=math.sin), "tanh"), TypeError, "f: "),
        (lambda: spaces.check([Real(0, 1)]), TypeError, "dict"),
        (lambda: spaces.check({1: Real(0, 1)}), TypeError, "1 is not a str"),
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


def test_centres_are_the_middles_of_cells_and_every_option_once():
    rate = dict(lr=Real(1e-4, 1, log=True), n=Integer(1, 9))
    found = spaces.centres(rate, dict(lr=2, n=3))
    expected = [(lr, n) for lr in (1e-3, 1e-1) for n in (2, 5, 8)]
    for config, (lr, n) in zip(found, expected, strict=True):
        assert config["lr"] == pytest.approx(lr) and config["n"] == n
    option = dict(o=Choice(dict(name="a", r=Real(0, 1)), "b"))
    values = [c["o"] for c in spaces.centres(option, 2)]
    assert values == [dict(name="a", r=0.25), dict(name="a", r=0.75), "b"]
    with pytest.raises(ValueError, match="needs 1 point or more"):
        spaces.centres(rate, 0)
