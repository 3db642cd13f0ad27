"""Nearest neighbors by Euclidean distance, exact, in bounded memory."""
