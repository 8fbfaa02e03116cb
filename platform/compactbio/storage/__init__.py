"""Runs that are kept in an object store: what is copied there and back, and who may write."""
