"""What a benchmark measures: its command line."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Literal

import tyro

from experiments.benchmark.peers import PEERS
from experiments.benchmark.timing import Shape
from rnncells import CELLS

LINEAR = tuple(name for name, cell in CELLS.items() if cell.linear)

if TYPE_CHECKING:
    PeerName = str
    CellName = str
    LinearName = str
else:
    CellName, LinearName, PeerName = Literal[tuple(CELLS)], Literal[LINEAR], Literal[PEERS]
Section = Literal["layers", "sharded", "length", "linear", "sweep", "train", "cells", "scans"]
PEER_SECTIONS: tuple[Section, ...] = ("layers", "sharded", "length", "linear", "sweep", "train")
"""Those that compare with other libraries."""
ALL: tuple[Section, ...] = (*PEER_SECTIONS, "cells", "scans")
TOLERANCE = 1e-4
"""What computes something else than ours by more than this is not timed."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Times one recurrent layer, forward and with its gradient, against the same layer elsewhere, and
    training against the loops that users of Flax write.

    Every output is compared with ours first. All contenders take turns in every round, and a ratio
    is the median of the ratios within each round, so that a machine that drifts does not favour one.
    What `out` holds of other sections, cells and shapes stays, and a cell at a shape is saved as soon as it
    has been measured.
    """

    sections: tyro.conf.Positional[tuple[Section, ...]] = PEER_SECTIONS
    """layers: against every peer; sharded: one layer over all cores; length: long sequences;
    linear: the scans of MinGRU; sweep: many runs at once; train: one run, end to end. Only when asked for:
    cells: every cell against its ticks in a plain scan; scans: those of linear cells."""
    cells: tuple[Literal["LSTM", "GRU", "MinGRU"], ...] = ("LSTM", "GRU", "MinGRU")
    """Cells of the layers section."""
    shapes: tuple[str, ...] = (
        "64,200,2,128",
        "32,1000,2,64",
        "16,200,2,32",
        "64,200,128,256",
        "128,50,512,512",
    )
    """Batch, ticks, inputs and features of the layers section."""
    peers: tuple[PeerName, ...] = PEERS
    """What to compare with: libraries for LSTM and GRU, plain JAX for MinGRU."""
    sharded_shapes: tuple[str, ...] = ("64,200,2,128", "32,1000,2,64")
    """Batch, ticks, inputs and features of the sharded section."""
    compile_ticks: int = 10_000
    """Ticks of the sequence that the length section compiles."""
    long_ticks: int = 100_000
    """Ticks of its longest sequence; `remat_every` is the root of it, and a hundredth the yardstick."""
    linear_ticks: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    """Ticks of the linear section."""
    sweep_shapes: tuple[str, ...] = ("16,200,2,128", "16,200,2,32")
    """Batch, ticks, inputs (always 2) and features of the sweep section."""
    sweep_seeds: int = 4
    """Its runs with each of 4 learning rates."""
    train_shapes: tuple[str, ...] = ("64,200,2,128",)
    """Batch, ticks, inputs (always 2) and features of the train section."""
    updates: int = 10
    """Updates of every run in one measurement of the sweep and train sections."""
    catalogue: tuple[CellName, ...] = tuple(CELLS)
    """Cells of the cells section."""
    cell_shapes: tuple[str, ...] = ("16,200,2,32", "32,200,64,64")
    """Batch, ticks, inputs and features of the cells section."""
    scan_cells: tuple[LinearName, ...] = (
        "MinGRU",
        "LRU",
        "S4D",
        "S5",
        "S6",
        "LinearAttention",
        "Retention",
        "GLA",
        "Mamba2",
        "DeltaNet",
        "GatedDeltaNet",
        "MLSTM",
    )
    """Cells of the scans section, 64 inputs and features, one sequence."""
    scan_ticks: tuple[int, ...] = (1_000, 10_000, 100_000)
    """Ticks of the scans section."""
    memory: float = 8.0
    """Gigabytes of temporaries above which the cells and scans sections do not run a program."""
    rounds: int = 15
    """Measurements of every contender (a fifth of it, at least 2, in the length and scans sections, a third
    in the linear, sweep and train ones, half in the cells section)."""
    out: pathlib.Path = pathlib.Path("runs/benchmark")
    """Where results.jsonl, table.md, summary.md, benchmark.png and training.png are written."""

    def __post_init__(self) -> None:
        for name in ("rounds", "sweep_seeds", "updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}.")
        if not self.memory > 0:
            raise ValueError(f"memory: expected more than 0 gigabytes, got {self.memory}.")
        for shape in (*self.shapes, *self.sharded_shapes, *self.cell_shapes):
            Shape.parse(shape)
        for shape in (*self.sweep_shapes, *self.train_shapes):
            if Shape.parse(shape).inputs != 2:
                raise ValueError(f"shapes: expected 2 inputs, as the adding problem has, got {shape!r}.")
