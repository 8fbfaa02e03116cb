"""Every metric by name, the journal of a run on disk, and MLflow."""
