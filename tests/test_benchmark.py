"""The benchmark on a small scale: it compares before it times, and writes what it says."""

import json

import jax
import numpy as np
import pytest
import tyro

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import layers, loops, peers, report, summary, timing
from experiments.benchmark.options import PEER_SECTIONS, TOLERANCE, Config


@pytest.fixture(autouse=True)
def standard_promotion():
    """JAX as peers expect it."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the benchmark; what it wrote, by file, and what it showed."""

    def run(**options):
        small = dict.fromkeys(("shapes", "sweep_shapes", "train_shapes"), ("4,6,2,8",))
        options = {**small, "sweep_seeds": 1, "updates": 3, "rounds": 2, "out": tmp_path / "out", **options}
        benchmark.main(Config(**options))
        files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        return files, capsys.readouterr().out

    return run


def lines_of(files):
    return [json.loads(line) for line in files["results.jsonl"].splitlines()]


@pytest.mark.laws
def test_a_run_leaves_its_folder(run):
    files, shown = run(peers=("linen", "nnx"), sections=("layers", "linear"), linear_ticks=(5, 9))
    assert set(files) == {"results.jsonl", "table.md", "summary.md", "benchmark.png"}
    rows = lines_of(files)
    checked = report.find(rows, **{"pass": "outputs"})
    assert {(row["cell"], row["name"]) for row in checked} == {
        (cell, peer) for cell in ("LSTM", "GRU") for peer in ("linen", "nnx")
    }
    assert all(row["agrees"] and row["max_difference"] < 1e-6 for row in checked)
    timed = [row for row in rows if row not in checked]
    assert len(timed) == 2 * (4 + 4 + 2) + 2 * 5
    for row in timed:
        assert 0 < row["p10_ms"] <= row["median_ms"] <= row["p90_ms"]
        assert np.isfinite(row["ratio"])
        assert row["compile_seconds"] > 0
        assert row["temp_bytes"] >= 0
        assert {"rnncells", "jax", "flax"} <= set(row["versions"])
        assert row["cores"] >= 1
    assert {row["ratio"] for row in timed if row["name"] == row["base"]} == {1}
    table = files["table.md"].decode()
    assert table.count("| 4,6,2,8 |") == 4 + 4 + 2
    assert "## linear" in table
    assert "| one layer (LSTM and GRU), forward and gradient | flax.linen |" in files["summary.md"].decode()
    assert files["summary.md"].decode().split()[0] in shown
    assert files["benchmark.png"].startswith(b"\x89PNG")


def test_a_wrong_peer_is_not_timed(run, monkeypatch):
    build = peers.RECURRENT["linen"]

    def wrong(*given):
        layer = build(*given)
        return layer._replace(outputs=lambda params, xs: layer.outputs(params, xs) + 1e-3)

    monkeypatch.setitem(peers.RECURRENT, "linen", wrong)
    files, shown = run(peers=("linen",), sections=("layers",), cells=("LSTM",))
    rows = lines_of(files)
    (row,) = report.find(rows, name="linen")
    assert not row["agrees"]
    assert row["max_difference"] == pytest.approx(1e-3, rel=1e-2)
    assert {row["name"] for row in rows} == {"ours", "linen", "floor"}
    assert "linen (wrong)" in files["table.md"].decode()
    assert "linen is wrong by 0.001: LSTM, 4,6,2,8" in " ".join(shown.split())
    assert "linen" not in files["summary.md"].decode()


@pytest.mark.laws
def test_training_loops_are_compared_then_timed(run):
    files, shown = run(sections=("train", "sweep"))
    assert set(files) == {"results.jsonl", "table.md", "summary.md", "training.png"}
    rows = lines_of(files)
    assert [row["section"] for row in rows] == sorted(row["section"] for row in rows)
    names = {
        ("sweep", 4): ["flax script", "flax in our loop"],
        ("train", 1): ["flax script", "flax in our loop", "ours on one device"],
    }
    for (section, runs), others in names.items():
        checked = report.find(rows, section=section, **{"pass": "outputs"})
        assert [row["name"] for row in checked] == others
        for row in checked:
            assert row["agrees"]
            assert row["max_difference"] < 1e-6
            assert row["parameters"] == 4 * 8 * (2 + 8 + 1) + 8 + 1
        timed = report.find(rows, section=section, **{"pass": "training"})
        assert [row["name"] for row in timed] == ["ours", *others]
        for row in timed:
            assert row["runs"] == runs
            assert row["updates"] == 3 * runs
            assert row["base"] == "ours"
            assert 0 < row["p10_ms"] <= row["median_ms"] <= row["p90_ms"]
            assert row["updates_per_second"] == pytest.approx(1e3 / row["median_ms"])
            assert {"jax", "flax", "optax"} <= set(row["versions"])
            assert row["cores"] >= 1
        assert timed[0]["ratio"] == 1
        assert "4,6,2,8" in shown
    table = files["table.md"].decode()
    assert table.index("## sweep") < table.index("## train")
    assert table.count("| 4,6,2,8 | LSTM | flax script |") == 2
    assert f"Measured with jax {jax.__version__}" in table
    assert files["training.png"].startswith(b"\x89PNG")


def test_training_in_the_summary():
    where = {"cell": "LSTM", "pass": "training", "cores": 2}
    sweep = {**where, "section": "sweep", "shape": "16,200,2,32", "runs": 16}
    train = {**where, "section": "train", "shape": "64,200,2,128", "runs": 1}
    rows = [
        {**sweep, "name": "ours", "ratio": 1.0, "updates_per_second": 716.44},
        {**sweep, "name": "flax script", "ratio": 4.288, "updates_per_second": 165.4},
        {**sweep, "name": "flax in our loop", "ratio": 1.2849, "updates_per_second": 543.5},
        {**train, "name": "ours", "ratio": 1.0, "updates_per_second": 23.58},
        {**train, "name": "flax in our loop", "ratio": 1.14, "updates_per_second": 20.6},
        {**train, "name": "ours on one device", "ratio": 1.59, "updates_per_second": 14.8},
    ]
    found = [line.split(" | ") for line in summary.summarise(rows).splitlines() if line.startswith("| ")][2:]
    many = "| a sweep of 16 LSTMs on the adding problem, 16,200,2,32 (716.4 updates/s)"
    one = "| training one LSTM on the adding problem, 64,200,2,128 (23.58 updates/s)"
    assert [line[:3] for line in found] == [
        [many, "a plain Flax script of vmapped nn.RNN(OptimizedLSTMCell)", "4.29"],
        [many, "Flax's RNN under our loop and placement", "1.28"],
        [one, "Flax's RNN under our loop and placement", "1.14"],
        [one, "ours on one device", "1.59"],
    ]


def test_a_run_keeps_what_other_sections_left(run, monkeypatch):
    def sweep(config, progress):
        """A section that takes no time."""
        what = {"section": "sweep", "cell": "LSTM", "shape": "16,200,2,32", "runs": 4, "pass": "training"}
        times = {"p10_ms": 1.0, "median_ms": 1.0, "p90_ms": 1.0, "updates_per_second": 1e3}
        for name, ratio in (("ours", 1.0), ("flax script", 3.0 * config.updates)):
            yield {**what, "name": name, "base": "ours", "ratio": ratio, **times}

    monkeypatch.setitem(benchmark.SECTIONS, "sweep", sweep)
    first, _ = run(sections=("sweep", "layers"), cells=("LSTM",), peers=("linen",), updates=1)
    assert set(first) == {"results.jsonl", "table.md", "summary.md", "benchmark.png", "training.png"}
    before = lines_of(first)
    assert [row["section"] for row in before] == ["layers"] * (len(before) - 2) + ["sweep"] * 2
    second, shown = run(sections=("sweep",), updates=2)
    after = lines_of(second)
    assert after[:-2] == before[:-2]
    assert [row["ratio"] for row in before[-2:]] == [1, 3]
    assert [row["ratio"] for row in after[-2:]] == [1, 6]
    for name in ("table.md", "summary.md"):
        own, now = first[name].decode(), second[name].decode()
        assert now == own.replace("3.00x", "6.00x").replace("| 3.00 |", "| 6.00 |") != own
    assert "| flax.linen |" in second["summary.md"].decode()
    assert second["benchmark.png"] == first["benchmark.png"]
    assert second["training.png"] != first["training.png"]
    assert "A section that takes no time." in shown
    assert "One layer on one device." not in shown

    def broken(config, progress):
        yield {"section": "layers", "cell": "LSTM", "shape": before[0]["shape"]}
        raise RuntimeError("broken")

    monkeypatch.setitem(benchmark.SECTIONS, "layers", broken)
    with pytest.raises(RuntimeError, match="broken"):
        run(sections=("layers",))
    assert lines_of(run(sections=("sweep",), updates=2)[0]) == after


@pytest.mark.laws
def test_a_wrong_loop_is_not_timed(run, monkeypatch):
    learn = loops.Script.learn

    def wrong(self, learned, rate, inputs, targets):
        return learn(self, learned, 2 * rate, inputs, targets)

    monkeypatch.setattr(loops.Script, "learn", wrong)
    files, shown = run(sections=("sweep",))
    rows = lines_of(files)
    (row,) = report.find(rows, name="flax script")
    assert not row["agrees"]
    assert row["max_difference"] > TOLERANCE
    assert {row["name"] for row in rows} == {"ours", "flax script", "flax in our loop"}
    assert "flax script (wrong)" in files["table.md"].decode()
    assert "flax script is wrong by" in " ".join(shown.split())
    assert "plain Flax script" not in files["summary.md"].decode()


@pytest.mark.parametrize(("script", "runs"), [(loops.VmappedScript, 2), (loops.HostScript, 1)])
def test_every_script_learns_and_goes_on(script, runs):
    """On the batches of its own; `compare` gives it ours."""
    loop = script(loops.Problem(32, 6, 16, (1e-2,) * runs, updates=100))
    first, second, third = (loop() for _ in range(3))
    assert first.shape == second.shape == (runs, 100)
    assert (second.mean(1) < first.mean(1)).all()
    assert (third[:, -20:].mean(1) < 1 / 6 / 5).all()


def test_adding_in_numpy():
    stream = loops.adding_batches(9, 200)
    inputs, targets = next(stream)
    assert (inputs.shape, targets.shape) == ((200, 9, 2), (200, 1))
    assert (inputs.dtype, targets.dtype) == (np.float32, np.float32)
    values, markers = inputs[..., 0], inputs[..., 1]
    assert set(np.unique(markers)) == {0, 1}
    assert (markers[:, :4].sum(1) == 1).all()
    assert (markers[:, 4:].sum(1) == 1).all()
    assert (markers.sum(0) > 0).all()
    assert (values >= 0).all()
    assert (values < 1).all()
    np.testing.assert_allclose(targets[:, 0], [v[m == 1].sum() for v, m in zip(values, markers, strict=True)])
    assert not np.array_equal(inputs, next(stream)[0])


def test_sections_are_positional():
    assert tyro.cli(Config, args=[]).sections == PEER_SECTIONS
    config = tyro.cli(Config, args=["sweep", "train", "--rounds", "3"])
    assert (config.sections, config.rounds) == (("sweep", "train"), 3)


def test_data_parallel_is_the_whole_batch():
    layer = peers.ours(*layers.problem("GRU", timing.Shape(4, 6, 2, 8)))
    whole = layer.loss_and_gradient(layer.params, layer.xs)
    xs = layers.shard_batch(layer.xs, 1)
    parts = layers.data_parallel(layer.loss_and_gradient, layer.params, xs)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        whole,
        jax.jit(parts.run)(*parts.arguments),
    )


def test_a_peer_that_is_not_installed():
    with pytest.raises(ModuleNotFoundError, match=r"pip install \.\[parity\]"):
        peers.library("a_library_that_nobody_has")


@pytest.mark.parametrize("shape", ["4,6,2", "4,6,2,0", "4,6,2,x"])
def test_bad_shape(shape):
    with pytest.raises(ValueError, match="expected four positive numbers"):
        Config(shapes=(shape,))


@pytest.mark.parametrize("name", ["sweep_shapes", "train_shapes"])
def test_training_has_the_inputs_of_its_task(name):
    with pytest.raises(ValueError, match="expected 2 inputs, as the adding problem has, got '4,6,3,8'"):
        Config(**{name: ("4,6,3,8",)})


@pytest.mark.parametrize("name", ["rounds", "sweep_seeds", "updates"])
def test_counts_are_positive(name):
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        Config(**{name: 0})


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "table"), [("LSTM", "RECURRENT"), ("GRU", "RECURRENT"), ("MinGRU", "LINEAR")]
)
def test_every_peer_computes_what_ours_does(name, table):
    cell, *given = layers.problem(name, timing.Shape(4, 6, 3, 5))
    for peer, build in getattr(peers, table).items():
        layer = build(cell, *given)
        ys = peers.ours(layer.cell, *given).numpy()
        np.testing.assert_allclose(layer.numpy(), ys, atol=1e-6, err_msg=peer)
        loss = float(layer.loss_and_gradient(layer.params, layer.xs)[0])
        assert loss == pytest.approx(np.square(ys).mean(), rel=1e-5)
