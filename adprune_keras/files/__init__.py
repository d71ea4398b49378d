"""Bytes on disk, trusted or not. Imports nothing of ours."""
