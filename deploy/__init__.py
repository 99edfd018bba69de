"""Running it: the embedded stack, its processes and their supervision."""
