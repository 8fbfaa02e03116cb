"""Learner, engine, optimiser, loop, the worker of Ray Train, and fine-tuning."""
