"""One loop for many elementwise operations: against torch, operation by operation."""

import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from nettrain import clipping, data, models, optimizers
from nettrain.lab import fusing, recording
from nettrain.lab.recording import record
from nettrain.lab.sweep import Sweep

ROOT = Path(__file__).parents[1]
TINY, HUGE = 1e-38, 1e38
SPECIAL = [0.0, -0.0, 1.0, -2.5, 0.1, math.inf, -math.inf, math.nan, TINY, -HUGE, HUGE, 3.0]
INEXACT = {"sqrt", "exp", "log", "tanh", "half"}  # by MKL within an ulp, or by different methods


def recorder(f, *args):
    """The graph of f, and whether a loop stands in it."""
    found = recording._call(f, args)[0]
    return found.graph, fusing.fuse(found.graph)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "loops"))


# ------------------------------------------------------------------------------- operations

OPERATIONS = {
    "add": lambda x, y, c: x + y + c - y,
    "numbers": lambda x, y, c: 0.1 + x - 0.7 + (2.0 - y) * 0.3 / 7.0,
    "column": lambda x, y, c: (x - c) * c / (y + c),
    "neg": lambda x, y, c: -(-x).abs(),
    "sqrt": lambda x, y, c: x.sqrt() + 0.0 * y.abs().sqrt(),
    "reciprocal": lambda x, y, c: 1 / x + y.reciprocal() - 1 / (x * y),
    "squares": lambda x, y, c: x**2 + y**1 + x**-1,
    "half": lambda x, y, c: x**0.5 + 0 * y - c,
    "exp": lambda x, y, c: (x * 0.1).exp() + 0.1 * y + c,
    "log": lambda x, y, c: x.log() + 0.1 * y + c,
    "tanh": lambda x, y, c: x.tanh() + 0.1 * y + c,
    "sign": lambda x, y, c: x.sign() * 2.0 + y.sign(),
    "maximum": lambda x, y, c: torch.maximum(x, y) + torch.minimum(y, c),
    "clamp": lambda x, y, c: x.clamp_min(-0.5) * 1.0 + y.clamp_max(0.5),
    "where": lambda x, y, c: torch.where(x > 0, x, y) + torch.where(y <= c, c, x) * 1.0,
    "compare": lambda x, y, c: torch.where(x < y, y, x) - torch.where(x >= 0.5, y, x * 2.0),
    "type": lambda x, y, c: (x.double() * 0.1 + c.double()).to(x.dtype) - y,
    "wide": lambda x, y, c: ((x * 0.1).double() * c.double() + y * 1.0).to(x.dtype),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_torchs_to_the_last_bit(name, dtype):
    f = OPERATIONS[name]
    pairs = torch.tensor([(a, b) for a in SPECIAL for b in SPECIAL], dtype=dtype)
    g = torch.Generator().manual_seed(0)
    more = torch.randn(400, 2, generator=g, dtype=torch.float64).to(dtype)
    x, y = torch.cat([pairs, more]).T.reshape(2, 4, -1).clone()
    column = torch.tensor([[0.3], [-1.7], [math.nan], [5e-7]], dtype=dtype)
    graph, there = recorder(f, x, y, column)
    assert there
    assert all(fusing._like(n)[0] != x.shape for n in graph.nodes if n.op == "call_function")
    found, truth = record(f, x, y, column, fuse=True)(x, y, column), f(x, y, column)
    assert found.dtype == truth.dtype
    if name in INEXACT:
        ulp = torch.finfo(dtype).eps
        assert_close(found, truth, rtol=4 * ulp, atol=torch.finfo(dtype).tiny, equal_nan=True)
    else:
        both_nan = found.isnan() & truth.isnan()
        assert torch.equal(found.isnan(), truth.isnan())
        signs = found.signbit() == truth.signbit()
        same = (found == truth) & (signs | (name == "maximum"))  # of 0 and -0
        assert (same | both_nan).all()


@pytest.mark.parametrize("value", [0.1, 0.9, 1e-3, 3e38, 1 / 3])
def test_a_number_is_rounded_to_the_type_first_as_torch_does(value):
    """A float64 scalar times float32 is no product in float64."""
    x = torch.randn(3, 1000, generator=torch.Generator().manual_seed(1))
    scalar = torch.tensor(value, dtype=torch.float64)
    f = lambda x, s: (x * s) / s - x / s
    assert recorder(f, x, scalar)[1]
    assert torch.equal(record(f, x, scalar, fuse=True)(x, scalar), f(x, scalar))


# ------------------------------------------------------------------------------ what is chosen


def test_what_others_need_stays_outside():
    x = torch.randn(3, 5)
    f = lambda x: ((x * 2.0 + 1.0) * (x * 2.0).norm(dim=1, keepdim=True) - 1.0) * 3.0
    graph, there = recorder(f, x)
    names = [str(n.target) for n in graph.nodes if n.op == "call_function"]
    assert there and sum("mul.Tensor" in n for n in names) == 1  # what the norm is taken of
    assert_close(record(f, x, fuse=True)(x), f(x), rtol=1e-6, atol=0)


def test_a_result_may_be_returned_and_used():
    f = lambda x: (y := x * 2.0 + 1.0, y * y, (y * y - x) * 0.5)
    x = torch.randn(3, 5)
    assert recorder(f, x)[1]
    for found, truth in zip(record(f, x, fuse=True)(x), f(x), strict=True):
        assert torch.equal(found, truth)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * 2.0 + 1.0,  # two operations are too few
        lambda x: (x * 2.0 + 1.0).sum(1) * 3.0 + 1.0,  # no matrix
        lambda x: (x[:, :, None] * 2.0 + 1.0) * 3.0 - 1.0,
        lambda x: ((x * 2.0).erf() * 3.0).sin(),  # unknown
        lambda x: torch.add(torch.add(torch.add(x, x, alpha=3), x, alpha=3), x, alpha=2),
        lambda x: (((x.half() * 2) + 1) * 3) - 1,
        lambda x: torch.where(x > 0, x, math.inf).clamp_min(-math.inf).clamp_max(math.inf),
        lambda x: x,
    ],
)
def test_where_no_loop_is_put_in_nothing_changes(f):
    x = torch.randn(3, 5)
    assert not recorder(f, x)[1]
    assert torch.equal(record(f, x, fuse=True)(x), f(x))


def test_rows_that_do_not_lie_together_and_other_shapes():
    f = lambda x, y: (x * 2.0 + y) * 3.0 - x
    for shape in ((5, 3), (1, 7), (4, 1), (1, 1)):
        x, y = torch.randn(shape[::-1]).T, torch.randn(shape)
        assert torch.equal(record(f, x, y, fuse=True)(x, y), f(x, y))


def test_one_loop_serves_all_shapes():
    f = lambda x: (x * 2.0 + 1.0) * 3.0 - x
    before = fusing._loop.cache_info().misses
    for shape in ((2, 3), (4, 5), (6, 7)):
        record(f, torch.randn(shape), fuse=True)
    assert fusing._loop.cache_info().misses - before <= 1


# -------------------------------------------------------------------------------- in a sweep


@pytest.mark.parametrize("clip", [None, clipping.by_norm], ids=["", "clipped"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", optimizers.RULES, ids=lambda r: r.__name__)
def test_a_sweep_with_the_loop_is_the_sweep_without(rule, dtype, clip):
    clip = clip and partial(clip, threshold=0.5)
    ends = []
    for fuse in (False, True):
        work = Sweep(partial(models.mlp, [2, 5, 2]), rule, data.moons(), dtype=dtype, clip=clip)
        assert work._fuse
        work._fuse = fuse
        runs, losses = work.advance(work.start([0, 0, 1], lr=[0.01, 0.03, 0.01]), 30)
        ends.append((runs.theta, *runs.state, losses))
    for one, other in zip(*ends, strict=True):
        assert_close(one, other, rtol=3e-4 if dtype is torch.float32 else 1e-11, atol=1e-7)


@pytest.mark.parametrize("rule", optimizers.RULES, ids=lambda r: r.__name__)
def test_every_rule_is_fused(rule):
    theta, g = torch.randn(2, 3, 9)
    state = [torch.rand(3, 9) for _ in optimizers.state_names(rule)]
    t = torch.tensor(3.0, dtype=torch.float64)
    lr = torch.tensor([[0.1], [0.2], [0.3]])
    graph, there = recorder(lambda *a: rule(a[0], a[1], *a[4:], t=a[2], lr=a[3]),
                            theta, g, t, lr, *state)  # fmt: skip
    left = [n for n in graph.nodes if n.op == "call_function" and fusing._like(n)[0] == (3, 9)]
    assert there or len(left) < fusing.LEAST


def test_without_numba_a_sweep_runs_operation_by_operation(monkeypatch):
    monkeypatch.setattr(fusing, "find_spec", lambda name: None)
    f = lambda x: (x * 2.0 + 1.0) * 3.0 - x
    x = torch.randn(3, 5)
    assert not recorder(f, x)[1] and torch.equal(record(f, x, fuse=True)(x), f(x))


# ---------------------------------------------------------------------------------- the cache

SAY = """
import sys, torch
from nettrain.lab import fusing, recording
f = lambda x: (x * 2.0 + 1.0) * 3.0 - x
x = torch.arange(15.0).view(3, 5)
assert torch.equal(recording.record(f, x, fuse=True)(x), f(x))
print("done")
"""


def say(folder):
    """A process that fuses with its cache in a folder."""
    env = os.environ | {"NUMBA_CACHE_DIR": str(folder), "HOME": str(folder)}
    done = subprocess.run([sys.executable, "-c", SAY], cwd=ROOT, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_a_loop_is_kept_for_the_next_process(tmp_path):
    say(tmp_path)
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nb*")}
    assert kept and list((tmp_path / "nettrain").glob("nettrain_loop_*.py"))
    say(tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nb*")} == kept


def test_a_changed_file_is_written_again(tmp_path):
    say(tmp_path)
    (file,) = (tmp_path / "nettrain").glob("nettrain_loop_*.py")
    text = file.read_text()
    file.write_text(text.replace("2.0", "9.0"))
    say(tmp_path)
    assert file.read_text() == text


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "nettrain").write_text("a file stands where the folder would")
    say(tmp_path)
    assert (tmp_path / "nettrain").read_text().startswith("a file")
