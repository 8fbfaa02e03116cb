"""Text to token store to batches, and the readers of the tasks' data."""
