"""The networks of the models, one file per family, and the layers that families share.

Only these modules import torch at the top; adapters import them inside functions. Attributes have the names of the tensors in
the published checkpoints, so that a state dict loads without renaming.
"""
