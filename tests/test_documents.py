"""What the documents say is executed, and what they should generate is generated."""

import importlib
import os
import pathlib
import re
import shlex
import subprocess
import sys

import jax
import pytest

from experiments import readme
from experiments.harness import options

ROOT = pathlib.Path(__file__).parent.parent


ELSEWHERE = {"docs/developers/performance.md", "docs/guides/train.md"}
"""Fragments on arrays that the reader has; commands and code that tests/test_experiments.py executes."""
WITH_CODE = [
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
    if "```python" in path.read_text()
]


DAILY = {"README.md", "CONTRIBUTING.md", "docs/concepts.md"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in DAILY else pytest.mark.scripts)
        for name in WITH_CODE
        if name not in ELSEWHERE
    ],
)
def test_code_in_documents_runs(name):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    assert blocks
    names: dict = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in blocks:
            exec(compile(block, name, "exec"), names)


PAGE = (ROOT / "docs/guides/applications.md").read_text()
COMMANDS = {
    heading: re.findall(
        r"^python -m .*", "".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL)), re.MULTILINE
    )
    for heading, section in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
}
TINY = ("updates 2", "report-every 2", "checkpoint-every 2", "seeds 1")
FILES = {
    "prices.csv": "date,close,volume\n" + "".join(f"{1700 + i}-01-01,{i % 7},{i}\n" for i in range(300)),
    "reviews.csv": "review,stars\n" + "".join(f"word {i % 9} number {i},{i % 3}\n" for i in range(60)),
    "new.txt": "a new text\nanother\n",
    "book.txt": "It was a dark night, and the wind blew.\n" * 40,
    "dates.txt": "12 March 1987\nFriday the 3rd of July '26\n",
    "pairs.csv": "word,plural\n" + "".join(f"a{i},a{i}s\n" for i in range(40)),
}
"""What the commands of the page read."""


@pytest.mark.scripts
@pytest.mark.parametrize("section", COMMANDS)
def test_commands_of_the_applications(section, tmp_path):
    """Each as it stands, but for a few updates."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    for command in COMMANDS[section]:
        words = shlex.split(command)
        config = getattr(importlib.import_module(words[2]), "Config", object)
        trains = issubclass(config, options.Config) or words[2].endswith(".sweep")
        tiny = [word for option in TINY for word in f"--training.{option}".split()]
        subprocess.run(
            [sys.executable, *words[1:], *(tiny if trains else [])],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )


def test_readme_is_up_to_date():
    text = readme.README.read_text()
    assert readme.write(text) == text, "run `make readme`"


def test_readme_names_commands_that_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = {*re.findall(r"^([a-z]+):", makefile, re.MULTILINE)}
    targets |= {*re.findall(r"^APPLICATIONS := (.*)$", makefile, re.MULTILINE)[0].split()}
    assert set(re.findall(r"`?make ([a-z_0-9]+)", readme.README.read_text())) <= targets
