"""The benchmark of every cell, and of the scans of linear ones, on a small scale."""

import json

import pytest

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import cells, report
from experiments.benchmark.options import Config
from rnncells import CELLS

pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the benchmark; the rows, its files, and what it showed."""

    def run(**options):
        benchmark.main(Config(rounds=2, out=tmp_path, **options))
        rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
        return rows, {path.name: path.read_bytes() for path in tmp_path.iterdir()}, capsys.readouterr().out

    return run


def test_what_was_measured_is_kept(run, monkeypatch):
    """A cell at a shape is saved once all of it is there, and takes the place of what was there of it."""
    made = {"pass": "forward+gradient", "base": "plain scan", "agrees": True}

    def rows(cells, ratio, last=None):
        for cell in cells:
            for name in ("plain scan", "unroll"):
                what = {"section": "cells", "cell": cell, "shape": "2,5,2,4", "name": name, **made}
                yield {**what, "ratio": ratio, "median_ms": ratio, "temp_bytes": 100}
                if cell == last:
                    raise KeyboardInterrupt

    def measured(*given):
        monkeypatch.setitem(benchmark.SECTIONS, "cells", lambda config, progress: rows(*given))
        return [(row["cell"], row["ratio"]) for row in run(sections=("cells",))[0]]

    assert measured(("LSTM", "GRU"), 2.0) == [("LSTM", 2.0)] * 2 + [("GRU", 2.0)] * 2
    with pytest.raises(KeyboardInterrupt):
        measured(("Elman", "GRU", "LSTM"), 3.0, "LSTM")
    assert measured((), 0.0) == [("LSTM", 2.0)] * 2 + [("GRU", 3.0)] * 2 + [("Elman", 3.0)] * 2


@pytest.mark.laws
def test_cells_and_scans(run):
    rows, files, shown = run(
        sections=("cells", "scans"),
        catalogue=("Elman", "FastSlowRNN"),
        cell_shapes=("2,5,2,4",),
        scan_cells=("RWKV4", "DeltaNet"),
        scan_ticks=(100,),
        memory=0.01,
    )
    assert set(files) == {"results.jsonl", "table.md", "summary.md"}
    names = {"cells": ["plain scan", "unroll"], "scans": ["in chunks", "associative", "plain scan"]}
    for section, cell in (("cells", "Elman"), ("cells", "FastSlowRNN"), ("scans", "RWKV4")):
        own = report.find(rows, section=section, cell=cell)
        assert [row["name"] for row in own] == names[section]
        assert all(row["agrees"] and row["max_difference"] < 1e-4 for row in own)
        assert all(row["median_ms"] > 0 and row["temp_bytes"] > 0 for row in own)
        assert own[0]["ratio"] == 1
    (large,) = report.find(rows, fits=False)
    assert (large["cell"], large["name"]) == ("DeltaNet", "associative")
    assert large["temp_bytes"] > 1e7
    assert not {"median_ms", "ratio", "loss"} & set(large)
    table, summary = (files[name].decode() for name in ("table.md", "summary.md"))
    assert "## cells" in table
    assert "| DeltaNet | 100 |" in table
    assert f"does not fit: {large['temp_bytes'] / 1e9:.3g} GB" in table
    assert "| 2 cells, temporary memory | plain jax.lax.scan of their ticks |" in summary
    assert "Every cell of the catalogue" in shown


def test_a_form_that_computes_something_else_is_named(run, monkeypatch):
    right = cells.unrolled
    monkeypatch.setattr(cells, "unrolled", lambda cell: lambda params, xs: 1.01 * right(cell)(params, xs))
    rows, files, shown = run(sections=("cells",), catalogue=("Elman",), cell_shapes=("2,5,2,4",))
    assert [row["agrees"] for row in rows] == [True, False]
    assert "(wrong)" in files["table.md"].decode()
    assert "unroll is wrong by 0.02: Elman, 2,5,2,4" in " ".join(shown.split())


def row(cell, name, ms, ratio, memory, shape="2,5,2,4"):
    what = {"section": "cells", "cell": cell, "shape": shape, "pass": "forward+gradient", "agrees": True}
    return {**what, "name": name, "base": "plain scan", "median_ms": ms, "ratio": ratio, "temp_bytes": memory}


def test_what_costs_more_is_first_and_marked():
    rows = []
    for cell, ratio, memory in (("GRU", 0.8, 2e6), ("LSTM", 1.05, 2.2e6), ("Elman", 1.2, 1e6)):
        rows += [row(cell, "plain scan", 2.0, 1.0, 2e6), row(cell, "unroll", 2 * ratio, ratio, memory)]
    assert report.tabulate(rows) == [
        {"cell": "Elman", "2,5,2,4: ms, MB (ratios)": "2.4 (1.20, **above**), 1 (0.50)"},
        {"cell": "LSTM", "2,5,2,4: ms, MB (ratios)": "2.1 (1.05), 2.2 (1.10, **above**)"},
        {"cell": "GRU", "2,5,2,4: ms, MB (ratios)": "1.6 (0.80), 2 (1.00)"},
    ]


def test_what_others_are_compared_with_must_fit(run):
    with pytest.raises(ValueError, match=r"memory: expected .* gigabytes for plain scan, cells Elman"):
        run(sections=("cells",), catalogue=("Elman",), cell_shapes=("2,5,2,4",), memory=1e-9)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"memory": 0.0}, "memory: expected more than 0 gigabytes, got 0.0"),
        ({"cell_shapes": ("2,5,2",)}, "expected four positive numbers"),
    ],
)
def test_what_cannot_be_measured(option, words):
    with pytest.raises(ValueError, match=words):
        Config(**option)


def test_every_cell_is_measured():
    assert Config().catalogue == tuple(CELLS)
    assert all(CELLS[name].linear for name in Config().scan_cells)
