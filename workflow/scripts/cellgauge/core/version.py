"""The version of cellgauge. It stands apart, because a job re-runs when a module that it imports changes."""

VERSION = "0.2.0"
