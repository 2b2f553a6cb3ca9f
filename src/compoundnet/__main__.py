"""`python -m compoundnet`."""

from compoundnet.cli.main import main

main()
