"""cellgauge: measure single-cell foundation models.

The library behind the workflow. Every module imports only the standard library (and numpy where it cannot do without)
at its top, so that planning the grid costs nothing and a script runs in any model's environment uninstalled.
"""
