"""Tasks, one folder each: how embeddings and predicted responses are scored.

`scores.py` of the folder says what the task is, and scores:

    SCOPE = "split"       # scored per split, or "dataset": over the splits of a set
    COMPARES = "organism"  # of scope "dataset": it needs splits of several species (default: any splits)
    MODALITY = "expression"  # scores embedded cells (the default), or "perturbation": predicted responses
    NEEDS = ("label",)    # columns of obs that every split must have (default: none)
    PROFILES = ("corrected",)  # the profiles that it has rows in (default: both)

    def score(cells, *, profiles, seed, n_neighbors=15):
        '''Yield files.score.Score rows for `cells`, a tasks.cells.CellsToScore.'''

Further keywords are the task's parameters: each has a default, which `params` of its entry in config/tasks.yaml override.
The plan reads constants and defaults from the file without running it, so they are plain values (`tasks.traits`). A task of
modality "perturbation" is given what its own `open_responses` makes of the files.

`neighbors.py`, where a task has one, finds what it asks of the distances between cells. A job of its own runs it for each
model and split, and keeps what it returns: searches take most of the time of clustering and integration in large splits,
and are not repeated when what is computed from them changes:

    KEPT_FOR = {"metrics": ("ari", "nmi")}  # what must be asked for, else nothing is kept (default: anything)

    def find(cells, *, seed, n_neighbors):
        '''Return arrays by name for `cells`.'''

Its keywords are those parameters of the task that change what is found, and `profiles` where they do; their defaults are the
task's. An empty dict says that there is nothing worth keeping. Where arrays are kept, the task is given nothing else of the
embedding (`cells.matrix` is None); elsewhere it calls `find` itself: the same code, the same scores.
"""

SHARED = ("cells", "run", "traits")
