"""The loss ledger: what each edge produced, what the log and the store hold, and what is missing."""
