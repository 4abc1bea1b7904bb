"""What Colab opens, in an environment like Colab's: its packages, no `nettrain`, no repository.

Of lectures and solutions that is the notebook beside the built page, of an exercise its source.
`make colab` runs this. `make test` leaves it out, since it trains the whole book once more.
"""

import json
import subprocess
import time
from pathlib import Path

import nbformat
import pytest
import yaml
from jupyter_client.manager import run_kernel

ROOT = Path(__file__).parents[1]
BASE = ROOT / "_build" / "colab" / "venv"  # made by the Makefile from tests/colab-requirements.txt
PAGES = sorted(p.relative_to(ROOT) for p in ROOT.glob("chapters/*.ipynb"))
PAGES += sorted(p.relative_to(ROOT) for p in ROOT.glob("exercises/*/*.ipynb"))
NOTEBOOKS = ROOT / "_build" / "html" / "notebooks"  # written by _ext/faces.py

pytestmark = pytest.mark.colab


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A folder, as one Colab session has it; its kernel installs into an environment of its own."""
    assert (BASE / "bin" / "python").exists(), f"no environment in {BASE}; run `make colab`"
    subprocess.run(
        [BASE / "bin" / "python", "-m", "venv", "--without-pip", "venv"], cwd=tmp_path, check=True
    )
    [site] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    [base] = (BASE / "lib").glob("python*/site-packages")
    (site / "colab.pth").write_text(f"{base}\n")  # what Colab ships, and pip, without a copy
    kernel = tmp_path / "kernels" / "colab"
    kernel.mkdir(parents=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
    spec = {"argv": argv, "display_name": "Colab", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    for name in ("PYTHONPATH", "NETTRAIN_BUILD", "NETTRAIN_BASE"):
        monkeypatch.delenv(name, raising=False)
    # the repository's address leads to this checkout, so that the first cell installs its commit
    url = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    settings = {f"url.file://{ROOT}.insteadOf": url, "safe.directory": "*"}
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    for k, (key, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{k}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{k}", value)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # two notebooks at a time on two cores
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "content").mkdir()
    return tmp_path, site, base


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", PAGES, ids=str)
def test_notebook_runs_as_on_colab(page, session):
    folder, site, base = session
    blank = page.stem.startswith("exercise_")  # its checks fail, and say how
    opened = nbformat.read((NOTEBOOKS if page.parts[0] == "chapters" else ROOT) / page, 4)
    cells = [c.source for c in opened.cells if c.cell_type == "code"]
    seconds = []
    with run_kernel(kernel_name="colab", cwd=str(folder / "content")) as kernel:
        for source in cells:
            messages, start = [], time.perf_counter()
            how = {"output_hook": messages.append, "timeout": 1000, "stop_on_error": False}
            reply = kernel.execute_interactive(source, **how)
            seconds.append(time.perf_counter() - start)
            reply = reply["content"]
            failed = reply["status"] != "ok" and not (blank and reply["ename"] == "LawsFailed")
            assert not failed, "\n".join([source, *reply["traceback"]])
            assert [m["content"]["text"] for m in messages if is_warning(m)] == []
    assert (site / "nettrain" / "evidence.json").exists()  # the first cell installed the package
    shipped = {p.name for p in base.iterdir()} & {p.name for p in site.iterdir()}
    assert shipped <= {"__pycache__"}  # and replaced nothing of Colab's
    assert seconds[0] < 60


def is_warning(message):
    return message["msg_type"] == "stream" and message["content"]["name"] == "stderr"
