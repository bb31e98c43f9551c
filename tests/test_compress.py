"""Smaller forms: how near they are, what they weigh, and that the table says what they do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnncells
from experiments import adding, compress, predict
from experiments.harness import given
from experiments.harness.data import Parts
from experiments.harness.fitting import Own
from experiments.harness.model import Model
from experiments.harness.options import Training
from experiments.harness.supervised import Regression
from experiments.parts import compression
from rnncells import GRU, LSTM, Bidirectional, Int8, MinGRU, Stack, VariationalDropout
from rnncells.parts.stand_ins import Scaled, on_array
from tests.untrained import left

pytestmark = pytest.mark.usefixtures("standard_promotion")

H, INPUT = 6, 3
CELLS = [
    LSTM(H),
    Stack([LSTM(H), VariationalDropout(GRU(H), rate=0.2)]),
    GRU(H, reset_after=False),
    MinGRU(H),
    Bidirectional(GRU(H)),
]


def kernels(params):
    flat = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): leaf for path, leaf in flat if "kernel" in path[-1].key}


def rounded(node):
    return isinstance(node, dict) and "int8" in node


def factored(node):
    return isinstance(node, dict) and "left" in node


@pytest.mark.parametrize(
    "cell", [CELLS[0], *(pytest.param(cell, marks=pytest.mark.laws) for cell in CELLS[1:])], ids=str
)
def test_integers_are_multiplied_as_the_numbers_that_they_stand_for(cell, rng):
    params = cell.init(jax.random.key(0), INPUT)
    small = Int8(cell).quantise(params)
    pairs = [leaf for leaf in jax.tree.leaves(small, is_leaf=rounded) if rounded(leaf)]
    assert pairs
    assert all(pair["int8"].dtype == jnp.int8 and np.abs(pair["int8"]).max(0).min() == 127 for pair in pairs)

    def whole(node):
        return node["int8"] * node["scale"] if rounded(node) else node

    near = jax.tree.map(whole, small, is_leaf=rounded)
    for name, kernel in kernels(params).items():
        step = np.abs(kernel).max(0) / 127
        assert np.all(np.abs(kernels(near)[name] - kernel) <= step / 2 + 1e-7)
    xs = rng.normal(size=(5, 2, INPUT)).astype(np.float32)
    _, wanted = rnncells.unroll(cell, near, xs, lengths=np.array([5, 3]))
    _, ys = rnncells.unroll(Int8(cell), small, xs, lengths=np.array([5, 3]))
    np.testing.assert_allclose(ys, wanted, atol=1e-5)
    like = jax.eval_shape(lambda: Int8(cell).init(jax.random.key(0), INPUT))
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), each) for each in (like, small)]
    assert shapes[0] == shapes[1]


def test_what_stands_in_for_a_kernel_has_its_columns(rng):
    kernel = Scaled(jnp.asarray(rng.integers(-127, 128, (4, 6)), jnp.int8), jnp.arange(1.0, 7.0))
    whole = np.asarray(kernel.kernel) * np.arange(1.0, 7.0)
    x = jnp.asarray(rng.normal(size=(2, 4)), jnp.float32)
    np.testing.assert_allclose(x @ kernel, x @ whole, rtol=1e-4)
    np.testing.assert_allclose(x @ kernel[:, 2:4], x @ whole[:, 2:4], rtol=1e-4)
    assert kernel[:, 2:4].shape == (4, 2)
    np.testing.assert_allclose(on_array(kernel, lambda array: 2 * array), 2 * whole, rtol=1e-6)
    with pytest.raises(ValueError, match=r"Int8: expected a cell with a `kernel` \[K, N\] among its params"):
        Int8(rnncells.ExpRNN(4)).quantise({"bias": jnp.zeros(4)})


def test_factors_are_the_nearest(rng):
    """What is lost is what the other singular values say; a Stack in both directions has factors in each."""
    cell = Stack([Bidirectional(LSTM(H)), GRU(H)])
    module = Model(cell, 2)
    xs = rng.normal(size=(5, 2, INPUT)).astype(np.float32)
    params = module.init(jax.random.key(0), xs)
    small = compression.low_rank(module, params, 3)
    before, factors = kernels(params), kernels(small)
    assert sum("left" in str(path) for path, _ in jax.tree_util.tree_leaves_with_path(small)) == 3
    assert len(factors) == len(before) - 3
    whole = jax.tree.map(
        lambda node: node["left"] @ node["right"] if factored(node) else node, small, is_leaf=factored
    )
    for name, kernel in before.items():
        values = np.linalg.svd(kernel)[1]
        lost = np.linalg.norm(kernel - kernels(whole)[name])
        rest = np.sqrt(np.sum(values[3:] ** 2)) if "recurrent" in name else 0
        assert lost == pytest.approx(rest, abs=1e-4), name
    _, wanted = module.apply(whole, xs)
    _, outputs = compression.module_of(module, "low-rank-3").apply(small, xs)
    np.testing.assert_allclose(outputs, wanted, atol=1e-5)
    with pytest.raises(
        ValueError, match=r"rank: expected less than a recurrent kernel has, \[6, 24\], got 6"
    ):
        compression.low_rank(module, params, 6)
    linear = Model(MinGRU(H), 2)
    with pytest.raises(ValueError, match="rank: expected a cell with a recurrent kernel, got MinGRU"):
        compression.low_rank(linear, linear.init(jax.random.key(0), xs), 3)


def test_zeros_and_bytes(rng):
    kernel, bias = rng.normal(size=(8, 10)).astype(np.float32), np.zeros(10, np.float32)
    params = {"Dense_0": {"kernel": kernel, "bias": bias}, "Embed_0": {"embedding": kernel}}
    found = compression.pruned(params, 0.75)
    left = np.asarray(found["Dense_0"]["kernel"])
    assert np.count_nonzero(left) == 20
    assert np.abs(kernel[left == 0]).max() < np.abs(left[left != 0]).min()
    np.testing.assert_array_equal(left[left != 0], kernel[left != 0])
    np.testing.assert_array_equal(found["Embed_0"]["embedding"], kernel)
    # 80 bits and 20 numbers; a bias of zeros in bits; an embedding whole.
    assert compression.size(found) == (10 + 80) + 2 + 320
    assert compression.size({"int8": np.ones((8, 10), np.int8), "scale": np.ones(10, np.float32)}) == 120


@pytest.mark.scripts
def test_the_script(tmp_path, monkeypatch, capsys):
    """Its table is what the forms, read from their files, are and do."""
    monkeypatch.setattr(compress, "ROUNDS", 2)
    monkeypatch.setenv("COLUMNS", "200")
    training = Training(batch_size=8, test_sequences=64)
    trained = tmp_path / "run"
    model = left(adding.Config(cells=("Elman",), features=8, length=6, training=training, out=trained))
    compress.main(compress.Config(trained, ranks=(2, 9), sparsities=(0.5,), updates=4))
    said = capsys.readouterr().out
    assert "low-rank-9: rank: expected less than a recurrent kernel has, [8, 8], got 9." in said
    lines = (trained / "compressed/table.md").read_text().splitlines()
    names, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    told = {row[0]: dict(zip(names, row, strict=True)) for row in rows}
    assert list(told) == ["original", "trained-on", "low-rank-2", "int8", "pruned-50"]
    batch = jax.jit(model.task.sample, static_argnums=1)(jax.random.key(2**31), 64)
    inputs, targets = np.asarray(batch.inputs).swapaxes(0, 1), np.asarray(batch.targets)[-1]

    def score(form):
        return f"{np.mean((predict(form, inputs)[:, -1] - targets) ** 2):.4g}"

    assert told["original"]["test mse"] == score(model)
    for name, row in told.items():
        form = compression.opened(model, trained / "compressed", name)
        assert row["trained on" if row["trained on"] else "test mse"] == score(form), name
        assert int(row["bytes"].replace(",", "")) == compression.size(form.params)
        assert float(row["us per tick"]) > 0
    assert told["original"]["time ratio"] == "1.00"
    tuned = kernels(compression.opened(model, trained / "compressed", "pruned-50").params)
    assert all(np.mean(kernel == 0) == pytest.approx(0.5, abs=0.1) for kernel in tuned.values())
    assert told["trained-on"]["test mse"] == told["original"]["test mse"] != told["trained-on"]["trained on"]
    small = dataclasses.replace(
        model,
        module=compression.module_of(model.module, "low-rank-2"),
        params=compression.low_rank(model.module, model.params, 2),
    )
    assert told["low-rank-2"]["test mse"] == score(small)
    with pytest.raises(ValueError, match="expected weights named int4-0, found int8-0, low-rank-2-0"):
        compression.opened(model, trained / "compressed", "int4")


def test_a_run_without_its_data_is_refused(tmp_path):
    task = Regression.of(Parts(given.arrays(np.ones((9, 4, 2)), np.ones((9, 1)))))
    left(Own(cells=("Elman",), features=3, pooling="last", given=task, out=tmp_path / "own"))
    with pytest.raises(SystemExit, match="task: expected data, got none"):
        compress.main(compress.Config(tmp_path / "own"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ranks": (4, 0)}, r"ranks: expected at least 1, got \(4, 0\)"),
        ({"updates": 0}, "updates: expected at least 1, got 0"),
        ({"sparsities": (1.0,)}, "sparsities: expected fractions between 0 and 1, got 1.0"),
    ],
)
def test_what_cannot_be_compressed(options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        compress.Config(tmp_path, **options)
