"""Metrics: plain functions on arrays, one file per purpose. No scanpy, jax or torch, and no scikit-learn but where said.

Each function that does not simply call a library is a fast path, and has a test against the plain library call.
"""
