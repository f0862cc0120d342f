"""Remaining life by a network, beside the trees. Only here does remaining life import torch."""
