"""What surrounds the core on a device."""
