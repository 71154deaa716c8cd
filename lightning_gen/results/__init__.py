"""What came out: numbers with their kind and protocol, tables, figures, pages."""
