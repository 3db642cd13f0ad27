"""How many threads a job computes with, by the variables that Snakemake sets to what a rule grants."""

import os

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def default_to_one_thread() -> None:
    """Let libraries use one thread unless the caller granted more: idle threads of BLAS cost more than they bring.

    To be called before numpy is imported, which reads the variables once.
    """
    for variable in VARIABLES:
        os.environ.setdefault(variable, "1")


def n_threads() -> int:
    """Return how many threads this job may use, 1 where nothing or nonsense is said."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # OpenMP takes a list, one number per level
    return int(first) if first.isdecimal() and int(first) else 1
