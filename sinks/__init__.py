"""Sinks: where rows land, together with their origins."""
