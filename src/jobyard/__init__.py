"""Jobyard launches Kubernetes Jobs and keeps the record."""

__version__ = "0.1.0"
