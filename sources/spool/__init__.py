"""Reads finished files that are dropped into a directory, each once. Start reading at source.py."""
