"""Instructions in program order: places, transfers, waits, and layers that stream tiles."""
