"""What all tests share."""

import signal

import pytest


@pytest.fixture(autouse=True, scope="session")
def interruptible():
    """A shell's background job ignores Ctrl-C, and so would children: tests send it to both."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
