"""What tasks ask of the distances between cells: found by a job of its own for each model and split, and kept.

A search is a module with the name of its task and

    KEPT_FOR = {"metrics": ("ari", "nmi")}  # what must be asked for, else nothing is kept (default: anything)

    def find(cells, *, seed, n_neighbors):
        '''Return arrays by name for `cells`, a tasks.base.CellsToScore.'''

An empty dict says that there is nothing worth keeping. The keywords are those parameters of the task that change what is found,
and `profiles` where they do; their defaults are the task's. A search is read without being run (`cellgauge.task_traits`). The
task takes the arrays from `cells.neighbours`, and where nothing is kept calls `find` itself: the same code, the same scores.
Searches take most of the time of clustering and integration in large splits; kept, they are not repeated when what is made of
them changes.
"""
