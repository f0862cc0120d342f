"""Inference: scores over HTTP, and scores of machines that no edge looks after."""
