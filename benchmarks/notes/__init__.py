"""The lecture notes as a book that runs: python benchmarks/notes"""
