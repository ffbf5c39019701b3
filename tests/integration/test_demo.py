"""`make demo` where it cannot start, and how it ends: what is said, with which exit code, and what is left behind."""

from __future__ import annotations

import ast
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from deploy.local.embedded import mongod_program
from deploy.local.stack import ROOT, Ports, free_ports

BOOTSTRAP = ROOT / "deploy/local/bootstrap.py"
DEMO = (sys.executable, "-m", "deploy.local.demo")
NOBODY = 65534


def env(data: Path, ports: Ports, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HILO_")}
    return {**kept, "DATA": str(data), "PORT": str(ports.console), "KAFKA": "", "MONGO": "", **more}


def ended(*command: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """The exit code and what stood on the error output."""
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stderr


def patched(what: str) -> tuple[str, ...]:
    """The demo with one thing about this machine being otherwise."""
    start = f"import os, pwd, platform, sys\nfrom deploy.local import demo, embedded\n{what}\nsys.exit(demo.main([]))"
    return (sys.executable, "-c", start)


def left(data: Path) -> list[str]:
    """Processes that run on files in this folder or with them in their environment."""
    found = []
    for one in psutil.process_iter():
        try:
            if any(str(data) in word for word in (*one.cmdline(), one.environ().get("HILO_MEDIA_DIR", ""))):
                found.append(" ".join(one.cmdline()))
        except psutil.Error:
            continue
    return found


# -- where it cannot start ------------------------------------------------------------------------------------------------


def test_001_a_port_that_is_taken_names_its_holder_and_another_port(tmp_path: Path) -> None:
    ports = free_ports()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports.of["router"]))
        taken.listen()
        code, said = ended(*DEMO, environment=env(tmp_path, ports))

    name = psutil.Process().name()
    assert code == 2, said
    assert said == (
        f'HILO-001  Port {ports.of["router"]} is taken by "{name}" (pid {os.getpid()}).\n'
        f"          Stop it, or use other ports:   make demo PORT={ports.console + 100}\n"
    )


@pytest.mark.parametrize("found", ["/opt/python3.12", ""])
def test_002_an_old_python_names_one_that_is_new_enough(tmp_path: Path, found: str) -> None:
    """Whatever Python runs the test, bootstrap.py is made to believe that it is 3.9."""
    start = (
        "import runpy, shutil, subprocess, sys\n"
        "sys.version_info = (3, 9, 1, 'final', 0)\n"
        f"shutil.which = lambda name: {found!r} if name == 'python3.12' else None\n"
        "subprocess.call = lambda *_, **__: 0\n"
        f"sys.argv = ['bootstrap.py', 'demo']\nrunpy.run_path({str(BOOTSTRAP)!r}, run_name='__main__')"
    )
    code, said = ended(sys.executable, "-c", start, environment=os.environ)

    assert code == 2, said
    assert said == (
        "HILO-002  This is Python 3.9; Hilo needs 3.11 or newer. Found here: /opt/python3.12\n"
        "          make demo PYTHON=/opt/python3.12\n"
        if found
        else "HILO-002  This is Python 3.9; Hilo needs 3.11 or newer.\n"
        '          install it with "uv python install 3.12" or from your system\'s packages\n'
    )


def test_002_can_be_said_by_an_old_python() -> None:
    """What an old one cannot parse it answers with a traceback."""
    ast.parse(BOOTSTRAP.read_text(), feature_version=(3, 6))


@pytest.mark.parametrize(
    ("package", "what", "instead"),
    [("fiftyone", "MongoDB", "MONGO=mongodb://host:27017"), ("noida_db", "broker", "KAFKA=host:9092")],
)
def test_003_a_platform_without_the_embedded_servers_names_the_ways_round(
    tmp_path: Path, package: str, what: str, instead: str
) -> None:
    without = (
        "import importlib.util\nfind = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *more: None if name == {package!r} else find(name, *more)\n"
        "platform.system, platform.machine = lambda: 'Linux', lambda: 'riscv64'"
    )
    code, said = ended(*patched(without), environment=env(tmp_path, free_ports(), PATH="/nowhere"))

    assert code == 2, said
    assert said == (
        f"HILO-003  There is no embedded {what} for linux/riscv64.\n"
        f"          Use one of yours:   make demo {instead}\n"
        "          or containers:      docker compose up --wait\n"
    )
    assert left(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the loader's words are those of Linux")
def test_004_a_library_that_mongod_misses_is_named_with_its_package(tmp_path: Path) -> None:
    """The real mongod, changed to want a library that is nowhere."""
    program, changed = mongod_program(), tmp_path / "mongod"
    assert program
    changed.write_bytes(program.read_bytes().replace(b"libcrypto.so.3\0", b"libcrypto.so.0\0"))
    changed.chmod(0o755)
    data = tmp_path / "data"
    other = f"import pathlib\nembedded.mongod_program = lambda: pathlib.Path({str(changed)!r})"
    code, said = ended(*patched(other), environment=env(data, free_ports()))

    assert code == 2, said
    assert said == (
        "HILO-004  mongod cannot start: libcrypto.so.0 is missing.\n"
        "          Debian, Ubuntu:   sudo apt install libssl3\n"
        "          Fedora:           sudo dnf install openssl-libs\n"
    )
    assert left(data) == []


def as_nobody(command: str) -> str:
    """Only root has to give up its rights first."""
    return f"os.seteuid({NOBODY})\n{command}" if os.geteuid() == 0 else command


def passable(folder: Path) -> None:
    """Others may pass through the folders above, so that what stops them is the folder itself."""
    for one in (folder, *folder.parents):
        if one.stat().st_uid == os.geteuid() and one != Path("/"):
            one.chmod(one.stat().st_mode | 0o011)


def test_005_a_folder_of_somebody_else_names_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "hilo"
    folder.mkdir()
    folder.chmod(0o555)
    passable(tmp_path)
    owner = psutil.Process().username()
    code, said = ended(*patched(as_nobody("")), environment=env(folder, free_ports()))

    assert code == 2, said
    assert said == (
        f"HILO-005  Cannot write to {folder} (it belongs to {owner}).\n"
        f'          sudo chown -R "$USER" {folder}      or elsewhere:   make demo DATA=~/hilo-demo\n'
    )


def test_005_an_environment_of_somebody_else_names_its_owner(tmp_path: Path) -> None:
    """bootstrap.py, run by somebody who may not write into the folder of the environment."""
    (tmp_path / ".venv").mkdir(mode=0o555)
    passable(tmp_path)
    start = (
        f"import os, pwd, runpy, sys\nfound = runpy.run_path({str(BOOTSTRAP)!r})\nmain = found['main']\n"
        f"main.__globals__.update(ROOT={str(ROOT)!r}, VENV={str(tmp_path / '.venv')!r})\n"
        f"if os.getuid() == 0:\n    os.setuid({NOBODY})\nmain('demo')"
    )
    code, said = ended(sys.executable, "-c", start, environment=os.environ)
    shown = os.path.relpath(tmp_path / ".venv", ROOT)

    assert code == 2, said
    assert said == (
        f"HILO-005  Cannot write to {shown} (it belongs to {psutil.Process().username()}).\n"
        f'          sudo chown -R "$USER" {shown}\n'
    )


def test_006_a_port_that_is_none_is_told(tmp_path: Path) -> None:
    for given in ("abc", "80", "65530"):
        code, said = ended(*DEMO, environment=env(tmp_path, free_ports(), PORT=given))
        assert (code, said.splitlines()[0]) == (2, f"HILO-006  PORT={given} is no port from 1027 to 65513.")


@pytest.mark.parametrize("given", [{"KAFKA": "127.0.0.1:1"}, {"MONGO": "mongodb://user:word@127.0.0.1:1"}])
def test_007_a_broker_or_database_of_the_users_that_does_not_answer(tmp_path: Path, given: Mapping[str, str]) -> None:
    code, said = ended(*DEMO, environment=env(tmp_path, free_ports(), **given))

    assert code == 2, said
    assert re.search(r"HILO-007  No (broker|MongoDB) answers at 127\.0\.0\.1:1 ", said)
    assert "make demo" in said
    assert "word" not in said
    assert "Traceback" not in said
    assert left(tmp_path) == []


# -- how it ends ----------------------------------------------------------------------------------------------------------


class Running:
    """The demo as `make demo` starts it, in a process group of its own, as a terminal would have it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            DEMO,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.said = ""

    def until(self, words: str) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said += line
            if words in line:
                return
        pytest.fail(f"it ended with {self.process.wait()} before it said {words!r}:\n{self.said}")

    def end(self, signal_: signal.Signals) -> int:
        os.killpg(self.process.pid, signal_)
        rest, _ = self.process.communicate(timeout=100)
        self.said += rest
        return self.process.returncode


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    for one in psutil.process_iter(["cmdline"]):
        if any(str(tmp_path) in word for word in one.info["cmdline"] or ()):
            one.kill()


@pytest.mark.timeout(400)
def test_it_stops_all_it_has_started_and_starts_again_also_after_a_kill(data: Path) -> None:
    where = env(data, free_ports())
    first = Running(where)
    first.until("Look at the yellow row")
    killed = first.end(signal.SIGKILL)
    assert killed == -signal.SIGKILL

    second = Running(where)  # finds ports, files and processes of the first
    second.until("Look at the yellow row")
    assert second.end(signal.SIGINT) == 0
    assert re.search(r"Stopping: services, mongod, broker … done in \d+\.\d s", second.said)
    assert f"The files of this run stay in {data}." in second.said
    assert left(data) == []
    assert (data / "logs/ingest.log").exists()

    third = Running(where)
    third.until("broker")
    assert third.end(signal.SIGTERM) == 130
    _gone(data)


def _gone(data: Path) -> None:
    deadline = time.monotonic() + 30
    while (there := left(data)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert there == []


def test_without_a_terminal_there_are_no_colours_ticks_and_keys(data: Path) -> None:
    one = Running(env(data, free_ports()))
    one.until("broker")
    one.end(signal.SIGINT)

    assert one.said.startswith("Hilo demo. Nothing leaves this machine.\n\n  python        3.")
    assert "\033" not in one.said
    assert "✓" not in one.said
