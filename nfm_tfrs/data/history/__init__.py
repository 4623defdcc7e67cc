"""What each user did before a row: the rule, the columns that it makes, in memory and batch by batch."""
