"""Dead letters: what was refused, looked at, sent again, or put aside."""
