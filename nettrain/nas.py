"""Search for architectures, update rules and activations: all of them described by words.

A description of a network is a tuple of layers, a layer a tuple of answers to questions; the number
of layers is an answer too. A searcher is a generator: each `next` trains a few children by calling
train(descriptions) -> rewards, and yields (descriptions, rewards). It knows no data and no trainer.
A child whose reward is not finite has failed: its reward is −∞, and it is never a parent.

An expression is a leaf, such as "g", or (name of a function, expression, ...). A sweep can train
rows with different activations, norms and rules, since the choice is a number that a row carries.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nettrain import spaces
from nettrain.checks import check_range
from nettrain.normalization import normalize

Layer = tuple  # one answer to each question


Description = tuple[Layer, ...]


Questions = dict[str, tuple]  # {question: possible answers}, asked for each layer in this order


Train = Callable[[list[Description]], Sequence[float]]


Search = Iterator[tuple[list[Description], Tensor]]


# --------------------------------------------------------------------------- networks in words


def descriptions(questions: Questions, layers: int) -> list[Description]:
    """Every description of 0 ... `layers` layers, short ones first."""
    layer = list(itertools.product(*questions.values()))
    depths = range(layers + 1)
    return [d for depth in depths for d in itertools.product(layer, repeat=depth)]


def pick(values: Sequence[Tensor], which: Tensor) -> Tensor:
    """values[which], for a number `which` that differs from row to row of a sweep.

    All values are computed and one is kept. Their derivatives must be finite: the chain rule
    multiplies those of the others by zero.
    """
    chosen = values[0]
    for k, value in enumerate(values[1:], start=1):
        chosen = torch.where(which == k, value, chosen)
    return chosen


ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


NORMS = {"plain": lambda z: z, "norm": lambda z: normalize(z, *_moments(z))}


def _moments(z: Tensor) -> tuple[Tensor, Tensor]:
    return z.mean(-1, keepdim=True), z.var(-1, correction=0, keepdim=True)


class Child(nn.Module):
    """Fully connected layers, each with its own activation and norm.

        h_l = f_l(norm_l(W_l h_{l−1} + b_l)),  outputs V h_L + c

    The widths fix the shapes. Activations and norms are numbers in the buffer `choice` [L, 2], so
    that children of equal widths can be rows of one sweep; `choices` writes them.
    [n, ...] -> [n, n_out].
    """

    def __init__(self, widths: Sequence[int], n_in: int, n_out: int):
        super().__init__()
        sizes = [n_in, *widths]
        self.layers = nn.ModuleList(map(nn.Linear, sizes[:-1], sizes[1:]))
        self.output = nn.Linear(sizes[-1], n_out)
        self.register_buffer("choice", torch.zeros(len(widths), 2, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(1)
        for layer, (activation, norm) in zip(self.layers, self.choice, strict=True):
            z = layer(h)
            z = pick([f(z) for f in NORMS.values()], norm)
            h = pick([f(z) for f in ACTIVATIONS.values()], activation)
        return self.output(h)


def widths(description: Description) -> tuple[int, ...]:
    """What must be equal for two children to be rows of one sweep: (width, ...)."""
    return tuple(width for width, *_ in description)


def choices(description: Description) -> Tensor:
    """The buffer `choice` of the child that is described by (width, activation, norm), ...: [L, 2].

    Raises ValueError for an unknown activation or norm.
    """
    rows = []
    for _, activation, norm in description:
        for word, known in ((activation, ACTIVATIONS), (norm, NORMS)):
            if word not in known:
                raise ValueError(f"{word!r} is unknown; choose from {', '.join(known)}")
        rows.append((list(ACTIVATIONS).index(activation), list(NORMS).index(norm)))
    return torch.tensor(rows, dtype=torch.int64).view(-1, 2)


# ------------------------------------------------------------------------------- the controller


class Controller(nn.Module):
    """A recurrent network that writes descriptions, answer by answer.

        h_t, c_t = LSTM(embedding of answer t−1, h_{t−1}, c_{t−1})
        P(answer t | answers before) = softmax(V_q h_t),  q the question asked at t

    The first question of each layer has one more answer: 0, the end. After `layers` layers nothing
    is asked any more. V starts at zero, so that at first all answers are equally likely. Answers
    are numbers here, [n, T] with −1 behind the end. Zoph & Le 2017.
    """

    def __init__(self, questions: Questions, layers: int, *, hidden: int = 16):
        super().__init__()
        self.questions, self.length = questions, layers * len(questions)
        sizes = [len(answers) for answers in questions.values()]
        sizes[0] += 1
        self.first = [0, *itertools.accumulate(sizes)]  # each question has its own embeddings
        self.embedding = nn.Embedding(self.first[-1] + 1, hidden)  # the last one: nothing yet
        self.cell = nn.LSTMCell(hidden, hidden)
        self.heads = nn.ModuleList(nn.Linear(hidden, k, bias=False) for k in sizes)
        for head in self.heads:
            nn.init.zeros_(head.weight)

    def _walk(self, n: int, answer: Callable) -> tuple[Tensor, Tensor]:
        """Ask until all have ended: answers [n, T] and their log P [n]."""
        answers, log_p, state = torch.full((n, self.length), -1), 0.0, None
        token = torch.full((n,), self.first[-1])
        writing = torch.ones(n, dtype=torch.bool)
        for t in range(self.length):
            q = t % len(self.heads)
            state = self.cell(self.embedding(token), state)
            logits = self.heads[q](state[0]).log_softmax(-1)
            word = answer(t, logits)
            log_p = log_p + writing * logits.gather(1, word[:, None])[:, 0]
            answers[:, t] = torch.where(writing, word, -1)
            if q == 0:
                writing = writing & (word != 0)
            if not writing.any():
                break
            token = self.first[q] + word
        return answers, log_p

    def write(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw n descriptions: answers [n, T] and their log P [n]."""

        def draw(t, logits):
            return torch.multinomial(logits.detach().exp(), 1, generator=generator)[:, 0]

        return self._walk(n, draw)

    def log_prob(self, answers: Tensor) -> Tensor:
        """log P of given descriptions.  [n, T] -> [n]"""
        return self._walk(len(answers), lambda t, logits: answers[:, t].clamp(min=0))[1]

    def read(self, answers: Tensor) -> list[Description]:
        """Answers [n, T] as descriptions."""
        kinds = list(self.questions.values())
        found = []
        for row in answers.view(len(answers), -1, len(kinds)).tolist():
            layers = itertools.takewhile(lambda layer: layer[0] > 0, row)
            found.append(
                tuple(
                    (kinds[0][a - 1], *(k[b] for k, b in zip(kinds[1:], rest, strict=True)))
                    for a, *rest in layers
                )
            )
        return found

    def tokens(self, children: Sequence[Description]) -> Tensor:
        """Descriptions as answers [n, T]: `read` backwards."""
        kinds = list(self.questions.values())
        rows = []
        for child in children:
            row = [
                kind.index(word) + (q == 0)
                for layer in child
                for q, (kind, word) in enumerate(zip(kinds, layer, strict=True))
            ]
            row += [0] * (len(row) < self.length)
            rows.append(row + [-1] * (self.length - len(row)))
        return torch.tensor(rows)


class Controllers(Controller):
    """Several controllers side by side: each writes an equal share of the rows of a batch.

    The methods are those of `Controller`, with n a multiple of the number of controllers: the first
    rows belong to the first one, and so on. Each keeps its own weights.
    """

    def __init__(self, controllers: Sequence[Controller]):
        nn.Module.__init__(self)
        one = controllers[0]
        self.questions, self.length, self.first = one.questions, one.length, one.first
        self.embedding = _Embeddings([c.embedding for c in controllers])
        self.cell = _Cells([c.cell for c in controllers])
        self.heads = nn.ModuleList(
            _Heads(heads) for heads in zip(*(c.heads for c in controllers), strict=True)
        )


class _Stacked(nn.Module):
    """The parameters of C modules, each as one tensor [C, ...]; rows [C n, ...] in equal shares."""

    def __init__(self, modules: Sequence[nn.Module]):
        super().__init__()
        for name, _ in modules[0].named_parameters():
            values = torch.stack([getattr(module, name).detach() for module in modules])
            self.register_parameter(name, nn.Parameter(values))
        self.count = len(modules)

    def shared(self, rows: Tensor) -> Tensor:
        """[C n, ...] -> [C, n, ...]"""
        return rows.view(self.count, -1, *rows.shape[1:])


class _Embeddings(_Stacked):
    def forward(self, token: Tensor) -> Tensor:
        return self.weight[torch.arange(self.count)[:, None], self.shared(token)].flatten(0, 1)


class _Heads(_Stacked):
    def forward(self, h: Tensor) -> Tensor:
        return torch.bmm(self.shared(h), self.weight.mT).flatten(0, 1)


class _Cells(_Stacked):
    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        z = torch.baddbmm(self.bias_ih[:, None], self.shared(x), self.weight_ih.mT)
        z = z + self.bias_hh[:, None]
        if state is not None:
            z = z + torch.bmm(self.shared(state[0]), self.weight_hh.mT)
        i, f, g, o = z.flatten(0, 1).chunk(4, dim=1)  # torch's order
        c = i.sigmoid() * g.tanh() + (0 if state is None else f.sigmoid() * state[1])
        return o.sigmoid() * c.tanh(), c


def reinforce(log_p: Tensor, reward: Tensor, baseline: float | Tensor = 0.0) -> Tensor:
    """A loss whose gradient is an unbiased estimate of −∇ E[R]: −mean((R − b) log p).

    log_p [n], reward [n]. b may be any number that does not depend on these n draws. Williams 1992.
    """
    return -((reward - baseline) * log_p).mean()


# --------------------------------------------------------------------------------- the searchers


def learn(
    controller: Controller,
    train: Train,
    *,
    batch: int,
    lr: float,
    generator: torch.Generator,
    decay: float = 0.8,
) -> Search:
    """Train children that a controller writes, and the controller by their rewards.

        loss = −mean((R − b) log p),  b ← γ b + (1 − γ) mean(R)

    b is used before it is updated, so it does not depend on the batch. The first batch only sets
    it. γ is `decay`. One step of Adam for each batch. A child that failed counts as the worst so
    far. Raises ValueError if all children of the first batch fail. Zoph & Le 2017.
    """
    optimizer = torch.optim.Adam(controller.parameters(), lr=lr)
    batch, baseline, worst = spaces.whole("batch", batch), None, math.inf
    while True:
        answers, log_p = controller.write(batch, generator)
        children = controller.read(answers)
        found = rewards(train, children, log_p.dtype)
        alive = found > -math.inf
        worst = min([worst, *found[alive].tolist()])
        if worst == math.inf:
            raise ValueError(f"all {batch} children of the first batch failed: no finite reward")
        reward = found.where(alive, worst)
        if baseline is None:
            baseline = reward.mean()
        else:
            loss = reinforce(log_p, reward, baseline)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            baseline = decay * baseline + (1 - decay) * reward.mean()
        yield children, found


def learn_together(
    controllers: Controllers,
    train: Train,
    *,
    batch: int,
    lr: float,
    generator: torch.Generator,
    decay: float = 0.8,
) -> Search:
    """`learn` for several controllers side by side: one search each, with its own baseline.

    Yields `batch` children of the first controller, then of the second, and so on. Raises
    ValueError for a reward that is not finite.
    """
    optimizer = torch.optim.Adam(controllers.parameters(), lr=lr)
    batch, baseline, count = spaces.whole("batch", batch), None, controllers.cell.count
    while True:
        answers, log_p = controllers.write(count * batch, generator)
        children = controllers.read(answers)
        found = rewards(train, children, log_p.dtype)
        if not found.isfinite().all():
            raise ValueError("a reward is not finite")
        reward = found.view(count, batch)
        mean = reward.mean(1, keepdim=True)
        if baseline is None:
            baseline = mean
        else:
            loss = count * reinforce(log_p.view(count, batch), reward, baseline)  # their sum
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            baseline = decay * baseline + (1 - decay) * mean
        yield children, found


def rewards(train: Train, children: list[Description], dtype=torch.float32) -> Tensor:
    """What `train` returns for n children, [n]: −∞ where it is not finite.

    Raises ValueError if it returns another number of rewards.
    """
    found = torch.as_tensor(train(children), dtype=dtype)
    if found.shape != (len(children),):
        raise ValueError(f"rewards have shape {list(found.shape)}, for {len(children)} children")
    return found.where(found.isfinite(), -math.inf)


def draw(questions: Questions, layers: int, rng: np.random.Generator) -> Description:
    """A random description, all answers equally likely, the end among them: a new controller's."""
    kinds = list(questions.values())
    child = []
    while len(child) < layers and (first := rng.integers(len(kinds[0]) + 1)) > 0:
        child.append((kinds[0][first - 1], *(k[rng.integers(len(k))] for k in kinds[1:])))
    return tuple(child)


def mutate(
    child: Description, questions: Questions, layers: int, rng: np.random.Generator
) -> Description:
    """A neighbour: one answer changed, or a layer put in or taken out, all equally likely."""
    kinds = list(questions.values())
    moves = [
        (*child[:i], (*child[i][:q], word, *child[i][q + 1 :]), *child[i + 1 :])
        for i in range(len(child))
        for q, kind in enumerate(kinds)
        for word in kind
        if word != child[i][q]
    ]
    moves += [child[:i] + child[i + 1 :] for i in range(len(child))]
    if len(child) < layers:
        new = tuple(k[rng.integers(len(k))] for k in kinds)
        moves += [(*child[:i], new, *child[i:]) for i in range(len(child) + 1)]
    return moves[rng.integers(len(moves))]


def at_random(propose: Callable[[], Description], train: Train, *, batch: int) -> Search:
    """Train children that `propose` draws, and learn nothing."""
    batch = spaces.whole("batch", batch)
    while True:
        children = [propose() for _ in range(batch)]
        yield children, rewards(train, children)


def evolve(
    propose: Callable[[], Description],
    change: Callable[[Description], Description],
    train: Train,
    *,
    population: int,
    sample: int,
    rng: np.random.Generator,
) -> Search:
    """Regularized evolution: a mutant of the best of `sample` replaces the *oldest*.

    The first `population` children come from `propose`. The sample is drawn from those that have
    not failed. Real et al. 2019. Raises ValueError unless 1 ≤ sample ≤ population, and if all of
    the population have failed.
    """
    check_range("sample", sample, f"[1, {population}]", "the population")
    alive = deque(maxlen=population)
    while True:
        if len(alive) < population:
            child = propose()
        else:
            able = [pair for pair in alive if pair[1] > -math.inf]
            if not able:
                raise ValueError(f"all {population} of the population failed: no finite reward")
            rivals = rng.choice(len(able), min(sample, len(able)), replace=False)
            child = change(max((able[i] for i in rivals), key=lambda pair: pair[1])[0])
        reward = rewards(train, [child])
        alive.append((child, float(reward[0])))
        yield [child], reward


# ------------------------------------------------------------------- expressions and their grammar

Expression = str | tuple


FUNCTIONS = {  # name: (how it is written, what it computes)
    "+": ("{} + {}", torch.add),
    "−": ("{} − {}", torch.sub),
    "·": ("{}·{}", torch.mul),
    "max": ("max({}, {})", torch.maximum),
    "min": ("min({}, {})", torch.minimum),
    "neg": ("−{}", torch.neg),
    "1+": ("1 + {}", lambda x: 1 + x),
    "abs": ("|{}|", torch.abs),
    "square": ("({})²", torch.square),
    "sign": ("sign({})", torch.sign),
    "exp": ("e^({})", torch.exp),
    "σ": ("σ({})", torch.sigmoid),
    "tanh": ("tanh({})", torch.tanh),
    "relu": ("relu({})", torch.relu),
    "softplus": ("softplus({})", nn.functional.softplus),
    "sin": ("sin({})", torch.sin),
    "atan": ("atan({})", torch.atan),
    "bell": ("e^(−({})²)", lambda x: torch.exp(-x.square())),
}


def applied(names: Iterable[str], *arguments: Sequence[Expression]) -> list[Expression]:
    """Every function of `names` applied to every combination of arguments: a line of a grammar."""
    return [(f, *args) for f in names for args in itertools.product(*arguments)]


def formula(expression: Expression) -> str:
    """An expression as it is written: ("·", ("1+", "m"), "g") -> "(1 + m)·g"."""
    if isinstance(expression, str):
        return expression
    name, *arguments = expression
    texts = [formula(a) for a in arguments]
    if name in ("+", "−", "·", "neg", "1+"):  # the others bring brackets of their own
        loose = ("−", "neg") if name == "+" else ("+", "−", "neg", "1+")
        texts = [f"({x})" if a[0] in loose else x for a, x in zip(arguments, texts, strict=True)]
    return FUNCTIONS[name][0].format(*texts).replace("(x)²", "x²")


def evaluated(expression: Expression, leaves: dict[str, Tensor]) -> Tensor:
    """The value of an expression, given its leaves. Raises KeyError for an unknown word."""
    if isinstance(expression, str):
        return leaves[expression]
    name, *arguments = expression
    return FUNCTIONS[name][1](*(evaluated(a, leaves) for a in arguments))


def node_count(expression: Expression) -> int:
    """How many leaves and functions an expression has."""
    return 1 if isinstance(expression, str) else 1 + sum(map(node_count, expression[1:]))


def distinct(
    expressions: Iterable[Expression],
    leaves: dict[str, Tensor],
    normal: Callable[[Tensor], Tensor] = lambda y: y,
) -> list[Expression]:
    """One expression, the smallest, of all that agree on the leaves' values [n].

    normal  y [n] -> y' [n], what "agree" overlooks: `unit_rms` a factor, `mirrored` two signs

    Agreement is to seven digits. Expressions that are zero or not finite there are left out.
    """
    found: dict[tuple, Expression] = {}
    for expression in sorted(expressions, key=node_count):
        y = evaluated(expression, leaves)
        if y.isfinite().all() and y.abs().max() > 1e-9:
            # adding zero turns −0 into 0
            found.setdefault(tuple((normal(y) * 1e7).round().add(0.0).tolist()), expression)
    return list(found.values())


def unit_rms(y: Tensor) -> Tensor:
    """y divided by its root mean square: two steps that differ by a factor differ by a rate."""
    return y / y.square().mean().sqrt()


def mirrored(y: Tensor) -> Tensor:
    """The same for f(x), −f(x), f(−x) and −f(−x), given f on a grid that is symmetric about 0.

    A layer between weights that are as likely to be w as −w cannot tell these apart.
    """
    y = y.mul(1e9).round().div(1e9)  # else noise of 1e-17 would decide which one is the largest
    return torch.tensor(max(z.tolist() for z in (y, -y, y.flip(0), -y.flip(0))), dtype=y.dtype)


# ---------------------------------------------------------------------- rules from expressions

OPERANDS = ("g", "m", "g/√v", "m/√v", "sign g", "sign m")


def operands(g, m, v, t, beta1, beta2, eps) -> dict[str, Tensor]:
    """The leaves of an update rule: g, running means of g and g², and what is made of them.

    m/√v is Adam's step, with its corrections; m alone has none, as in PowerSign.
    """
    m_hat = m / (1 - beta1**t)
    root = (v / (1 - beta2**t)).sqrt() + eps
    values = (g, m, g / root, m_hat / root, g.sign(), m.sign())
    return dict(zip(OPERANDS, values, strict=True)) | {"1": torch.ones_like(g)}


def update_rule(*expressions: Expression) -> Callable:
    """The rule θ ← θ − η s(g, m, v), s one of the expressions: number `which`.

        m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²

    A rule like those of `optimizers`; `which` is a hyperparameter, so that a sweep can train rows
    with different rules. Bello et al. 2017.
    """

    def rule(theta, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, which=0):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        leaves = operands(g, m, v, t, beta1, beta2, eps)
        step = pick([evaluated(e, leaves) for e in expressions], torch.as_tensor(which))
        return theta - lr * step, m, v

    rule.__name__ = formula(expressions[0]) if len(expressions) == 1 else "searched"
    return rule


class Activation(nn.Module):
    """f(x), f one of the expressions in the leaf "x": number `which`, a buffer.

    Rows of one sweep can have different activations. Derivatives must be finite (see `pick`).
    """

    def __init__(self, *expressions: Expression):
        super().__init__()
        self.expressions = expressions
        self.register_buffer("which", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return pick([evaluated(e, {"x": x}) for e in self.expressions], self.which)

    def extra_repr(self) -> str:
        return ", ".join(map(formula, self.expressions))
