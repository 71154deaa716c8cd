"""Where a run lives: its folder, its processes."""
