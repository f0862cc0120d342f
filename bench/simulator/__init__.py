"""Judges what training delivers on simulated machines, by a frozen file of faults and with seeds drawn at test time."""
