"""One short script per experiment or application, read from top to bottom; and the same training from Python.

    adding.py    the adding problem
    copy.py      the copying memory problem
    sweep.py     many settings of any experiment
    predict.py   what a trained model says to new inputs
    readme.py    the generated parts of the README
    catalogue/   the pages of docs/cells, one for each family of cells
    harness/     what experiments share: options, training, processes, tables and pictures
    benchmark/   the layers and loops of this library against those of others

`python -m experiments.adding --help` teaches the rest. A new experiment is a file like `adding.py`: a Config,
the task that it makes, and `main`; `sweep.py` finds it there. Data and models of one's own: `fit` trains on
arrays, `evaluate` and `predict` use what it gives, `load` finds it again in the folder of a run.
"""

from experiments.harness.fitting import fit
from experiments.harness.trained import evaluate, load, predict

__all__ = ["evaluate", "fit", "load", "predict"]
