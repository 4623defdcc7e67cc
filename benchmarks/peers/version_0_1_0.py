"""Version 0.1.0 of this package, from its commit, for what has become faster since; all else as in own.py."""

from interface import serve

from peers.own import load

if __name__ == "__main__":
    serve(load)
