"""How fast: blocks, training steps, whole epochs, input, latency and the start of a process."""
