"""The words of a command line: what they mean, and what is wrong with them."""
