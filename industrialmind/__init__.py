"""The front door: the command line, `up`, `status`, `doctor`; the only package that may import every tier."""
