"""`python -m sslcurr`."""

from sslcurr.cli import main

main()
