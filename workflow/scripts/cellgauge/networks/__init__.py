"""The networks of the models, one file per family, and the layers that families share.

Only these modules import torch at their top; adapters import them inside functions. Attributes are named as the tensors of
the published checkpoints are, so that a state dict loads by itself.
"""
