"""What applications are made of: their data, their opponents, and models beside the default one.

    text.py              text, its symbols, and more of it from a model
    ngrams.py            what follows, by counting
    corpus.py            a text divided, and counting as an opponent
    string_pairs.py      strings and their answers: dates, sums, and those of a file
    labelled_texts.py    texts with a class each, as tokens, divided by what belongs together
    series.py            series in time: windows, divided in time, and models of their changes
    formants.py          synthetic speech
    ctc.py               labels of sequences without their times
    encoder_decoder.py   from one sequence of tokens to another, with attention
    transformer.py       a small transformer, as a reference
    budget.py            models with as many parameters
    compression.py       trained models made smaller

Each imports only from those above it, and from the harness.
"""
