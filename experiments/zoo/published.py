"""The settings of a cell that are its authors', or that its kind needs; the others are trained as all are."""

from __future__ import annotations

import dataclasses
from typing import Any

import rnncells


@dataclasses.dataclass(frozen=True)
class Published:
    """What differs for one entry of the zoo from the common settings."""

    optimizer: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of the optimiser."""
    fields: dict[str, int | float | bool | str] = dataclasses.field(default_factory=dict)
    """Fields of the cell."""
    chrono: bool = False
    """Forget biases start as Chrono(the length of the task)."""
    window: str = ""
    """The field of the cell that is the length of the task."""
    layers: int = 1
    blocks: bool = False
    """In the blocks of state-space models."""
    longer: int = 1
    """Times the common number of updates."""
    wider: float = 1
    """Times the common width."""
    cell: str | None = None
    """Of an entry that is a cell of the catalogue under other settings."""


PUBLISHED = {
    # Tallec & Ollivier 2018, arXiv 1804.11188: t_max = T for adding.
    "LSTM-chrono": Published(chrono=True, cell="LSTM"),
    "GRU-chrono": Published(chrono=True, cell="GRU"),
    # Authors' code (tk-rusch/LEM): Adam 2.6e-3, no clipping, dt .0242 at T = 2000 to 10000.
    "LEM": Published({"learning_rate": 2.6e-3, "clip_norm": None}, {"dt": 0.0242}),
    # Authors' code (tk-rusch/coRNN): Adam 2e-2, no clipping, 128 features, for adding. Such oscillators
    # forget within a few ticks until their kernels have grown, which takes its time.
    "CoRNN": Published(
        {"learning_rate": 2e-2, "clip_norm": None},
        {"dt": 0.06, "gamma": 66.0, "epsilon": 15.0},
        longer=2,
        wider=2,
    ),
    # Rusch & Mishra 2021, arXiv 2103.05487, publish no adding problem: dt and alpha of permuted MNIST. Three
    # bare layers stay at the baseline here, with other dt, alpha and rates as well.
    "UnICORNN": Published(
        {"learning_rate": 5e-3}, {"dt": 0.19, "alpha": 30.65}, layers=2, blocks=True, longer=2
    ),
    # Chang et al. 2019, arXiv 1902.09689: dt .01 to 1, tuned for each of their tasks, none of which is this.
    # With dt .01 a hundred ticks are a time of 1, in which little happens.
    "AntisymmetricRNN": Published({"learning_rate": 1e-3}, {"dt": 0.1, "gamma": 0.01}, longer=3),
    # Authors' README (dannyneil/public_plstm): periods exp(U(1, 5)), open for a twentieth, as by default. The
    # rate is tuned for this budget.
    "PhasedLSTM": Published({"learning_rate": 1e-2}),
    # Authors' code (stwisdom/urnn): RMSprop 1e-3.
    "FullUnitaryRNN": Published({"learning_rate": 1e-3}, longer=3),
    # Authors' code (jingli9111/EUNN-tensorflow): RMSprop 1e-3.
    "EUNN": Published({"learning_rate": 1e-3}, longer=3),
    # Voelker et al. 2019: a window as long as the sequences.
    "LMU": Published({"learning_rate": 1e-3}, window="theta", longer=3),
    # Authors' code (DurstewitzLab/GTF-shPLRNN): 1e-3. At larger rates the orbits of the form that is not
    # clipped may leave.
    "ShallowPLRNN": Published({"learning_rate": 1e-3}),
    # Hasani et al. 2021, arXiv 2006.04439: 32 units. A tick costs H^2 activations for each of 6 steps.
    "LTC": Published(wider=0.5),
    # Lezcano-Casado & Martinez-Rubio 2019, arXiv 1901.08428: RMSprop 2e-4 and less, no adding problem; the
    # rate is tuned for this budget.
    "ExpRNN": Published({"learning_rate": 1e-2}),
    # Helfrich et al. 2018, arXiv 1707.09520: Adam 1e-3, a tenth of it for the kernel, 20000 updates.
    "ScoRNN": Published({"learning_rate": 2e-3}, longer=3),
    # Li et al. 2018, arXiv 1803.04831: two layers, Adam 2e-4 for 60000 updates.
    "IndRNN": Published({"learning_rate": 2e-3}, layers=2),
    # Authors' code (ur-lstm): Adam 1e-3; the gates start uniform by default.
    "URLSTM": Published({"learning_rate": 1e-3}),
    # Orvieto et al. 2023, arXiv 2303.06349: radii near 1 and small phases for long dependencies.
    "LRU": Published({"learning_rate": 3e-3}, {"r_min": 0.9, "r_max": 0.999}, layers=2, blocks=True),
    "S4D": Published(layers=2, blocks=True),
    "S5": Published(layers=2, blocks=True),
}
"""By entry; sources in the comments."""

ENTRIES = tuple(dict.fromkeys([*rnncells.CELLS, *PUBLISHED]))
"""Every cell of the catalogue, and variants of some."""

ELSEWHERE = {
    "ConvLSTM": "its inputs and states are images and volumes",
    "ConvGRU": "its inputs and states are images and volumes",
}
"""Cells that are no entries, and why."""


def cell_of(entry: str) -> str:
    """The cell of the catalogue that an entry is."""
    return PUBLISHED.get(entry, Published()).cell or entry


def family_of(entry: str) -> str:
    """simple, gated, orthogonal, continuous, linear or memory."""
    return rnncells.CELLS[cell_of(entry)].__module__.split(".")[2]
