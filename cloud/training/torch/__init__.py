"""Autoencoders by torch. Nothing outside this folder imports torch, and nothing on the way to live this."""
