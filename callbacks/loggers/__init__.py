"""Loggers: the run's own record, and its mirrors."""
