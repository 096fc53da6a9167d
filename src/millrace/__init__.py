"""Millrace: a self-hosted batch server for media and documents."""

__version__ = "0.1.0"
