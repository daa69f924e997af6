"""SIGTERM as Ctrl-C: in the main thread of a process of its own, and nowhere else."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

from noiseloom.data.interrupts import terminable


def _queued():
    with terminable():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)


def test_sigterm_ends_a_block_as_ctrl_c_does():
    usual = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        _queued()
    assert signal.getsignal(signal.SIGTERM) is usual
    with terminable():
        pass
    assert signal.getsignal(signal.SIGTERM) is usual


def test_other_threads_say_nothing_of_signals():
    found = []

    def work():
        with terminable():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_a_process_of_a_pool_is_ended():
    process = multiprocessing.get_context("spawn").Process(target=_queued)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGTERM
