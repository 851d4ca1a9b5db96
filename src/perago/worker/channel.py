"""The messages between the supervisor and a slot, their encoding, and the slot's end of the pipe that carries them.

One message is one frozen dataclass. A slot has at most one delivery at a time. So only delivery questions, which can
outlive their delivery, need a number.

Messages of a slot are JSON, so that nothing from a slot can run in the supervisor: a slot runs the author's code, which
can write to every descriptor of its process. The supervisor accepts only values of the types that are declared here.
Dataclasses and pydantic models are objects with the name of their type. Everything else is plain JSON.

The pipe is a pair of connected sockets. Messages to a slot are pickled, because the slot trusts its supervisor. The
supervisor validates everything from a slot. The supervisor's end is in `processes`.

In a slot, a thread of its own writes what the author's function, or perago's own code around it, sends. A signal that
interrupts those reaches the main thread, so it never tears a message.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import json
import pickle
import struct
import threading
import types
import typing
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Literal

from pydantic import BaseModel

from perago.attempt.events import FenceState
from perago.ports import Delivery, Report, ServiceError, WorkflowRow
from perago.worker.events import NO_USAGE, FunctionSaid, Logged, Usage, Watched, kinds_of

Identity = tuple[str, int, int]
"""`Delivery.identity`."""


# ------------------------------------------------------------------ supervisor to slot


@dataclass(frozen=True, slots=True)
class Deliver:
    """Run this delivery."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class DeliveryAnswer:
    """The answer to question `number`: yes, no, or the error that prevented an answer; and the requested row."""

    number: int
    current: bool = False
    error: ServiceError | None = None
    row: WorkflowRow | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """The current delivery is lost, timed out or canceled: stop the function, publish nothing more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End the process. Only sent to a slot without a delivery."""


@dataclass(frozen=True, slots=True)
class AskLog:
    """Send the log lines of the current attempt that were not sent yet. There is no answer without an attempt."""


ToSlot = Deliver | DeliveryAnswer | Cancel | Stop | AskLog


# ------------------------------------------------------------------ slot to supervisor


@dataclass(frozen=True, slots=True)
class Ready:
    """The task module is imported, and the slot accepts deliveries."""


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The slot cannot take deliveries and ends: the task module or the store factory raised."""

    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryQuestion:
    """Asks whether Conductor still waits for `identity`. With `read`, asks for the workflow with this id."""

    number: int
    identity: Identity
    read: str | None = None


@dataclass(frozen=True, slots=True)
class Calling:
    """The delivery's function is about to be called, so that the attempt cannot be handed back from now on."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class Finished:
    """The delivery's attempt has ended, except for its report."""

    identity: Identity
    report: Report | None
    """None: the delivery was lost, `lost_reason` says how, and nothing must be sent."""
    lost_reason: str | None = None
    published_commit: str | None = None
    fence: FenceState | None = None
    """`AttemptRecord.fence`."""
    remarks: tuple[str, ...] = ()
    """`AttemptRecord.remarks`."""
    steps: tuple[tuple[str, float], ...] = ()
    """Name and seconds of each step."""
    usage: Usage = NO_USAGE
    log_chunks: tuple[str, ...] = ()
    """Entries for Conductor's task log."""
    hand_back: bool = False
    """`AttemptRecord.hand_back`."""
    unfit: str | None = None
    """Why the process must not run another attempt, such as threads or children that the function left behind."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The delivery's attempt waits for lakeFS, or continues (`is_over`): `text` is a line about it."""

    identity: Identity
    text: str
    is_over: bool


@dataclass(frozen=True, slots=True)
class Repeating:
    """The delivery's attempt is about to repeat a call to `service`, or no longer waits for it."""

    identity: Identity
    service: str
    waits: bool


@dataclass(frozen=True, slots=True)
class Publishing:
    """The delivery's merge is about to be sent, or was answered."""

    identity: Identity
    repository: str
    branch: str
    expected_head: str
    reason_if_killed: str
    """The reason of the report if the process dies now. Empty: no publication of the attempt is on the branch or can
    still appear there."""


@dataclass(frozen=True, slots=True)
class LogSoFar:
    """The last log lines of the delivery's attempt since the previous message of this kind. There is at least one."""

    identity: Identity
    text: str


FromSlot = (
    LogSoFar | Ready | StartFailed | DeliveryQuestion | Calling | Finished | Waiting | Repeating | Publishing | Watched
)
_KINDS = {kind.__name__: kind for kind in typing.get_args(FromSlot)} | kinds_of(Watched)


# ------------------------------------------------------------------ a slot's messages as bytes


_NAME = "@"
MOST_BYTES = 256 * 1024
"""The limit for messages other than `Finished`. The size is checked before the message is decoded, because the JSON
decoder holds the GIL, so that decoding on another thread would block the supervisor, too."""
REPORT_BYTES = 512 * 1024
"""The largest size of a `Finished`, in addition to `Limits.max_result_bytes` for the result."""
REPORT_START = b'{"@":"Finished",'
"""The beginning of an encoded `Finished`. Only such a message may have more than `MOST_BYTES`."""
MOST_STEPS, MOST_REMARKS, MOST_CHUNKS = 1000, 100, 100
"""The largest numbers of items in a `Finished`."""
_FEW_CHUNKS, _LONGEST_TEXT, _LONGEST_FIELD = 4, 16_000, 2000
"""The numbers of characters in a shortened message. Each character has at most six bytes."""
MOST_BITS = 1000
"""The limit for integers. Above 1,024 digits they do not fit into a `float`, and arithmetic with them would fail."""


class BadMessage(Exception):
    """Bytes from a slot that are not a message, or a message that the slot must not send now."""


def encode(message: object) -> bytes:
    """Return a message, or a value of a message, as bytes."""
    text = json.dumps(message, default=_as_object, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def encode_within_limits(message: FromSlot) -> bytes:
    """Return a message as bytes, with shorter texts if it would be larger than the supervisor accepts."""
    data = encode(message)
    if isinstance(message, Finished):
        fits = len(data) <= REPORT_BYTES or len(encode(replace(message, report=None))) <= REPORT_BYTES
    else:
        fits = len(data) <= MOST_BYTES
    return data if fits else encode(_shortened(message))


def _shortened(message: FromSlot) -> FromSlot:
    match message:
        case Finished():
            some = message.log_chunks[:_FEW_CHUNKS]
            return replace(message, log_chunks=tuple(chunk[-_LONGEST_TEXT:] for chunk in some))
        case LogSoFar() | FunctionSaid():
            return replace(message, text=message.text[-_LONGEST_TEXT:])
        case Logged(_, line):
            plain = {key: value for key, value in line.items() if not isinstance(value, Mapping | list | tuple)}
            cut = {key: value[:_LONGEST_FIELD] if isinstance(value, str) else value for key, value in plain.items()}
            return replace(message, line=cut)
    return message


def decode(data: bytes) -> FromSlot:
    """Return the message in `data`.

    Raises:
        BadMessage: `data` is not a message.
    """
    collects = gc.isenabled()
    gc.disable()  # collections would make the decoding of many small values three times as long
    try:
        value = json.loads(data)
        message: FromSlot = _builder(_KINDS[value[_NAME]])(value)
    except Exception as error:  # a hostile sender may make anything of it
        raise BadMessage(f"{len(data):,} bytes that are not a message ({type(error).__name__})") from error
    finally:
        if collects:
            gc.enable()
    if len(data) > MOST_BYTES and not isinstance(message, Finished):
        raise BadMessage(too_large(len(data)))
    return message


def too_large(size: int) -> str:
    """Describe a message that is larger than its kind may be."""
    return f"a message of {size:,} bytes, and only a report may have more than {MOST_BYTES:,}"


def _as_object(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {_NAME: type(value).__name__, **value.model_dump()}
    if isinstance(value, Mapping):
        return dict(value)
    return {
        _NAME: type(value).__name__,
        **{field.name: getattr(value, field.name) for field in dataclasses.fields(value)},
    }


@functools.cache
def _builder(hint: Any) -> Callable[[Any], Any]:
    """Return the function that makes a value of the type `hint` from JSON, and raises if the JSON does not fit."""
    origin, parameters = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda value: value
    if origin in (types.UnionType, typing.Union):
        return functools.partial(_build_chosen, parameters)
    if origin is Literal:
        return lambda value: parameters[parameters.index(value)]
    if origin is tuple:
        return functools.partial(_build_tuple, parameters)
    if origin is not None and issubclass(origin, Mapping):
        return lambda value: {key: _builder(parameters[1])(member) for key, member in _of_type(dict, value).items()}
    if dataclasses.is_dataclass(hint) or issubclass(hint, BaseModel):
        return functools.partial(_build_object, hint)
    return hint if issubclass(hint, Enum) else functools.partial(_build_plain, hint)


def _build_plain(kind: type, value: Any) -> Any:
    if type(value) is int and value.bit_length() > MOST_BITS:
        raise ValueError("a number that is too large")
    return float(value) if kind is float and type(value) is int else _of_type(kind, value)


def _build_object(kind: Any, value: Any) -> Any:
    fields = dict(_of_type(dict, value))
    if fields.pop(_NAME) != kind.__name__:
        raise TypeError("another type was expected")
    if issubclass(kind, BaseModel):
        return kind(**fields)
    builders = _field_builders(kind)
    return kind(**{name: builders[name](member) for name, member in fields.items()})


@functools.cache
def _field_builders(kind: type) -> dict[str, Callable[[Any], Any]]:
    return {name: _builder(hint) for name, hint in typing.get_type_hints(kind).items()}


def _build_tuple(parameters: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    members = _of_type(list, value)
    if parameters[1:] == (...,):
        return tuple(map(_builder(parameters[0]), members))
    return tuple(_builder(hint)(item) for hint, item in zip(parameters, members, strict=True))


def _build_chosen(options: tuple[Any, ...], value: Any) -> Any:
    """Return a reader for the option of a union that `value` has: the named type, or the one that is not None."""
    if value is None and type(None) in options:
        return None
    if isinstance(value, dict) and _NAME in value:
        option = next(option for option in options if option.__name__ == value[_NAME])
    else:
        (option,) = (option for option in options if option is not type(None))
    return _builder(option)(value)


def _of_type(kind: Any, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError("another type was expected")
    return value


IO_LIMIT = 5
"""Seconds that a slot gets to continue with a message that it reads or writes."""

_HEADER = struct.Struct("!i")
"""The length of a message of up to 2 GiB, with which `multiprocessing.Connection` begins it."""


class ChannelError(Exception):
    """The supervisor has ended. The channel is useless."""


class SlotChannel:
    """The slot's end. `send` may be called by any thread and is not disturbed by signals, `receive` by one thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._unsent: deque[bytes | threading.Event] = deque()
        self._wakes: SimpleQueue[None] = SimpleQueue()
        """An item for each message that the writing thread should look for."""
        self._writing = threading.Lock()
        self._is_broken = False
        threading.Thread(target=self._write, name="perago-messages", daemon=True).start()

    def send(self, message: FromSlot) -> None:
        """Send one message, after all earlier ones.

        Raises:
            ChannelError: the supervisor has ended.
        """
        self._add(encode_within_limits(message))
        self._wakes.put(None)

    def send_now(self, message: FromSlot) -> None:
        """Send one message, after all earlier ones, and wait until it is sent. Quicker than `flush`, because the
        calling thread writes. No signal may raise an exception in the meantime, which would tear a message.

        Raises:
            ChannelError: the supervisor has ended, or the function has closed this end.
        """
        self._add(encode_within_limits(message))
        self._drain()
        self._check()

    def receive(self) -> ToSlot:
        """Wait for the next message, and return it.

        Raises:
            ChannelError: there will be none.
        """
        try:
            message: ToSlot = self._connection.recv()
        except Exception as error:  # the function may have read or written what is not its own
            raise ChannelError(str(error) or "the other end closed the pipe") from error
        return message

    def flush(self) -> None:
        """Wait until everything is sent.

        Raises:
            ChannelError: the supervisor has ended, or the function has closed this end.
        """
        reached = threading.Event()
        self._unsent.append(reached)
        self._wakes.put(None)
        reached.wait()
        self._check()

    def close(self) -> None:
        """Close this end. Safe to repeat, and in a forked child."""
        with contextlib.suppress(OSError):
            self._connection.close()

    def _add(self, data: bytes) -> None:
        self._check()
        self._unsent.append(data)

    def _check(self) -> None:
        if self._is_broken:
            raise ChannelError("the supervisor is gone")

    def _write(self) -> None:
        while True:
            self._wakes.get()
            self._drain()

    def _drain(self) -> None:
        with self._writing:
            while self._unsent:
                item = self._unsent.popleft()
                if isinstance(item, threading.Event):
                    item.set()
                elif not self._is_broken:
                    try:
                        self._connection.send_bytes(item)
                    except BaseException as error:
                        self._is_broken = True  # nothing may follow half a message
                        if not isinstance(error, (OSError, ValueError)):
                            raise


def framed(message: ToSlot) -> bytes:
    """Return a message as the bytes that `SlotChannel.receive` takes.

    Raises:
        RecursionError: it is nested too deeply.
    """
    data = pickle.dumps(message)
    return _HEADER.pack(len(data)) + data


def messages_in(buffer: bytearray, limit: int) -> Iterator[FromSlot]:
    """Take the complete messages out of the received bytes of a slot. None is larger than `limit`.

    Raises:
        BadMessage: the bytes are not a message. It is raised as early as that is known.
    """
    while len(buffer) >= _HEADER.size:
        (size,) = _HEADER.unpack_from(buffer)
        if not 0 < size <= limit:
            raise BadMessage(f"bytes that do not begin a message of at most {limit:,} bytes")
        start = buffer[_HEADER.size : _HEADER.size + len(REPORT_START)]
        if size > MOST_BYTES and not REPORT_START.startswith(start):
            raise BadMessage(too_large(size))
        end = _HEADER.size + size
        if len(buffer) < end:
            return
        data = bytes(buffer[_HEADER.size : end])
        del buffer[:end]
        yield decode(data)
