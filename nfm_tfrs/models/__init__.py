"""Ranking models: one open model, and faces of it with a paper's defaults."""
