"""A map of the catalogue: every cell on every task, trained alike, ranked and drawn.

    published.py   the settings of a cell that are its authors', or that its kind needs
    blocks.py      the layers in which linear state-space models are published
    options.py     the command line
    entries.py     one cell on one task as an experiment
    report.py      what was found: rows and tables
    picture.py     what they look like
    __main__.py    `python -m experiments.zoo`

Each imports only from those above it, and from the harness.
"""
