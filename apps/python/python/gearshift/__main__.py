"""The command `gearshift`."""

import sys

from gearshift import _gearshift
from gearshift.process import Process, leave


def main() -> None:
    """Runs the command with the arguments of this process, and exits with its status."""
    name = "gearshift" if sys.argv[0].endswith("__main__.py") else sys.argv[0]
    status = _gearshift.run([name, *sys.argv[1:]], Process())
    if _gearshift.has_threads():
        # A thread that runs a request does not survive the end of the interpreter.
        leave(status)
    sys.exit(status)


if __name__ == "__main__":
    main()
