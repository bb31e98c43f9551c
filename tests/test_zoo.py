"""The zoo on a small scale: it trains, goes on, ranks and draws; and what is published fits the cells."""

import dataclasses
import json
import math
import pathlib

import pytest
import tyro

from experiments.harness import run
from experiments.harness.options import Training
from experiments.zoo import __main__ as zoo
from experiments.zoo import picture, report
from experiments.zoo.entries import entry
from experiments.zoo.options import Config
from experiments.zoo.published import ELSEWHERE, ENTRIES, PUBLISHED, Published, cell_of, family_of
from rnncells import CELLS
from rnncells.cells import convolutional
from rnncells.initializers import Chrono
from rnncells.tasks import Adding

pytestmark = pytest.mark.usefixtures("standard_promotion")
SMALL = Training(updates=4, batch_size=4, report_every=2, checkpoint_every=2, test_sequences=16, seeds=2)


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "use_devices", lambda count: None)
    return Config(cells=("LRU", "GRU-chrono"), length=6, features=4, training=SMALL, out=tmp_path / "zoo")


@pytest.mark.laws
def test_a_zoo_is_trained_and_gone_on_with(small, monkeypatch, capsys):
    zoo.main(dataclasses.replace(small, cells=("LRU",)))
    first = (small.out / "adding/LRU/metrics.jsonl").read_text()
    again = dataclasses.replace(small, resume=True)
    zoo.main(again)
    assert (small.out / "adding/LRU/metrics.jsonl").read_text() == first
    rows = report.read(small.out)
    assert [(row["entry"], row["family"]) for row in rows] == [("LRU", "linear"), ("GRU-chrono", "gated")]
    for row in rows:
        assert len(row["scores"]) == len(row["learned"]) == len(row["diverged"]) == 2
        assert all(0 < score < 10 for score in row["scores"])
        assert (row["length"], row["updates"], row["batch"], row["features"]) == (6, 4, 4, 4)
    assert "Adding" in capsys.readouterr().out
    table = (small.out / "table.md").read_text()
    assert table == report.page(rows)
    assert "| LRU | linear |" in table
    assert (small.out / "adding.png").read_bytes().startswith(b"\x89PNG")
    saved = json.loads((small.out / "adding/GRU-chrono/config.json").read_text())
    assert (saved["cells"], saved["chrono"]) == (["GRU"], 6.0)

    monkeypatch.setattr(run, "session", None)  # nothing is trained any more
    zoo.main(again)
    assert report.read(small.out) == rows
    wider = dataclasses.replace(again, features=5)
    with pytest.raises(SystemExit, match=r"resume: expected the settings of .*LRU/config.json, but features"):
        zoo.main(wider)


def test_every_entry_can_be_made():
    config = Config()
    for name in ENTRIES:
        one = entry(config, name, "adding")
        one.numbers(cell_of(name)).check()
        assert family_of(name) in picture.FAMILIES
        assert one.out == config.out / "adding" / name
    assert set(ENTRIES) - set(CELLS) == {"LSTM-chrono", "GRU-chrono"}
    assert all(cell_of(name) in CELLS for name in PUBLISHED)
    chrono = entry(config, "LSTM-chrono", "adding")
    assert chrono.numbers("LSTM").cell.forget_bias == Chrono(100.0)
    assert entry(config, "LMU", "adding").numbers("LMU").cell.theta == 100
    assert entry(dataclasses.replace(config, length=70), "LMU", "adding").numbers("LMU").cell.theta == 70
    assert entry(config, "LEM", "copy").numbers("LEM").cell.dt == PUBLISHED["LEM"].fields["dt"]


def test_what_is_no_entry_has_a_reason():
    others = {name for name in convolutional.__all__ if name[0].isupper()}
    assert set(ELSEWHERE) == others - set(CELLS)


def row(entry, scores, learned, diverged=None, task="adding", **others):
    own = {"task": task, "length": 100, "entry": entry, "family": "gated", "settings": "", "features": 64}
    own |= {"updates": 2000, "batch": 32, "scores": scores, "learned": learned, "parameters": 17217}
    seeds = len(scores)
    return own | {"solved": learned, "diverged": diverged or [None] * seeds, "seconds": 30.4} | others


def test_ranks():
    """By the updates of the median seed, then by score; a seed that diverged is the worst."""
    rows = [
        row("Elman", [0.2, 0.18, 0.19], [None] * 3),
        row("LSTM", [0.008, 0.009, 0.01], [900, 700, 800]),
        row("GRU", [0.008, 0.17, 0.009], [500, None, 600], settings="chrono"),
        row("RAN", [None, 0.1, 0.15], [None] * 3, diverged=[20, None, 40]),
    ]
    ranking = report.ranked(rows, Adding())
    assert [own["entry"] for own in ranking] == ["GRU", "LSTM", "Elman", "RAN"]
    table = report.tabulate(ranking)
    assert table[0] == {
        "": "1",
        "cell": "GRU",
        "family": "gated",
        "test mse": "0.009",
        "range": "0.008 to 0.17",
        "solved": "2 of 3",
        "updates to 0.05": "600",
        "s": "30",
        "parameters": "17,217",
        "diverged": "",
        "settings": "chrono",
    }
    assert (table[3]["test mse"], table[3]["diverged"], table[3]["range"]) == (
        "not finite",
        "2 of 3",
        "0.1 to 0.15",
    )
    said = report.sentence(ranking)
    assert "2 of 4 cells" in said
    assert "Of 12 runs 2 diverged" in said
    assert "memoryless baseline is 0.1667" in said


def test_tasks_of_accuracy_rank_the_other_way(tmp_path):
    parity = {"task": "parity", "length": 40}
    rows = [row("GRU", [0.5, 0.6], [None, None], **parity), row("LSTM", [0.7, 0.6], [None, None], **parity)]
    task = report.task_of(rows[0])
    assert [own["entry"] for own in report.ranked(rows, task)] == ["LSTM", "GRU"]
    assert report.learned(task) == pytest.approx(1 - 0.3 * (1 - task.baseline))
    both = [*rows, row("GRU", [0.009], [500])]
    page = report.page(both)
    assert "## All tasks" in page
    assert "| GRU | 0.009 | 55.0% |" in page
    assert page.index("## adding") < page.index("## parity")
    picture.draw(report.by_task(both)["parity"], tmp_path / "parity.png")
    assert (tmp_path / "parity.png").read_bytes().startswith(b"\x89PNG")


def test_learned_is_said_of_published_settings():
    assert report.said(Published()) == ""
    own = Published(
        {"learning_rate": 0.02, "clip_norm": None}, {"dt": 0.06}, chrono=True, layers=2, blocks=True
    )
    assert report.said(own) == "learning rate 0.02, no clipping, dt 0.06, chrono, 2 layers, blocks"
    assert report.said(Published(window="theta", longer=3)) == "theta T, 3 times the updates"
    assert report.learned(Adding()) == pytest.approx(0.05)
    assert math.isinf(report.middle([None, None, 3]))


@pytest.mark.parametrize("option", [{"cells": ("LTSM",)}, {"cells": ()}, {"tasks": ("add",)}])
def test_what_a_zoo_cannot_be(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"{name}: expected some of .*, got"):
        Config(**option)


def test_the_command_line():
    config = tyro.cli(Config, args=["--tasks", "adding", "copy", "--cells", "LEM", "--resume"])
    assert (config.tasks, config.cells, config.resume) == (("adding", "copy"), ("LEM",), True)


RESULTS = pathlib.Path(__file__).parent.parent / "docs/results/zoo"
LONG = (
    *("LSTM-chrono", "GRU-chrono", "URLSTM", "IndRNN", "ExpRNN", "ScoRNN", "CoRNN", "UnICORNN", "LEM"),
    *("LRU", "S4D", "S5", "PhasedLSTM", "AntisymmetricRNN", "GatedAntisymmetricRNN", "NRU", "HiPPOLegS"),
    *("UnitaryRNN", "FullUnitaryRNN", "EUNN", "GORU", "HouseholderRNN"),
)
"""Those that claim long memories."""


def test_what_is_published_is_of_these_settings_and_did_not_diverge():
    rows = report.read(RESULTS)
    assert (RESULTS / "table.md").read_text() == report.page(rows)
    assert [row["entry"] for row in rows] == [name for name in ENTRIES if name in {r["entry"] for r in rows}]
    for row in rows:
        one = entry(Config(), row["entry"], "adding")
        assert row["settings"] == report.said(PUBLISHED.get(row["entry"], Published()))
        assert (row["features"], row["updates"]) == (one.features, one.training.updates)
        assert row["diverged"] == [None] * 3


def test_those_that_claim_long_memories_have_them():
    rows = {row["entry"]: row for row in report.read(RESULTS)}
    scores = {name: report.middle(rows[name]["scores"]) for name in LONG}
    assert max(scores.values()) < report.learned(Adding()), scores
