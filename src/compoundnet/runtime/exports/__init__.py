"""Export of models to files for other runtimes."""
