"""Sparkplug B 3.0 as plain data: topics, payloads, and an edge node as a host sees it. No I/O and no clock.

Source: Eclipse Sparkplug Specification 3.0.0; its normative identifiers (`tck-id-…`) are mapped to tests in
`tests/unit/test_sparkplug_norms.py`.
"""
