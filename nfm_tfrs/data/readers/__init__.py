"""Files of each format as Arrow tables."""
