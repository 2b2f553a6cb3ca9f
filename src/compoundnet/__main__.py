"""`python -m compoundnet`, and the command `compoundnet`."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C while it is still being imported ends it without a traceback too."""
    try:
        from compoundnet.cli.main import main as run  # noqa: PLC0415  inside the block, as its import takes time
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
