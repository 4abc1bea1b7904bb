"""What all tests share: one thread, the CPU, hypothesis without chance, the path of a rule."""

import os

os.environ.setdefault("NETTRAIN_DEVICE", "cpu")

import pytest
import torch
from hypothesis import settings

from nettrain.optimizers import state_names

torch.set_num_threads(1)
settings.register_profile("book", deadline=None, derandomize=True, max_examples=20)
settings.load_profile("book")


def pytest_configure(config):
    config.addinivalue_line("markers", "compiler: calls torch.compile, which takes seconds")
    config.addinivalue_line("markers", "colab: trains the whole book; only `make colab` runs it")


def _path(rule, grad, theta, steps, **hyper):
    """θ₀ ... θ_T of a rule on a gradient function θ, t -> g, and the state at the end."""
    theta = torch.as_tensor(theta, dtype=torch.float64)
    state = [torch.zeros_like(theta) for _ in state_names(rule)]
    path = [theta]
    for t in range(1, steps + 1):
        theta, *state = rule(theta, grad(theta, t), *state, t=t, **hyper)
        path.append(theta)
    return torch.stack(path), state


@pytest.fixture(scope="session")
def path():
    return _path


@pytest.fixture
def graphs(monkeypatch):
    """No compiler: the graphs that it would be given, which run as they are."""
    seen = []
    stand_in = lambda graph, args: seen.append(graph) or graph
    monkeypatch.setattr("torch._inductor.compile", stand_in)
    return seen


@pytest.fixture
def drawing():
    """Figures in the style of the book, shown nowhere and closed at the end."""
    import matplotlib.pyplot as plt

    from nettrain.lab import figures

    plt.switch_backend("agg")
    figures.style()
    yield
    plt.close("all")
