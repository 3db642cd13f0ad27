"""Adapters of models that predict responses to perturbations, one file each. `base` has their contract and shared code."""
