"""`python -m sslcurr`."""

from sslcurr.cli import main

if __name__ == "__main__":  # processes that decode import this module, too
    main()
