"""Points that are drawn, and those that Optuna proposes to one worker or several."""

import dataclasses
import re
import sqlite3

import numpy as np
import optuna
import polars
import pytest

from experiments import adding, sweep
from experiments.harness import search, session, study
from experiments.harness.options import Training

pytestmark = pytest.mark.usefixtures("standard_promotion")

TRAINING = Training(updates=4, batch_size=4, report_every=2, checkpoint_every=2, test_sequences=32, seeds=2)
SMALL = adding.Config(cells=("LSTM",), features=4, length=6, training=TRAINING)


def test_random_points_are_where_they_should_be():
    config = sweep.Config(
        SMALL,
        vary=("learning_rate=1e-4:1e-1:log", "zoneout=0:.5", "clip_norm=1,2"),
        search="random",
        trials=400,
    )
    points = search.points(config)
    assert points == search.points(config)
    assert points[:5] == search.points(dataclasses.replace(config, trials=5))
    rates, zoneout, norms = (np.array([point[axis.name] for point in points]) for axis in config.axes())
    for values, low, high in ((np.log10(rates), -4, -1), (zoneout, 0, 0.5)):
        counts, _ = np.histogram(values, 5, (low, high))
        assert counts.sum() == 400
        assert counts.min() > 50
    assert set(norms) == {1.0, 2.0}


@pytest.mark.laws
def test_optuna_proposes_and_two_workers_search_together(here):
    storage = f"sqlite:///{here / 'shared.db'}"
    for worker in range(2):
        sweep.main(
            sweep.Config(
                dataclasses.replace(SMALL, out=here / f"worker-{worker}"),
                vary=("learning_rate=1e-3:1e-1:log", "forget_bias=0,1"),
                search="tpe",
                trials=4 * (worker + 1),
                at_once=4,
                storage=storage,
            )
        )
    (known,) = optuna.get_all_study_summaries(study.opened(storage))
    trials = optuna.load_study(study_name=known.study_name, storage=study.opened(storage)).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 8
    tables = [polars.read_csv(here / f"worker-{worker}/sweep.csv") for worker in range(2)]
    assert [len(table) for table in tables] == [8, 8]
    for trial, (_, rows) in zip(
        trials, polars.concat(tables).group_by("learning_rate", maintain_order=True), strict=True
    ):
        assert rows["learning_rate"][0] == trial.params["learning_rate"]
        assert trial.value == pytest.approx(rows["validation_mse"].mean())


@pytest.mark.laws
def test_a_search_that_was_stopped_goes_on_with_the_points_that_were_asked(here):
    config = sweep.Config(
        dataclasses.replace(SMALL, out=here / "out"),
        vary=("learning_rate=1e-3:1e-1:log",),
        search="tpe",
        trials=6,
        at_once=4,
    )
    train, calls = session.Session.train, []

    def stopping(self, cell, runs, first=0, config=None):
        calls.append([each.numbers["learning_rate"] for each in runs])
        self.stop = len(calls) == 2  # as a signal would, in the middle of the second population
        return train(self, cell, runs, first, config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.Session, "train", stopping)
        with pytest.raises(SystemExit) as end:
            sweep.main(config)
        assert end.value.code == 130
        sweep.main(
            dataclasses.replace(config, experiment=dataclasses.replace(config.experiment, resume=True))
        )
    assert calls[2] == calls[1]  # the same points, from their checkpoint
    assert len(calls) == 4
    table = polars.read_csv(here / "out/sweep.csv")
    assert table["learning_rate"].to_list() == [*calls[0], *calls[1], *calls[3]]
    assert table["learning_rate"].n_unique() == 6  # what is drawn now was not drawn before
    assert table["run"].to_list() == list(range(12))


def test_workers_that_start_together_draw_different_points(here, monkeypatch):
    drawn = []

    def train(self, cell, runs, first=0, config=None):
        drawn.append([each.numbers["learning_rate"] for each in runs[::2]])
        raise session.StopRequested("enough")

    monkeypatch.setattr(session.Session, "train", train)
    for out in ("a", "b"):
        experiment = dataclasses.replace(SMALL, out=here / out)
        with pytest.raises(SystemExit):
            sweep.main(
                sweep.Config(experiment, vary=("learning_rate=1e-3:1e-1:log",), search="tpe", trials=4)
            )
    assert len({*drawn[0], *drawn[1]}) == len(drawn[0]) + len(drawn[1]) == 8


@pytest.mark.laws
def test_optuna_chooses_cells_and_widths(here):
    config = sweep.Config(
        dataclasses.replace(SMALL, out=here / "out"),
        vary=("cell=Elman,GRU", "features=3,4", "learning_rate=1e-3:1e-1:log"),
        search="tpe",
        trials=6,
        at_once=6,
    )
    sweep.main(config)
    table = polars.read_csv(here / "out/sweep.csv")
    assert len(table) == 12
    assert table.group_by("learning_rate").len()["len"].to_list() == [2] * 6
    assert sorted(table["run"].to_list()) == list(range(12))


def test_workers_share_a_study_exactly_where_they_do_the_same():
    base = sweep.Config(SMALL, vary=("learning_rate=1e-3:1e-1:log",), search="tpe", at_once=4)

    def name(**changes):
        return study.study_name(
            dataclasses.replace(base, experiment=dataclasses.replace(SMALL, **changes)), "Elman"
        )

    assert name() == name(out="elsewhere", resume=True)
    others = [
        {"length": 7},
        {"features": 5},
        {"training": dataclasses.replace(TRAINING, updates=6)},
        {"chrono": 3.0},
    ]
    assert len({name(), *(name(**change) for change in others)}) == 5
    assert study.study_name(dataclasses.replace(base, vary=("learning_rate=1e-3:1:log",)), "Elman") != name()
    assert study.study_name(base, "GRU") != study.study_name(base, None)


def test_what_a_database_says_is_a_sentence(here, monkeypatch, capsys):
    """Locked, damaged, out of reach: known before anything that is there is moved."""
    monkeypatch.setattr(study, "PATIENCE", 0.1)
    out = here / "out"
    out.mkdir()
    (out / "metrics.jsonl").write_text("old")
    (here / "damaged.db").write_text("no database " * 100)
    locked = sqlite3.connect(here / "locked.db", isolation_level=None)
    locked.execute("CREATE TABLE t (x)")
    locked.execute("BEGIN EXCLUSIVE")
    for storage, words in [
        (f"sqlite:///{here}/locked.db", "locked.db: database is locked."),
        (f"sqlite:///{here}/damaged.db", "damaged.db: file is not a database."),
        (f"sqlite:///{here}/none/there.db", "there.db: unable to open database file."),
        ("postgresql+nothing://host/name", "name: Can't load plugin"),
        ("no url", "no url: Could not parse SQLAlchemy URL"),
    ]:
        experiment = dataclasses.replace(SMALL, out=out)
        with pytest.raises(SystemExit) as end:
            sweep.main(sweep.Config(experiment, vary=("l1=0:1",), search="tpe", storage=storage))
        assert end.value.code == 1
        shown = capsys.readouterr().out
        assert "storage: expected a database that can be read and written, got " in shown
        assert words in shown
    locked.close()
    assert [path.name for path in out.iterdir()] == ["metrics.jsonl"]


def test_every_worker_knows_the_best_of_all(here, monkeypatch, capsys):
    """Of the study, not only of its own points; the command that trains it is beside its own folder."""
    scores = {"a": 0.3, "b": 0.5}

    def train(self, cell, runs, first=0, config=None):
        base = {"cell": cell, "diverged": None, "parameters": 1, "seconds": 1.0, "solved": False, "loss": 1.0}
        base |= {"solved_at": None, "length": 6, "update": 4, "best": 4}
        score = {"mse": scores[self.config.out.name]}
        lines = [
            base
            | {"run": first + i, "seed": run.seed, "numbers": run.numbers, "validation": score, "test": score}
            for i, run in enumerate(runs)
        ]
        self.record.write(lines)
        return lines

    monkeypatch.setattr(session.Session, "train", train)
    for trials, name in ((2, "a"), (4, "b"), (4, "b")):
        experiment = dataclasses.replace(SMALL, out=here / name)
        storage = f"sqlite:///{here}/study.db"
        options = {"search": "tpe", "trials": trials, "storage": storage, "at_once": 4}
        sweep.main(sweep.Config(experiment, vary=("l1=0:1",), **options))
        shown = " ".join(capsys.readouterr().out.split())
        count = "4 points of 2 workers" if name == "b" else "2 points"
        assert f"The best of {count}: LSTM, l1 0." in shown
        assert f", 0.3, found by {here / 'a'}. The best point on fresh seeds:" in shown
    command = (here / "b/best.sh").read_text()
    best = min(study_points(here), key=lambda trial: trial.value)
    assert f"--optimizer.l1 {best.params['l1']}" in command
    assert "--training.first-seed 2 " in command
    assert command.endswith(f" --out {here}/b-best\n")


def study_points(here):
    storage = study.opened(f"sqlite:///{here}/study.db")
    (known,) = optuna.get_all_study_summaries(storage)
    return optuna.load_study(study_name=known.study_name, storage=storage).trials


@pytest.mark.parametrize(
    ("text", "search"),
    [
        ("learning_rate", "grid"),
        ("learning_rate=", "grid"),
        ("=1,2", "grid"),
        ("learning_rate=1,x", "grid"),
        ("learning_rate=1,nan", "grid"),
        ("learning_rate=1:2", "grid"),
        ("learning_rate=0:2:log:3", "grid"),
        ("learning_rate=2:1:log:3", "grid"),
        ("learning_rate=1:2:log:3", "random"),
        ("learning_rate=1:2:lag", "random"),
    ],
)
def test_bad_axes(text, search):
    with pytest.raises(ValueError, match=r"vary: expected name=value.*got " + re.escape(repr(text))):
        sweep.Config(SMALL, vary=(text,), search=search)
