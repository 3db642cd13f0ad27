"""What tasks ask of the distances between cells: found by a job of its own for each model and split, and kept.

A search is a module with the name of its task and

    NEEDS = ("label",)    # columns of obs that every split must have, the task's

    def find(cells, *, seed, **params):
        '''Return arrays by name for `cells`, a tasks.base.CellsToScore.'''

An empty dict says that there is nothing worth keeping. `params` are those params of the task that change what is found
(`neighbours` of its entry in config/tasks.yaml). The task takes the arrays from `cells.neighbours`, and where nothing is
kept calls `find` itself: the same code, the same scores. Searches take most of the time of clustering and integration in large
splits; kept, they are not repeated when what is made of them changes.
"""
