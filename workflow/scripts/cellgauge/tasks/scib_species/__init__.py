"""The suite of scIB over several species, each of which is a batch."""
