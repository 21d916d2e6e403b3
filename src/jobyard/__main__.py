"""`python -m jobyard` is the `jobyard` command."""

from jobyard.cli.main import main

main()
