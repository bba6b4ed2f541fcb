"""Channels: what stands between a source and a sink, one file each."""
