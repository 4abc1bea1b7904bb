"""Right answers to every exercise, written in other styles than the solutions'.

Each entry is {function: source}: sources of one style, which replace the solution's functions of
that name. They were written from the statements; `tests/test_exercises.py` asks the laws of them.
"""

LOOPS = {
    "1-1": """
def weights(t, rho):
    out = []
    for tau in range(1, t + 1):
        w = 1 - rho
        for _ in range(t - tau):
            w *= rho
        out.append(w)
    return out

def start_weight(t, rho):
    x = 1.0
    for _ in range(t):
        x = rho * x
    return x

def velocity(g, alpha, rho):
    out = []
    delta = [0.0] * len(g[0])
    for row in g:
        delta = [rho * d - alpha * x for d, x in zip(delta, row)]
        out.append(delta)
    return out

def half_life(rho):
    lo, hi = 0.0, 1e6
    for _ in range(200):
        mid = (lo + hi) / 2
        lo, hi = (mid, hi) if rho ** mid > 0.5 else (lo, mid)
    return lo

def mean_age(rho):
    total, w, k = 0.0, 1 - rho, 0
    while w > 1e-18:
        total += k * w
        k, w = k + 1, w * rho
    return total

def averaged(g, alphas, rho):
    return [[-a / (1 - rho) * x for x in row] for a, row in zip(alphas, g)]

def nesterov_gradients(a, theta0, alpha, rho, T):
    d = len(a)
    theta, delta, out = list(theta0), [0.0] * d, []
    for _ in range(T):
        g = [a[i] * (theta[i] + rho * delta[i]) for i in range(d)]
        delta = [rho * delta[i] - alpha * g[i] for i in range(d)]
        theta = [theta[i] + delta[i] for i in range(d)]
        out.append(g)
    return out

def against_the_gradient(T, rho):
    return [1] * (T - 1) + [-0.3]

def nesterov_differs(rho):
    return [2.0, -3.0, (1 + 0.4 * rho) / 2]
""",
    "1-2": """
def mean_factor(t, beta):
    m = 0.0
    for _ in range(t):
        m = beta * m + (1 - beta)
    return m

def moments(mu, sigma, t, beta1, beta2):
    m = s = 0.0
    for _ in range(t):
        m = beta1 * m + (1 - beta1) * mu
        s = beta2 * s + (1 - beta2) * (mu * mu + sigma * sigma)
    return m, s

def corrected(g, beta):
    out = []
    for t in range(1, len(g) + 1):
        top = sum(beta ** (t - k) * g[k - 1] for k in range(1, t + 1))
        out.append(top / sum(beta ** (t - k) for k in range(1, t + 1)))
    return out

def corrected_weights(t, beta):
    raw = [beta ** k for k in range(t)][::-1]
    return [r / sum(raw) for r in raw]

def noise_factor(t, beta):
    return sum(w * w for w in corrected_weights(t, beta))

def drift_error(t, beta, slope):
    w = corrected_weights(t, beta)
    return sum(w[k - 1] * slope * k for k in range(1, t + 1)) - slope * t

def counterexample(t, beta):
    return [-1] * (t - 1) + [1]

def first_step(g, alpha, beta1, beta2, eps):
    out = []
    for x in g:
        m, v = (1 - beta1) * x / (1 - beta1), (1 - beta2) * x * x / (1 - beta2)
        out.append(-alpha * m / (v ** 0.5 + eps))
    return out

def first_step_uncorrected(g, alpha, beta1, beta2):
    return [-alpha * (1 - beta1) * x / ((1 - beta2) * x * x) ** 0.5 for x in g]

def uphill(mean):
    return [-0.01, 1, 0.64]
""",
    "1-3": """
def _norm(values, eps):
    mean = sum(values) / len(values)
    var = sum((v - mean) ** 2 for v in values) / len(values)
    return [(v - mean) / (var + eps) ** 0.5 for v in values]

def per_step(z, eps):
    n, T, d = z.shape
    out = [[[0.0] * d for _ in range(T)] for _ in range(n)]
    for t in range(T):
        for j in range(d):
            for i, v in enumerate(_norm([z[i][t][j] for i in range(n)], eps)):
                out[i][t][j] = v
    return out

def shared(z, eps):
    n, T, d = z.shape
    out = z * 0
    for j in range(d):
        flat = _norm([z[i][t][j] for i in range(n) for t in range(T)], eps)
        for k, v in enumerate(flat):
            out[k // T, k % T, j] = v
    return out

def pooled(means, variances):
    T = len(means)
    m = sum(means) / T
    return [m, sum(v + u * u for u, v in zip(means, variances)) / T - m * m]

def state_variance(u, s, T):
    v, out = 0.0, []
    for _ in range(T):
        v = u * u * v + s
        out.append(v)
    return out

def after_sharing(u, s, T):
    v = state_variance(u, s, T)
    return [x / (sum(v) / T) for x in v]

def masked(z, lengths, eps):
    n, T, d = z.shape
    out = z * 0.0
    for t in range(T):
        runs = [i for i in range(n) if t < lengths[i]]
        for j in range(d):
            if runs:
                for i, v in zip(runs, _norm([z[i, t, j] for i in runs], eps)):
                    out[i, t, j] = v
    out[abs(out) > 1e9] = 0
    return out

def expected_variance(var, n):
    return var - var / n

def without_statistics(train_lengths, test_lengths):
    beyond = whole = 0
    for length in test_lengths:
        for t in range(1, length + 1):
            whole += 1
            beyond += t > max(train_lengths)
    return beyond / whole

def layer(z, eps):
    return [[_norm(list(step), eps) for step in sequence] for sequence in z]

def sees_the_future(n, T):
    calm = [[0.02 * ((i % 2) * 2 - 1)] * T for i in range(n)]
    wild = [row[:-1] + [50 * row[-1]] for row in calm]
    return [calm, wild]

def indistinguishable(n, T):
    one = [[float(i)] * T for i in range(n)]
    return [one, [[3 * x + 5 for x in row] for row in one]]
""",
    "1-4": """
def decay(lam, alpha):
    return sum([lam * alpha])

def decay_schedule(lam, alphas):
    return [lam * a for a in alphas]

def momentum_gap(theta0, alpha, rho, lam):
    out = []
    for x in theta0:
        delta, a, b = 0.0, x, x
        for _ in range(2):
            delta = rho * delta - alpha * lam * a
            a, b = a + delta, (1 - alpha * lam) * b
        out.append(a - b)
    return out

def momentum_lambda(w, alpha, rho):
    return w / (alpha / (1 - rho))

def scaled_decay(lam, alpha, v_hat, eps):
    return [alpha * lam / (v ** 0.5 + eps) for v in v_hat]

def adam_counterexample(T):
    return [[10 if t % 2 else -10, 0] for t in range(T)]

def adam_l2_limit(a, c, lam):
    return [c_i / (1 + lam / a_i) for a_i, c_i in zip(a, c)]

def adamw_limit(a, c, alpha, w):
    box = alpha / w
    return [box if x > box else -box if x < -box else x for x in c]

def norm_counterexample(step):
    return [[0.5, 0.5], [-6, 5]]
""",
    "1-5": """
def survival(p, T):
    chance = 1.0
    for _ in range(T):
        chance *= p
    return chance

def half_life(p):
    import math
    return 1 / -math.log2(p)

def _all(T):
    from itertools import product
    return product([0, 1], repeat=T)

def _chance(m, p):
    c = 1.0
    for x in m:
        c *= p if x else 1 - p
    return c

def per_step_moments(h0, u, p, T):
    mean = square = 0.0
    for m in _all(T):
        h = h0
        for x in m:
            h *= u * x / p
        mean += _chance(m, p) * h
        square += _chance(m, p) * h * h
    return [mean, square - mean ** 2]

def largest_u(p):
    return p ** 0.5

def variational_moments(h0, u, p, T):
    kept = h0
    for _ in range(T):
        kept *= u
    mean = p * kept
    return mean, p * (kept - mean) ** 2 + (1 - p) * mean ** 2

def variational_inverted_mean(h0, u, p, T):
    h = h0
    for _ in range(T):
        h = h * u / p
    return h * p

def masks(uniforms, p):
    return [[1 if x < p else 0 for x in row] for row in uniforms]

def one_mask(uniforms, p, T):
    return [[x < p for x in uniforms] for _ in range(T)]

def run(h0, U, masks):
    d, h, out = len(h0), list(h0), []
    for m in masks:
        h = [sum(U[i][j] * m[j] * h[j] for j in range(d)) for i in range(d)]
        out.append(h)
    return out

def update_moments(h0, c, p, T):
    mean, var = h0, 0.0
    for _ in range(T):
        mean += c
        var += c * c * (1 / p - 1)
    return [mean, var]

def all_lost(d):
    return [[1 if (j + 1) % d == i else 0 for j in range(d)] for i in range(d)]

def all_kept(d):
    half = d // 2
    return [[-1 if (i + half) % d == j else 0 for j in range(d)] for i in range(d)]
""",
    "1-6": """
import math

def smooth(y, K, eps):
    return [[1 - eps if k == c else eps / (K - 1) for k in range(K)] for c in y]

def smooth_uniform(y, K, eps):
    return [[eps / K + (1 - eps) * (k == c) for k in range(K)] for c in y]

def to_uniform(eps, K):
    return eps + eps / (K - 1)

def _lse(row):
    top = max(row)
    return top + math.log(sum(math.exp(x - top) for x in row))

def loss(z, y, eps):
    q = smooth(y, len(z[0]), eps)
    return [sum(a * (_lse(row) - x) for a, x in zip(qs, row)) for qs, row in zip(q, z)]

def gradient(z, y, eps):
    q = smooth(y, len(z[0]), eps)
    return [[math.exp(x - _lse(row)) - a for a, x in zip(qs, row)] for qs, row in zip(q, z)]

def optimal_gap(eps, K):
    return math.log(1 - eps) + math.log(K - 1) - math.log(eps)

def smallest_loss(eps, K):
    q = [1 - eps] + [eps / (K - 1)] * (K - 1)
    return -sum(x * math.log(x) for x in q if x > 0)

def slope(z, y):
    out = []
    for row, c in zip(z, y):
        others = [x for k, x in enumerate(row) if k != c]
        out.append(row[c] - sum(others) / len(others))
    return out

def parts(z, y):
    out = []
    for row, c in zip(z, y):
        K = len(row)
        kl = sum((math.log(1 / K) - (x - _lse(row))) / K for x in row)
        out.append([_lse(row) - row[c], kl])
    return out

def train(X, y, K, eps, alpha, T):
    n, d = X.shape
    W = [[0.0] * K for _ in range(d)]
    for _ in range(T):
        z = [[sum(X[i][j] * W[j][k] for j in range(d)) for k in range(K)] for i in range(n)]
        g = gradient(z, y, eps)
        W = [[W[j][k] - alpha * sum(X[i][j] * g[i][k] for i in range(n)) / n for k in range(K)]
             for j in range(d)]
    return W

def wrong_but_cheaper(K, eps):
    return [[1000] + [0] * (K - 1), [0, 1] + [0] * (K - 2)]

def indifferent(K):
    return [0, 20, -20] + [0] * (K - 3)
""",
    "2-1": """
import math

def _square(t, beta1):
    weights = [beta1 ** k for k in range(t)]
    return sum(w * w for w in weights) / sum(weights) ** 2

def first_steps(t, beta1):
    return _square(t, beta1) ** 0.5

def level_share(t, beta1):
    return (_square(5000, beta1) / _square(t, beta1)) ** 0.5

def over_the_rate(T):
    return [1.1 ** (t - T) for t in range(T)]

def whole_gradient(gradients, sizes):
    total = [0.0] * len(gradients[0])
    for row, n in zip(gradients, sizes):
        total = [a + n * x for a, x in zip(total, row)]
    return [a / sum(sizes) for a in total]

def kept_beta(beta, K0, K):
    half = math.log(2) / -math.log(beta) * K0
    return 0.5 ** (K / half)

def opposed(sizes):
    out = [[0.0, 0.0] for _ in sizes]
    by_size = sorted(range(len(sizes)), key=lambda k: sizes[k])
    out[by_size[0]], out[by_size[-1]] = [0.9, -0.9], [-0.5, 0.5]
    return out

def _p(row, b):
    e = [math.exp(w + x) for w, x in zip(row, b)]
    return [x / sum(e) for x in e]

def bigram_gradient(q, W, b):
    out, last = [], [0.0] * len(b)
    for shares, row in zip(q, W):
        g = [0.0] * len(b)
        for y, share in enumerate(shares):
            for j, p in enumerate(_p(row, b)):
                g[j] += share * (p - (j == y))
        out.append(g)
        last = [a + x for a, x in zip(last, g)]
    return out + [last]

def least_loss(q):
    total = 0.0
    for row in q:
        for x in row:
            if x:
                total -= x * math.log(x / sum(row))
    return total

def far_from_steepest(d):
    return [0.01] * (d // 2) + [-8] + [0.01] * (d - d // 2 - 1)

def variances(h, alpha, sigma, T):
    r, last = 1 - alpha * h, alpha * sigma ** 2 / (h * (2 - alpha * h))
    both = sum(2 * (T - k) * r ** k for k in range(1, T))
    return last, last * (T + both) / T ** 2

def worse_mean(h, alpha, T):
    theta, out = 0.0, []
    for t in range(T):
        aim = 0.7 * alpha if t < T - 1 else 0.0
        out.append((theta - aim) / alpha - h * theta)
        theta = aim
    return out

def lion(g, m, beta1, beta2):
    step, kept = [], []
    for a, b in zip(g, m):
        c = beta1 * b + (1 - beta1) * a
        step.append(-1 if c > 0 else 1)
        kept.append(beta2 * b + (1 - beta2) * a)
    return [step, kept]

def orthogonal_factor(G):
    X = G / np.linalg.norm(G)
    for _ in range(60):
        X = 1.5 * X - 0.5 * X @ X.T @ X
    return X

def muon_misses(n):
    return [[1 if i == j and i else (i == j) * 3e-5 for j in range(n)] for i in range(n)]
""",
    "2-2": """
import math

def rms_backward(x, c):
    n, square = len(x), sum(v * v for v in x)
    rms = (square / n) ** 0.5
    overlap = sum(a * b for a, b in zip(x, c))
    return [(c[i] - x[i] * overlap / square) / rms for i in range(n)]

def norms_apart(n):
    return [-0.9 - 0.05 * (-1) ** k for k in range(n)]

def sam_gradient(H, theta, rho):
    times = lambda v: [sum(h * x for h, x in zip(row, v)) for row in H]
    g = times(theta)
    length = math.hypot(*g)
    return times([t + rho * x / length for t, x in zip(theta, g)])

def turned_back(rho):
    return [[0, 0], [0, -0.5], [7, -rho / 3]]

def same_change(alpha, x, wide):
    change = 0
    for v in x:
        change += alpha * max(v, -v)
    return change / sum(abs(v) for v in wide)

def dyt_backward(x, c, alpha):
    return [a * alpha / math.cosh(alpha * v) ** 2 for a, v in zip(c, x)]

def growth(s):
    square = 1
    for factor in s:
        square += factor * factor * square
    return square

def winners_luck(K, sigma):
    return -sum(sigma * (1 if n == 0 else -1) * math.comb(K, n) for n in range(K + 1)) / 2**K
""",
}

TORCH = {  # tensors: double where numpy's arrays come in, single where torch makes numbers itself
    "1-1": """
import torch
weights = lambda t, rho: (1 - rho) * rho ** torch.arange(t - 1, -1, -1)
start_weight = lambda t, rho: torch.tensor(rho) ** t
def velocity(g, alpha, rho):
    g = torch.tensor(g, dtype=torch.float32)
    T = len(g)
    age = torch.arange(T)[:, None] - torch.arange(T)[None]
    return -alpha * torch.where(age >= 0, rho ** age.clamp(min=0), torch.zeros(())) @ g
half_life = lambda rho: -torch.tensor(2.0).log() / torch.tensor(rho).log()
mean_age = lambda rho: 1 / (1 - torch.tensor(rho)) - 1
averaged = lambda g, alphas, rho: torch.einsum(
    "td,t->td", torch.tensor(g), -torch.tensor(alphas) / (1 - rho))
def nesterov_gradients(a, theta0, alpha, rho, T):
    theta = torch.nn.Parameter(torch.tensor(theta0))
    a, delta, out = torch.tensor(a), torch.zeros(len(a), dtype=torch.float64), []
    for _ in range(T):
        ahead = (theta + rho * delta).detach().requires_grad_()
        (a * ahead ** 2 / 2).sum().backward()
        out.append(ahead.grad)
        delta = rho * delta - alpha * ahead.grad
        theta = theta + delta
    return torch.stack(out)
against_the_gradient = lambda T, rho: torch.cat([torch.ones(T - 1), torch.tensor([-0.25])])
nesterov_differs = lambda rho: torch.tensor([1.0, 5.0, 1 + rho / 3], requires_grad=True)
""",
    "1-2": """
import torch
mean_factor = lambda t, beta: -torch.expm1(t * torch.log(torch.tensor(beta)))
moments = lambda mu, sigma, t, beta1, beta2: torch.tensor(
    [(1 - beta1**t) * mu, (1 - beta2**t) * (mu**2 + sigma**2)])
def corrected(g, beta):
    return torch.stack([corrected_weights(t, beta) @ torch.tensor(g[:t]).float()
                        for t in range(1, len(g) + 1)])
corrected_weights = lambda t, beta: torch.softmax(
    torch.log(torch.tensor(beta)) * torch.arange(t - 1, -1, -1), 0)
noise_factor = lambda t, beta: (corrected_weights(t, beta) ** 2).sum()
drift_error = lambda t, beta, slope: -slope * (
    corrected_weights(t, beta) * torch.arange(t - 1, -1, -1)).sum()
counterexample = lambda t, beta: torch.tensor([1.0] * (t - 1) + [-1.0])
def first_step(g, alpha, beta1, beta2, eps):
    theta = torch.zeros(len(g), dtype=torch.float64, requires_grad=True)
    theta.grad = torch.tensor(g)
    torch.optim.Adam([theta], lr=alpha, betas=(beta1, beta2), eps=eps).step()
    return theta
first_step_uncorrected = lambda g, alpha, beta1, beta2: -alpha * torch.tensor(g).sign() * (
    1 - beta1) * (1 - beta2) ** -0.5
uphill = lambda mean: torch.tensor([0.95, -0.001, 0.36])
""",
    "1-3": """
import torch
import torch.nn.functional as F
per_step = lambda z, eps: F.batch_norm(
    torch.tensor(z).float().flatten(1), None, None, training=True, eps=eps).reshape(z.shape)
shared = lambda z, eps: F.batch_norm(
    torch.tensor(z).permute(0, 2, 1), None, None, training=True, eps=eps).permute(0, 2, 1)
def pooled(means, variances):
    means, variances = torch.tensor(means), torch.tensor(variances)
    return torch.stack([means.mean(), variances.mean() + means.var(correction=0)])
state_variance = lambda u, s, T: s * torch.cumsum(torch.tensor(u) ** (2 * torch.arange(T)), 0)
after_sharing = lambda u, s, T: state_variance(u, s, T) / state_variance(u, s, T).mean()
def masked(z, lengths, eps):
    z, T = torch.tensor(z), z.shape[1]
    on = (torch.arange(T) < torch.tensor(lengths)[:, None])[..., None]
    n = on.sum(0).clamp(min=1)
    z = torch.where(on, z, 0)
    mean = z.sum(0) / n
    var = torch.where(on, (z - mean) ** 2, 0).sum(0) / n
    return torch.where(on, (z - mean) / (var + eps).sqrt(), 0)
expected_variance = lambda var, n: torch.tensor(var) * (n - 1) / n
def without_statistics(train_lengths, test_lengths):
    train, test = torch.tensor(train_lengths), torch.tensor(test_lengths)
    return (test - train.max()).clamp(min=0).sum() / test.sum()
layer = lambda z, eps: F.layer_norm(torch.tensor(z), z.shape[-1:], eps=eps)
def sees_the_future(n, T):
    z = torch.zeros(2, n, T)
    z[:, 0] = 0.1
    z[1, :, -1] = torch.linspace(-1, 1, n)
    return z
def indistinguishable(n, T):
    z = torch.arange(n, dtype=torch.float32)[:, None].expand(n, T)
    return torch.stack([z, 2 * z + 4])
""",
    "1-4": """
import torch
decay = lambda lam, alpha: torch.tensor(lam) * alpha
decay_schedule = lambda lam, alphas: lam * torch.tensor(alphas).float()
momentum_gap = lambda theta0, alpha, rho, lam: torch.tensor(theta0).float() * -(rho * alpha * lam)
momentum_lambda = lambda w, alpha, rho: torch.tensor((1 - rho) * w / alpha)
scaled_decay = lambda lam, alpha, v_hat, eps: alpha * lam / (torch.tensor(v_hat).sqrt() + eps)
adam_counterexample = lambda T: torch.stack(
    [8 * torch.cos(torch.pi * torch.arange(T)), torch.zeros(T)], 1)
def adam_l2_limit(a, c, lam):
    a, c = torch.tensor(a), torch.tensor(c)
    return torch.linalg.solve(torch.diag(a + lam), a * c)
adamw_limit = lambda a, c, alpha, w: torch.tensor(c).clamp(-alpha / w, alpha / w)
norm_counterexample = lambda step: torch.tensor([[0.0, 0.7], [7.0, 7.0]])
""",
    "1-5": """
import torch
survival = lambda p, T: torch.full((T,), p).prod()
half_life = lambda p: -1 / torch.tensor(p).log2()
def per_step_moments(h0, u, p, T):
    second = (torch.tensor(u) ** 2 / p) ** T * h0**2
    mean = torch.tensor(u, dtype=torch.float64) ** T * h0
    return torch.stack([mean, second.double() - mean**2])
largest_u = lambda p: torch.tensor(p).sqrt()
variational_moments = lambda h0, u, p, T: torch.tensor([p, p * (1 - p) * u**T * h0]) * u**T * h0
variational_inverted_mean = lambda h0, u, p, T: torch.tensor(p) * (u / p) ** T * h0
masks = lambda uniforms, p: torch.tensor(uniforms) < p
one_mask = lambda uniforms, p, T: (torch.tensor(uniforms) < p).int().expand(T, -1)
def run(h0, U, masks):
    h, U, out = torch.tensor(h0), torch.tensor(U), []
    for m in torch.tensor(masks):
        h = torch.einsum("ij,j,j->i", U, m, h)
        out.append(h)
    return out
update_moments = lambda h0, c, p, T: torch.tensor([h0 + T * c, T * c * c * (1 / p - 1)])
all_lost = lambda d: torch.eye(d).roll(1, 0)
all_kept = lambda d: torch.eye(d).flip(0)
""",
    "1-6": """
import torch
import torch.nn.functional as F
def smooth(y, K, eps):
    hot = F.one_hot(torch.tensor(y), K)
    return hot * (1 - eps) + (1 - hot) * eps / (K - 1)
smooth_uniform = lambda y, K, eps: F.one_hot(torch.tensor(y), K) * (1 - eps) + eps / K
to_uniform = lambda eps, K: torch.tensor(eps * K / (K - 1))
def loss(z, y, eps):
    z = torch.tensor(z)
    return F.cross_entropy(z, smooth(y, z.shape[1], eps).double(), reduction="none")
def gradient(z, y, eps):
    z = torch.tensor(z, requires_grad=True)
    F.cross_entropy(z, smooth(y, z.shape[1], eps).double(), reduction="sum").backward()
    return z.grad
optimal_gap = lambda eps, K: torch.logit(torch.tensor(1 - eps)) + torch.tensor(K - 1.0).log()
smallest_loss = lambda eps, K: torch.special.entr(
    torch.tensor([1 - eps] + [eps / (K - 1)] * (K - 1))).sum()
def slope(z, y):
    eps = torch.zeros((), dtype=torch.float64, requires_grad=True)
    z, y = torch.tensor(z), torch.tensor(y)
    hot = F.one_hot(y, z.shape[1])
    q = hot * (1 - eps) + (1 - hot) * eps / (z.shape[1] - 1)
    return torch.stack([torch.autograd.grad(x, eps, retain_graph=True)[0]
                        for x in -(q * z.log_softmax(1)).sum(1)])
def parts(z, y):
    log_p = torch.tensor(z).log_softmax(1)
    nu = torch.full_like(log_p, 1 / log_p.shape[1])
    kl = F.kl_div(log_p, nu, reduction="none").sum(1)
    return torch.stack([F.nll_loss(log_p, torch.tensor(y), reduction="none"), kl], 1)
def train(X, y, K, eps, alpha, T):
    X = torch.tensor(X).float()
    W = torch.zeros(X.shape[1], K, requires_grad=True)
    opt = torch.optim.SGD([W], lr=alpha)
    for _ in range(T):
        opt.zero_grad()
        F.cross_entropy(X @ W, smooth(y, K, eps).float()).backward()
        opt.step()
    return W
wrong_but_cheaper = lambda K, eps: torch.stack(
    [F.one_hot(torch.tensor(0), K) * 300.0, F.one_hot(torch.tensor(K - 1), K) * 2.0])
def indifferent(K):
    z = torch.full((K,), -8.0 / (K - 2))
    z[0], z[1] = 0, 8
    return z
""",
    "2-1": """
import torch
def first_steps(t, beta1):
    w = torch.softmax(torch.log(torch.tensor(beta1)) * torch.arange(t), 0)
    return w.square().sum().sqrt()
def level_share(t, beta1):
    x = torch.tensor(beta1) ** t
    return torch.tanh(torch.log(1 / x) / 2).sqrt()
over_the_rate = lambda T: -(torch.arange(T) > T - 15).float() / 3
whole_gradient = lambda gradients, sizes: (
    torch.tensor(gradients) * torch.tensor(sizes)[:, None]).sum(0) / int(sizes.sum())
kept_beta = lambda beta, K0, K: torch.exp(torch.tensor(beta).log() * K / K0)
def opposed(sizes):
    sizes = torch.tensor(sizes)
    g = torch.zeros(len(sizes), 2)
    g[sizes.argmax(), 1], g[sizes.argmin(), 1] = -0.6, 1
    return g
def bigram_gradient(q, W, b):
    W, b = (torch.tensor(x, requires_grad=True) for x in (W, b))
    (-torch.tensor(q) * (W + b).log_softmax(1)).sum().backward()
    return torch.cat([W.grad, b.grad[None]])
def least_loss(q):
    q = torch.tensor(q)
    return torch.special.entr(q).sum() - torch.special.entr(q.sum(1)).sum()
far_from_steepest = lambda d: torch.cat([torch.full((d - 1,), -3e-3), torch.tensor([-2.0])])
def variances(h, alpha, sigma, T):
    r = torch.tensor(1 - alpha * h)
    last = (alpha * sigma) ** 2 / (1 - r**2)
    pairs = T * (1 + r) / (1 - r) - 2 * r * (1 - r**T) / (1 - r) ** 2
    return torch.stack([last, last * pairs / T**2])
def worse_mean(h, alpha, T):
    noise = torch.full((T,), alpha * h)
    noise[0], noise[-1] = 1, alpha * h - 1
    return noise
def lion(g, m, beta1, beta2):
    g, m = torch.tensor(g), torch.tensor(m)
    return torch.stack([-m.lerp(g, 1 - beta1).sign(), m.lerp(g, 1 - beta2)])
def orthogonal_factor(G):
    u, _, v = torch.svd(torch.tensor(G))
    return u @ v.T
muon_misses = lambda n: torch.diag(torch.tensor([7e-5] + [2.0] * (n - 1)))
""",
    "2-2": """
import torch
import torch.nn.functional as F
def rms_backward(x, c):
    x = torch.tensor(x, requires_grad=True)
    (F.rms_norm(x, x.shape, eps=0.0) @ torch.tensor(c)).backward()
    return x.grad
norms_apart = lambda n: 1 - 0.08 * torch.rand(n, generator=torch.Generator().manual_seed(n))
def sam_gradient(H, theta, rho):
    loss = lambda t: t @ torch.tensor(H) @ t / 2
    g = torch.func.grad(loss)(torch.tensor(theta))
    return torch.func.grad(loss)(torch.tensor(theta) + rho * F.normalize(g, dim=0))
def turned_back(rho):
    H = torch.tensor([[0.0, -1], [-1, 0]])
    return torch.cat([H, torch.full((1, 2), rho / 4)])
def same_change(alpha, x, wide):
    return alpha * torch.tensor(x).norm(p=1) / torch.tensor(wide).norm(p=1)
def dyt_backward(x, c, alpha):
    x = torch.tensor(x, requires_grad=True)
    ((alpha * x).tanh() * torch.tensor(c)).sum().backward()
    return x.grad
growth = lambda s: torch.log1p(torch.tensor(s) ** 2).sum().exp()
winners_luck = lambda K, sigma: sigma - torch.tensor(2 * sigma) * 2.0**-K
""",
}
