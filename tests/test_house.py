"""The maps are true: what folders say they hold, and which floor imports which."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = sorted(
    path.parent for part in ("rnncells", "experiments") for path in (ROOT / part).rglob("__init__.py")
)
SOURCES = sorted(path for part in ("rnncells", "experiments") for path in (ROOT / part).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name_of(path):
    return str(path.relative_to(ROOT))


def floors():
    """The rows of CONTRIBUTING's table, from the top: paths of each."""
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## The house")[1].split("## Add")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    return [re.findall(r"`([^`]+)`", row) for row in rows]


def floor_of(path):
    found = [
        (len(place), floor)
        for floor, places in enumerate(floors())
        for place in places
        if name_of(path) == place or (place.endswith("/") and name_of(path).startswith(place))
    ]
    return max(found)[1] if found else None


def imported(path):
    """The files of this repository that a file imports when it is imported."""
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for module in modules:
            place = ROOT / module.replace(".", "/")
            for file in (place.with_suffix(".py"), place / "__init__.py"):
                if file.exists() and module != "rnncells":
                    yield file


def test_every_file_has_a_floor():
    homeless = [name_of(path) for path in SOURCES if floor_of(path) is None]
    assert homeless == ["rnncells/__init__.py"]


@pytest.mark.parametrize("path", [p for p in SOURCES if floor_of(p) is not None], ids=name_of)
def test_a_floor_imports_only_from_floors_below(path):
    own = floor_of(path)
    above = [name_of(file) for file in imported(path) if floor_of(file) < own]
    assert not above


@pytest.mark.parametrize(
    "folder", [f for f in FOLDERS if f not in (ROOT / "rnncells", ROOT / "rnncells/cells")], ids=name_of
)
def test_a_folder_lists_what_it_holds(folder):
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()), clean=False) or ""
    lines = re.findall(r"^ *((?:\w+(?:\.py|/)(?:, )?)+) {2,}", text, re.MULTILINE)
    listed = {name for line in lines for name in line.split(", ")}
    held = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    held |= {f"{path.name}/" for path in folder.iterdir() if (path / "__init__.py").exists()}
    assert listed == held


def test_the_catalogue_lists_its_families():
    text = ast.get_docstring(ast.parse((ROOT / "rnncells/cells/__init__.py").read_text()), clean=False)
    families = {path.parent.name for path in (ROOT / "rnncells/cells").glob("*/__init__.py")}
    assert set(re.findall(r"^ *(\w+)/ {2,}", text, re.MULTILINE)) == families


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_no_file_outgrows_a_room(path):
    assert len(path.read_text().splitlines()) <= 300
