"""Scores, their intervals, and the speed and memory of models."""
