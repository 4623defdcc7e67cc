"""Acme's interaction blocks and models for nfm-tfrs."""
