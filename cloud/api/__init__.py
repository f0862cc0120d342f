"""The data API: who is asking, machines, anomalies, ledger over HTTP."""
