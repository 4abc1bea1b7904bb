"""Steps a second of a sweep in JAX, summed over runs: vmap over runs, scan over steps, jit.

    python benchmarks/peers/jax_sweep.py 64-64-64-10 64 256

prints JSON for this MLP, batch size and number of runs: Adam on noise, each run with an order of
its own, as benchmarks/sweep_throughput.py trains them. JAX need not be installed for anything else.
"""

import json
import os
import statistics
import sys
import time

EXAMPLES = 2048  # an epoch is measured


def main(sizes: list[int], batch: int, runs: int, repeats: int = 5) -> dict:
    if "cuda" not in os.environ.get("JAX_PLATFORMS", ""):  # one thread, as the other side
        os.environ.setdefault(
            "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        )
    import jax
    import jax.numpy as jnp
    import numpy as np

    steps = EXAMPLES // batch
    rng = np.random.default_rng(0)
    x = jnp.array(rng.standard_normal((EXAMPLES, sizes[0])), jnp.float32)
    y = jnp.array(rng.integers(10, size=EXAMPLES))

    def start(key):
        keys = jax.random.split(key, len(sizes) - 1)
        return [
            (jax.random.normal(k, (a, b)) * (2 / a) ** 0.5, jnp.zeros(b))
            for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
        ]

    def loss(params, x, y):
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params[-1]
        return -jnp.take_along_axis(jax.nn.log_softmax(x @ w + b), y[:, None], 1).mean()

    def adam(p, m, v, g, t, lr):
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        c1, c2 = 1 - 0.9**t, 1 - 0.999**t
        p = jax.tree.map(lambda p, m, v: p - lr * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), p, m, v)
        return p, m, v

    def run(p, m, v, key, lr):
        order = jax.random.permutation(key, EXAMPLES)[: steps * batch].reshape(steps, batch)

        def step(carry, i):
            p, m, v, t = carry
            value, g = jax.value_and_grad(loss)(p, x[i], y[i])
            return (*adam(p, m, v, g, t, lr), t + 1), value

        (p, m, v, _), values = jax.lax.scan(step, (p, m, v, 1.0), order)
        return p, m, v, values.mean()

    keys = jax.random.split(jax.random.key(0), runs)
    params = jax.vmap(start)(keys)
    zeros = jax.tree.map(jnp.zeros_like, params)
    train, lr = jax.jit(jax.vmap(run)), jnp.full(runs, 1e-3)
    times = []
    for _ in range(1 + repeats):
        begin = time.perf_counter()
        jax.block_until_ready(train(params, zeros, zeros, keys, lr))
        times.append(time.perf_counter() - begin)
    each = statistics.median(times[1:])
    device = jax.devices()[0].device_kind
    return {"steps per second": runs * steps / each, "compile s": times[0], "device": device}


if __name__ == "__main__":
    sizes, batch, runs = sys.argv[1:]
    print(json.dumps(main([int(s) for s in sizes.split("-")], int(batch), int(runs))))
