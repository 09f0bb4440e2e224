"""The version of the package, as in pyproject.toml, and its name."""

__version__ = "0.1.0"
PROGRAM = "sslcurr"
