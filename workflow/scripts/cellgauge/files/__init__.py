"""The files between the stages, one contract a module: how each is written, read and checked."""
