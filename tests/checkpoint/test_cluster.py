"""Checkpoints written by the workers of a Dask cluster, one of which may be lost."""

import errno
import importlib
import os
import signal
from pathlib import Path

import pytest
from adapters import adapter
from typer.testing import CliRunner

import fastinit as fi
from fastinit import checkpoint, recipe

pytestmark = pytest.mark.xdist_group("cluster")  # which takes seconds to start
distributed = adapter("distributed")
cluster_module = importlib.import_module("fastinit.checkpoint._cluster")

MODEL = recipe.parse(
    """
    name = "layers"
    [repeat]
    layer = 12
    [tensors]
    "layers.{layer}.weight" = [1024, 1000]
    [[rule]]
    pattern = "*"
    init = "normal"
    std = 0.02
    """
)
OPTIONS = {"seed": 3, "max_shard_size": "9MB"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process writes."""
    directory = tmp_path_factory.mktemp("alone")
    checkpoint.write(MODEL, directory, **OPTIONS)
    return content(directory)


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def sabotage(client, calls, what):
    """Have one worker do something terrible in the middle of a file."""

    def patch():
        from fastinit.checkpoint import _shard

        put, left = _shard.write_at, [calls]

        def broken(file, values, at):
            left[0] -= 1
            if left[0] == 0:
                put(file, values[: len(values) // 2], at)
                what()
            put(file, values, at)

        _shard.write_at = broken

    client.run(patch, workers=[next(iter(client.scheduler_info()["workers"]))])


def test_a_lost_worker_s_shard_is_written_by_another(client, alone, tmp_path, monkeypatch):
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    swept, sweep = [], cluster_module.remove_left_behind

    def remove_left_behind(directory, names):
        swept.append({path.name for path in directory.iterdir()} - alone.keys())
        sweep(directory, names)

    monkeypatch.setattr(cluster_module, "remove_left_behind", remove_left_behind)
    before = set(client.run(os.getpid).values())
    sabotage(client, 8, die)
    told = []
    written = checkpoint.write(
        MODEL, tmp_path, **OPTIONS, scheduler=client.scheduler.address, progress=told.append
    )
    assert len(swept[-1]) == 3  # the lock, the index that waited for its files, and half a file
    assert content(tmp_path) == alone
    assert sum(told) == written.nbytes
    assert min(told) > 0
    client.wait_for_workers(2, timeout=60)
    assert len(before - set(client.run(os.getpid).values())) == 1


def test_a_worker_s_error_is_ours(client, tmp_path):
    def fill_the_disk():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sabotage(client, 8, fill_the_disk)
    with pytest.raises(OSError, match="No space left on device") as caught:
        checkpoint.write(MODEL, tmp_path, **OPTIONS, scheduler=client.scheduler.address)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "model.safetensors.index.json").exists()
    client.restart()


def test_what_is_whole_stays(client, alone, tmp_path):
    options = {**OPTIONS, "scheduler": client.scheduler.address}
    checkpoint.write(MODEL, tmp_path, **options)
    lost, *kept = sorted(tmp_path.glob("*.safetensors"))
    before = [path.stat().st_mtime_ns for path in kept]
    lost.unlink()
    told = []
    written = checkpoint.write(MODEL, tmp_path, **options, resume=True, progress=told.append)
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert content(tmp_path) == alone
    assert sum(told) == written.nbytes
    assert written.nbytes - written.kept == len(alone[lost.name])


def listening():
    """Return where this process and its children can be connected to."""
    psutil = pytest.importorskip("psutil")
    ours = psutil.Process()
    return {
        (connection.laddr.ip, connection.laddr.port)
        for process in (ours, *ours.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def test_processes_of_this_machine_listen_to_this_machine_alone():
    before = listening()
    with cluster_module._client("local:1") as (local, _):
        local.wait_for_workers(1, timeout=60)
        new = listening() - before
    assert {address for address, _ in new} == {"127.0.0.1"}


def test_processes_of_this_machine_by_the_command_line(tmp_path):
    from fastinit.cli import app

    done = CliRunner().invoke(
        app,
        ["init", "gpt2", "-o", str(tmp_path), "--max-shard-size", "60MB", "--scheduler", "local:2"],
    )
    assert done.exit_code == 0, done.output
    assert checkpoint.check(tmp_path).difference is None
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert not [name for name in content(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("scheduler", ["local:0", "local:", "local:two", "somewhere", ""])
def test_what_is_no_scheduler_changes_nothing(scheduler, alone, tmp_path):
    for name, old in alone.items():
        (tmp_path / name).write_bytes(old)
    with pytest.raises(ValueError, match="must be an address, such as tcp://host:8786, or local:N"):
        checkpoint.write(MODEL, tmp_path, **OPTIONS, scheduler=scheduler, overwrite=True)
    assert content(tmp_path) == alone


def test_a_scheduler_that_does_not_answer(tmp_path):
    dask = adapter("dask")
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):  # noqa: SIM117
        with pytest.raises(OSError, match=r"tcp://127\.0\.0\.1:1"):
            checkpoint.write(MODEL, tmp_path, **OPTIONS, scheduler="tcp://127.0.0.1:1")


class Answering:
    """A client whose workers answer as told."""

    def __init__(self, answer):
        self._answer = answer

    def wait_for_workers(self, n):
        pass

    def run(self, function, *args, on_error):
        assert on_error == "return"
        return {"tcp://a": function(*args), "tcp://b": self._answer}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ModuleNotFoundError("No module named 'fastinit'"), "worker tcp://b cannot use fastinit"),
        (("fastinit-0", True), "worker tcp://b has the stream fastinit-0"),
        ((fi.info()["stream"], False), "worker tcp://b does not share the directory"),
    ],
)
def test_workers_that_could_not_help(answer, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        cluster_module._check_workers(Answering(answer), tmp_path)
    assert not content(tmp_path)


def test_a_worker_that_is_lost_while_it_is_asked(tmp_path):
    cluster_module._check_workers(Answering(ConnectionResetError()), tmp_path)
    assert not content(tmp_path)
