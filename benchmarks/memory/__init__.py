"""How much memory: of searches of many trials, and of streams from files larger than it."""
