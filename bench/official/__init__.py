"""What the official codes compute for an embedding, step by step, rebuilt to be timed beside ours.

One module per family, each with `embed(split, weights, *, seed, device, batch_size, ...)`. They do what the published codes
do (dense matrices, fixed padding, every layer in full, heads whose output is thrown away), on plain PyTorch: flash-attention
is replaced by its plain equal, and nothing is shared with the adapters that are measured against them. Run one by hand with
`python bench/official FAMILY --help`. tests/golden/test_official_paths.py holds them to the vectors of the official codes.
"""
