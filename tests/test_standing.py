"""How runs stand to each other: in tables, rankings, curves and landscapes, higher or lower being better; a
run that diverged stands last everywhere."""

import math

import polars
import pytest

from experiments.harness import landscape, plots, ranking, run, standing, study, tables
from tests.echo import WILD, Echo, Likeness, small

pytestmark = pytest.mark.usefixtures("standard_promotion")


def line(cell="GRU", score=0.5, seed=0, diverged=None, solved=False, task=Echo, **more):
    metrics = {task.score: score}
    ended = {"test": metrics, "validation": metrics, "solved": solved, "solved_at": 5 if solved else None}
    ended |= {"parameters": 9, "seconds": 1.0, "seconds_to_solution": 0.5, "diverged": diverged, "best": 5}
    return {
        "cell": cell,
        "run": seed,
        "seed": seed,
        "numbers": {},
        "loss": 1.0,
        "length": 7,
        "update": 10,
        **ended,
        **more,
    }


def test_a_table_obeys_the_direction_and_puts_what_diverged_last():
    rows = tables.summarise(Echo(), [line(score=score) for score in (0.1, 0.2, 0.6)])
    assert (rows[0]["test mse"], rows[0]["worst seed"]) == ("0.2", "0.6")
    assert not {"after", "diverged"} & set(rows[0])
    assert (rows[1]["cell"], rows[1]["test mse"]) == ("(memoryless)", "1")
    better = [line(score=score, task=Likeness) for score in (0.1, 0.2, 0.6)]
    rows = tables.summarise(Likeness(), better)
    assert (rows[0]["test likeness"], rows[0]["worst seed"]) == ("20.0%", "10.0%")
    assert (rows[1]["cell"], rows[1]["test likeness"]) == ("(silent)", "25.0%")
    lost = [line(score=0.1), line(score=0.2), line(score=0.001, diverged=3)]
    rows = tables.summarise(Echo(), lost)
    assert (rows[0]["test mse"], rows[0]["worst seed"], rows[0]["diverged"]) == ("0.2", "diverged", "1 of 3")
    rows = tables.summarise(Echo(), [*lost, line(score=0.001, diverged=3)])
    assert rows[0]["test mse"] == "diverged"
    solved = tables.summarise(Echo(), [line(solved=True), line(solved=True, solved_at=15), line()])
    assert (solved[0]["solved"], solved[0]["after"]) == ("2 of 3", "10 updates, 0.5 s")


def test_a_ranking_obeys_the_direction_and_puts_what_diverged_last():
    lines = [
        line(score=score, seed=i, numbers={"x": x}, diverged=diverged, task=Likeness)
        for i, (x, score, diverged) in enumerate(
            [(1.0, 0.2, None), (1.0, 0.4, None), (2.0, 0.99, 5), (2.0, 0.98, None), (3.0, 0.5, None)]
        )
    ]
    for each in lines:
        each["test"] = {"likeness": 0.1}
    best_first = ranking.ranked(ranking.tidy(lines), ["x"], "likeness", higher=True)
    assert best_first["x"].to_list() == [3.0, 1.0, 2.0]
    assert best_first["mean"].to_list() == pytest.approx([0.5, 0.3, None])
    assert best_first["test"].to_list() == pytest.approx([0.1, 0.1, None])
    assert best_first.filter(polars.col("x") == 1.0).select("best seed", "worst seed").row(0) == (0.4, 0.2)
    lower = ranking.ranked(ranking.tidy(lines), ["x"], "likeness")
    assert lower["x"].to_list() == [1.0, 3.0, 2.0]


def test_optuna_is_told_the_direction_and_the_worst_of_what_diverged():
    assert study.told(Echo(), [line(score=0.1), line(score=0.3)]) == pytest.approx(0.2)
    assert study.told(Echo(), [line(score=0.1), line(score=0.3, diverged=2)]) == math.inf
    assert study.told(Likeness(), [line(score=0.1, diverged=2, task=Likeness)]) == -math.inf
    assert study.told(Echo(), [line(score=None)]) == math.inf


def test_standing():
    assert (
        standing.standing(Echo(), 0.5) < standing.standing(Echo(), 0.6) < standing.standing(Echo(), math.nan)
    )
    assert standing.standing(Likeness(), 0.6) < standing.standing(Likeness(), 0.5) < math.inf
    assert [standing.shown(Likeness(), name, 0.5) for name in ("likeness", "mse")] == ["50.0%", "0.5"]
    assert standing.shown(Echo(), "mse", None) == "not finite"


@pytest.fixture
def figures(monkeypatch):
    """Every picture that is drawn, as its panels' words."""
    drawn = []

    def close(figure):
        panels = []
        for axes in figure.axes:
            legend = axes.get_legend()
            texts = [text.get_text() for text in legend.get_texts()] if legend else []
            title = legend.get_title().get_text() if legend else ""
            inside = [text.get_text() for text in axes.texts]
            panels.append(
                {"legend": texts, "title": title, "y": axes.get_ylabel(), "scale": axes.get_yscale()}
            )
            panels[-1] |= {"inside": inside, "lines": axes.get_lines(), "ticks": axes.get_xticklabels()}
        drawn.append(panels)

    for module in (plots, landscape):
        monkeypatch.setattr(module.plt, "close", close)
    return drawn


@pytest.mark.laws
def test_curves_name_what_they_show(figures, tmp_path):
    wild = small(Likeness(7, 2.0), **WILD, learning_rate=1e8, seeds=3, out=tmp_path)
    run.main("echo", wild)
    (panels,) = figures
    losses, scores = panels
    assert losses["legend"] == ["Elman (3 of 3 diverged)"]
    assert losses["title"] == "line: median of 3 runs; band: lowest to highest"
    assert scores["y"] == "validation likeness"
    assert scores["scale"] == "linear"
    assert "silent baseline, 25.0%" in scores["legend"]
    crosses = [drawn for drawn in losses["lines"] if drawn.get_marker() == "x"]
    assert len(crosses) == 3


def frame(task, values, **axis):
    """A ranking as `ranked` makes it."""
    (name, places), *more = axis.items()
    lines = [
        line(
            score=value,
            seed=i,
            numbers={name: place, **{other: ps[i] for other, ps in more}},
            task=task,
            diverged=None if value is not None else 4,
        )
        for i, (place, value) in enumerate(zip(places, values, strict=True))
    ]
    names = list(axis)
    return ranking.ranked(ranking.tidy(lines), names, task.score, task.score == "likeness"), names


def test_a_landscape_of_words_and_of_what_diverged(figures, tmp_path):
    table, names = frame(Likeness, [0.3, 0.5, None], pooling=["last", "mean", "attention"])
    landscape.landscape("t", Likeness(), table, names, tmp_path / "a.png", grid=True)
    (panel,) = figures[-1]
    assert [tick.get_text() for tick in panel["ticks"]] == ["attention", "last", "mean"]
    assert panel["legend"] == ["GRU", "silent baseline", "a seed diverged"]
    assert panel["title"] == "band: best to worst seed"
    assert panel["scale"] == "linear"
    axes = {"features": [8, 8, 16, 16], "x": [0.1, 0.2, 0.1, 0.2]}
    for task, values, best in (
        (Likeness, [0.3, 0.5, None, 0.2], "50.0%"),
        (Echo, [0.3, 0.5, None, 0.2], "0.5"),
    ):
        table, names = frame(task, values, **axes)
        landscape.landscape("t", task(), table, names, tmp_path / "b.png", grid=True)
        assert figures[-1][0]["inside"].count("diverged") == 1
        assert best in figures[-1][0]["inside"]
