"""Ctrl-C and SIGTERM end a training after an update, which is kept."""

import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from toy_run import OPTIONS, Points, Toy, finish, losses, toy_loss

from noiseloom.interrupts import deferred, terminable
from noiseloom.training import train

BOTH = signal.SIGINT, signal.SIGTERM


def interrupted(*numbers):
    """A loss that is sent signals in the middle of its seventh update."""
    calls = []

    def loss(*arguments):
        calls.append(None)
        if len(calls) == 7:
            for number in numbers:
                os.kill(os.getpid(), number)
        return toy_loss(*arguments)

    return loss


@pytest.mark.parametrize("number", BOTH)
def test_a_training_that_is_stopped_keeps_its_updates_and_goes_on_bit_for_bit(tmp_path, number):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    finish(whole, dropout=0.3)
    with pytest.raises(KeyboardInterrupt), terminable():
        finish(stopped, dropout=0.3, loss=interrupted(number))
    assert [path.name for path in (stopped / "state").iterdir()] == ["step-00000007"]
    assert losses(stopped) == losses(whole)[:7]
    finish(stopped, dropout=0.3, resume=True)
    assert losses(stopped) == losses(whole)
    for name in ("model.safetensors", "ema.safetensors"):
        ours, theirs = load_file(stopped / name), load_file(whole / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_who_asks_twice_does_not_wait(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        finish(tmp_path, loss=interrupted(signal.SIGINT, signal.SIGINT))
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-00000005"]


def test_signals_mean_what_they_did_once_a_training_has_ended(tmp_path):
    before = [signal.getsignal(number) for number in BOTH]
    finish(tmp_path)
    assert [signal.getsignal(number) for number in BOTH] == before


def test_between_two_updates_signals_are_as_before(tmp_path):
    before = [signal.getsignal(number) for number in BOTH]
    trainings = [train(Toy(), toy_loss, Points(), OPTIONS, tmp_path / name) for name in "ab"]
    for _ in zip(*trainings, strict=True):  # in turns, as they are timed
        assert [signal.getsignal(number) for number in BOTH] == before


def test_one_of_several_trainings_in_turns_that_is_stopped_stops_all(tmp_path):
    losses = (toy_loss, interrupted(signal.SIGINT), toy_loss)
    trainings = [
        train(Toy(), loss, Points(), OPTIONS, tmp_path / str(i)) for i, loss in enumerate(losses)
    ]
    with pytest.raises(KeyboardInterrupt):
        for _ in zip(*trainings, strict=True):
            pass
    for training in trainings:
        training.close()
    assert [path.name for path in (tmp_path / "1" / "state").iterdir()] == ["step-00000007"]


def test_a_signal_that_is_ignored_stays_ignored():
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred() as came:
            os.kill(os.getpid(), signal.SIGINT)
        assert came == []
    finally:
        signal.signal(signal.SIGINT, usual)


def test_a_block_that_fails_fails_as_it_would():
    def fail():
        with deferred():
            os.kill(os.getpid(), signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
