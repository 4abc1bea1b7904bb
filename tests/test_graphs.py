"""CUDA graphs without CUDA: a stand-in repeats the captured operations in the same memory.

What a GPU does with a real graph is tested where there is one, by tests/test_on_device.py.
"""

import gc
import weakref
from functools import partial

import pytest
import torch
from sweep_law import assert_law, random_data
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nettrain import optimizers as o
from nettrain import schedules
from nettrain.dropout import Dropout
from nettrain.lab import recording
from nettrain.lab.sweep import Sweep
from nettrain.models import mlp
from nettrain.normalization import BatchNorm


class Tape(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        out = op(*args, **(kwargs or {}))
        self.calls.append((op, args, kwargs or {}, out))
        return out

    def replay(self):
        """Do it all again; what was made then is overwritten, and no new tensor is kept."""
        for op, args, kwargs, out in self.calls:
            if op.is_view:
                continue
            new = op(*args, **kwargs)
            pairs = [(out, new)] if isinstance(out, torch.Tensor) else zip(out, new, strict=True)
            for old, x in pairs:
                if old is not None and old is not x:
                    old.copy_(x)


@pytest.fixture
def captured(monkeypatch):
    """Captures by a tape; a list of how many operations each capture has."""
    sizes = []

    def capture(run, static):
        with Tape() as tape:
            outputs = run(*static)
        sizes.append(len(tape.calls))
        return outputs, tape.replay

    monkeypatch.setattr(recording, "_capture", capture)
    return sizes


def test_a_graph_does_to_other_values_what_the_function_does(captured):
    def f(x, y):
        z = (x[:, :2] @ y).softmax(0)
        return z + 1, x, z.t().contiguous()

    shapes = (4, 3), (2, 2)
    values = [[torch.randn(s, dtype=torch.float64) for s in shapes] for _ in range(4)]
    graph = recording.record(f, *values[0], graph=True)
    for x, y in values:
        torch.testing.assert_close(graph(x, y), f(x, y), rtol=0, atol=0)
    assert len(captured) == 1


def test_the_outputs_of_a_call_may_be_the_arguments_of_the_next(captured):
    f = lambda x, y: (y + 2 * x, x)
    x, y = torch.tensor([1.0]), torch.tensor([1.0])
    graph = recording.record(f, x, y, graph=True)
    expected = x, y
    for _ in range(5):
        x, y = graph(x, y)
        expected = f(*expected)
        assert (x, y) == expected


def test_a_graph_keeps_the_constants_that_it_reads(monkeypatch):
    """A real graph knows addresses only: nothing else would keep them. (The tape would.)"""
    read = []

    def capture(run, static):
        outputs = run(*static)
        read.extend(weakref.ref(x) for x in run.__closure__ and _constants_of(run))
        return outputs, lambda: None

    monkeypatch.setattr(recording, "_capture", capture)
    graph = recording.record(lambda x: x + torch.arange(3.0), torch.zeros(3), graph=True)
    gc.collect()
    assert len(read) == 1 and read[0]() is not None
    del graph
    gc.collect()
    assert read[0]() is None


def _constants_of(run):
    """The buffers of the recorded module that a captured function calls."""
    (module,) = (c.cell_contents for c in run.__closure__ if hasattr(c.cell_contents, "buffers"))
    return list(module.buffers())


def net():
    return nn.Sequential(
        nn.Linear(6, 5, bias=False), BatchNorm(5), nn.ReLU(), Dropout(0.7), nn.Linear(5, 3)
    )


@pytest.mark.parametrize("rule", [o.sgd, o.adam, o.amsgrad], ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("model", [net, partial(mlp, [6, 5, 3])], ids=["net", "mlp"])
def test_the_law_of_sweeps_holds_with_graphs(captured, rule, model):
    work = Sweep(model, rule, random_data(6), batch=4, dtype=torch.float64)
    work.graph = True
    runs, losses = work.advance(work.start([3, 4, 4], lr=[0.1, 0.01, 0.1]), 8)
    assert_law(work, runs, losses)
    assert len(captured) == 1 and captured[0] > 10


def test_runs_keep_what_they_are_when_others_go_on(captured):
    schedule = lambda lr: schedules.cosine(lr, 20)
    make = partial(Sweep, net, o.adam, random_data(6), batch=4, schedule=schedule)
    work, plain = make(), make()
    work.graph, plain._fuse = True, False  # the same operations
    starts = work.start([0, 1], lr=[0.1, 0.2]), plain.start([0, 1], lr=[0.1, 0.2])
    ours, expected = ([work.advance(starts[0], 3)], [plain.advance(starts[1], 3)])
    for k in (0, 0, 1):  # from the same runs twice, then further
        ours.append(work.advance(ours[k][0], 4))
        expected.append(plain.advance(expected[k][0], 4))
    for (a, x), (b, y) in zip(ours, expected, strict=True):
        for one, other in ((a.theta, b.theta), (a.state, b.state), (x, y)):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
        torch.testing.assert_close(a.buffers, b.buffers, rtol=0, atol=0)


def refuse(*args):
    raise RuntimeError("no capture here\nand a long trace")


def test_without_graphs_the_operations_run_one_by_one_and_a_warning_says_why(monkeypatch):
    monkeypatch.setattr(recording, "_capture", refuse)
    x = torch.tensor([1.0, 2.0])
    with pytest.warns(UserWarning) as warned:
        graph = recording.record(torch.exp, x, graph=True)
        assert graph(2 * x).equal(torch.exp(2 * x))
        graph(x)
    (one,) = warned
    assert str(one.message) == (
        "a step cannot be captured as a CUDA graph here (RuntimeError: no capture here); "
        "its operations run one by one, with the same results"
    )


def test_without_a_compiler_the_operations_run_one_by_one_and_a_warning_says_why(monkeypatch):
    monkeypatch.setattr("torch._inductor.compile", refuse)
    x = torch.tensor([1.0, 2.0])
    compiled = recording.record(torch.exp, x, compile=True)
    with pytest.warns(UserWarning, match=r"^a step cannot be compiled here \(RuntimeError: no cap"):
        assert compiled(2 * x).equal(torch.exp(2 * x))
    compiled(x)  # and says it once


@pytest.mark.parametrize("most", [5, 3, 2, 1])
def test_rows_that_do_not_fit_into_memory_are_worked_on_in_parts(monkeypatch, most):
    make = partial(Sweep, net, o.adam, random_data(6), batch=4, dtype=torch.float64)
    work, plain, asked = make(), make(), []

    def scarce(f):
        def limited(runs, *args, **how):
            asked.append(len(runs))
            if len(runs) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return f(runs, *args, **how)

        return limited

    monkeypatch.setattr(work, "_advance", scarce(work._advance))
    seeds, rates = [0, 1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4, 0.5]
    (runs, loss), (expected, other) = (
        w.advance(w.start(seeds, lr=rates), 3) for w in (work, plain)
    )
    torch.testing.assert_close(runs.theta, expected.theta, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(loss, other, rtol=1e-10, atol=1e-10)
    assert runs.seed.tolist() == seeds and max(asked) == 5
    measured = [d for d in work._by_halves(scarce(lambda part: part.seed.tolist()), runs)]
    assert sum(measured, []) == seeds and max(map(len, measured)) == most


def test_a_single_row_that_does_not_fit_is_an_error():
    work = Sweep(partial(mlp, [6, 5, 3]), o.sgd, random_data(6), batch=4)

    def full(runs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        work._by_halves(full, work.start([0, 1, 2]))


def test_a_capture_that_needs_too_much_memory_is_not_hidden(monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(recording, "_capture", full)
    with pytest.raises(torch.OutOfMemoryError):
        recording.record(torch.exp, torch.ones(2), graph=True)


def test_a_sweep_on_a_cpu_captures_nothing(captured):
    work = Sweep(partial(mlp, [6, 5, 3]), o.sgd, random_data(6), batch=4)
    work.advance(work.start([0]), 2)
    assert not captured and not work.graph
