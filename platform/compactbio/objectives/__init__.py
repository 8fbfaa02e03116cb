"""Losses as pure functions, the terms that count and total them, and their weighted sum."""
