"""The models of the peer in JAX are ours: the same outputs from the same weights.

Needs JAX, which only the benchmarks have: pip install jax, then pytest tests/test_jax_peer.py.
"""

import sys

import numpy as np
import pytest

from benchmarks import sweep_throughput
from benchmarks.sweep_throughput import MODELS, noise_for
from nettrain.lab import training

jax = pytest.importorskip("jax")
sys.path.append(str(sweep_throughput.JAX.parent))
import jax_sweep as peer  # noqa: E402


def of(net, name):
    """The weights of one of our networks as the peer's parameters."""
    p = {k: np.asarray(v.detach()) for k, v in net.named_parameters()}
    if name.startswith("MLP"):
        weights = [k for k in p if k.endswith("weight")]
        bias = lambda k: p.get(k.replace("weight", "bias"))
        layers = [{"w": p[k].T} | ({"b": bias(k)} if bias(k) is not None else {}) for k in weights]
        norms = [{"g": p[k], "b": p[k.replace("gamma", "beta")]} for k in p if k.endswith("gamma")]
        return {"hidden": layers[:-1], "norms": norms, "last": layers[-1]}
    if name.startswith("CNN"):
        layers = [
            {"w": p[k].transpose(2, 3, 1, 0), "b": p[k.replace("weight", "bias")]}
            for k in ("0.weight", "3.weight")
        ]
        return {"layers": layers, "last": {"w": p["7.weight"].T, "b": p["7.bias"]}}
    if name.startswith("RNN"):
        dense = lambda k: {"w": p[f"{k}.weight"].T, "b": p.get(f"{k}.bias")}
        return {"in": dense("input"), "h": dense("recurrent"), "out": dense("output")}
    named = list(p.items())
    blocks = []
    for k in range(2):
        own = [v for name, v in named if name.split(".")[0] in (str(2 * k + 1), str(2 * k + 2))]
        n1, q, key, v, o, n2, up, down = own
        block = dict(zip("qkvo", (q.T, key.T, v.T, o.T), strict=True))
        blocks.append(block | {"n1": n1, "n2": n2, "up": up.T, "down": down.T})
    (_, token), (_, place) = named[:2]
    (_, gain), (_, last) = named[-2:]
    return {"token": token, "place": place, "blocks": blocks, "last": {"n": gain, "w": last.T}}


@pytest.mark.parametrize("name", [n for n in MODELS if not n.endswith("dropout")])
def test_a_model_of_the_peer_is_ours(name):
    net = training.build(MODELS[name][0], 0)
    (_, state, apply), shape = peer.model(name)
    assert shape == MODELS[name][1]
    x = noise_for(name, "cpu").train.x[:16]
    out, after = apply(of(net, name), state(), np.asarray(x), jax.random.key(0))
    np.testing.assert_allclose(np.asarray(out), net(x).detach().numpy(), rtol=1e-4, atol=1e-4)
    running = [b.numpy() for k, b in net.named_buffers() if "running" in k]
    pairs = [a for s in after for a in (s["mean"], s["var"])]
    for a, b in zip(pairs, running, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-4, atol=1e-5)
