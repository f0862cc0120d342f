"""Anomalies that looked alike: each as a vector of its sensors' shares, found again by nearness."""
