"""What benchmarks/gpu.py is made of: its plan, its measurements and the quality by precision."""
