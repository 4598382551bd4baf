"""The command `gearshift`."""

import sys

from gearshift import _gearshift
from gearshift.process import Process


def main() -> None:
    """Runs the command with the arguments of this process, and exits with its status."""
    name = "gearshift" if sys.argv[0].endswith("__main__.py") else sys.argv[0]
    sys.exit(_gearshift.run([name, *sys.argv[1:]], Process()))


if __name__ == "__main__":
    main()
