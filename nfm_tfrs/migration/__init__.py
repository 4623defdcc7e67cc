"""Ways here from other libraries' descriptions of columns."""
