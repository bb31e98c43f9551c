"""Comparing cells: as many parameters each, subsets, and a table that says what the runs have left."""

import jax
import numpy as np
import pytest
import tyro

from experiments import compare, evaluate, load
from experiments.harness.command_line import arguments
from experiments.harness.options import Training
from experiments.parts.budget import closest
from experiments.parts.transformer import Transformer, places
from tests.echo import read

pytestmark = pytest.mark.usefixtures("standard_promotion")

FEW = {"updates": 4, "batch_size": 4, "report_every": 2, "checkpoint_every": 4, "seeds": 2}
SMALL = {"test_sequences": 16, "validation_sequences": 8}


def test_the_closest_width():
    assert closest(lambda width: 4 * width * (width + 2), 10_000, "it") == 49
    with pytest.raises(ValueError, match="such as 8 at width 1 and 24 at width 2, got 10"):
        closest(lambda width: {1: 8, 2: 24}.get(width, 99), 10, "it")


@pytest.mark.parametrize(
    "budget", [2_000, *(pytest.param(size, marks=pytest.mark.laws) for size in (10_000, 100_000))]
)
def test_models_have_what_the_budget_says(budget):
    config = compare.Config(cells=("LSTM", "GRU", "Transformer"), budget=budget, length=8)
    for cell in config.cells:
        size = compare.parameters(config, cell, compare.width(config, cell))
        assert size == pytest.approx(budget, rel=0.02), cell


def test_the_transformer_does_not_look_ahead(rng):
    module = Transformer.of(2_000, 16, 3, None)
    inputs = rng.normal(size=(3, 6, 2)).astype(np.float32)
    inputs[1, :3], inputs[2] = inputs[0, :3], 1
    params = jax.jit(module.init)(jax.random.key(0), inputs)
    outputs = np.asarray(jax.jit(module.apply)(params, inputs))
    np.testing.assert_allclose(outputs[0, :3], outputs[1, :3], atol=1e-6)
    assert (np.abs(outputs[0, 3:] - outputs[1, 3:]) > 1e-4).any(-1).all()
    assert np.abs(outputs[2, 0] - outputs[2, 5]).max() > 1e-4  # it knows the place
    np.testing.assert_allclose(places(5, 4)[3], [np.sin(3), np.sin(0.03), np.cos(3), np.cos(0.03)], atol=1e-6)


def test_a_fraction_is_a_part_of_every_larger_one():
    whole, half, tenth = (compare.digits(8, fraction, 0.85) for fraction in (1.0, 0.5, 0.1))
    sizes = [len(task.data.train.mask) for task in (whole, half, tenth)]
    assert sizes == [1197, 598, 120]
    for large, small in ((whole, half), (half, tenth)):
        rows = {row.tobytes() for row in large.data.train.inputs}
        assert all(row.tobytes() in rows for row in small.data.train.inputs)
        np.testing.assert_array_equal(large.data.test.inputs, small.data.test.inputs)


def test_one_cell(tmp_path):
    """On all of the digits; the rest of what the script does is below."""
    options = {"cells": ("Elman",), "budget": 2_000, "length": 8, "fractions": (1.0,)}
    config = compare.Config(**options, training=Training(**FEW), out=tmp_path / "run")
    compare.main(config)
    _, _, row, baseline = (config.out / "table.md").read_text().splitlines()
    done = [line for line in read(config.out) if "test" in line]
    score = np.median([line["test"]["accuracy"] for line in done])
    assert [line["seed"] for line in done] == [0, 1]
    assert f"| {score:.1%} |" in row
    assert baseline.startswith("| (last pixel) |")
    assert (config.out / "compare.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.scripts
def test_cells_and_a_transformer_on_fractions(tmp_path):
    options = {"cells": ("GRU",), "transformer": True, "budget": 2_000, "length": 8, "fractions": (0.1,)}
    config = compare.Config(**options, training=Training(**FEW), out=tmp_path / "run")
    compare.main(config)
    done = [line for line in read(config.out) if "test" in line]
    runs = [(line["cell"], line["numbers"]["fraction"], line["seed"]) for line in done]
    shares = [(share, seed) for share in (1.0, 0.1) for seed in (0, 1)]
    assert runs == [(cell, *each) for cell in ("GRU", "Transformer") for each in shares]
    lines = (config.out / "table.md").read_text().splitlines()
    names, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    for row in rows[:-1]:
        told = dict(zip(names, row, strict=True))
        pairs = list(zip(done, runs, strict=True))
        own = {at: [line for line, run in pairs if run[:2] == (told["cell"], at)] for at in (1.0, 0.1)}
        scores = {share: np.median([line["test"]["accuracy"] for line in own[share]]) for share in own}
        assert told["test accuracy"] == f"{scores[1.0]:.1%}"
        assert told["with 10%"] == f"{scores[0.1]:.1%}"
        assert told["weights"] == f"{own[1.0][0]['parameters']:,}"
        assert own[1.0][0]["parameters"] == pytest.approx(2_000, rel=0.02)
        assert told["reached target"] == "0 of 2"
        assert float(told["s/1000 updates"]) > 0
    assert rows[-1][0] == "(last pixel)"
    assert (config.out / "compare.png").read_bytes().startswith(b"\x89PNG")
    for cell, kind in (("GRU", "Model"), ("Transformer", "Transformer")):
        model = load(config.out, cell, 3)
        assert type(model.module).__name__ == kind
        assert model.config.fraction == 0.1
        test = compare.digits(8, 1.0, 0.85).data.test
        assert evaluate(model, test)["accuracy"] == pytest.approx(model.test["accuracy"])


@pytest.mark.scripts
@pytest.mark.parametrize("problem", ["adding", "mqar"])
def test_tasks_that_draw_afresh(problem, tmp_path):
    """Numbers and tokens; the table has no fractions."""
    options = {"cells": ("Elman",), "transformer": True, "problem": problem, "budget": 4_000}
    config = compare.Config(**options, training=Training(**FEW, **SMALL), out=tmp_path)
    compare.main(config)
    table = (tmp_path / "table.md").read_text()
    assert "with" not in table
    assert table.count("\n") == 5


def test_the_command_line():
    config = tyro.cli(compare.Config, args=["--task", "adding", "--length", "20", "--budget", "3000"])
    assert (config.problem, config.task().length) == ("adding", 20)
    assert config.shares == (1.0,)
    assert compare.Config().shares == (0.1, 0.3, 1.0)
    again = tyro.cli(compare.Config, args=arguments(config, compare.Config(), "--"))
    assert again == config


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"problem": "adding", "fractions": (0.5,)}, "fractions: expected none for a task that draws afresh"),
        ({"fractions": (0.0,)}, "fractions: expected numbers above 0, at most 1, got 0.0"),
        ({"fractions": (1.5,)}, "fractions: expected numbers above 0, at most 1, got 1.5"),
        ({"pooling": "mean"}, "pooling: expected every, tasks ask at ticks, got 'mean'"),
    ],
)
def test_what_a_comparison_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        compare.Config(**options)


def test_a_budget_that_a_cell_cannot_meet():
    config = compare.Config(cells=("LSTM",), budget=60, length=8)
    with pytest.raises(
        ValueError, match=r"budget: expected what LSTM can have within 2%, such as .*, got 60"
    ):
        config.numbers("LSTM")
