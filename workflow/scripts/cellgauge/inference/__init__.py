"""Cells through a network: batches, checkpoints, kernels, and the job that every adapter runs in."""
