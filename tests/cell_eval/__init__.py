"""The anchor: PyPI cz-benchmarks in a virtual environment of its own, run beside our scorers on the same arrays."""
