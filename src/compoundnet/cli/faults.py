"""What ends a command: errors as one line, and a fault of this program as a trace in a log file.

No traceback reaches the user: it helps only who repairs the program, and hides the one line that says what happened.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from compoundnet.base import CompoundNetError, is_out_of_memory
from compoundnet.base.faults import FAULT, report_fault
from compoundnet.cli.output import printable


@contextmanager
def errors_as_lines() -> Iterator[None]:
    """End the process with one line on stderr and an exit code if the block raises; see the codes in `--help`."""
    _open_closed_streams()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # clean up, as at Ctrl-C
        signal.signal(signal.SIGTERM, _ended)
    threading.excepthook = _say_fault
    sys.unraisablehook = _stop_again
    try:
        yield
        sys.stdout.flush()  # a full disk is an error of this command, not of Python's exit
    except CompoundNetError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of a pipe has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except OSError as error:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what could not be written is not tried again at exit
        _fail(str(error))
    except Exception as error:
        if is_out_of_memory(error):
            _fail("there is not enough memory for this; give smaller batches, images or networks")
        _fail(report_fault(error), FAULT)
    finally:  # the work is over: a signal while Python ends prints no traceback
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell has SIGINT in the background
                signal.signal(number, signal.SIG_DFL)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM, which SLURM, Kubernetes and `docker stop` send, stop the block as Ctrl-C does; a second one has its
    usual effect. Where the block does not handle the KeyboardInterrupt, the exit code is that of SIGTERM, 143."""
    sent = False

    def interrupt(number: int, _: object) -> NoReturn:
        nonlocal sent
        sent = True
        signal.signal(number, before)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        if sent:
            sys.exit(128 + signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(message: str, code: int = 1) -> NoReturn:
    with suppress(OSError):
        print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(code)


def _say_fault(arguments: threading.ExceptHookArgs) -> None:
    """Report an exception that ends a thread, which does not end the process."""
    if arguments.exc_value is not None and arguments.exc_type is not SystemExit and sys.stderr is not None:
        print(f"error: {printable(report_fault(arguments.exc_value))}", file=sys.stderr)


def _stop_again(ignored: sys.UnraisableHookArgs) -> None:
    """Repeat a signal whose exception was raised where Python drops it: in a destructor or a callback."""
    stops = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}
    number = stops.get(ignored.exc_type)
    if number is None or threading.current_thread() is not threading.main_thread():  # only there signals raise
        sys.__unraisablehook__(ignored)
        return
    if number == signal.SIGTERM:
        signal.signal(number, _ended)
    # Not at once, since this function runs where exceptions are dropped.
    later = threading.Timer(0.05, os.kill, (os.getpid(), number))
    later.daemon = True
    later.start()


def _ended(number: int, _: object) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # a second one ends at once
    sys.exit(128 + number)


class _Closed(io.TextIOBase):
    """Standard output that was closed by whoever started the process: printing fails, and nothing else does."""

    def write(self, _: str) -> int:
        raise OSError(errno.EBADF, "standard output is closed; redirect it to a file or to /dev/null")

    def isatty(self) -> bool:
        return False


def _open_closed_streams() -> None:
    """Give closed standard streams a place, so that no file that is opened later receives what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123  for the whole process
