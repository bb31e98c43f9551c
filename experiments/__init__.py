"""One short script per experiment or application, read from top to bottom.

    adding.py    the adding problem
    copy.py      the copying memory problem
    sweep.py     many settings of any experiment
    readme.py    the generated parts of the README
    harness/     what experiments share: options, training, processes, tables and pictures
    benchmark/   the layers and loops of this library against those of others

`python -m experiments.adding --help` teaches the rest. A new experiment is a file like `adding.py`: a Config,
the task that it makes, and `main`; `sweep.py` finds it there.
"""
