"""The machinery of grading: confinement, the child process, the journal, the table of marks."""
