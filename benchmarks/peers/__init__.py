"""The runners: a process for each library, in an environment of its own."""
