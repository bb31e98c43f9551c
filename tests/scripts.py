"""Scripts, run as users run them."""

import io

import jax
import pytest


def said_by(script, config):
    """What `main` of a script says on a wide screen."""
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as screen:
        screen.setenv("COLUMNS", "200")
        screen.setattr("sys.stdout", shown)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            script.main(config)
    return shown.getvalue()
