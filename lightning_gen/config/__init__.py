"""From the command line to objects: composed, checked whole, built behind the allow list."""
