"""What a job is: its classes, its loader, its arithmetic. Imports neither torch nor ray."""
