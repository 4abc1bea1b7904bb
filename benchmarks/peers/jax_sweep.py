"""Steps a second of a sweep in JAX, summed over runs: vmap over runs, scan over steps, jit.

    python benchmarks/peers/jax_sweep.py "MLP 64-64-64-10" 64 256

prints JSON for this model, batch size and number of runs: Adam on noise, each run with an order of
its own, as benchmarks/sweep_throughput.py trains them. JAX need not be installed for anything else.

A model is (start, apply): start(key) -> parameters, lists and dicts; apply(parameters, state, x,
key) -> outputs, state, where state holds running statistics.
"""

import json
import os
import statistics
import sys
import time
from functools import partial

if "cuda" not in os.environ.get("JAX_PLATFORMS", ""):  # one thread, as the other side
    os.environ.setdefault(
        "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    )

import jax
import jax.numpy as jnp
import numpy as np

EXAMPLES = 2048  # an epoch is measured
TOKENS = 81


# ----------------------------------------------------------------------------------- models


def dense(key, n_in, n_out, bias=True):
    w = jax.random.normal(key, (n_in, n_out)) / n_in**0.5
    return {"w": w, "b": jnp.zeros(n_out)} if bias else {"w": w}


def mlp(sizes, norm=False, keep=1.0):
    hidden = sizes[1:-1]

    def start(key):
        keys = jax.random.split(key, len(sizes))
        pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
        layers = [dense(k, *ab, bias=not norm) for k, ab in zip(keys, pairs[:-1])]
        norms = [{"g": jnp.ones(n), "b": jnp.zeros(n)} for n in hidden] if norm else []
        return {"hidden": layers, "norms": norms, "last": dense(keys[-1], *pairs[-1])}

    def state():
        return [{"mean": jnp.zeros(n), "var": jnp.ones(n)} for n in hidden] if norm else []

    def apply(p, s, x, key):
        after = []
        for i, layer in enumerate(p["hidden"]):
            x = x @ layer["w"] + (0 if norm else layer["b"])
            if norm:
                mean, var, n = x.mean(0), x.var(0), len(x)
                own = {"mean": mean, "var": var * n / (n - 1)}
                after.append(jax.tree.map(lambda old, new: old + 0.1 * (new - old), s[i], own))
                own = p["norms"][i]
                x = own["g"] * (x - mean) / jnp.sqrt(var + 1e-5) + own["b"]
            x = jax.nn.relu(x)
            if keep < 1:
                mask = jax.random.uniform(jax.random.fold_in(key, i), x.shape) < keep
                x = jnp.where(mask, x / keep, 0)
        return x @ p["last"]["w"] + p["last"]["b"], after

    return start, state, apply


def cnn(channels, side=14):
    def start(key):
        keys = jax.random.split(key, len(channels) + 1)
        layers = [
            {"w": jax.random.normal(k, (3, 3, a, b)) / (9 * a) ** 0.5, "b": jnp.zeros(b)}
            for k, a, b in zip(keys, (1, *channels), channels)
        ]
        rest = side // 2 ** len(channels)
        return {"layers": layers, "last": dense(keys[-1], channels[-1] * rest**2, 10)}

    def apply(p, s, x, key):
        x = x.transpose(0, 2, 3, 1)  # channels last, as XLA has it on a CPU
        for layer in p["layers"]:
            order = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, layer["w"], (1, 1), "SAME", dimension_numbers=order)
            x = jax.nn.relu(x + layer["b"])
            window = ((1, 2, 2, 1), (1, 2, 2, 1), "VALID")
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window)
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        return x @ p["last"]["w"] + p["last"]["b"], s

    return start, list, apply


def rnn(n_in, n_hidden, n_out=10):
    def start(key):
        a, b, c = jax.random.split(key, 3)
        inner = dense(b, n_hidden, n_hidden, bias=False)
        return {"in": dense(a, n_in, n_hidden), "h": inner, "out": dense(c, n_hidden, n_out)}

    def apply(p, s, x, key):
        z = x @ p["in"]["w"] + p["in"]["b"]
        step = lambda h, z: (jnp.tanh(h @ p["h"]["w"] + z), None)
        h, _ = jax.lax.scan(step, jnp.zeros_like(z[:, 0]), z.transpose(1, 0, 2))
        return h @ p["out"]["w"] + p["out"]["b"], s

    return start, list, apply


def transformer(width=32, heads=2, depth=2, context=32):
    def rms(x, g):
        return g * x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)

    def start(key):
        keys = iter(jax.random.split(key, 4 + 6 * depth))
        new = lambda a, b: dense(next(keys), a, b, bias=False)["w"]
        blocks = []
        for _ in range(depth):
            block = {name: new(width, width) for name in "qkvo"}
            block |= {"up": new(width, 4 * width), "down": new(4 * width, width)}
            blocks.append(block | {"n1": jnp.ones(width), "n2": jnp.ones(width)})
        token, place = (jax.random.normal(next(keys), (n, width)) for n in (TOKENS, context))
        last = {"n": jnp.ones(width), "w": new(width, TOKENS)}
        return {"token": token, "place": place, "blocks": blocks, "last": last}

    def attention(p, x):
        apart = lambda w: (x @ w).reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)
        q, k, v = (apart(p[name]) for name in "qkv")
        scores = q @ k.transpose(0, 1, 3, 2) / q.shape[-1] ** 0.5
        before = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        h = jax.nn.softmax(jnp.where(before, scores, -jnp.inf), -1) @ v
        return h.transpose(0, 2, 1, 3).reshape(x.shape) @ p["o"]

    def apply(p, s, x, key):
        h = p["token"][x] + p["place"][: x.shape[1]]
        for block in p["blocks"]:
            h = h + attention(block, rms(h, block["n1"]))
            inner = jax.nn.gelu(rms(h, block["n2"]) @ block["up"], approximate=False)
            h = h + inner @ block["down"]
        return rms(h, p["last"]["n"]) @ p["last"]["w"], s

    return start, list, apply


def model(name: str):
    """((start, state, apply), shape of an example); "MLP 64-64-10, batch norm" and so on."""
    kind, _, how = name.partition(", ")
    if kind.startswith("MLP "):
        sizes = [int(n) for n in kind.removeprefix("MLP ").split("-")]
        keep = 0.8 if how == "dropout" else 1.0
        return mlp(sizes, norm=how == "batch norm", keep=keep), (sizes[0],)
    return {
        "CNN 8-16": (cnn((8, 16)), (1, 14, 14)),
        "RNN 32, 20 steps": (rnn(4, 32), (20, 4)),
        "transformer 32": (transformer(), (32,)),
    }[name]


# ---------------------------------------------------------------------------------- training


def adam(p, m, v, g, t, lr):
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
    c1, c2 = 1 - 0.9**t, 1 - 0.999**t
    p = jax.tree.map(lambda p, m, v: p - lr * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), p, m, v)
    return p, m, v


def noise(name: str, shape):
    rng = np.random.default_rng(0)
    if name.startswith("transformer"):
        x, y = rng.integers(TOKENS, size=(2, EXAMPLES, *shape))
        return jnp.array(x), jnp.array(y)
    x = rng.standard_normal((EXAMPLES, *shape))
    return jnp.array(x, jnp.float32), jnp.array(rng.integers(10, size=EXAMPLES))


def main(name: str, batch: int, runs: int, repeats: int = 5) -> dict:
    (start, state, apply), shape = model(name)
    (x, y), steps = noise(name, shape), EXAMPLES // batch

    def loss(p, s, x, y, key):
        out, s = apply(p, s, x, key)
        return -jnp.take_along_axis(jax.nn.log_softmax(out), y[..., None], -1).mean(), s

    def run(p, m, v, s, key, lr):
        order = jax.random.permutation(key, EXAMPLES)[: steps * batch].reshape(steps, batch)

        def step(carry, i):
            p, m, v, s, t = carry
            own = jax.random.fold_in(key, t.astype(int))
            (value, s), g = jax.value_and_grad(loss, has_aux=True)(p, s, x[i], y[i], own)
            return (*adam(p, m, v, g, t, lr), s, t + 1), value

        (p, m, v, s, _), values = jax.lax.scan(step, (p, m, v, s, jnp.array(1.0)), order)
        return p, m, v, s, values.mean()

    keys = jax.random.split(jax.random.key(0), runs)
    params = jax.vmap(start)(keys)
    zeros = jax.tree.map(jnp.zeros_like, params)
    states = jax.tree.map(lambda a: jnp.repeat(a[None], runs, 0), state())
    one_by_one = lambda *args: jax.lax.map(lambda own: run(*own), args)
    # filters that differ by run make one grouped convolution, which XLA's CPU does even slower
    many = one_by_one if name.startswith("CNN") else jax.vmap(run)
    train = partial(jax.jit(many), params, zeros, zeros, states, keys)
    times, lr = [], jnp.full(runs, 1e-3)
    for _ in range(1 + repeats):
        begin = time.perf_counter()
        jax.block_until_ready(train(lr))
        times.append(time.perf_counter() - begin)
    rates = sorted(runs * steps / t for t in times[1:])
    low, _, high = statistics.quantiles(rates, n=4)
    found = {"steps per second": statistics.median(rates), "quartiles": [low, high]}
    found |= {"first s": times[0], "device": jax.devices()[0].device_kind}
    return found | {"parameters": sum(a.size for a in jax.tree.leaves(params)) // runs}


if __name__ == "__main__":
    name, batch, runs = sys.argv[1:]
    print(json.dumps(main(name, int(batch), int(runs))))
