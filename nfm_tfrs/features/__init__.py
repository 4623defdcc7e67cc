"""What a model reads: the columns, how they are found, and how their values become ids."""
