"""The layers and loops of this library against those of others, timed in one interleaved run.

    peers.py      the same recurrent layer in other libraries, with our parameters in it
    report.py     what was found: rows, tables, pictures
    summary.py    what a reader wants to know first, as one table
    timing.py     how contenders take turns
    options.py    the command line
    layers.py     what is timed: one layer
    cells.py      what is timed: every cell, and the scans of linear ones
    loops.py      the training loops that users of Flax write, and ours
    training.py   what is timed: one run, and many
    __main__.py   `python -m experiments.benchmark`

Each imports only from those above it, and from the harness.
"""
