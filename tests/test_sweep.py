"""Sweeps: one program for all runs, each run as it is alone, and a search that loses nothing."""

import dataclasses
import json
import pathlib
import re
import shlex
import subprocess
import sys

import jax
import numpy as np
import polars
import pytest
import tyro

from experiments import adding, copy, plot, sweep
from experiments.harness import command_line, options, ranking, search
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.options import Placement, Training
from experiments.harness.population import Population, Run

pytestmark = pytest.mark.usefixtures("standard_promotion")

TRAINING = Training(updates=4, batch_size=4, report_every=2, checkpoint_every=2, test_sequences=32, seeds=2)
SMALL = adding.Config(cells=("LSTM",), features=4, length=6, training=TRAINING)


def compiled(work):
    """How many programs XLA compiles while `work` runs."""
    count = 0

    def listen(event, duration, **_):
        nonlocal count
        count += event.endswith("backend_compile_duration")

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        work()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return count


@pytest.mark.laws
def test_a_sweep_of_64_runs_is_one_program_and_each_run_is_as_alone():
    runs = [
        Run({"learning_rate": rate, "forget_bias": bias}, seed)
        for rate in (1e-4, 1e-3, 1e-2, 1e-1)
        for bias in (-1.0, 0.0, 1.0, 2.0)
        for seed in range(4)
    ]
    built = []
    assert (
        compiled(lambda: built.append(Population(SMALL, "LSTM", runs).compile())) < 10
    )  # advance, validate, test, and what arrays need
    (together,) = built
    start = together.init()
    seen = []

    def blocks():
        state = start
        for _ in range(3):
            state, losses = together.advance(state)
            seen.append(losses)

    assert compiled(blocks) == 0
    losses = np.concatenate(seen, 1)
    assert losses.shape == (64, 6)
    assert len(np.unique(losses[:, -1])) == 64
    alone = Population(SMALL, "LSTM", runs[:1])
    side_by_side = dataclasses.replace(SMALL, placement=Placement(method="vmap"))
    for i, each in enumerate(runs):
        alone = alone.again([each])
        state = alone.init()
        for block in range(3):
            state, own = alone.advance(state)
            np.testing.assert_array_equal(own[0], losses[i, 2 * block : 2 * block + 2])
    vmapped = Population(side_by_side, "LSTM", runs)
    np.testing.assert_allclose(vmapped.advance(vmapped.init())[1], losses[:, :2], rtol=1e-4)


@pytest.mark.laws
def test_the_next_population_uses_the_program_of_the_last(here):
    config = sweep.Config(
        dataclasses.replace(SMALL, out=here / "out"), vary=("learning_rate=1e-3:1e-1:log:5",), at_once=4
    )
    populations = []
    original = Population.again
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Population, "again", lambda self, runs: populations.append(runs) or original(self, runs)
        )
        sweep.main(config)
    assert [len(runs) for runs in populations] == [4, 2]
    table = polars.read_csv(here / "out/sweep.csv")
    assert table["run"].to_list() == list(range(10))
    assert table["seed"].to_list() == [0, 1] * 5


@pytest.mark.parametrize(("most", "sizes"), [(64, [10]), (9, [5, 5]), (4, [4, 4, 2]), (1, [1] * 10)])
def test_populations_are_of_about_one_size(most, sizes):
    class Here:
        config = SMALL

        def ready(self, *course):
            pass

        def train(self, cell, runs, first, config):
            trained.append((first, runs))

    trained = []
    search.at_once(sweep.Config(SMALL, vary=("l1=0:1:linear:5",), at_once=most), Here())
    assert [len(runs) for _, runs in trained] == sizes
    assert [first for first, _ in trained] == list(np.cumsum([0, *sizes[:-1]]))
    assert [each for _, some in trained for each in some] == [
        Run({"l1": value}, seed) for value in (0, 0.25, 0.5, 0.75, 1) for seed in range(2)
    ]


def test_what_a_grid_leaves(here, capsys):
    config = sweep.Config(SMALL, vary=("learning_rate=1e-3,1e-2,1e12", "chrono=5:10:linear:2"))
    sweep.main(config)
    out = here / "runs/sweep-adding"
    table = polars.read_csv(out / "sweep.csv")
    assert table.equals(
        polars.read_parquet(out / "sweep.parquet").cast(dict(zip(table.columns, table.dtypes, strict=True)))
    )
    points = table.select("learning_rate", "chrono", "seed").rows()
    assert points == [
        (rate, t, seed) for rate in (1e-3, 1e-2, 1e12) for t in (5.0, 10.0) for seed in range(2)
    ]
    assert table["test_mse"].is_finite().all()
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "config.json").read_text())["vary"] == list(config.vary)
    plot.main(plot.Config((out,), here / "again"))
    assert (here / "again/sweep.csv").read_bytes() == (out / "sweep.csv").read_bytes()
    assert (here / "again/sweep.png").read_bytes().startswith(b"\x89PNG")
    # The best point, on fresh seeds in a folder beside; alone on those of the sweep, it gives its numbers.
    command = (out / "best.sh").read_text()
    shown = capsys.readouterr().out
    assert command.strip() in shown.replace("\n", " ").replace("  ", " ") or command.strip() in shown
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "experiments.adding"]
    alone = tyro.cli(adding.Config, args=words[3:])
    best = ranking.ranked(table, ["learning_rate", "chrono"], "mse").row(0, named=True)
    assert (alone.optimizer.learning_rate, alone.chrono) == (best["learning_rate"], best["chrono"])
    assert list(alone.training.all_seeds) == [2, 3]
    assert alone.out == pathlib.Path("runs/sweep-adding-best")
    training = dataclasses.replace(alone.training, first_seed=0)
    adding.main(dataclasses.replace(alone, training=training, out=pathlib.Path("runs/adding")))
    lines = [json.loads(line) for line in (here / "runs/adding/metrics.jsonl").read_text().splitlines()]
    scores = [line["test"]["mse"] for line in lines if "test" in line]
    assert (
        scores
        == table.filter(
            (polars.col("learning_rate") == best["learning_rate"]) & (polars.col("chrono") == best["chrono"])
        )["test_mse"].to_list()
    )


def test_ranking_means_over_seeds_and_puts_what_is_not_finite_last():
    rows = [
        ("LSTM", 1.0, 0.5),
        ("LSTM", 1.0, 0.7),
        ("LSTM", 2.0, 0.1),
        ("LSTM", 2.0, None),
        ("GRU", 1.0, 0.2),
    ]
    table = polars.DataFrame(
        [
            {
                "cell": cell,
                "x": x,
                "test_mse": score,
                "solved": score == 0.2,
                "diverged": None if score else 3,
            }
            for cell, x, score in rows
        ]
    )
    best_first = ranking.ranked(table, ["x"], "mse")
    assert best_first.select("cell", "x", "seeds", "solved", "diverged").rows() == [
        ("GRU", 1.0, 1, 1, 0),
        ("LSTM", 1.0, 2, 0, 0),
        ("LSTM", 2.0, 2, 0, 1),
    ]
    assert best_first["mean"].to_list() == pytest.approx([0.2, 0.6, None])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vary": ()}, "vary: expected different names"),
        ({"vary": ("l1=1,2", "l1=3")}, "vary: expected different names"),
        ({"vary": ("zoneout=.1,.2", "Zoneout.rate=.3")}, "vary: expected different names"),
        ({"vary": ("l1=1,2,1",)}, "vary: expected different values, got 'l1=1,2,1'"),
        ({"trials": 0}, "trials: expected at least 1, got 0"),
        ({"trials": 5}, "trials: expected none with search=grid, which tries all, got 5"),
        ({"storage": "sqlite:///x.db"}, "storage: expected none with search=grid"),
        ({"search": "tpe", "at_once": 1, "vary": ("l1=0:1",)}, "at_once: expected at least one point"),
    ],
)
def test_bad_sweeps(change, words):
    with pytest.raises(ValueError, match=words):
        sweep.Config(SMALL, **change)


def test_a_name_that_is_nowhere_is_refused_before_anything_runs(here, capsys):
    with pytest.raises(SystemExit) as end:
        sweep.main(sweep.Config(SMALL, vary=("forgetbias=1,2",)))
    assert end.value.code == 1
    assert re.search(r"forgetbias: expected one of .*forget_bias.*learning_rate", capsys.readouterr().out)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("search", ["grid", "random", "tpe"])
def test_a_number_out_of_range_is_refused_before_anything_runs(search, here, capsys):
    text = "zoneout=0.5,2" if search == "grid" else "zoneout=0.5:20"
    with pytest.raises(SystemExit) as end:
        sweep.main(sweep.Config(SMALL, vary=(text,), search=search))
    assert end.value.code == 1
    assert "Zoneout.rate: expected at most 1, got" in capsys.readouterr().out
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "config",
    [
        adding.Config(),
        adding.Config(
            cells=("MinGRU",),
            length=33,
            chrono=0.1 + 0.2,
            fields={"recurrent_init.scale": 2.0, "input_init.scale": 1e-7},
            optimizer=Optimizer(kind="sgd", clip_norm=None, learning_rate=1 / 3, noise=1e-9),
            training=Training(updates=100, lengths=(5, 9), truncate_every=4),
        ),
        copy.Config(chrono=None, zoneout=0.1),
    ],
)
def test_a_command_says_exactly_what_the_config_says(config):
    name = type(config).__module__.removeprefix("experiments.")
    words = shlex.split(command_line.command_line(name, config))
    assert words[:3] == ["python", "-m", f"experiments.{name}"]
    assert tyro.cli(type(config), args=words[3:]) == config


def test_every_experiment_may_be_swept():
    known = sweep.experiments()
    assert {"adding": adding.Config, "copy": copy.Config}.items() <= known.items()
    assert all(issubclass(config, options.Config) for config in known.values())


ROOT = pathlib.Path(__file__).parent.parent
COMMANDS = re.findall(r"```sh\n(.*?)\n```", (ROOT / "docs/guides/sweep.md").read_text(), re.DOTALL)
MADE = re.findall(
    r"^\t\$\(BIN\)/(.*experiments\.sweep.*) \$\(ARGS\)$", (ROOT / "Makefile").read_text(), re.MULTILINE
)


def test_make_sweep_sweeps_what_its_cells_have():
    (made,) = MADE
    config = tyro.cli(sweep.Config, args=shlex.split(made)[3:], config=(tyro.conf.OmitSubcommandPrefixes,))
    for cell in config.base().cells:
        for point in search.points(config):
            config.base().numbers(cell).replaced(point).check()


@pytest.mark.scripts
@pytest.mark.parametrize("command", [*COMMANDS, *MADE])
def test_the_commands_that_are_shown(command, tmp_path):
    options = (
        "--features 4 --length 6 --training.updates 4 --training.report-every 2 --training.checkpoint-every 2"
        " --training.batch-size 4 --training.test-sequences 32 --training.seeds 1"
    )
    words = [*shlex.split(command), *options.split()]
    assert words[0] == "python"
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "best.sh" in {path.name for path in (tmp_path / "runs/sweep-adding").iterdir()}
