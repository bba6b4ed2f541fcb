"""Tailrace: log pipelines defined by YAML, each row exactly once."""

__version__ = "0.1.0"
