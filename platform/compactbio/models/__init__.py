"""Teachers, students, how a student is built from a teacher, and what a forward pass returns."""
