"""Which models exist, and which edge is to run which."""
