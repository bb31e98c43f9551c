"""One short script per experiment or application, read from top to bottom; and the same training from Python.

    adding.py    the adding problem
    copy.py      the copying memory problem
    language_model.py  what comes next in a text, by character or word
    sample.py    more text from a language model
    seq2seq.py   from one string to another: dates, sums, or pairs of one's own
    forecast.py  series of numbers, such as prices: what comes next?
    classify.py  texts and images read one after the other: which class?
    speech.py    sounds in order, learned without their times (CTC)
    compare.py   which cell to choose, with as many parameters each
    sweep.py     many settings of any experiment
    evaluate.py  how good trained models are, at other lengths too
    plot.py      curves and tables of runs, from their folders
    predict.py   what a trained model says to new inputs
    compress.py  a trained model made smaller: factors, zeros, integers
    export.py    a trained model as a file for JAX alone
    readme.py    the generated parts of the README
    catalogue/   the pages of docs/cells, one for each family of cells
    parts/       what applications are made of: data, opponents, models
    harness/     what experiments share: options, training, processes, tables and pictures
    benchmark/   the layers and loops of this library against those of others
    zoo/         every cell on every task, ranked

`python -m experiments.adding --help` teaches the rest. A new experiment is a file like `adding.py`: a Config,
the task that it makes, and `main`; `sweep.py` finds it there. Data and models of one's own: `fit` trains on
arrays, `evaluate` and `predict` use what it gives, `load` finds it again in the folder of a run.
"""

from experiments.harness.fitting import fit
from experiments.harness.trained import evaluate, load, predict

__all__ = ["evaluate", "fit", "load", "predict"]
