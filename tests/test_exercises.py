"""The exercises' notebooks and laws: solutions hold, blanks and wrong answers do not."""

import ast
import importlib.util
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import exercises
from exercises import blank, lessons, samples, statements
from exercises.grading.files import notebook_name
from exercises.laws import (
    DRAWS,
    IDS,
    Ask,
    Exercise,
    difference,
    judge,
    load,
    local,
    numbers,
)
from tests import right_answers
from tests.mutants import mutants

WRONG = sorted(Path(exercises.__file__).parent.glob("ex*/wrong/*.py"))
each_exercise = pytest.mark.parametrize("id", IDS)


def notebook(id, name="solution"):
    file = notebook_name(id) if name == "exercise" else f"{name}.ipynb"
    return json.loads((blank.folder(id) / file).read_text("utf-8"))


def grader_cells(id, name="solution"):
    """{grade_id: (its nbgrader metadata, source)}"""
    found = {}
    for cell in notebook(id, name)["cells"]:
        if about := cell["metadata"].get("nbgrader"):
            assert about["grade_id"] not in found
            found[about["grade_id"]] = about, "".join(cell["source"])
    return found


def answers(id, name="solution"):
    return [
        "".join(c["source"])
        for c in notebook(id, name)["cells"]
        if c["cell_type"] == "code" and c["metadata"].get("nbgrader", {}).get("solution")
    ]


def namespace(sources):
    names = {"np": np}
    for source in sources:
        exec(compile(source, "<answer>", "exec"), names)
    return names


def marks(id, names, seed=1):
    return {law.name: judge(law, local(names), seed) for law in load(id).laws}


# ----------------------------------------------------------------------------- notebooks


def test_no_exercise_is_stale():
    assert blank.stale() == []  # else: python -m exercises blank


@each_exercise
def test_the_exercise_holds_no_answer(id):
    text = json.dumps(notebook(id, "exercise"))
    assert "SOLUTION" not in text and text.count("YOUR ANSWER HERE") == 1
    for source, solved in zip(answers(id, "exercise"), answers(id), strict=True):
        functions = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
        assert len(functions) == len(ast.parse(solved).body)
        for f in functions:  # a docstring, and the blank
            assert ast.get_docstring(f) and ast.unparse(f.body[1:]) == "raise NotImplementedError()"


def test_an_answer_without_markers_is_noticed():
    solution = notebook("1-1")
    for cell in solution["cells"]:
        cell["source"] = [line for line in cell["source"] if "SOLUTION" not in line]
    with pytest.raises(ValueError, match="no ### BEGIN SOLUTION"):
        blank.blank(solution)


@each_exercise
def test_nbgrader_can_take_the_notebooks(id):
    cells = grader_cells(id)
    required = {"schema_version", "grade", "grade_id", "locked", "solution", "task"}
    for about, _ in cells.values():
        assert required <= about.keys() and about["schema_version"] == 3
        assert ("points" in about) == about["grade"]
        assert about["grade"] or about["solution"]
    checks = [about for about, source in cells.values() if source.startswith("check(")]
    assert sum(about["points"] for about in checks) == load(id).points
    assert all(about["locked"] for about in checks) and len(checks) == len(load(id).parts)


@each_exercise
def test_an_exercise_has_five_to_fourteen_laws_and_each_function_has_one(id):
    laws = load(id).laws
    assert 5 <= len(laws) <= 14 and len({law.name for law in laws}) == len(laws)
    functions = {n.name for s in answers(id) for n in ast.parse(s).body}
    assert set(load(id).parts) == functions
    assert all(law.points > 0 and len(law.statement) > 30 for law in laws)


# ----------------------------------------------------------------------------- laws


@each_exercise
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_solution_obeys_every_law(id, seed):
    with warnings.catch_warnings():
        broken = {k: m.message for k, m in marks(id, namespace(answers(id)), seed).items()}
    assert set(broken.values()) == {None}, broken


@each_exercise
def test_a_blank_gets_nothing_and_a_helpful_message_for_each_law(id):
    for name, mark in marks(id, namespace(answers(id, "exercise"))).items():
        assert mark.points == 0 and mark.message.endswith("` is not written yet."), name
        assert mark.call is None


@pytest.mark.parametrize("path", WRONG, ids=lambda p: f"{p.parts[-3]}-{p.stem}")
def test_a_wrong_answer_is_refused_by_the_law_that_names_its_mistake(path):
    id = path.parts[-3].removeprefix("ex").replace("_", "-")
    says = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    law, words = re.search(r"Refused by (\w+): (.+)", says).groups()
    names = namespace(answers(id))
    before = {k: v for k, v in names.items() if callable(v)}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), names)
    assert {k for k in before if names[k] is not before[k]}, "it replaces no function"
    for seed in (1, 2, 3):
        found = marks(id, names, seed)
        assert found[law].points == 0 and words in found[law].message, found[law].message


def test_every_exercise_has_wrong_answers_from_the_circulation():
    text = "\n".join(p.read_text("utf-8") for p in WRONG)
    assert all(f"#{n}" in text for n in (53, 59, 60, 61))
    assert all(sum(f"ex{id.replace('-', '_')}" in p.parts for p in WRONG) >= 5 for id in IDS)


EQUIVALENT = {  # mutants that are no mistakes
    "1-2": {
        "Div in `-alpha * (1 - beta1) / np.sqrt(1 - beta2) * np.sign(g)`": "a sign is its inverse",
    },
    "1-3": {"-1 for 0 in `0`": "the first of one element is the last"},
    "1-6": {"minus in `return 0.0`": "−0 is 0"},
}
# What they must exhibit is not unique: a mutant that the law accepts is another construction.
CONSTRUCTIONS = {
    "1-1": {"against_the_gradient", "nesterov_differs"},
    "1-2": {"counterexample", "uphill"},
    "1-3": {"sees_the_future", "indistinguishable"},
    "1-4": {"adam_counterexample", "norm_counterexample"},
    "1-5": {"all_lost", "all_kept"},
    "1-6": {"wrong_but_cheaper", "indifferent"},
    "2-1": {"over_the_rate", "opposed", "far_from_steepest", "worse_mean", "muon_misses"},
    "2-2": {"norms_apart", "turned_back"},
}


@each_exercise
def test_an_exercise_asks_for_two_constructions(id):
    assert len(CONSTRUCTIONS[id]) >= 2 and CONSTRUCTIONS[id] <= set(load(id).parts)


def function_at(source, line):
    """The function that a line of a cell belongs to."""
    defined = ast.parse(source).body
    return next(f.name for f in defined if f.lineno <= line <= f.end_lineno)


@each_exercise
def test_mutants_of_the_solution_are_refused(id):
    sources, survivors, count = answers(id), [], 0
    laws = list(load(id).laws)
    equivalent = EQUIVALENT.get(id, {})
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for i, source in enumerate(sources):
            near = {n.name for n in ast.parse(source).body}  # their laws are the likeliest
            laws.sort(key=lambda law: law.part not in near)
            for word, mutant in mutants(source):
                names = namespace([*sources[:i], mutant, *sources[i + 1 :]])
                held = all(not judge(law, local(names), 5).message for law in laws)
                place, _, word = word.partition(": ")
                made = function_at(source, int(place.split()[1])) in CONSTRUCTIONS[id]
                excused = held and (made or word in equivalent)
                count += not excused
                survivors += [word] if held and not excused else []
    assert count > 50 and len(survivors) <= 0.05 * count, survivors
    print(f"{id}: {count - len(survivors)} of {count} mutants refused; alive: {survivors}")


@each_exercise
def test_laws_draw_fresh_inputs_and_the_same_for_the_same_seed(id):
    def asked(seed):
        calls = []

        def replies(name, args):
            calls.append(repr((name, args)))
            return reply(name, args)

        reply = local(namespace(answers(id)))
        for law in load(id).laws:
            judge(law, replies, seed)
        return calls

    first, again, other = asked(1), asked(1), asked(2)
    assert first == again and len(set(first) & set(other)) < 0.2 * len(first)
    assert len(first) >= DRAWS * len(load(id).laws)


# ----------------------------------------------------------------------------- asking


def test_check_prints_marks_and_raises(capsys):
    names = namespace(answers("1-1"))
    exercises.check("1-1", names)
    assert "15 of 15 points" in capsys.readouterr().out
    names["half_life"] = lambda rho: 1 / (1 - rho)
    exercises.check("1-1", names, "weights")
    says = "1 of 10 laws fails: half_life_halves_the_weight"
    with pytest.raises(exercises.LawsFailed, match=says) as caught:
        exercises.check("1-1", names)
    said = capsys.readouterr().out
    assert "14 of 15 points" in said and said.count(load("1-1").laws[4].statement) == 1
    assert re.search(
        r"  ✗ 1  After half_life.*\n       half_life\(.*1/e.*\n       Try: half_l", said
    )
    assert caught.value._render_traceback_() == [says]
    with pytest.raises(ValueError, match="no part 'nothing'; it has weights, "):
        exercises.check("1-1", names, "nothing")
    with pytest.raises(ValueError, match="no exercise '9-9'; there are 1-1, "):
        exercises.check("9-9", names)


@each_exercise
def test_the_call_that_broke_a_law_can_be_tried(id):
    """What a message offers for copying is Python, and calls the function that it is about."""
    wrong = {name: lambda *args: np.float64("nan") for name in load(id).parts}
    for mark in marks(id, wrong).values():
        names = {"np": np} | wrong
        assert np.isnan(eval(mark.call, names)) and mark.call.startswith(mark.law.part), mark


class Equal(float):
    def __eq__(self, other):
        return True

    def __sub__(self, other):
        return 0.0

    __hash__ = None


cycle = []
cycle.append(cycle)

NO_NUMBERS = {
    "None": None,
    "a text": "0.5 ",
    "a dict": {"a": 1},
    "a cyclic list": cycle,
    "ragged lists": [[1.0], [1.0, 2.0]],
    "NaN": float("nan"),
    "infinity": float("inf"),
    "a huge integer": 10**400,
    "too many numbers": np.zeros(200_000),
    "another shape": [0.5],
    "nothing": [],
    "an object that equals everything": Equal(3.0),
    "a complex number": 0.5 + 1j,
    "a function": len,
}


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS.keys())
def test_what_is_no_right_number_breaks_the_law(value):
    exercise = Exercise("0", "a half")

    @exercise.law("half", points=1)
    def is_a_half(ask, rng):
        """A half is half of one."""
        ask.same("half", want=0.5)

    warnings.simplefilter("ignore")
    assert judge(exercise.laws[0], local({"half": lambda: 0.5}), 0).points == 1
    mark = judge(exercise.laws[0], local({"half": lambda: value}), 0)
    assert mark.points == 0 and "half()" in mark.message


def torch_velocity(g, alpha, rho):
    import torch

    theta = torch.zeros(g.shape[1], dtype=torch.float64, requires_grad=True)
    opt, path = torch.optim.SGD([theta], lr=alpha, momentum=rho), [np.zeros(g.shape[1])]
    for g_t in g:
        theta.grad = torch.tensor(g_t)
        opt.step()
        path.append(theta.detach().numpy().copy())
    return np.diff(path, axis=0)


def torch_first_step(g, alpha, beta1, beta2, eps):
    import torch

    theta = torch.zeros(len(g), dtype=torch.float64, requires_grad=True)
    theta.grad = torch.tensor(g)
    torch.optim.Adam([theta], lr=alpha, betas=(beta1, beta2), eps=eps).step()
    return theta


def torch_batch_norm(z, eps):
    import torch.nn.functional as F

    return F.batch_norm(torch_flat(z), None, None, training=True, eps=eps).reshape(z.shape)


def torch_flat(z):
    import torch

    return torch.tensor(z).reshape(len(z), -1)  # every step and unit is a feature


def torch_shared(z, eps):
    import torch
    import torch.nn.functional as F

    rows = torch.tensor(z).reshape(-1, z.shape[2])
    return F.batch_norm(rows, None, None, training=True, eps=eps).reshape(z.shape)


def torch_layer(z, eps):
    import torch
    import torch.nn.functional as F

    return F.layer_norm(torch.tensor(z), z.shape[-1:], eps=eps)


def torch_gap(theta0, alpha, rho, lam):
    import torch

    ends = []
    for decay, shrink in ((lam, 1), (0, 1 - alpha * lam)):
        theta = torch.tensor(theta0, requires_grad=True)
        opt = torch.optim.SGD([theta], lr=alpha, momentum=rho, weight_decay=decay)
        for _ in range(2):
            theta.grad = torch.zeros_like(theta)
            with torch.no_grad():
                theta *= shrink
            opt.step()
        ends.append(theta.detach())
    return ends[0] - ends[1]


def torch_loss(z, y, eps):
    import torch
    import torch.nn.functional as F

    K = z.shape[1]
    smoothing = eps * K / (K - 1)
    args = torch.tensor(z), torch.tensor(y)
    return F.cross_entropy(*args, label_smoothing=smoothing, reduction="none")


def torch_gradient(z, y, eps):
    import torch
    import torch.nn.functional as F

    K, z = z.shape[1], torch.tensor(z, requires_grad=True)
    smoothing = eps * K / (K - 1)
    F.cross_entropy(z, torch.tensor(y), label_smoothing=smoothing, reduction="sum").backward()
    return z.grad


def torch_bigrams(q, W, b):
    import torch
    import torch.nn.functional as F

    W, b = (torch.tensor(x, requires_grad=True) for x in (W, b))
    k, y = (torch.tensor(x) for x in np.indices(q.shape).reshape(2, -1))
    losses = F.cross_entropy(F.embedding(k, W) + b, y, reduction="none")
    (losses * torch.tensor(q).flatten()).sum().backward()
    return torch.cat([W.grad, b.grad[None]])


def torch_first_steps(t, beta1):
    """Adam walks through t independent gradients of which each is alone in its coordinate."""
    import torch

    theta = torch.zeros(t, dtype=torch.float64, requires_grad=True)
    opt = torch.optim.Adam([theta], lr=1.0, betas=(beta1, 0.0), eps=1.0)
    for row in torch.eye(t, dtype=torch.float64):
        before = theta.detach().clone()
        theta.grad = row
        opt.step()
    step = (before - theta.detach()) * torch.cat([torch.ones(t - 1), torch.tensor([2.0])])
    return step.norm()  # the last gradient alone is divided by √v̂ + ε = 2, the others by ε


def torch_rms_backward(x, c):
    import torch

    x = torch.tensor(x, requires_grad=True)
    torch.nn.RMSNorm(len(x), eps=0.0, dtype=x.dtype)(x).backward(torch.tensor(c))
    return x.grad


TORCH = {  # what a well-kept library computes must obey the laws
    ("1-1", "velocity"): torch_velocity,
    ("1-2", "first_step"): torch_first_step,
    ("1-3", "per_step"): torch_batch_norm,
    ("1-3", "shared"): torch_shared,
    ("1-3", "layer"): torch_layer,
    ("1-4", "momentum_gap"): torch_gap,
    ("1-6", "loss"): torch_loss,
    ("1-6", "gradient"): torch_gradient,
    ("2-1", "bigram_gradient"): torch_bigrams,
    ("2-1", "first_steps"): torch_first_steps,
    ("2-2", "rms_backward"): torch_rms_backward,
}


@pytest.mark.parametrize(("id", "part"), TORCH, ids=map("-".join, TORCH))
def test_torch_obeys_the_laws(id, part):
    names = namespace(answers(id)) | {part: TORCH[id, part]}
    laws = [law for law in load(id).laws if law.part == part]
    assert laws and all(judge(law, local(names), 3).message is None for law in laws)


def test_answers_of_torch_and_sympy_count():
    import sympy
    import torch

    ask = Ask(local({"f": lambda: torch.ones(2, requires_grad=True), "g": lambda: sympy.pi}))
    assert ask("f", shape=(2,)).tolist() == [1, 1] and abs(ask("g") - np.pi) < 1e-15


def test_a_function_cannot_change_the_laws_inputs():
    def spoil(x):
        x *= 0
        return x

    x = np.ones(3)
    assert local({"spoil": spoil})("spoil", (x,))["value"] == [0, 0, 0]
    assert x.tolist() == [1, 1, 1]


@pytest.mark.parametrize("value", [[1, "2"], {"array": [1]}, [[]] * 2 + [1], "1", [None]])
def test_foreign_data_are_plain_numbers_or_nothing(value):
    assert numbers(value) is None


def test_the_package_ships_what_students_and_teachers_need():
    import tomllib

    root = Path(exercises.__file__).parents[1]
    tools = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folders = {f"exercises.ex{id.replace('-', '_')}" for id in IDS}
    code = {"nettrain", "nettrain.lab", "exercises", "exercises.grading"}
    assert code | folders == set(tools["packages"])
    assert all(tools["package-data"][f] == ["*.ipynb"] for f in folders)
    assert importlib.util.find_spec("exercises.__main__")


# ----------------------------------------------------------------------------- precision


def in_bfloat16(x):
    import torch

    return torch.tensor(np.asarray(x, dtype=float)).to(torch.bfloat16)


ROUNDED = {
    "float32": np.float32,
    "a number of Python": lambda x: np.float32(x).tolist(),  # as tensor.item() gives
    "float16": np.float16,
    "bfloat16": in_bfloat16,
}


@each_exercise
@pytest.mark.parametrize("to", ROUNDED.values(), ids=ROUNDED)
def test_right_answers_in_less_precision_count(id, to):
    rounded = lambda f: lambda *args: to(f(*args))
    names = {k: rounded(f) for k, f in namespace(answers(id)).items() if callable(f)}
    found = {k: m.message for seed in (1, 2) for k, m in marks(id, names, seed).items()}
    assert set(found.values()) == {None}, found


def law_of_a_third(ask, rng):
    """A third is a third of one."""
    ask.same("third", want=1 / 3, slips={"That is a half.": 0.5})


def judged(answer, replies=None):
    exercise = Exercise("0", "a third")
    exercise.law("third", points=1)(law_of_a_third)
    return judge(exercise.laws[0], replies or local({"third": lambda: answer}), 0).message


@pytest.mark.parametrize("off", [1e-4, 1e-6, 1e-9, -1e-9])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_message_never_shows_two_equal_numbers(off, dtype):
    message = judged(dtype(1 / 3 * (1 + off)))
    assert (message is None) == (abs(off) < 1.6e-5)
    if message:
        got, want = re.search(r"= (\S+), but it is (\S+)\.", message).groups()
        assert got != want and "relative" in message


@given(
    arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e9, 1e9)),
    st.integers(0, 29),
    st.sampled_from([1e-16, 1e-12, 1e-8, 1e-4, 1.0]),
)
def test_two_arrays_that_differ_look_different(want, at, off):
    got = want.copy()
    got[at % len(got)] += off * max(1.0, abs(got[at % len(got)]))
    if not np.array_equal(got, want):
        one, other = re.fullmatch(r".*= (.+), but it is (.+)", difference(got, want)).groups()
        assert one != other


LIES = ["float16", "bfloat16", "float8", None, 3, [], {}, ["float16"], {"float16": 1}, "x" * 1000]


@pytest.mark.parametrize("lie", LIES, ids=repr)
def test_a_lie_about_the_precision_gains_nothing(lie):
    reply = lambda value: lambda name, args: {"value": value, "precision": lie}
    assert "but it is" in judged(None, reply(1 / 3 * 1.0005))
    assert "but it is" in judged(None, reply(float(np.float32(1 / 3 * 1.0005))))
    assert judged(None, reply(1 / 3)) is None


def test_halves_are_told_to_compute_in_float64():
    assert "precision of float16: compute in float64" in judged(np.float16(0.35))
    assert judged(np.float16(1 / 3)) is None and judged(in_bfloat16(1 / 3)) is None


def raising():
    import math

    return math.exp(1000)


TAUGHT = {
    "a forgotten return": (lambda: None, "gave nothing (None): does the function end without `r"),
    "NaN": (lambda: np.float64("nan"), "NaN comes from 0/0"),
    "overflow": (lambda: np.inf, "Subtract the largest exponent before exp"),
    "an OverflowError": (raising, "raised OverflowError: math range error. Infinity comes from"),
    "a text": (lambda: "0.3", "gave str, which is not a number"),
    "a function": (lambda: len, "gave builtin_function_or_method, which is not a number"),
    "ragged lists": (
        lambda: [[1.0], [1.0, 2.0]],
        "gave list, whose entries are not all numbers, or",
    ),
    "a list with None": (lambda: [1.0, None], "(One is None: is a `return` missing?)"),
    "complex numbers": (lambda: 1j, "gave complex numbers, as the root of a negative number does"),
    "another number of arguments": (lambda x: x, "Keep the function's arguments, and their order"),
    "a name that is not there": (lambda: third, "Is it spelled as where it gets its value"),  # noqa: F821
    "one number in an array": (lambda: np.array([1 / 3]), "It holds one number: give that, by x.i"),
}


@pytest.mark.parametrize(("third", "says"), TAUGHT.values(), ids=TAUGHT)
def test_messages_teach(third, says):
    assert says in judged(None, local({"third": third}))


def test_a_sum_of_rounded_answers_is_judged_by_their_precision():
    """Where a law compares what it makes of several answers, the coarsest of them counts."""
    names = namespace(answers("1-1"))
    weights, start = names["weights"], names["start_weight"]
    names |= {"weights": lambda *a: np.float32(weights(*a))}
    assert not marks("1-1", names)["weights_and_start_add_up_to_one"].message
    names |= {"weights": lambda *a: weights(*a) * (1 + 3e-5)}
    message = marks("1-1", names)["weights_and_start_add_up_to_one"].message
    assert re.search(r"add up to (1\.0000\d+|0\.\d+)\.", message) and start(1, 0.5) == 0.5


# ----------------------------------------------------------------------------- right answers


def solution_as(change):
    """A style: every answer of the solution, changed by `change`."""
    return lambda id: {
        name: lambda *args, f=f: change(f(*args))
        for name, f in namespace(answers(id)).items()
        if name in load(id).parts
    }


def written(sources):
    """A style: answers as they stand in tests/right_answers.py."""
    return lambda id: namespace([sources[id]])


def as_generators(x):
    x = np.asarray(x)
    return x.item() if not x.ndim else (as_generators(row) for row in x)


STYLES = {
    "loops and lists": written(right_answers.LOOPS),
    "torch": written(right_answers.TORCH),
    "lists": solution_as(lambda x: np.asarray(x).tolist()),
    "tuples of numpy's numbers": solution_as(
        lambda x: tuple(np.asarray(x)) if np.ndim(x) else np.asarray(x)[()]
    ),
    "generators": solution_as(as_generators),
    "single precision, then double": solution_as(
        lambda x: np.float32(x).astype(float) * (1 + 1e-7)
    ),
    "objects": solution_as(lambda x: np.asarray(x).astype(object)),
    "arrays of another order": solution_as(lambda x: np.array(x, order="F")),
}


@each_exercise
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_right_answers_pass_in_any_style(id, style):
    own = style(id)
    assert set(load(id).parts) <= own.keys()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in (1, 2):
            broken = {k: m.message for k, m in marks(id, own, seed).items() if m.message}
            assert not broken, broken


# ----------------------------------------------------------------------------- the book's pages


@each_exercise
def test_every_part_has_points_two_hints_and_a_solution(id):
    lesson = lessons.read(id)
    letters = "".join(part.letter for part in lesson.parts)
    assert letters == "abcdefg"[: len(letters)] and len(letters) >= 5 and lesson.lectures
    for part in lesson.parts:
        assert part.points and part.solution and len(part.hints) == 2, part.letter
        assert "SOLUTION" not in part.solution + part.stub
    assert sum(part.points for part in lesson.parts) == load(id).points + lesson.words
    assert [
        law.part for law in load(id).laws if law.part not in lesson.part_of(law).functions
    ] == []


@each_exercise
def test_the_rubric_gives_all_points_of_the_words(id):
    (part,) = [part for part in lessons.read(id).parts if part.words]
    given = lessons.RUBRIC.findall(part.rubric)
    assert sum(map(int, given)) == part.words == 6 and len(given) >= 3
    assert len(given) == len(part.rubric.split("\n")) and f"({part.words} points, by" in part.text
    handed_out = "\n".join("".join(c["source"]) for c in notebook(id, "exercise")["cells"])
    assert part.rubric.split("\n")[0] not in handed_out and part.hints[0][:20] in handed_out


@each_exercise
def test_the_page_shows_the_task_and_folds_the_rest(id):
    page = (blank.folder(id) / "statement.md").read_text("utf-8")
    assert page.count(":::{dropdown} Hint") == 2 * len(lessons.read(id).parts)
    solutions = re.findall(r":::{dropdown} Solution \(try first\)\n:class-container: no-se", page)
    assert len(solutions) == len(lessons.read(id).parts)
    shown = re.sub(r"(?s):::\{dropdown\}.*?\n:::\n", "", page)
    assert "BEGIN" not in page and f"{{download}}`exercise_{id}.ipynb" in shown
    for source in answers(id):
        for region in lessons.REGION.findall(source):
            code = [x.strip() for x in region.split("\n") if x.strip().startswith("return")]
            assert code and not any(line in shown.split("\n") for line in code)
    for law in load(id).laws:
        assert f"- {statements.points(law.points)}: {law.statement}" in shown
        assert f'\ncheck("{id}", globals(), "{law.part}")\n' in shown
    stubs = re.findall(r"(?s)as in the notebook\n:class.*?\n\n```python\n(def .*?)\n```", page)
    assert len(stubs) == sum(bool(part.stub) for part in lessons.read(id).parts)
    for function in (f for stub in stubs for f in ast.parse(stub).body):
        assert ast.get_docstring(function) and isinstance(function.body[-1], ast.Raise)
        assert f"- {statements.in_words(function)}" in shown


def test_a_docstring_is_shown_as_prose_with_its_signs():
    (function,) = ast.parse('def f(a, b):\n    """x [T] * $y$.\n\n    |z| <\n    1."""').body
    said = "**`f(a, b)`** x \\[T\\] \\* \\$y\\$.\n\n  \\|z\\| \\< 1."
    assert statements.in_words(function) == said


@each_exercise
def test_each_part_with_laws_shows_what_a_wrong_answer_is_told(id):
    page, told = (blank.folder(id) / "statement.md").read_text("utf-8"), samples.samples(id)
    for part in lessons.read(id).parts:
        assert (part.letter in told) == bool(part.stub)
        if part.stub:
            message = told[part.letter]
            shown = f"(a sample)\n{statements.SCREEN}\n\n```text\n{message}\n```"
            assert "✗" in message and shown in page
            results = [
                ast.unparse(node.value)
                for node in ast.walk(ast.parse(part.solution))
                if isinstance(node, ast.Return)
            ]
            assert results and not any(len(x) > 6 and x in message for x in results)  # no solution


@each_exercise
def test_the_repository_is_the_one_of_the_configuration(id):
    import yaml

    root = Path(exercises.__file__).parents[1]
    url = yaml.safe_load((root / "_config.yml").read_text("utf-8"))["repository"]["url"]
    (first, *_) = [c for c in notebook(id)["cells"] if c["cell_type"] == "code"]
    assert f'"git+{url}"' in "".join(first["source"])
    path = f"{url.removeprefix('https://github.com/')}/blob/main/exercises/{blank.folder(id).name}"
    assert f"github/{path}/exercise_{id}.ipynb" in (blank.folder(id) / "statement.md").read_text()


def test_solutions_stay_out_of_the_search():
    from docutils import nodes
    from docutils.utils import new_document
    from sphinx.search import IndexBuilder

    from _ext import unsearched

    class Index(IndexBuilder):
        def __init__(self):
            pass

    page, seen = new_document("page"), []
    page += nodes.paragraph(text="the task")
    page += nodes.container("", nodes.paragraph(text="the answer"), classes=["x", "no-search"])
    original = unsearched.whole
    unsearched.whole = lambda self, docname, filename, title, doctree: seen.append(doctree.astext())
    try:
        unsearched.feed(Index(), "page", "page.md", "page", page)
    finally:
        unsearched.whole = original
    assert seen == ["the task"] and "the answer" in page.astext()


def test_there_are_sixty_wrong_answers_and_each_construction_has_some():
    names = [p.read_text("utf-8") for p in WRONG]
    assert len(WRONG) >= 60
    for id in IDS:
        for function in CONSTRUCTIONS[id]:
            assert any(f"def {function}(" in text for text in names), function


@each_exercise
def test_each_lecture_of_an_exercise_leads_to_it(id):
    for lecture in lessons.read(id).lectures:
        file = Path(exercises.__file__).parents[1] / "chapters" / f"{lecture}.ipynb"
        text = file.read_text("utf-8")
        assert f"../exercises/ex{id.replace('-', '_')}/statement>" in text, lecture
