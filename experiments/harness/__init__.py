"""What experiments share: a run as pure functions, many runs as one program, and the host that drives them.

    hyperparameters.py   the numbers of a run, by name: traced, stacked and swept
    options.py           Config: the command line of an experiment, its parts, and the cell that it builds
    processes.py         cores and other processes: how they meet, and what is said when one is lost
    train.py             one run as pure functions of a key and its numbers
    population.py        many runs as one compiled program, over devices and processes
    checkpoint.py        the states of a training, whole and verified
    record.py            metrics.jsonl and TensorBoard's events, while training
    folder.py            the folder of an experiment: a new one, or the one to go on in
    session.py           training on the host: advance, record, save, stop and go on
    tables.py            finished runs as tables
    plots.py             and as pictures
    run.py               an experiment from beginning to end, and what ends it early
    search.py            a sweep: what varies, which points are tried
    ranking.py           and which is best

Each imports only from those above it, and none from a script.
"""
