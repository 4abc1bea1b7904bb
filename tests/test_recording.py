"""A recorded function repeats the operations of the function, on other values too."""

import pytest
import torch
from torch import nn
from torch.func import grad, vmap

from nettrain.lab import recording
from nettrain.lab.recording import record

g = torch.Generator().manual_seed(0)


def draw(*shape):
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def by_autograd(w, x):
    """The gradient of a small network's loss, by autograd under vmap."""
    loss = lambda w, x: (torch.tanh(x @ w).square() * torch.tensor(2.0)).mean()
    return vmap(grad(loss))(w, x)


def in_place(x, y):
    z = x.clone()
    z[0] += y[0]
    z.view(-1)[1:] *= 3
    return z


def through_its_own_view(x, y):
    z = x.clone()
    same = z.view(z.shape).t().t()
    same += y
    return z * same.expand(z.shape), z


def several(x, y):
    values, places = x.sort(0)
    return {"sorted": values, "places": places, "pair": (x + y, [y])}


FUNCTIONS = {
    "arithmetic": (lambda x, y: x * y + x.sqrt().nan_to_num(), (3, 4), (3, 4)),
    "autograd under vmap": (by_autograd, (5, 4, 2), (5, 7, 4)),
    "in place, through a view": (in_place, (3, 2), (3, 2)),
    "in place, through a view of all": (through_its_own_view, (3, 2), (3, 2)),
    "several outputs, nested": (several, (4, 2), (4, 2)),
    "an input unused": (lambda x, y: y, (2,), (2,)),
    "convolution": (
        vmap(lambda x, w: nn.functional.conv2d(x, w)),
        (2, 1, 1, 5, 5),
        (2, 3, 1, 2, 2),
    ),
    "numbers in a row": (lambda x, y: x * torch.arange(1, 5) + y, (3, 4), (3, 4)),
    "log-softmax": (lambda x, y: torch.log_softmax(x, 0) - y, (3, 4), (3, 4)),
}


def assert_repeats(name, compile):
    f, *shapes = FUNCTIONS[name]
    run = record(f, *(draw(*s) for s in shapes), compile=compile)
    for _ in range(3):
        args = [draw(*s) for s in shapes]
        before = [x.clone() for x in args]
        torch.testing.assert_close(run(*args), f(*args), rtol=1e-13, atol=1e-13, equal_nan=True)
        torch.testing.assert_close(args, before, rtol=0, atol=0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_recording_does_to_other_values_what_the_function_does(name):
    assert_repeats(name, compile=False)


@pytest.mark.compiler
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
@pytest.mark.parametrize(
    "name", ["arithmetic", "autograd under vmap", "in place, through a view of all"]
)
def test_a_compiled_recording_too(name):
    assert_repeats(name, compile=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_taken_apart_for_the_compiler_fits_together_again(name, graphs):
    assert_repeats(name, compile=True)
    assert len(graphs) == (name != "an input unused")  # compiled at the first call and kept


def test_inputs_that_share_memory_when_recorded_may_be_apart_later():
    x = draw(4)
    run = record(lambda x, y: x[:2] * 10 + y, x, x[:2])
    x, y = draw(4), draw(2)
    torch.testing.assert_close(run(x, y), x[:2] * 10 + y, rtol=0, atol=0)


def test_a_view_that_changes_nothing_and_what_nobody_uses_are_not_repeated():
    def f(x):
        x.exp()
        return x.view(3, 4).expand(3, 4).t().t().detach().cos()

    x = draw(3, 4)
    run = record(f, x)
    with torch.profiler.profile() as profile:
        run(x)
    assert [event.name for event in profile.events()] == ["aten::cos"]


def test_recording_gives_the_gradient_of_convolution_and_normalization_layers():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).double()
    names = [name for name, _ in net.named_parameters()]

    def loss(params, x):
        return torch.func.functional_call(net, params, x).square().sum()

    params = {name: draw(4, *net.get_parameter(name).shape) for name in names}
    step = vmap(grad(loss), in_dims=(0, None))
    run = record(step, params, draw(6, 1, 4, 4))
    other = {name: draw(*p.shape) for name, p in params.items()}
    x = draw(6, 1, 4, 4)
    torch.testing.assert_close(run(other, x), step(other, x), rtol=1e-12, atol=1e-12)


def test_a_tensor_from_elsewhere_stays_as_it_was():
    offset = torch.tensor([1.0, 2.0])
    run = record(lambda x: x + offset, torch.zeros(2))
    assert run(torch.ones(2)).tolist() == [2.0, 3.0]


CONSTANTS = [  # of the second call; the first had [1, NaN]
    ([1.0, torch.nan], torch.float32, True),
    ([1.5, torch.nan], torch.float32, False),
    ([1 + 2**-23, torch.nan], torch.float32, False),  # the next number after 1
    ([-1.0, torch.nan], torch.float32, False),
    ([1.0, 1.0], torch.float32, False),
    ([1.0, torch.nan], torch.float64, False),
    ([[1.0, torch.nan]], torch.float32, False),
]


@pytest.mark.parametrize("second, dtype, same", CONSTANTS)
def test_only_the_very_same_constant_may_be_in_both_calls(second, dtype, same):
    constants = iter([torch.tensor([1.0, torch.nan]), torch.tensor(second, dtype=dtype)])
    f = lambda x: next(constants).sum() + x
    if same:
        assert record(f, torch.zeros(2))(torch.ones(2)).isnan().all()
    else:
        with pytest.raises(RuntimeError, match="a second call does something else"):
            record(f, torch.zeros(2))


@pytest.mark.parametrize(
    "f",
    [lambda x: x * float(x.sum()), lambda x: x if x.sum() > 0 else -x, lambda x: x + x[0].item()],
)
def test_a_function_that_reads_a_number_is_refused(f):
    with pytest.raises(RuntimeError, match="a tensor is read as a number"):
        record(f, torch.ones(3))


def test_a_tensor_that_was_made_unseen_is_refused():
    def unseen(x):
        with torch.utils._python_dispatch._disable_current_modes():
            y = x.view(-1)  # shares its memory with x, but no recorder saw it
        return y + 1

    with pytest.raises(RuntimeError, match="was made unseen"):
        record(unseen, torch.ones(3))


def assert_numbers_are_worked_out_once_and_not_in_the_loop(graphs):
    def f(x, y, t, rate):
        return x * (1 - rate**t), y * (1 - rate**t) + t

    x, t, rate = (torch.rand(s, dtype=torch.float64) for s in ([40], [], []))
    run = recording.record(f, x, x + 1, t, rate, compile=True, numbers=(t, rate))
    for number in (2.0, 3.0):
        args = x + number, x, t + number, rate / number
        for mine, true in zip(run(*args), f(*args), strict=True):
            torch.testing.assert_close(mine, true, rtol=1e-15, atol=1e-15)
    [graph] = graphs
    assert not any("pow" in str(node.target) for node in graph.graph.nodes)


def test_what_depends_on_numbers_alone_is_worked_out_once_and_not_in_the_loop(graphs):
    assert_numbers_are_worked_out_once_and_not_in_the_loop(graphs)


@pytest.mark.compiler
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
def test_what_depends_on_numbers_alone_when_compiled(monkeypatch):
    seen, inductor = [], torch._inductor.compile
    monkeypatch.setattr(
        torch._inductor, "compile", lambda graph, args: seen.append(graph) or inductor(graph, args)
    )
    assert_numbers_are_worked_out_once_and_not_in_the_loop(seen)


def test_an_operation_on_numbers_is_kept_once_and_others_are_not():
    graph = torch.fx.Graph()
    x, t = graph.placeholder("x"), graph.placeholder("t")
    exp, add = torch.ops.aten.exp.default, torch.ops.aten.add.Tensor
    twice = [graph.call_function(exp, (t,)) for _ in range(2)]
    sums = [graph.call_function(add, (x, node)) for node in twice]
    more = graph.call_function(add, (twice[1], t))
    graph.output([*sums, more])
    assert recording._ahead(graph, {t}) == {twice[0], more}
    assert [node.args for node in sums] == [(x, twice[0])] * 2
