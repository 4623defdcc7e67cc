"""Rows as batches for Keras: from memory, from files, window by window."""
