"""A task that behaves as its parameters say: well, badly, or not at all."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import logging
import logging.config
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import loguru
from pydantic import BaseModel

import perago
from perago import TaskFailed, task


class Params(BaseModel):
    what: str
    file: str = ""
    seconds: float = 0.0
    then: str = ""


class Result(BaseModel):
    text: str


_LIBC = ctypes.PyDLL(None)  # PyDLL: calls keep the GIL


def _returns(params: Params) -> str:
    return "fine"


def _state(params: Params) -> str:
    mask = os.umask(0)
    os.umask(mask)
    handler = getattr(signal.getsignal(signal.SIGUSR1), "name", "changed")
    rest = f"{signal.pthread_sigmask(signal.SIG_BLOCK, ())} {resource.getrlimit(resource.RLIMIT_NOFILE)}"
    return f"{Path.cwd().name} {os.environ.get('BEHAVES')} {mask:o} {handler} {rest} {os.environ['PERAGO_WORKER_ID']}"


def _pid(params: Params) -> str:
    return str(os.getpid())


def _raises(params: Params) -> str:
    raise KeyError("no such thing")


def _fails(params: Params) -> str:
    raise TaskFailed("not today")


def _exits_hard(params: Params) -> str:
    os._exit(3)


def _kills_itself(params: Params) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return "unreachable"


def _segfaults(params: Params) -> str:
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)
    return "unreachable"


def _forks_and_both_return(params: Params) -> str:
    if os.fork() == 0:
        return "the child"
    return "the parent"


def _forks_and_leaves_the_child(params: Params) -> str:
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    return str(pid)


def _leaves_a_daemon(params: Params) -> str:
    """Forks twice and changes the session, as daemons do."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(write_end, str(os.getpid()).encode())
            time.sleep(600)
        os._exit(0)
    os.wait()
    return os.read(read_end, 100).decode()


def _leaves_a_daemon_and(params: Params) -> str:
    """Goes on as `then` says; the daemon's process id is in the file."""
    Path(f"{params.file}.daemon").write_text(_leaves_a_daemon(params))
    return str(globals()[f"_{params.then}"](params))


def _leaves_hundreds(params: Params) -> str:
    """In sessions of their own, without any variable of ours."""
    command = ["sh", "-c", "trap '' TERM; sleep 600 & wait"]
    pids = [subprocess.Popen(command, env={}, start_new_session=True).pid for _ in range(150)]
    return " ".join(map(str, pids))


def _leaves_one_that_forks_all_the_time(params: Params) -> str:
    """Each process of the chain lives for a moment; the session is theirs. It ends by itself after a while."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.write(write_end, str(os.getpid()).encode())
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
        os._exit(0)
    return os.read(read_end, 100).decode()


def _exits_with_status_0(params: Params) -> str:
    os._exit(0)


def _prints(params: Params) -> str:
    print("from print")
    print("from stderr", file=sys.stderr)
    logging.getLogger("behaves").info("from logging")
    subprocess.run(["sh", "-c", "echo from a child process"], check=True)
    perago.current().log("from current")
    sys.stdout.write("without an end")
    return "printed"


def _reconfigures_logging(params: Params) -> str:
    loguru.logger.remove()
    loguru.logger.add(lambda message: print("loguru", message))
    logging.config.dictConfig({"version": 1})
    logging.shutdown()
    logging.setLogRecordFactory(lambda *_, **__: None)  # type: ignore[arg-type]
    logging.disable(logging.CRITICAL)
    print("printed")
    return "reconfigured"


def _prints_in_turn(params: Params) -> str:
    for number in range(30):
        print(f"print {number}")
        perago.current().log(f"log {number}")
        sys.stdout.buffer.write(f"bytes {number}\n".encode())
        logging.getLogger("behaves").info("logging %s", number)
        print(f"stderr {number}", file=sys.stderr)
    return "printed"


def _prints_a_line(params: Params) -> str:
    print("one line")
    return "printed"


def _prints_megabytes(params: Params) -> str:
    for _ in range(64):
        sys.stdout.write("x" * 65_536)
    return "printed"


def _prints_many_lines(params: Params) -> str:
    for number in range(1000):
        print(f"line {number}")
    return "printed"


def _prints_binary(params: Params) -> str:
    os.write(1, bytes(range(256)) + b"\n\xff\xfe{braces} <tags>\n")
    return "printed"


def _leaves_a_noisy_child(params: Params) -> str:
    subprocess.Popen(["sh", "-c", "while :; do echo noise; done"])
    return "left"


def _closes_its_output(params: Params) -> str:
    sys.stdout.close()
    os.close(1)
    os.close(2)
    return "closed"


def _closes_all_descriptors(params: Params) -> str:
    os.closerange(3, 256)
    return "closed"


def _writes_garbage_to_every_descriptor(params: Params) -> str:
    for descriptor in range(256):
        with contextlib.suppress(OSError):
            os.set_blocking(descriptor, False)
            os.write(descriptor, b"garbage\n")
    time.sleep(params.seconds)
    return "written"


def _pipe() -> int:
    """The slot's end of the pipe to its supervisor: the one stream socket of a process that speaks to nobody else."""
    for descriptor in range(3, 256):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as found:
            if found.family == socket.AF_UNIX and found.type == socket.SOCK_STREAM:
                return descriptor
    raise LookupError("there is no pipe")


def _sends(params: Params) -> str:
    for message in params.file.encode().split(b"\n"):
        os.write(_pipe(), len(message).to_bytes(4, "big") + message)
    time.sleep(600)
    return "unreachable"


def _sends_half_a_message(params: Params) -> str:
    os.write(_pipe(), b"\0\0\1\0half")
    time.sleep(600)
    return "unreachable"


def _prints_a_secret(params: Params) -> str:
    secret = os.environ["SECRET_OF_THE_TEST"]
    print(f"printed {secret}!")
    print("x" * 16_380 + secret)
    print(f"Basic {base64.b64encode(f'user:{secret}'.encode()).decode()}")
    perago.current().log(f"logged {urllib.parse.quote(secret)}!")
    logging.getLogger("behaves").warning("recorded %r", secret)
    if params.file == "raise":
        raise ValueError(f"bad {secret}")
    raise TaskFailed(params.file + secret)


def _prints_100_000_lines(params: Params) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF)
    for number in range(100_000):
        print(f"line {number}")
    after = resource.getrusage(resource.RUSAGE_SELF)
    return f"{after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime} {after.ru_maxrss - before.ru_maxrss}"


def _logs_without_end(params: Params) -> str:
    for number in range(20_000):
        perago.current().log(f"line {number}")
        perago.current().progress(number, 20_000)
    perago.current().log("x" * 50_000_000)
    return "logged"


def _raises_megabytes(params: Params) -> str:
    raise ValueError("x" * 50_000_000)


def _changes_the_process(params: Params) -> str:
    os.chdir("/")
    os.environ["BEHAVES"] = "badly"
    os.umask(0o777)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)  # ends a process that has no handler
    return "changed"


def _lowers_a_hard_limit(params: Params) -> str:
    if not os.geteuid():
        os.seteuid(65534)  # root could raise the limit again
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**40, 2**40))
    return str(os.getpid())


def _writes_beside(params: Params) -> str:
    Path("out").mkdir()
    Path("out/a.csv").write_text("1")
    return str(Path.cwd())


def _leaves_a_thread(params: Params) -> str:
    threading.Thread(target=time.sleep, args=(600,), name="forgotten", daemon=True).start()
    return str(os.getpid())


def _sleeps(params: Params) -> str:
    Path(params.file).write_text(str(os.getpid()))
    time.sleep(params.seconds)
    return "slept"


def _waits(params: Params) -> str:
    """Ends when the test makes another file beside its own."""
    Path(params.file).write_text(str(os.getpid()))
    while not Path(params.file).with_suffix(".end").exists():
        time.sleep(0.005)
    return "waited"


def _counts_and_waits(params: Params) -> str:
    perago.current().progress(1, 3)
    perago.current().log("two")
    perago.current().progress(2, 3)
    return _waits(params)


def _says_and_waits(params: Params) -> str:
    print("begun")
    try:
        return _waits(params)
    finally:
        print("ended")


def _holds_the_gil(params: Params) -> str:
    """Ends when the test opens a pipe, which it has made beside the file."""
    Path(params.file).write_text(str(os.getpid()))
    os.close(_LIBC.open(os.fsencode(Path(params.file).with_suffix(".end")), os.O_RDONLY))
    return "let go"


def _cleans_up_when_cancelled(params: Params) -> str:
    try:
        Path(params.file).write_text("running")
        time.sleep(600)
    finally:
        Path(params.file).write_text(f"cleaned up, cancelled={perago.current().cancelled}")
    return "unreachable"


def _ignores_term(params: Params) -> str:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(params.file).write_text(str(os.getpid()))
    time.sleep(600)
    return "unreachable"


def _sends_itself_term(params: Params) -> str:
    os.kill(os.getpid(), signal.SIGTERM)
    return "went on"


@task(name="worker.behaves", description="Behaves as told.", owner_email="tests@example.com")
def behaves(params: Params) -> Result:
    """Calls the function that `what` names."""
    function: Callable[[Params], str] = globals()[f"_{params.what}"]
    return Result(text=function(params))
