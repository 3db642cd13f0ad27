"""Adapters of models that predict responses to perturbations, one file each. `base` holds the contract and what they share."""
