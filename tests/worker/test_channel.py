"""What a slot can do to its supervisor through the pipe between them: nothing but end itself."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import pytest

from perago.attempt.events import FenceState
from perago.attempt.state import Step
from perago.driver import AttemptRecord, StepTime
from perago.guardrails.evaluation import Finding
from perago.ports import Report, TaskStatus
from perago.worker import events
from perago.worker.attempt_log import in_parts
from perago.worker.channel import (
    MOST_BYTES,
    REPORT_BYTES,
    REPORT_START,
    BadMessage,
    Calling,
    ChannelError,
    DeliveryQuestion,
    Finished,
    FromSlot,
    LogSoFar,
    Ready,
    SlotChannel,
    StartFailed,
    Stop,
    decode,
    encode,
    encode_within_limits,
    framed,
    messages_in,
)
from perago.worker.slot_process import PipeDeliveryCheck
from perago.workspace.changes import ChangedFile, Changes
from tests.deliveries import make_delivery

from .bench import LIMIT as SECONDS

DELIVERY = make_delivery(poll_count=2, start_time=3, retry_count=1, input={"params": {"a": [1, None]}})
NESTED = {"result": {"text": "é\udc80\0", "numbers": [1, 2.5, 1e300], "nothing": None, "@": "Ready"}}
RECORD = AttemptRecord(
    delivery=DELIVERY,
    report=Report(TaskStatus.COMPLETED, NESTED),
    lost_reason=None,
    reached=Step.CLEANED,
    steps=(StepTime("Fetch", 0.25), StepTime("Merge", 1)),
    findings=(
        Finding("require_glob('raw/*.csv', min_count=1)", True, 3, "matched"),
        Finding("forbid_glob('**/*.tmp')", False, 1, "x"),
        Finding(None, False, 0, "irregular"),
    ),
    changes=Changes((ChangedFile("a\udcff", 1, "00", "text/csv", {"k": "v"}),), (), (ChangedFile("b", 2, "11"),)),
    input_ref="r",
    published_commit="c",
    fence=FenceState.INSTALLED,
)
MESSAGES: list[FromSlot] = [
    Ready(),
    StartFailed("ValueError: no"),
    DeliveryQuestion(7, DELIVERY.identity),
    DeliveryQuestion(8, DELIVERY.identity, "other"),
    Calling(DELIVERY.identity),
    Finished(
        DELIVERY.identity,
        Report(TaskStatus.FAILED, NESTED, "why"),
        published_commit="c",
        fence=FenceState.NOT_ENFORCED,
        remarks=("adopted",),
        steps=(("Fetch", 0.5), ("Merge", 2)),
        log_chunks=("log",),
        unfit="unfit",
    ),
    Finished(DELIVERY.identity, None, lost_reason="lost"),
    events.StepStarted("test0001", "Fetch"),
    events.Transferred("test0001", "download", 1, 2, 3, 4),
    events.FunctionSaid("test0001", "a line \udcff"),
    events.FunctionProgress("test0001", 1, 2),
    events.AttemptRecorded("test0001", RECORD),
]


class Harmful:
    """What runs code in the process that takes it for a pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_as_it_was_sent(message: FromSlot) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(pickle.dumps(Harmful()), id="a pickle"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"{}", id="an object"),
        pytest.param(b"[" * 100_000, id="nested"),
        pytest.param(b'{"@":"StartFailed"}', id="a field is missing"),
        pytest.param(b'{"@":"StartFailed","reason":1}', id="a number for text"),
        pytest.param(b'{"@":"StartFailed","reason":"a","more":1}', id="an unknown field"),
        pytest.param(b'{"@":"Stop"}', id="a message to slots"),
        pytest.param(b'{"@":["Ready"]}', id="a list for a name"),
        pytest.param(b'{"@":"DeliveryQuestion","number":true,"identity":["t",1,1]}', id="a truth for a number"),
        pytest.param(b'{"@":"DeliveryQuestion","number":1,"identity":["t",1]}', id="a short tuple"),
        pytest.param(
            b'{"@":"Finished","identity":["t",1,1],"report":{"@":"Report","status":"DONE"}}', id="an unknown status"
        ),
        pytest.param(b'{"@":"Stopped","exit_code":0}', id="an event of the supervisor"),
        pytest.param(b'{"@":"Transferred","worker_id":"","direction":"up","objects":1}', id="an unknown direction"),
        pytest.param(b'{"@":"StartFailed","reason":' + b"9" * 5000 + b"}", id="a huge number"),
        pytest.param(
            b'{"@":"Finished","identity":["t",1,1],"report":null,"usage":{"@":"Usage","downloaded":1'
            + b"0" * 400
            + b"}}",
            id="a number that is no float",
        ),
    ],
)
def test_anything_else_is_not_a_message(data: bytes) -> None:
    with pytest.raises(BadMessage, match="bytes that are not a message"):
        decode(data)


# ------------------------------------------------------------------------------ the pipe


MOST = REPORT_BYTES + 1000


def sent(message: FromSlot) -> bytes:
    """A message as it comes out of the pipe."""
    data = encode(message)
    return len(data).to_bytes(4, "big") + data


@contextmanager
def pipe() -> Iterator[tuple[socket.socket, SlotChannel]]:
    """The supervisor's end, and the slot's."""
    ours, theirs = socket.socketpair()
    with ours, Connection(theirs.detach()) as connection:
        yield ours, SlotChannel(connection)


def test_messages_arrive_in_order_for_any_chunks() -> None:
    data = b"".join(map(sent, MESSAGES))
    buffer, messages = bytearray(), list[FromSlot]()
    for start in range(0, len(data), 7):
        buffer += data[start : start + 7]
        messages += messages_in(buffer, MOST)
    assert messages == MESSAGES
    assert not buffer


@pytest.mark.parametrize(
    "data",
    [
        b"garbage",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\xff\xff\xff\xfe",
        (MOST + 1).to_bytes(4, "big"),
        (MOST_BYTES + 1).to_bytes(4, "big") + b'{"@":"Waiting"',
        b"\0\0\0\1x",
    ],
)
def test_invalid_bytes_are_refused_after_the_earlier_messages(data: bytes) -> None:
    messages = messages_in(bytearray(sent(Ready()) + data), MOST)
    assert next(messages) == Ready()
    with pytest.raises(BadMessage):
        next(messages)


def test_only_a_message_that_is_a_report_may_be_as_large_as_one() -> None:
    disguised = REPORT_START + b'"identity":"' + b"x" * MOST_BYTES + b'","@":"StartFailed","reason":"","identity":1}'
    with pytest.raises(BadMessage):
        decode(disguised)
    large = StartFailed("x" * MOST_BYTES)
    with pytest.raises(BadMessage, match="only a report may have more than 262,144"):
        decode(encode(large))


TEXT = "\1" * 65_536


@pytest.mark.parametrize(
    "message",
    [
        events.FunctionSaid("test0001", TEXT),
        events.Logged("test0001", {"message": TEXT, "level": "INFO", "findings": [TEXT] * 9}),
        LogSoFar(DELIVERY.identity, TEXT),
        Finished(DELIVERY.identity, Report(TaskStatus.FAILED, {}, "why"), log_chunks=(TEXT,) * 40),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_slot_shortens_texts_that_are_too_long_for_its_supervisor(message: FromSlot) -> None:
    most = REPORT_BYTES if isinstance(message, Finished) else MOST_BYTES
    assert len(encode(message)) > most
    data = encode_within_limits(message)
    assert len(data) <= most
    assert type(decode(data)) is type(message)


def test_a_signal_in_the_middle_of_a_send_tears_no_message() -> None:
    """As a cancellation, or an alarm of the author, comes when a part of the message is in the pipe."""

    class Alarm(Exception):
        pass

    def alarm(*_: object) -> None:
        raise Alarm

    message = Finished(DELIVERY.identity, Report(TaskStatus.COMPLETED, {"text": "x" * 500_000}))  # fills the pipe
    main = threading.main_thread().ident
    assert main is not None
    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with pipe() as (ours, slot):
            ours.settimeout(SECONDS)
            buffer = bytearray()

            def alarm_when_begun() -> None:
                buffer.extend(ours.recv(1))
                time.sleep(0.01)  # a signal right before the main thread waits would not wake it
                signal.pthread_kill(main, signal.SIGALRM)

            def received() -> FromSlot:
                while not (messages := list(messages_in(buffer, MOST))):
                    buffer.extend(ours.recv(65_536))
                return messages[0]

            def send() -> None:
                slot.send(message)
                threading.Event().wait(SECONDS)

            for _ in range(5):
                thread = threading.Thread(target=alarm_when_begun)
                thread.start()
                with pytest.raises(Alarm):
                    send()
                thread.join()
                assert received() == message
            slot.send(Ready())
            assert received() == Ready()
            ours.sendall(framed(Stop()))
            assert slot.receive() == Stop()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_slot_learns_that_its_supervisor_has_ended() -> None:
    with pipe() as (ours, slot):
        ours.close()
        slot.send(Ready())
        with pytest.raises(ChannelError):
            slot.flush()
        with pytest.raises(ChannelError):
            slot.send(Ready())
        assert not PipeDeliveryCheck(slot).is_current(DELIVERY)


# ----------------------------------------------------------------- records of many files


def test_a_record_of_many_files_travels_in_parts_that_fit() -> None:
    files = tuple(ChangedFile("é" * 512 + str(number), number, "0" * 32) for number in range(3500))
    whole = replace(RECORD, changes=Changes(files[:1500], files[1500:2500], files[2500:]))
    together: AttemptRecord | None = None
    parts = list(in_parts(whole))
    for part in parts:
        assert len(encode(events.AttemptRecorded("test0001", part))) <= MOST_BYTES
        together = events.joined(together, part)
    assert together is not None
    assert len(parts) > 4
    assert (together.changes, together.findings, together.steps) == (whole.changes, whole.findings, whole.steps)
