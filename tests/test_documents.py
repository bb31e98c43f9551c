"""What the documents say is executed, and what they should generate is generated."""

import pathlib
import re

import jax
import pytest

from experiments import readme

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
        pytest.param(name, marks=() if name in DAILY else pytest.mark.laws)
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


def test_readme_is_up_to_date():
    text = readme.README.read_text()
    assert readme.write(text) == text, "run `make readme`"


def test_readme_names_commands_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)", readme.README.read_text())) <= targets
