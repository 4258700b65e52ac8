"""Decisions without I/O: what the protocol means for us. Imports nothing of ours."""
