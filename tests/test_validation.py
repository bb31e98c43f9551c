"""Validation decides: which weights are the best, whether a task is solved, when a run ends, and how runs
stand; a run that diverged stands last everywhere."""

import dataclasses
import json
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.harness import (
    memory,
    run,
    session,
    trained,
)
from experiments.harness.options import Training
from experiments.harness.population import Population, Run
from experiments.harness.train import make_train
from tests.cases import sparing
from tests.echo import Echo, Likeness, ended, read, share_programs, small

pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.mark.parametrize("task", sparing([Likeness(7, 2.0), Echo()]), ids=["higher", "lower"])
def test_the_best_weights_are_those_of_the_best_validation(task):
    config = small(task, learning_rate=0.3, kind="rmsprop")  # large enough to go up and down
    train, hyper = make_train(config), config.numbers("Elman")
    state = jax.jit(train.init)(jax.random.key(0), hyper)
    advance, validate, test = jax.jit(train.advance), jax.jit(train.validate), jax.jit(train.test)
    last = test(state, hyper)
    seen = []
    for update in range(5, 45, 5):
        state, _ = advance(state, hyper)
        state, scores = validate(state, hyper)
        assert set(scores) == {"validation"}
        seen.append((float(scores["validation"][task.score]), update, state.params))
        choose = max if task.score == "likeness" else min
        score, best, params = choose(seen, key=lambda each: each[0])
        assert int(state.best.update) == best
        assert abs(float(state.best.score)) == pytest.approx(abs(score))
        chex.assert_trees_all_equal(state.best.params, params)
    assert best < 40
    metrics = test(state, hyper)
    swapped = state._replace(params=state.best.params, best=state.best._replace(update=jnp.int32(-1)))
    assert metrics == test(swapped, hyper)
    assert metrics != test(state._replace(best=swapped.best), hyper)
    assert metrics != last


def test_validation_is_drawn_afresh_and_the_same_for_every_run():
    config = small(learning_rate=0.0)
    train, hyper = make_train(config), config.numbers("Elman")
    state, validate = jax.jit(train.init)(jax.random.key(0), hyper), jax.jit(train.validate)
    other = state._replace(key=jax.random.key(7))
    assert validate(state, hyper)[1] == validate(other, hyper)[1]
    assert validate(state, hyper)[1] != validate(state._replace(update=jnp.int32(5)), hyper)[1]


def told(config):
    """The lines of a run on the way, and the last one of each."""
    lines = read(config.out)
    return [line for line in lines if "test" not in line], [line for line in lines if "test" in line]


@pytest.fixture
def config(tmp_path, monkeypatch):
    share_programs(monkeypatch)
    return small(Echo(7, enough=9.0), updates=40, learning_rate=0.01, out=tmp_path / "out")


def changed(config, **training):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **training))


def test_a_run_ends_when_it_has_solved_its_task(config):
    run.main("echo", changed(config, stop_when_solved=True))
    blocks, ends = told(config)
    assert [line["update"] for line in blocks] == [5, 5]
    assert [(line["update"], line["solved_at"], line["stopped"]) for line in ends] == [(5, 5, 5)] * 2
    assert all(line["solved"] and 0 < line["seconds_to_solution"] <= line["seconds"] for line in ends)
    run.main("echo", dataclasses.replace(changed(config, stop_when_solved=True), resume=True))
    assert told(config) == (blocks, ends)


@pytest.mark.laws
def test_a_run_ends_when_it_no_longer_becomes_better(config, tmp_path):
    """Each by itself; the one that is left goes on as it would have alone, and after a stop too."""
    patient = changed(dataclasses.replace(config, given=Echo()), patience=10, updates=60)
    rates = [0.0, 0.01]

    def learn(out, resume=False, stop=False):
        own = dataclasses.replace(patient, out=tmp_path / out, resume=resume)
        from rich.console import Console

        with session.Session("echo", own, Console(quiet=True)) as here:
            here.stop = stop
            here.train("Elman", [Run({"learning_rate": rate}, 0) for rate in rates])
        return told(own)

    blocks, ends = learn("whole")
    first = [line["update"] for line in blocks if line["run"] == 0]
    scores = [line["validation"]["mse"] for line in blocks if line["run"] == 0]
    best = ends[0]["best"]
    assert best == 5 * (1 + int(np.argmin(scores)))
    assert ends[0]["stopped"] == first[-1] == best + 10
    assert ends[1]["update"] > ends[0]["update"]
    assert not ends[0]["solved"]
    with pytest.raises(session.StopRequested):
        learn("halves", stop=True)
    again, last = learn("halves", resume=True)
    times = ("seconds", "updates_per_second")
    for one, other in zip([*blocks, *ends], [*again, *last], strict=True):
        assert {k: v for k, v in one.items() if k not in times} == {
            k: v for k, v in other.items() if k not in times
        }


@pytest.mark.laws
def test_validation_less_often(config):
    run.main("echo", changed(config, validate_every=20, checkpoint_every=20))
    blocks, ends = told(config)
    assert [line["update"] for line in blocks if "validation" in line and line["run"] == 0] == [20, 40]
    assert {line["best"] for line in ends} <= {20, 40}
    for options, words in [
        ({"validate_every": 7}, r"report_every: expected a divisor of validate_every \(7\), got 5"),
        ({"validate_every": 15}, r"validate_every: expected a divisor of updates \(10\), got 15"),
        ({"validate_every": 0}, "validate_every: expected at least 1, got 0"),
        ({"patience": 0}, "patience: expected at least 1, got 0"),
        ({"first_seed": -1}, "first_seed: expected seeds within 0 and"),
    ]:
        with pytest.raises(ValueError, match=words):
            small(**options)


def test_seeds_begin_where_they_should(config):
    run.main("echo", changed(config, first_seed=5, updates=10))
    _, ends = told(config)
    assert [(line["run"], line["seed"]) for line in ends] == [(0, 5), (1, 6)]


def test_the_best_run_is_loaded_and_never_one_that_diverged(config, tmp_path):
    share = changed(config, updates=10)
    run.main("echo", share)
    paths = sorted((config.out / "weights").iterdir())
    assert [path.name for path in paths] == ["Elman-0.safetensors", "Elman-1.safetensors"]
    found = {i: trained.load(config.out, run=i, task=config.given) for i in range(2)}
    scores = {i: each.validation["mse"] for i, each in found.items()}
    assert trained.load(config.out, task=config.given).about["run"] == min(scores, key=scores.get)
    with pytest.raises(ValueError, match="expected one of Elman-0, Elman-1, got cell GRU, run None"):
        trained.load(config.out, "GRU", task=config.given)
    best = min(scores, key=scores.get)
    from experiments.harness import weights

    weights.save(config.out, found[best].params, {**found[best].about, "diverged": 5})
    assert trained.load(config.out, task=config.given).about["run"] == 1 - best


def test_the_best_checkpoint_stands_by_validation(config):
    """The median over runs, those that diverged being the worst."""
    own = changed(config, updates=10)
    population = Population(own, "Elman", [Run({}, i) for i in range(3)])
    course = session.Course.__new__(session.Course)
    course.population, course.loss = population, 7.0
    course.scores = [{"validation": {"mse": value}} for value in (0.1, 0.2, 0.3)]
    for diverged, expected in (((-1, -1, -1), 0.2), ((4, -1, -1), 0.3), ((4, 4, -1), math.nan)):
        course._read = lambda *names, diverged=diverged: [np.array(diverged)]
        assert course.standing() == pytest.approx(expected, nan_ok=True)
    course.scores = [{}] * 3
    assert course.standing() == 7.0


@pytest.mark.laws
def test_what_does_not_fit_is_known_before_training(config, monkeypatch, capsys):
    monkeypatch.undo()  # a program of its own
    monkeypatch.setattr(memory, "available", lambda devices: 1e-5)
    assert ended(config) == 1
    words = " ".join(capsys.readouterr().out.split())
    assert "memory: expected programs that fit a device of 1e-05 gigabytes, got advance" in words
    assert "test" in words
    assert not config.out.exists()


def test_available_memory(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal:  4000000 kB\nMemAvailable:  2000000 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "LIMIT", tmp_path / "none")
    assert memory.available(2) == pytest.approx(1.024)
    (tmp_path / "limit").write_text("512000000\n")
    monkeypatch.setattr(memory, "LIMIT", tmp_path / "limit")
    assert memory.available(1) == pytest.approx(0.512)
    (tmp_path / "limit").write_text("max\n")
    assert memory.available(1) == pytest.approx(2.048)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    assert memory.available(1) is None


def test_what_is_solved_is_solved_at_the_length_of_the_task():
    config = small(Echo(7, enough=9.0), lengths=(3,))
    train, hyper = make_train(config), config.numbers("Elman")
    state, validate = jax.jit(train.init)(jax.random.key(0), hyper), jax.jit(train.validate)
    state, _ = validate(state._replace(update=jnp.int32(5)), hyper)
    assert (int(state.stage), int(state.solved)) == (1, -1)
    assert np.isinf(state.best.score)
    state, _ = validate(state._replace(update=jnp.int32(10)), hyper)
    assert (int(state.stage), int(state.solved), int(state.best.update)) == (1, 10, 10)
    lost, _ = validate(state._replace(diverged=jnp.int32(3), update=jnp.int32(15)), hyper)
    chex.assert_trees_all_equal(lost.best, state.best)


def test_defaults_do_not_stop():
    training = Training()
    assert (training.stop_when_solved, training.patience, training.validate_every) == (False, None, None)
    assert json.loads(json.dumps(dataclasses.asdict(training)))["validation_sequences"] == 512
