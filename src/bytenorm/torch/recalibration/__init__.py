"""Programs in 8 bits brought nearer to the float ones."""
