"""Tasks, one file each: how embeddings and predicted responses are scored. `base` holds what they share."""
