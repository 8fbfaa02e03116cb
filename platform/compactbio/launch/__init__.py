"""The driver: Ray, the stages of a job, and the command line."""
