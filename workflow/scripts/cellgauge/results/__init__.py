"""Results: those that others published, beside ours."""
