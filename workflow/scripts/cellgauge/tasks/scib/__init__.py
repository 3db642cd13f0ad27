"""The suite of scIB, computed by scib-metrics in an environment of its own."""
