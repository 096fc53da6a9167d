"""The HTTP edge: app factory, auth, error bodies, uploads, the canonical jobs API, health and metrics.

Knows the engine and the port of workloads; knows no workload and no media.
"""
