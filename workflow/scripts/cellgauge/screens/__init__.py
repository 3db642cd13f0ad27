"""Perturbation screens: conditions, what is held out, effects planted for tests, and what was measured."""
