"""Ctrl-C while worker processes start, with other threads about that could take the signal."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from twin_dcal.workers import interrupts_held


def interrupted_in_the_block(done):
    with interrupts_held():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        done.append("all")


def test_an_interrupt_waits_for_the_end_of_the_block():
    release = threading.Event()
    other = threading.Thread(target=release.wait)  # with an open mask: the kernel may hand it the signal
    other.start()
    done = []
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted_in_the_block(done)
    finally:
        release.set()
        other.join()
    assert done == ["all"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_processes_started_in_the_block_do_not_see_it():
    told = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    for held, expected in ((True, "True\n"), (False, "False\n")):
        run = [sys.executable, "-c", told]
        if held:
            with interrupts_held():
                answer = subprocess.run(run, capture_output=True, text=True, check=True).stdout
        else:
            answer = subprocess.run(run, capture_output=True, text=True, check=True).stdout
        assert answer == expected


def test_outside_the_main_thread():
    raised = []

    def enter():
        try:
            with interrupts_held():
                pass
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert raised == []
