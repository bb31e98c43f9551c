"""The benchmark on a small scale: it compares before it times, and writes what it says."""

import json

import jax
import numpy as np
import pytest

from experiments import benchmark, peers, report


@pytest.fixture(autouse=True)
def standard_promotion():
    """JAX as peers expect it."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the benchmark; what it wrote, by file, and what it showed."""
    monkeypatch.setattr(benchmark, "use_every_core", lambda: None)

    def run(**options):
        options = {"shapes": ("4,6,2,8",), "rounds": 2, "out": tmp_path / "out", **options}
        benchmark.main(benchmark.Config(**options))
        files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        return files, capsys.readouterr().out

    return run


def lines_of(files):
    return [json.loads(line) for line in files["results.jsonl"].splitlines()]


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
    assert "flax.linen takes" in files["summary.md"].decode()
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


def test_data_parallel_is_the_whole_batch():
    layer = peers.ours(*benchmark.problem("GRU", benchmark.Shape(4, 6, 2, 8)))
    whole = layer.loss_and_gradient(layer.params, layer.xs)
    xs = benchmark.shard_batch(layer.xs, 1)
    parts = benchmark.data_parallel(layer.loss_and_gradient, layer.params, xs)
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
        benchmark.Config(shapes=(shape,))


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "table"), [("LSTM", "RECURRENT"), ("GRU", "RECURRENT"), ("MinGRU", "LINEAR")]
)
def test_every_peer_computes_what_ours_does(name, table):
    cell, *given = benchmark.problem(name, benchmark.Shape(4, 6, 3, 5))
    for peer, build in getattr(peers, table).items():
        layer = build(cell, *given)
        ys = peers.ours(layer.cell, *given).numpy()
        np.testing.assert_allclose(layer.numpy(), ys, atol=1e-6, err_msg=peer)
        loss = float(layer.loss_and_gradient(layer.params, layer.xs)[0])
        assert loss == pytest.approx(np.square(ys).mean(), rel=1e-5)
