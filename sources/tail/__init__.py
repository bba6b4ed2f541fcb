"""Follows growing log files through every kind of rotation. Start reading at source.py."""
