"""What differs between systems: CPUs, memory, signals, threads."""
