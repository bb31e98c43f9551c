"""What experiments share: a run as pure functions, many runs as one program, and the host that drives them.

    hyperparameters.py   the numbers of a run, by name: traced, stacked and swept
    model.py             what is trained: the default model, and any Flax module in its place
    data.py              finite data: parts, and how batches are taken from them on the device
    given.py             arrays that users hand over, checked
    encoding.py          numbers and symbols of the world as those of a model, and back
    csv_file.py          columns of a CSV file, its mistakes by line, and what was left out
    supervised.py        tasks on finite data: classes and numbers
    answers.py           what a trained model is asked, and what it says
    placement.py         where runs go
    saved.py             configs and tasks as JSON, and back
    options.py           Config: the command line of an experiment, its parts, and the cells that it builds
    command_line.py      a config from the command line and from a file, and the command of a config
    settings.py          options that decide shapes, by name
    processes.py         cores and other processes: how they meet, and what is said when one is lost
    learner.py           how one run learns from one batch
    evaluation.py        how it is judged
    train.py             one run as pure functions of a key and its numbers
    memory.py            what a program takes, and what a device has
    population.py        many runs as one compiled program, over devices and processes
    provenance.py        with what a run was made
    owner.py             one owner of a folder at a time
    checkpoint.py        the states of a training, whole and verified
    record.py            metrics.jsonl and TensorBoard's events, while training
    standing.py          how runs stand to each other
    weights.py           the best weights of a run, and what they are of, as files
    interrupts.py        the wish to stop, heard at any time
    progress.py          how far runs are: bars, or lines where there is no terminal
    folder.py            the folder of an experiment: a new one, or the one to go on in
    course.py            runs on their way, on the host: advance, validate, record, save
    session.py           one experiment while it runs: its record, its screen, and the wish to stop
    tables.py            finished runs as tables
    plots.py             and as pictures
    run.py               an experiment from beginning to end, and what ends it early
    trained.py           what a run has left, to be used
    fitting.py           a model fitted to arrays of the user
    axes.py              a sweep: what varies
    search.py            which points are tried
    study.py             and which Optuna proposes
    landscape.py         what they look like
    ranking.py           and which is best

Each imports only from those above it, and none from a script.
"""
