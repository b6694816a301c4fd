"""From a float model to an 8-bit one."""
