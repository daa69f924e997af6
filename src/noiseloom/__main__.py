"""`python -m noiseloom` is the command `noiseloom`."""

import sys

from noiseloom.cli import main

if __name__ == "__main__":
    sys.exit(main())
