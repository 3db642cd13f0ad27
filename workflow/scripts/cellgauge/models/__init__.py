"""Adapters that embed cells, one file per model family. `base` holds the contract and what they share."""
