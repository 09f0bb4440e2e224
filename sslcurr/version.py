"""The version of the package, which pyproject.toml reads here, and its name."""

__version__ = "0.2.0"
PROGRAM = "sslcurr"
