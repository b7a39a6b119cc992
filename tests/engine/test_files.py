"""Files under hostile conditions: many writers, kills at any moment, full disks, locked folders, damage."""

import errno
import io
import json
import os
import random
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import pytest

from micrograd_bp import losses, nn, optim, training
from micrograd_bp._engine import files

ROOT = str(Path(nn.__file__).parents[1])
SCRIPT = """
import os, random, resource, signal, sys, time
from micrograd_bp import nn

folder, count = sys.argv[1], int(sys.argv[2])
path = folder + "/model.json"


def model(number, width=40):  # all of its weights are the number
    return nn.Layer(width, 4, init=lambda *_: float(number))


def number_in(path):
    (number,) = {neuron.w[0].data for neuron in nn.load(path).neurons}
    return int(number)
"""


def script(code: str, folder: Path, count: int, timeout: int = 100) -> Any:
    program = SCRIPT + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program, str(folder), str(count)],
        env=os.environ | {"PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def weights(model: Any) -> set[float]:
    return {w.data for neuron in model.neurons for w in neuron.w}


# --- many writers -------------------------------------------------------------------------------------------------


def test_threads_that_save_to_one_path_each_write_whole(tmp_path: Path) -> None:
    path, errors = tmp_path / "model.json", []
    models = [nn.Layer(5 + k, 2, init=lambda *_, k=k: float(k)) for k in range(6)]
    models[0].save(path)

    def write(model: Any) -> None:
        try:
            for _ in range(40):
                model.save(path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    read = 0
    while any(thread.is_alive() for thread in threads) or not read:
        model = nn.load(path)
        assert weights(model) == {float(model.nin - 5)}
        read += 1
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(tmp_path) == ["model.json"]


def test_processes_that_save_to_one_path_each_write_whole(tmp_path: Path) -> None:
    code = """
    model(0).save(path)
    children = []
    for k in range(4):
        if not (pid := os.fork()):
            try:
                for _ in range(count):
                    model(k, 5 + k).save(path)
                os._exit(0)
            except BaseException as error:
                print(error, flush=True)
                os._exit(1)
        children.append(pid)
    while children:
        number_in(path)
        children = [pid for pid in children if not os.waitpid(pid, os.WNOHANG)[0]]
    """
    done = script(code, tmp_path, 40)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.listdir(tmp_path) == ["model.json"]


# --- kills --------------------------------------------------------------------------------------------------------

KILLED = """
    rng, saved = random.Random(0), 0
    for trial in range(count):
        out, into = os.pipe()
        if not (pid := os.fork()):
            while True:
                saved += 1
                model(saved).save(path)
                os.write(into, saved.to_bytes(8, "little"))
        os.close(into)
        first = os.read(out, 8)
        time.sleep(rng.uniform(0.0, 0.01))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        told = first
        while more := os.read(out, 1 << 16):
            told += more
        os.close(out)
        saved = int.from_bytes(told[-8:], "little")
        found = number_in(path)
        assert found in (saved, saved + 1), (trial, saved, found)
        saved = found
    left = len(os.listdir(folder)) - 1
    model(saved).save(path)
    assert os.listdir(folder) == ["model.json"]
    print(left)
"""


def test_a_kill_at_any_moment_loses_nothing_that_was_saved(tmp_path: Path) -> None:
    """What a writer has told of is there, or what it was about to save; what it leaves is cleared away."""
    done = script(KILLED, tmp_path, 30)
    assert (done.returncode, done.stderr) == (0, "")


def test_only_what_dead_writers_left_is_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    dead = [".model.json.99999.tmp", f".model.json.{os.getpid()}.0123456789abcdef.tmp"]
    others = [".other.json.99999.tmp", ".model.json.bak.tmp", "model.json.99999.tmp", ".model.jsonx.1.tmp"]
    living = f".model.json.{os.getpid()}.fedcba9876543210.tmp"
    for name in (*dead, *others, living):
        (tmp_path / name).write_text("left")
    with open(tmp_path / living, "rb") as file:
        assert files._lock(file)
        nn.Neuron(1).save(path)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, living, "model.json"])
    nn.Neuron(1).save(path)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "model.json"])


def test_a_writer_whose_new_file_was_cleared_away_writes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = tmp_path / "model.json", []

    def lock(file: Any, wait: bool = True) -> bool:
        calls.append(file.name)
        if len(calls) < 3:
            os.unlink(file.name)  # as another writer may between the file's making and its locking
        return True

    monkeypatch.setattr(files, "_lock", lock)
    nn.Neuron(1).save(path)
    assert len(set(calls)) == len(calls) == 3
    assert os.listdir(tmp_path) == ["model.json"]


# --- disks and folders --------------------------------------------------------------------------------------------

PARTS = ["open", "write", "os.fsync", "os.replace"]
REASONS = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM]


@pytest.mark.parametrize("reason", REASONS, ids=errno.errorcode.get)
@pytest.mark.parametrize("part", PARTS)
def test_a_write_that_fails_names_the_path_and_leaves_the_old_file(
    part: str, reason: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, a read-only folder, a broken one: at each step of a write, and after half of the bytes."""
    path = tmp_path / "model.json"
    nn.Neuron(2).save(path)
    before = path.read_bytes()
    error = OSError(reason, os.strerror(reason))

    def fail(*_: str) -> Never:
        raise error

    class Full(io.FileIO):
        def write(self, data: Any) -> Any:
            if self.tell() > 100:
                raise error
            return super().write(data[: len(data) // 2])

    if part == "open":
        monkeypatch.setattr(files, "open", fail, raising=False)
    elif part == "write":
        monkeypatch.setattr(files, "open", lambda path, mode: io.BufferedWriter(Full(path, mode)), raising=False)
    else:
        monkeypatch.setattr(part, fail)
    with pytest.raises(OSError, match=r"model\.json'$") as caught:
        nn.Neuron(2).save(path)
    assert type(caught.value) is type(error)
    assert (caught.value.errno, caught.value.filename) == (reason, str(path))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.json"]


def test_a_disk_that_fills_up_anywhere_leaves_the_old_file(tmp_path: Path) -> None:
    code = """
    model(1).save(path)
    whole, rng = os.path.getsize(path), random.Random(0)
    for trial in range(count):
        resource.setrlimit(resource.RLIMIT_FSIZE, (rng.randrange(whole), resource.RLIM_INFINITY))
        try:
            model(2).save(path)
        except OSError as error:
            assert error.filename == path and path in str(error), error
        else:
            raise AssertionError
        assert number_in(path) == 1
        assert os.listdir(folder) == ["model.json"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    model(3).save(path)
    assert number_in(path) == 3
    """
    done = script(code, tmp_path, 40)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_device_is_written_to_and_not_replaced() -> None:
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        nn.Neuron(1).save("/dev/full")
    nn.Neuron(1).save("/dev/null")
    assert all(os.path.exists(path) and not os.path.isfile(path) for path in ("/dev/full", "/dev/null"))


@pytest.mark.parametrize("name", [".", "missing/model.json", "model.json/model.json", "x" * 300])
def test_a_path_that_cannot_be_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    path = str(tmp_path / name)
    for call in (nn.Neuron(1).save, nn.load, nn.Neuron(1).load):
        with pytest.raises(OSError, match=re.escape(repr(path))):
            call(path)
    assert os.listdir(tmp_path) == ["model.json"]


@pytest.mark.parametrize("name", ["x" * 250, "é" * 127, "𝒳" * 60, "a b\n.json", "[a].*.json"])
def test_any_name_that_the_system_takes_can_be_saved_to(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    (tmp_path / f".{name[:50]}.1.tmp").write_text("left")
    nn.Neuron(1).save(path)
    assert repr(nn.load(path)) == "ReLUNeuron(1)"
    assert os.listdir(tmp_path) == [name]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "model.json")
    nn.Neuron(1).save(tmp_path / "link")
    nn.Neuron(1).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert os.listdir(tmp_path / "folder") == ["model.json"]


# --- damage -------------------------------------------------------------------------------------------------------


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The bytes cut short, or with one bit turned over, or with some bytes gone or doubled."""
    at = rng.randrange(len(content) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    end = at + rng.randrange(1, 50)
    return content[:at] + content[at:end] * (0 if kind == 2 else 2) + content[end:]


def run(path: Path) -> None:
    X, y = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0.0, 1.0, 1.0]
    model = nn.MLP(2, [2, 1], activation="tanh", rng=random.Random(0))
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    rng = random.Random(0)
    before = model.state_dict(), optimizer.state_dict(), rng.getstate()
    try:
        training.fit(model, losses.mse, X, y, optimizer, epochs=2, batch_size=2, rng=rng, patience=5, checkpoint=path)
    except ValueError:
        assert (model.state_dict(), optimizer.state_dict(), rng.getstate()) == before
        raise


def read(path: Path) -> None:
    nn.load(path)
    nn.Sequential(nn.Standardize([1.0, 2.0], [1.0, 1.0]), nn.MLP(2, [2, 1])).load(path)


def trials(path: Path, take: Callable[..., Any], count: int) -> int:
    """How many of so many damaged files are refused; whatever is raised is a ValueError that begins with the path."""
    content, rng, said = path.read_bytes(), random.Random(0), []
    for _ in range(count):
        path.write_bytes(damaged(content, rng))
        try:
            take(path)
        except ValueError as error:
            said.append(str(error))
    assert [text for text in said if not text.startswith(str(path))] == []
    return len(said)


@pytest.mark.parametrize("count", [int(os.environ.get("MICROGRAD_BP_DAMAGES", "60"))])
@pytest.mark.parametrize("what", ["model", "checkpoint"])
def test_a_damaged_file_is_refused_by_name_or_whole(what: str, count: int, tmp_path: Path) -> None:
    """A digit that turned into another is all that goes unnoticed."""
    path = tmp_path / f"{what}.json"
    if what == "model":
        nn.Sequential(nn.Standardize([1.0, 2.0], [1.0, 1.0]), nn.MLP(2, [2, 1])).save(path)
        read(path)
    else:
        run(path)
        run(path)
    refused = trials(path, read if what == "model" else run, count)
    assert refused > 0.6 * count


@pytest.mark.parametrize("levels", [100, 400, 900, 100_000])
def test_a_model_file_nested_too_deeply_is_refused_as_damaged(levels: int, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    nn.Neuron(1).save(path)
    content = json.loads(path.read_text())
    inner = json.dumps(content.pop("architecture"))
    nested = '{"type": "Sequential", "parts": [' * levels + inner + "]}" * levels
    path.write_text(json.dumps(content)[:-1] + f', "architecture": {nested}}}')
    for load in (nn.load, nn.Neuron(1).load):
        with pytest.raises(ValueError, match=r"model\.json: nested too deeply.*damaged"):
            load(path)


@pytest.mark.parametrize("levels", [20, 90, 110, 400])
def test_what_is_saved_can_be_loaded_however_deep(levels: int, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    model: nn.Module = nn.Neuron(1)
    for _ in range(levels):
        model = nn.Sequential(model)
    if levels < 100:
        model.save(path)
        assert nn.load(path).state_dict() == model.state_dict()
    else:
        with pytest.raises(ValueError, match=r"model\.json: .*(nested|so many levels)"):
            model.save(path)
        assert os.listdir(tmp_path) == []
