"""Programs of peers on our data: each trains on the digits, and writes samples that run.py measures by samples=."""
