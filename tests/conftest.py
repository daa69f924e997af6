"""What all tests share."""

import signal

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def interruptible():
    """A shell's background job ignores Ctrl-C, and so would children: tests send it to both."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def one_thread():
    """Weights are equal bit for bit by an equal number of threads, and the command line sets it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
