"""Experiment tracking and its registry on MLflow: a projection of the log's `models` topic, and a server for it.

Importing MLflow takes seconds, so only the trainer and the server do; this package alone imports it.
"""
