"""Who answers a signal: a training saves first, other work stops at once, two signals of a job manager are one."""

from __future__ import annotations

import os
import signal

import pytest

from sslcurr.engine import signals
from sslcurr.engine.signals import stop_signals
from sslcurr.errors import Interrupted


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def test_a_training_within_a_command_hears_what_came_before_it():
    with stop_signals() as outer:
        send()
        with stop_signals() as inner:
            assert inner.signal == outer.signal == signal.SIGTERM
    before = signal.getsignal(signal.SIGTERM)
    assert before == signal.SIG_DFL


def test_work_that_has_nothing_to_save_stops_at_once_and_a_training_in_it_does_not():
    def work():
        with stop_signals(raises=True):
            with stop_signals() as training:
                send()
                assert training.signal == signal.SIGTERM
            training.signal = 0
            send(signal.SIGINT)

    with stop_signals(insists=False), pytest.raises(Interrupted) as stop:
        work()
    assert stop.value.signal == signal.SIGINT


def test_a_second_ctrl_c_does_not_wait():
    with stop_signals() as stop:
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert stop.signal == signal.SIGINT


def test_sigterm_from_two_sides_is_one_request(monkeypatch):
    with stop_signals() as stop:
        send()
        send()
        monkeypatch.setattr(signals, "ONE_REQUEST", -1.0)
        with pytest.raises(KeyboardInterrupt):
            send()
    assert stop.signal == signal.SIGTERM


def test_a_worker_of_another_process_does_not_insist():
    with stop_signals(insists=False) as stop:
        send()
        send(signal.SIGINT)
    assert stop.signal == signal.SIGTERM
