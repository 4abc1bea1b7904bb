"""Replications: what is kept, what is refused, and that a kill loses only what was running."""

import ast
import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from _ext import replicate
from nettrain.lab import pooling

ROOT = Path(replicate.__file__).parent.parent
CELL = """
import numpy as np
from nettrain import data
from nettrain.lab.evidence import Claim
draw = np.random.default_rng(data.base())
claim = Claim("A19a", "One is above zero.", "one - zero", 0.5, "points", factors=("draws",))
exact = Claim("A19b", "So it is.", "error")
"""
JUDGE = """
claim.judge({"few": (1 + draw.normal(size=16), np.zeros(16))}, "noise")
exact.exact(True, 0.0, 1e-9, "arithmetic")
"""


def write(path, *cells):
    made = [{"cell_type": "code", "source": source} for source in cells]
    path.write_text(json.dumps({"cells": made}))


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A checkout with two small lectures, run by this one's code."""
    (tmp_path / "chapters").mkdir()
    (tmp_path / "nettrain").mkdir()
    for name in ("one", "two"):
        write(tmp_path / "chapters" / f"{name}.ipynb", CELL, JUDGE)
    stated = {"id": "A19a", "says": "One is above zero.", "measure": "one - zero", "margin": 0.5}
    stated |= {"unit": "points", "predicts": "above", "over": "all", "factors": ["draws"]}
    one = stated | {"conditions": {"few": {}}, "chapter": "chapters/one"}
    exact = {"id": "A19c", "verdict": "true", "chapter": "chapters/two"}
    evidence = {"A19a": one, "A19c": exact}
    (tmp_path / "nettrain" / "evidence.json").write_text(json.dumps(evidence))
    monkeypatch.setattr(replicate, "ROOT", tmp_path)
    monkeypatch.setattr(replicate, "STORE", tmp_path / "store")
    monkeypatch.setattr(replicate, "KEPT", tmp_path / "replications.json")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def row(name="one", base=1, effect=1.0, **other):
    """A report of a lecture, as `one` stores it."""
    c = {"effect": effect, "error": 0.1, "a": effect, "b": 0.0, "n": 16, "state": "above"}
    record = {"id": "A19a", "says": "s", "measure": "m", "margin": 0.5, "unit": "", "device": "CPU"}
    record |= {"predicts": "above", "over": "all", "factors": ["draws"], "conditions": {"few": c}}
    made = {"chapter": name, "base": base, "code": replicate.code_of(name), "date": "2026-01-01"}
    made |= {"cells": 2, "of": 2, "seconds": 1.0, "torch": "2.13.0", "error": None}
    return made | {"records": [record | other]}


def test_two_bases_of_a_lecture_from_the_command_to_the_table(house, capsys):
    assert replicate.main(["--chapters", "one", "--bases", "2"]) == 0
    found = json.loads((house / "replications.json").read_text())
    assert list(found["claims"]) == ["A19a"]  # an exact claim needs no second base
    kept = found["claims"]["A19a"]["conditions"]["few"]
    for base in (1, 2):
        x = 1 + np.random.default_rng(base).normal(size=16)
        expected = [x.mean(), x.std(ddof=1) / 4, x.mean(), 0, 16]
        assert kept[str(base)] == pytest.approx(expected, rel=1e-4)
    assert found["lectures"]["one"]["bases"]["1"]["torch"].startswith("2.")
    assert [p.name for p in (house / "store").iterdir()] == ["lock"]
    capsys.readouterr()
    assert replicate.main(["--chapters", "one", "--bases", "2"]) == 0  # nothing is left to do
    assert "0 bases of lectures to do" in capsys.readouterr().out
    assert replicate.main(["--show"]) == 0
    out = capsys.readouterr().out
    assert "one: 2 bases, 0 failed\n" in out and "A19a" not in out  # too few for a verdict
    replicate.collect([row(base=b) | {"code": found["lectures"]["one"]["code"]} for b in (3, 4)])
    for r in (3, 4):
        assert str(r) in replicate.kept()["lectures"]["one"]["bases"]


@pytest.mark.parametrize("k, low, high", [(3, None, None), (4, 0.3, 1.8)])
def test_a_build_is_held_against_what_its_bases_predict(house, k, low, high):
    effects = [1.0, 1.4, 0.9, 0.8][:k]
    replicate.collect([row(base=b, effect=e) for b, e in enumerate(effects, 1)])
    now = row()["records"][0]
    found = pooling.pooled(effects, [0.1] * k)
    for effect in (-5.0, low, 1.0, high, 9.0):
        if effect is None:
            continue
        now["conditions"]["few"] |= {"effect": effect}
        outside, chance = replicate.surprises({"A19a": now})
        inside = found.prediction(0.1)[0] <= effect <= found.prediction(0.1)[1]
        assert len(outside) == (k >= 4 and not inside)
        assert chance == pytest.approx(0.05 if outside else 1)
    if k >= 4:
        assert outside[0].startswith("A19a few: 9 is not in [")
    assert replicate.surprises({"A19a": now | {"margin": 0.1}}) == ([], 1.0)  # another claim


def test_a_lecture_that_fails_is_kept_as_failed_and_not_tried_again(house, capsys):
    write(house / "chapters" / "one.ipynb", CELL, "raise ValueError('no minimum')")
    assert replicate.main(["--chapters", "one", "--bases", "1"]) == 1
    out = capsys.readouterr().out
    assert "failed: one, base 1" in out and "no minimum" in out
    failed = json.loads((house / "replications.json").read_text())["lectures"]["one"]["failed"]
    assert failed == {"1": "cell 2: ValueError: no minimum"}
    assert replicate.missing(["one"], 1) == []


def test_other_code_is_not_mixed_in(house, tmp_path):
    replicate.collect([row(base=1), row(base=2)])
    old = row(base=3)
    write(house / "chapters" / "one.ipynb", CELL, JUDGE + "\nx = 1")
    assert replicate.missing(["one"], 2) == [("one", 1), ("one", 2)]
    replicate.collect([old])
    assert list(replicate.kept()["lectures"]["one"]["bases"]) == ["1", "2"]  # not taken
    replicate.collect([row(base=1)])
    assert list(replicate.kept()["lectures"]["one"]["bases"]) == ["1"]  # the old ones are gone
    assert list(replicate.kept()["claims"]["A19a"]["conditions"]["few"]) == ["1"]


def test_code_is_hashed_in_several_threads_at_once(house):
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(replicate.code_of, ["one"] * 16)) == {replicate.code_of("one")}


def test_where_cells_end_does_not_count_as_code_but_their_order_does(house):
    code = replicate.code_of("one")
    write(house / "chapters" / "one.ipynb", *CELL.strip().split("\n"), JUDGE)
    assert replicate.code_of("one") == code
    write(house / "chapters" / "one.ipynb", JUDGE, CELL)
    assert replicate.code_of("one") != code


def test_words_do_not_count_as_code(house):
    code = replicate.code_of("one")
    write(house / "chapters" / "one.ipynb", "# a remark\n" + CELL, JUDGE)
    assert replicate.code_of("one") == code
    f = 'def f(x):\n    """{}"""\n    return x  # {}\n'
    words = lambda text: replicate.without_messages(ast.parse(text))
    assert words(f.format("a", "b")) == words(f.format("c", ""))
    assert words("x = 'a'") != words("x = 'b'")


def test_what_an_error_says_does_not_count_as_code(house):
    words = lambda text: replicate.without_messages(ast.parse(text))
    assert words("raise ValueError(f'{n} is too large')") == words("raise ValueError(f'n: {n}')")
    assert words("raise ValueError('a')") != words("raise TypeError('a')")
    guard = "if {}:\n    raise ValueError('{}')\n"
    assert words(guard.format("x > 1", "a")) == words(guard.format("x > 1", "b"))
    assert words(guard.format("x > 1", "a")) != words(guard.format("x > 2", "a"))


def test_what_a_claim_says_besides_its_statement_does_not_count_as_code(house):
    code = replicate.code_of("one")
    more = CELL.replace('"points",', '"points", reads="it is {}", because="so", nearest="none",')
    write(house / "chapters" / "one.ipynb", more, JUDGE)
    assert more != CELL and replicate.code_of("one") == code
    for old, new in (("0.5", "0.4"), ("is above", "lies above"), ('"draws"', '"number"')):
        write(house / "chapters" / "one.ipynb", CELL.replace(old, new), JUDGE)
        assert replicate.code_of("one") != code


def test_modules_that_only_show_do_not_count_as_code():
    names = ["optimizers", "dropout"]
    before = {n: replicate.code_of(n) for n in names}
    changed = dict.fromkeys(("lab/cards.py", "lab/figures.py", "lab/pooling.py"))
    read = Path.read_text
    more = lambda self, *how: read(self, *how) + "\nx = 1" * any(map(str(self).endswith, changed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_text", more)
        assert {n: replicate.code_of(n) for n in names} == before
        changed["lab/sweep.py"] = None
        assert replicate.code_of("optimizers") != before["optimizers"]


@pytest.mark.parametrize("effect, stands", [("1 +", True), ("1.02 +", False)])
def test_bases_stand_after_a_change_of_code_that_moves_no_number(house, capsys, effect, stands):
    assert replicate.main(["--chapters", "one", "--bases", "1"]) == 0
    before = replicate.kept()
    assert replicate.main(["--confirm"]) == 0 and replicate.kept() == before  # nothing to confirm
    write(house / "chapters" / "one.ipynb", CELL, JUDGE.replace("1 +", effect) + "\nx = 1")
    assert len(replicate.missing(["one"], 1)) == 1
    capsys.readouterr()
    assert replicate.main(["--confirm", "--chapters", "one"]) == (not stands)
    after = replicate.kept()
    if stands:
        assert after["lectures"]["one"].pop("code") != before["lectures"]["one"].pop("code")
        assert "one, base 1: as before" in capsys.readouterr().out
        assert replicate.missing(["one"], 1) == []
    else:
        assert "A19a few: " in capsys.readouterr().out
    assert after == before


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda r: r["records"].clear(), "claims ['A19a'] are new or gone"),
        (lambda r: r["records"][0].update(id="A19c"), "claims ['A19a', 'A19c'] are new or gone"),
        (lambda r: r["records"][0].update(margin=0.4), "A19a is stated otherwise"),
        (lambda r: r["records"][0]["conditions"]["few"].update(effect=1.1), "A19a few: 1 was, 1.1"),
        (lambda r: r["records"][0]["conditions"]["few"].update(effect=1.0001), ""),
    ],
)
def test_what_a_repeated_base_finds_otherwise_is_named(house, change, why):
    replicate.collect([row(base=1)])
    again = row(base=1)
    change(again)
    assert replicate.difference(replicate.kept(), again).startswith(why)
    assert bool(replicate.difference(replicate.kept(), again)) == bool(why)


def test_an_amended_claim_gets_bases_that_it_has_never_seen(house):
    replicate.collect([row(base=1), row(base=2)])
    write(house / "chapters" / "one.ipynb", CELL.replace("0.5", "0.4"), JUDGE)
    assert replicate.missing(["one"], 2) == [("one", 1), ("one", 2)]  # nobody knows yet
    replicate.collect([row(base=1, margin=0.4)])
    entry = replicate.kept()["lectures"]["one"]
    assert entry["first"] == 3 and entry["bases"] == {}
    assert replicate.kept()["claims"]["A19a"]["amended"] == 1
    assert replicate.missing(["one"], 2) == [("one", 3), ("one", 4)]
    replicate.collect([row(base=3, margin=0.4)])
    assert list(replicate.kept()["claims"]["A19a"]["conditions"]["few"]) == ["3"]
    assert replicate.kept()["claims"]["A19a"]["amended"] == 1


def test_a_command_that_meets_an_amended_claim_goes_on_with_unseen_bases(house, capsys):
    """The first base tells; another one that was planned is left, those never seen are run."""
    replicate.collect([row(base=base) for base in (1, 2, 3)])
    write(house / "chapters" / "one.ipynb", CELL.replace("0.5", "0.4"), JUDGE)
    assert replicate.replicate(["one"], 2, 60, together=1) == 1
    said = capsys.readouterr().out
    assert "one, base 1: seen before a claim was amended; its bases are 4 and later" in said
    assert "base 2:" not in said
    assert list(replicate.kept()["lectures"]["one"]["bases"]) == ["4", "5"]
    assert said.rstrip().splitlines()[-1] == "missing: 0; failed: one, base 1"


def test_an_amendment_is_counted_once_and_follows_a_claim_to_another_lecture(house):
    replicate.collect([row(base=base) for base in (1, 2, 3)])
    found, other = replicate.kept(), row("one", says="Otherwise.") | {"code": "new"}
    for _ in range(2):  # called again before a base has been added
        replicate.renewed(found, "one", other)
        assert found["claims"]["A19a"]["amended"] == 1
        assert found["lectures"]["one"]["first"] == 4

    found = replicate.kept()  # with bases 1 to 3, to another lecture, in other words
    moved = row("two", says="Otherwise.") | {"code": "new"}
    replicate.renewed(found, "two", moved)
    assert found["lectures"]["two"]["first"] == 4
    claim = found["claims"]["A19a"]
    assert claim["chapter"] == "two" and claim["amended"] == 1 and claim["conditions"] == {}
    replicate.renewed(found, "one", row("one") | {"code": "new", "records": []})
    assert found["claims"]["A19a"]["chapter"] == "two"


def test_files_of_other_machines_are_merged(house, tmp_path, capsys):
    file = tmp_path / "bases.jsonl"
    torn = '{"chapter": "two", "ba'
    half = row(base=4) | {"cells": 1}
    lines = [json.dumps(r) for r in (row(base=1), row("two", 2), half)]
    file.write_text("\n".join(lines) + "\n" + torn)
    replicate.main(["--merge", str(file)])
    assert "2 of 3 bases taken" in capsys.readouterr().out
    assert replicate.kept()["lectures"].keys() == {"one", "two"}
    (tmp_path / "other").write_text("{}")
    for name, message in (("none", "is not there"), ("other", "holds no reports of lectures")):
        with pytest.raises(SystemExit, match=message):
            replicate.main(["--merge", str(tmp_path / name)])


def test_two_at_once_are_refused_and_what_a_killed_one_left_goes(house):
    (house / "store" / "tmp123").mkdir(parents=True)
    with replicate.alone():
        assert [p.name for p in (house / "store").iterdir()] == ["lock"]
        with pytest.raises(SystemExit, match="another replication is running"):
            replicate.main(["--bases", "1"])
    with replicate.alone():
        pass


def test_diffs_can_be_read(house):
    replicate.collect([row(base=b, effect=1 / 3 * b) for b in (1, 2)])
    before = (house / "replications.json").read_text().splitlines()
    replicate.collect([row(base=3)])
    after = (house / "replications.json").read_text().splitlines()
    changed = set(after) - set(before)
    assert len(changed) <= 3 and all(len(line) < 300 for line in after)
    assert '"few": {"1": [0.33333, 0.1, 0.33333, 0.0, 16]' in "".join(after)
    assert replicate.kept() == json.loads("\n".join(after))


@pytest.mark.parametrize("words", [["--bases", "0"], ["--budget", "-1"], ["--chapters", "three"]])
def test_arguments_are_refused_first(house, capsys, words):
    with pytest.raises(SystemExit):
        replicate.main(words)
    assert "positive numbers" in capsys.readouterr().err or words[0] == "--chapters"


def test_when_the_time_is_up_nothing_more_is_started(house, capsys):
    assert replicate.main(["--budget", "1e-9"]) == 0
    assert "missing: 12" in capsys.readouterr().out


DRIVER = """
import sys
from pathlib import Path
from _ext import replicate as r

house = Path(sys.argv[1])
r.ROOT, r.STORE, r.KEPT = house, house / "store", house / "replications.json"
r.command = lambda name, report: [sys.executable, str(house / "child.py"), str(report)]
sys.exit(r.main(["--bases", "8"]))
"""
CHILD = """
import json, os, sys, time
from pathlib import Path

time.sleep(0.05)
report, file = json.loads((Path(__file__).parent / "made.json").read_text()), Path(sys.argv[1])
report["records"][0]["conditions"]["few"]["effect"] = int(os.environ["NETTRAIN_BASE"])
file.with_suffix(".part").write_text(json.dumps(report))
file.with_suffix(".part").replace(file)
"""


def test_killed_again_and_again_it_loses_nothing(house, kills=6):
    (house / "made.json").write_text(json.dumps(row()))
    (house / "driver.py").write_text(DRIVER)
    (house / "child.py").write_text(CHILD)
    command = [sys.executable, str(house / "driver.py"), str(house)]
    chance, seen, ended = random.Random(0), {}, 0
    start = time.monotonic()  # how long it takes until it begins to work
    subprocess.run([sys.executable, "-c", "import _ext.replicate"], cwd=ROOT, check=True)
    took = time.monotonic() - start
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        time.sleep(took * (0.8 + 0.6 * chance.random()))
        process.kill()
        process.communicate()
        ended += process.returncode == 0
        kept = replicate.kept()  # whole at any time
        done = {name: set(entry["bases"]) for name, entry in kept["lectures"].items()}
        assert all(done.get(name, set()) >= bases for name, bases in seen.items())
        seen = done
    assert subprocess.run(command, capture_output=True).returncode == 0
    kept = replicate.kept()
    assert {n: sorted(e["bases"], key=int) for n, e in kept["lectures"].items()} == {
        name: [str(b) for b in range(1, 9)] for name in ("one", "two")
    }
    effects = {int(b): x[0] for b, x in kept["claims"]["A19a"]["conditions"]["few"].items()}
    assert effects == {b: b for b in range(1, 9)}
    assert ended < kills
