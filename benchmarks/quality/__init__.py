"""How good: defaults, optimizers, precisions and searches, judged on rows that nothing was chosen by."""
