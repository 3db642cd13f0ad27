"""The files between the stages, one contract a module: how each is written, read and checked."""

FREE = 1 << 26
"""Bytes that any array of a file may take."""
RATIO = 1100
"""Bytes of memory for one byte of storage beyond `FREE`. Deflate gives 1,032 at most (zlib's technical details)."""
