"""Goal: what takes too long is called off once, what ends in time never is, and no thread is started for each.

Method: deadlines of milliseconds and of hours in all orders, from several threads.
"""

from __future__ import annotations

import threading
import time

from prefixdb.client.watchdog import Watchdog


def test_a_block_that_lasts_too_long_is_called_off_once() -> None:
    watchdog, expired = Watchdog(), threading.Semaphore(0)
    with watchdog.watching(0.01, expired.release):
        assert expired.acquire(timeout=10)
        assert not expired.acquire(timeout=0.05)


def test_an_earlier_deadline_is_kept_although_a_later_one_is_waited_for() -> None:
    watchdog, expired = Watchdog(), threading.Event()
    with watchdog.watching(3600, lambda: None), watchdog.watching(0.01, expired.set):
        assert expired.wait(10)
    with watchdog.watching(3600, lambda: None):
        again = threading.Event()
        with watchdog.watching(0.01, again.set):
            assert again.wait(10)


def test_a_block_that_ends_in_time_is_left_alone() -> None:
    watchdog, wrong, last = Watchdog(), threading.Event(), threading.Event()
    for _ in range(100):
        with watchdog.watching(0.05, wrong.set):
            pass
    with watchdog.watching(0.1, last.set):  # Its deadline is behind all the others'.
        assert last.wait(10)
    assert not wrong.is_set()


def test_one_thread_watches_all() -> None:
    watchdog = Watchdog()
    before = threading.active_count()

    def many() -> None:
        for _ in range(200):
            with watchdog.watching(60, lambda: None):
                pass

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert threading.active_count() == before + 1


def test_a_wait_takes_no_time_of_the_processor() -> None:
    watchdog, expired = Watchdog(), threading.Event()
    begun = time.process_time()
    with watchdog.watching(0.3, expired.set):
        assert expired.wait(10)
    assert time.process_time() - begun < 0.15
