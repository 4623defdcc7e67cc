"""A search as a page that a person reads."""
