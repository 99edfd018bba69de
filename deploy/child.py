"""Start a command that cannot outlive its parent: `python child.py PARENT_PID COMMAND...`.

Run as a plain script with the standard library only, because it stands before every child and must start at once.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from types import FrameType

PR_SET_PDEATHSIG = 1
ORPHANED = 125


def main() -> None:
    """Tie the command's life to the parent's, then become it (Linux) or watch over it (elsewhere)."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        # The kernel keeps this across exec, so that even kill -9 of the parent takes the command down.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(ORPHANED)
        os.execvp(command[0], command)  # noqa: S606 - the stack's own command line, no shell wanted
    sys.exit(watch(parent, command))


def watch(parent: int, command: list[str]) -> int:
    """Run the command, hand SIGTERM on to it, and kill it once the parent is gone."""
    child = subprocess.Popen(command)  # noqa: S603 - the stack's own command line

    def hand_on(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    signal.signal(signal.SIGTERM, hand_on)
    while child.poll() is None:
        if os.getppid() != parent:
            child.kill()
            child.wait()
            return ORPHANED
        time.sleep(0.25)
    return child.returncode


if __name__ == "__main__":
    main()
