"""Attempts to break what is promised of files and data that somebody else wrote."""
