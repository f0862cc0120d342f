"""Mapping files: how messages of any topic and shape become readings."""
