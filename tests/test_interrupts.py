"""SIGTERM as Ctrl-C: in the main thread of a process of its own, and nowhere else."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from noiseloom.interrupts import sheltered, terminable, uninterrupted


def _queued():
    with terminable():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)


def test_sigterm_ends_a_block_as_ctrl_c_does():
    usual = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as found:
        _queued()
    assert found.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is usual
    with terminable():
        pass
    assert signal.getsignal(signal.SIGTERM) is usual


def test_what_leaves_a_block_says_which_signal_it_was():
    with pytest.raises(KeyboardInterrupt, match="so far") as found, terminable():  # noqa: PT012
        try:
            with terminable():  # a block within a block
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
        except KeyboardInterrupt:  # what was made is kept, and then it goes on
            raise KeyboardInterrupt("so far") from None
    assert found.value.signal == signal.SIGTERM
    with pytest.raises(KeyboardInterrupt) as found, terminable():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    assert found.value.signal == signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_must_be_whole_is_ended_by_neither(number):
    usual = signal.getsignal(number)
    with terminable(), uninterrupted():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is usual


SIGNALLED = """
import os, signal, time
for number in (signal.SIGINT, signal.SIGTERM):
    os.kill(os.getpid(), number)
print("alive")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_processes_of_a_shelter_are_ended_by_neither_and_the_signal_waits(number):
    reached = []
    with pytest.raises(KeyboardInterrupt), terminable():  # noqa: PT012
        with sheltered():
            os.kill(os.getpid(), number)
            done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True)
            reached.append(done.stdout)
        reached.append("after it")
        time.sleep(60)
    assert reached == ["alive\n"]


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_another_thread_got_waits_for_the_end_of_a_shelter(number):
    reached, usual, done = [], signal.getsignal(number), threading.Event()
    thread = threading.Thread(target=done.wait)  # a system tells a signal to whoever takes it
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt), terminable():  # noqa: PT012
            with sheltered():
                os.kill(os.getpid(), number)
                time.sleep(0.2)
                reached.append("its end")
            reached.append("after it")
            time.sleep(60)
    finally:
        done.set()
        thread.join()
    assert reached == ["its end"]
    assert signal.getsignal(number) is usual
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_a_shelter_leaves_alone_what_is_ignored():
    usual = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with sheltered():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        assert signal.signal(signal.SIGTERM, usual) is signal.SIG_IGN


def test_an_ignored_sigterm_stays_ignored():
    usual = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with terminable():
            os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        assert signal.signal(signal.SIGTERM, usual) is signal.SIG_IGN


@pytest.mark.parametrize("swallowed", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_after_one_that_was_swallowed_is_the_one_that_is_told(swallowed):
    (last,) = {signal.SIGTERM, signal.SIGINT} - {swallowed}
    with pytest.raises(KeyboardInterrupt) as found, terminable():  # noqa: PT012
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), swallowed)
            time.sleep(60)
        os.kill(os.getpid(), last)
        time.sleep(60)
    assert found.value.signal == last
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
