"""The built book as a branch of its own: its pages for GitHub Pages, its notebooks for Colab.

    python -m _ext.publish        a commit of _build/html alone, pushed to the branch

The branch has this one commit and no history; neither the work tree nor its index is touched.
"""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from _ext import build


def branch() -> str:
    """The branch that Colab's links name, too."""
    config = yaml.safe_load((build.ROOT / "_config.yml").read_text())
    return config["sphinx"]["config"]["published_branch"]


def commit(folder: Path, repository: Path = build.ROOT) -> str:
    """Commit a folder's files, and nothing else, on no branch; the commit's name."""
    (folder / ".nojekyll").touch()  # or GitHub Pages leaves out folders that begin with _
    with TemporaryDirectory() as aside:
        place = {"GIT_DIR": git("rev-parse", "--absolute-git-dir", cwd=repository)}
        place |= {"GIT_WORK_TREE": str(folder), "GIT_INDEX_FILE": f"{aside}/index"}
        git("add", "--all", "--force", ".", cwd=folder, **place)
        tree = git("write-tree", cwd=folder, **place)
    built = git("rev-parse", "--short", "HEAD", cwd=repository)
    return git("commit-tree", tree, "-m", f"The book as built from {built}", cwd=repository)


def git(*arguments: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, env=os.environ | env, stdout=subprocess.PIPE, check=True
    )
    return done.stdout.decode().strip()


if __name__ == "__main__":
    name = commit(build.BUILD / "html")
    git("push", "--force", "origin", f"{name}:refs/heads/{branch()}", cwd=build.ROOT)
    print(f"{name} is now {branch()}")
