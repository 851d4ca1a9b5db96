"""What a slot can do to its supervisor through the pipe between them: nothing but end itself."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import threading
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
from perago.worker.attempt_log import in_parts
from perago.worker.channel import (
    MOST_BYTES,
    REPORT_BYTES,
    REPORT_START,
    BadMessage,
    Calling,
    ChannelError,
    Deliver,
    DeliveryQuestion,
    Finished,
    ForwardedEvent,
    FromSlot,
    LogSoFar,
    Ready,
    SlotChannel,
    StartFailed,
    Stop,
    SupervisorChannel,
    ToSlot,
    decode,
    encode,
    encode_within_limits,
    open_channel,
)
from perago.worker.events import (
    AttemptRecorded,
    FunctionProgress,
    FunctionSaid,
    Logged,
    StepStarted,
    Transferred,
    joined,
)
from perago.worker.slot_process import PipeDeliveryCheck
from perago.workspace.changes import ChangedFile, Changes
from tests.deliveries import make_delivery

from .bench import LIMIT as SECONDS
from .bench import wait_for

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
    ForwardedEvent(StepStarted("test0001", "Fetch")),
    ForwardedEvent(Transferred("test0001", "download", 1, 2, 3, 4)),
    ForwardedEvent(FunctionSaid("test0001", "a line \udcff")),
    ForwardedEvent(FunctionProgress("test0001", 1, 2)),
    ForwardedEvent(AttemptRecorded("test0001", RECORD)),
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
        pytest.param(b'{"@":"ForwardedEvent","event":{"@":"Stopped","exit_code":0}}', id="an event of the supervisor"),
        pytest.param(
            json.dumps(
                {
                    "@": "ForwardedEvent",
                    "event": {"@": "Transferred", "worker_id": "", "direction": "sideways", "objects": 1},
                }
            ).encode(),
            id="an unknown direction",
        ),
        pytest.param(b'{"@":"StartFailed","reason":' + b"9" * 5000 + b"}", id="a huge number"),
        pytest.param(
            b'{"@":"Finished","identity":["t",1,1],"report":null,"usage":{"@":"Usage","downloaded":1'
            + b"0" * 400
            + b"}}",
            id="a number that is no float",
        ),
    ],
)
def test_anything_else_is_no_message(data: bytes) -> None:
    with pytest.raises(BadMessage, match="bytes that are not a message"):
        decode(data)


# ------------------------------------------------------------------------------ the pipe


@contextmanager
def channel() -> Iterator[tuple[SupervisorChannel, Connection]]:
    """Both ends, the slot's as it is before it becomes a `SlotChannel`."""
    ours, theirs = open_channel(1000)
    try:
        yield ours, theirs
    finally:
        ours.close()
        theirs.close()


def raw(connection: Connection, data: bytes) -> None:
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.sendall(data)


def taken(ours: SupervisorChannel) -> list[FromSlot]:
    """All that has come, without waiting."""
    while ours.receive():
        pass
    return list(ours.messages())


def test_messages_come_in_order_whatever_the_cuts() -> None:
    data = b"".join(len(text).to_bytes(4, "big") + text for text in map(encode, MESSAGES))
    with channel() as (ours, theirs):
        found: list[FromSlot] = []
        for start in range(0, len(data), 7):
            raw(theirs, data[start : start + 7])
            found += taken(ours)
        assert found == MESSAGES
        assert not ours.begun


@pytest.mark.parametrize(
    "data",
    [
        b"garbage",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\xff\xff\xff\xfe",
        (REPORT_BYTES + 1001).to_bytes(4, "big"),
        (MOST_BYTES + 1).to_bytes(4, "big") + b'{"@":"Waiting"',
        b"\0\0\0\1x",
    ],
)
def test_bytes_that_are_no_message_are_refused_at_once_after_what_came_before(data: bytes) -> None:
    with channel() as (ours, theirs):
        theirs.send_bytes(encode(Ready()))
        raw(theirs, data)
        ours.receive()
        messages = ours.messages()
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
        ForwardedEvent(FunctionSaid("test0001", TEXT)),
        ForwardedEvent(Logged("test0001", {"message": TEXT, "level": "INFO", "findings": [TEXT] * 9})),
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


def test_a_message_that_the_slot_does_not_take_costs_no_waiting() -> None:
    message = Deliver(replace(DELIVERY, input={"text": "x" * 4_000_000}))
    with channel() as (ours, theirs):
        ours.send(message)
        ours.send(Stop())
        assert ours.unsent > 1_000_000
        slot = SlotChannel(theirs)
        taken: list[ToSlot] = []
        reading = threading.Thread(target=lambda: taken.extend(slot.receive() for _ in range(2)))
        reading.start()

        def sent() -> bool:
            ours.flush()
            return not ours.unsent

        wait_for("the rest to be taken", sent)
        reading.join(SECONDS)
        assert taken == [message, Stop()]


def test_half_a_message_costs_no_waiting() -> None:
    with channel() as (ours, theirs):
        raw(theirs, b"\0\1\0\0half")
        assert taken(ours) == []
        assert ours.begun == 8
        assert not ours.receive()  # nothing has come since, and nobody waits for it
        theirs.close()
        with pytest.raises(ChannelError):
            ours.receive()


def test_a_signal_in_the_middle_of_a_send_tears_no_message() -> None:
    """As a cancellation, or an alarm of the author, comes when a part of the message is in the pipe."""

    class Alarm(Exception):
        pass

    def alarm(*_: object) -> None:
        raise Alarm

    report = Report(TaskStatus.COMPLETED, {"text": "x" * 500_000})  # more than the pipe holds
    message = Finished(DELIVERY.identity, report)
    main = threading.main_thread().ident
    assert main is not None

    def alarm_when_begun(ours: SupervisorChannel) -> None:
        wait_for("the first bytes", ours.receive)
        signal.pthread_kill(main, signal.SIGALRM)

    def send(slot: SlotChannel) -> None:
        slot.send(message)
        threading.Event().wait(SECONDS)

    def complete(ours: SupervisorChannel, expected: FromSlot) -> bool:
        return expected in taken(ours)

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with channel() as (ours, theirs):
            slot = SlotChannel(theirs)
            for _ in range(5):
                thread = threading.Thread(target=alarm_when_begun, args=(ours,))
                thread.start()
                with pytest.raises(Alarm):
                    send(slot)
                thread.join()
                wait_for("the whole message", lambda: complete(ours, message))
            slot.send(Ready())
            wait_for("the last message", lambda: complete(ours, Ready()))
            ours.send(Stop())
            assert slot.receive() == Stop()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_slot_whose_supervisor_is_gone_is_told_so() -> None:
    with channel() as (ours, theirs):
        slot = SlotChannel(theirs)
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
        assert len(encode(ForwardedEvent(AttemptRecorded("test0001", part)))) <= MOST_BYTES
        together = joined(together, part)
    assert together is not None
    assert len(parts) > 4
    assert (together.changes, together.findings, together.steps) == (whole.changes, whole.findings, whole.steps)
