"""A checkpoint's shards as tasks of a Dask cluster, whose workers share the directory.

Any process can write any shard, as often as it likes, and its bytes are the same: a shard whose
worker is lost is written again by another, and nothing else has to be put right.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster, as_completed, get_worker
from distributed.scheduler import KilledWorker

import fastinit
from fastinit._errors import value_error
from fastinit._files import remove_left_behind
from fastinit._settings import get_num_threads
from fastinit.checkpoint._layout import Shard
from fastinit.checkpoint._shard import Progress, write_shard

_EVERY = 0.1  # seconds between a worker's reports


@contextmanager
def cluster_writer(
    scheduler: str, directory: Path, threads: int | None, replace: bool
) -> Iterator[Callable[[Sequence[Shard], Progress], None]]:
    """Connect, and yield what writes shards by a cluster's workers.

    Parameters
    ----------
    scheduler : str
        Address of a scheduler, or ``local:N``: N processes of this machine, for this while.
    directory : Path
        The same for all workers.
    threads : int or None
        For each shard. None: a worker's share of its machine's.
    replace : bool
        Whether files that exist may be replaced.

    Yields
    ------
    callable
        Takes shards, and what to call, from a thread of its own, with bytes of all workers. It
        raises OSError if a worker cannot write.

    Raises
    ------
    ValueError
        If there is no such scheduler, or a worker has another fastinit or another directory.
    OSError
        If the scheduler cannot be reached.
    """
    with _client(scheduler) as (client, share):
        _check_workers(client, directory)
        yield partial(_write_shards, client, directory, threads or share, replace)


def _write_shards(
    client: Client,
    directory: Path,
    threads: int | None,
    replace: bool,
    shards: Sequence[Shard],
    progress: Progress,
) -> None:
    topic = f"fastinit-{secrets.token_hex(4)}"
    told = _Told(shards, progress)
    client.subscribe_topic(topic, told.event)
    futures = [
        client.submit(_task, shard, directory, threads, replace, topic, key=f"{topic}/{shard.name}")
        for shard in shards
    ]
    try:
        for future in as_completed(futures, loop=client.loop):
            _raise(future)
            told.whole(_name(future))
            future.release()  # or it would be done again if its worker is lost later
    finally:
        client.cancel(futures)
        client.unsubscribe_topic(topic)
    remove_left_behind(directory, [shard.name for shard in shards])  # by lost workers


@contextmanager
def _client(scheduler: str) -> Iterator[tuple[Client, int | None]]:
    """Connect; yield the client, and the threads for each of its workers if we started them."""
    match = re.fullmatch(r"local:([1-9][0-9]*)", scheduler)
    if match is None:
        if scheduler.startswith("local:") or ":" not in scheduler:
            raise value_error(
                f"scheduler={scheduler!r} must be an address, such as tcp://host:8786, or local:N"
            )
        with Client(scheduler, set_as_default=False) as client:
            yield client, None
        return
    n = int(match[1])
    # Without a dashboard, which would show itself on all of the machine's interfaces.
    cluster = LocalCluster(
        n_workers=n,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=logging.ERROR,
    )
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client, max(1, get_num_threads() // n)


def _check_workers(client: Client, directory: Path) -> None:
    """Raise unless every worker has this stream, and sees the directory, by a file in it."""
    marker = directory / f".shared.{secrets.token_hex(4)}.fastinit"
    marker.touch(exist_ok=False)
    try:
        client.wait_for_workers(1)
        answers = client.run(_describe, marker, on_error="return")
    finally:
        marker.unlink()
    expected = fastinit.info()["stream"]
    for address, answer in answers.items():
        if isinstance(answer, OSError):
            continue  # lost already: others do its work
        if isinstance(answer, Exception):
            raise value_error(f"worker {address} cannot use fastinit: {answer}")
        stream, sees = answer
        if stream != expected:
            raise value_error(f"worker {address} has the stream {stream}, and we have {expected}")
        if not sees:
            raise value_error(f"worker {address} does not share the directory {directory}")


def _describe(marker: Path) -> tuple[str, bool]:
    return fastinit.info()["stream"], marker.is_file()


def _name(future: Any) -> str:
    name: str = future.key.partition("/")[2]
    return name


def _raise(future: Any) -> None:
    try:
        future.result()
    except KilledWorker as error:
        raise OSError(f"{_name(future)}: its worker was lost again and again: {error}") from None


class _Told:
    """What each shard's tasks have reported, so that no byte is counted twice."""

    def __init__(self, shards: Sequence[Shard], progress: Progress) -> None:
        self._progress, self._lock = progress, threading.Lock()
        self._sizes = {shard.name: shard.nbytes for shard in shards}
        self._seen = dict.fromkeys(self._sizes, 0)

    def event(self, event: tuple[float, tuple[str, int]]) -> None:
        """Take a worker's report: the bytes of a shard so far; fewer if it is written again."""
        _, (name, nbytes) = event
        with self._lock:
            new = nbytes - self._seen[name]
            if new > 0:
                self._seen[name] = nbytes
                self._progress(new)

    def whole(self, name: str) -> None:
        """Take note of a shard that is written."""
        self.event((0.0, (name, self._sizes[name])))


def _task(shard: Shard, directory: Path, threads: int | None, replace: bool, topic: str) -> None:
    """Write a shard on a worker, which may run several tasks at once."""
    worker = get_worker()
    if threads is None:
        threads = max(1, get_num_threads() // worker.state.nthreads)
    report = _Report(worker, shard.name, topic)
    write_shard(shard, directory, threads=threads, progress=report, overwrite=replace)


class _Report:
    """Tells of a shard's bytes, now and then, and ends its task if nobody waits for it any more."""

    def __init__(self, worker: Any, name: str, topic: str) -> None:
        self._worker, self._name, self._topic = worker, name, topic
        self._key = worker.get_current_task()
        self._nbytes, self._next = 0, 0.0

    def __call__(self, nbytes: int) -> None:
        self._nbytes += nbytes
        now = time.monotonic()
        if now >= self._next:
            task = self._worker.state.tasks.get(self._key)
            if task is None or task.state == "cancelled":
                raise CancelledError(self._key)
            self._worker.log_event(self._topic, (self._name, self._nbytes))
            self._next = now + _EVERY
