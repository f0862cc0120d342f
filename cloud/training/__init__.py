"""Models learnt from what the plant recorded."""
