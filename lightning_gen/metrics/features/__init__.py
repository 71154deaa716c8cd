"""Feature extractors: the fixed networks in whose features samples are compared."""
