"""One edge node as a host sees it: plain functions from a session and a message to the next session and its effects.

Time is an argument (seconds of a clock that never goes back). What must hold whatever arrives: each message has one
effect that answers for it (`Born`, `Data`, `Died`, `Refused`, `Ignored`), at once or after it waited its turn.
"""

from dataclasses import replace
from typing import Final

from shared.sparkplug.births import bd_seq, read_birth, read_data
from shared.sparkplug.node import (
    AskRebirth,
    Born,
    Data,
    Died,
    Effect,
    Gap,
    Ignored,
    Message,
    Refused,
    Rules,
    Session,
    Step,
)
from shared.sparkplug.topics import MessageType

SEQ: Final = 256
_RECENT: Final = 16
_AHEAD: Final = SEQ // 2


def receive(session: Session, message: Message, now: float, rules: Rules) -> Step:
    """The session after a message of its node, and what came of it."""
    match message.topic.kind:
        case MessageType.NBIRTH:
            return _node_birth(session, message, now, rules)
        case MessageType.NDEATH:
            return _node_death(session, message, now, rules)
        case MessageType.NCMD | MessageType.DCMD:
            return session, (Ignored(message, "a command is the node's to read"),)
    return _in_order(session, message, now, rules)


def tick(session: Session, now: float, rules: Rules) -> Step:
    """What time alone brings: a gap that did not close in time, a rebirth that may be asked for by now."""
    effects: tuple[Effect, ...] = ()
    if session.waiting and now - session.gap_since >= rules.reorder_seconds:
        session, effects = give_up(session, now, rules)
    if session.wanted:
        session, asked = _want(session, session.wanted, now, rules)
        effects += asked
    return session, effects


def give_up(session: Session, now: float, rules: Rules) -> Step:
    """Take what waits behind a gap in order, as suspect, and want a rebirth: what is missing is lost."""
    effects: list[Effect] = []
    waiting = sorted(session.waiting.values(), key=lambda each: _ahead(session, each))
    session = replace(session, waiting={}, suspect=session.suspect or bool(waiting))
    for message in waiting:
        missed = _ahead(session, message)
        if missed:
            effects.append(Gap(session.expected, message.payload.seq or 0, missed))
        session, applied = _apply(session, message, now, rules)
        effects += applied
    if waiting:
        session, asked = _want(session, "messages are missing", now, rules)
        effects += asked
    return session, tuple(effects)


def lose(session: Session, now: float, rules: Rules) -> Step:
    """The host lost its broker: what it knows is stale, and every node must be born anew."""
    session, effects = _flush(session, now, rules)
    if session.online:
        effects += _deaths(session, None, "the host lost the broker")
        session = replace(_offline(session, now), wanted="the host was away")
    return replace(session, asked_at=None), effects


def _node_birth(session: Session, message: Message, now: float, rules: Rules) -> Step:
    payload = message.payload
    if message.retained:
        return _aside(session, message, "a retained birth says nothing about now", now, rules)
    if payload.seq is None or not 0 <= payload.seq < SEQ:
        return session, (Refused(message, f"NBIRTH with the sequence number {payload.seq}"),)
    if session.online and message.key == session.birth and payload.timestamp is not None:
        return session, (Ignored(message, "a copy of the birth in force"),)
    table, contents = read_birth(payload)
    if len(table) > rules.metrics:
        return session, (Refused(message, f"no room for {len(table)} metrics: {rules.metrics} fit a node"),)
    number = bd_seq(payload)
    own = {
        seq: each
        for seq, each in session.waiting.items()
        if payload.timestamp is not None and (each.payload.timestamp or 0) >= payload.timestamp
    }
    old = {seq: each for seq, each in session.waiting.items() if seq not in own}
    session, effects = _flush(replace(session, waiting=old), now, rules)
    if session.online and number != session.bd_seq:
        effects += _deaths(session, None, "the node started anew")
    session = Session(
        session.node,
        online=True,
        bd_seq=number,
        birth=message.key,
        tables={"": table},
        expected=(payload.seq + 1) % SEQ,
        waiting=own,
        gap_since=now,
        asked_at=session.asked_at,
        changed_at=now,
    )
    session, drained = _drain(session, now, rules)
    return session, (*effects, Born("", message, number, table, contents), *drained)


def _node_death(session: Session, message: Message, now: float, rules: Rules) -> Step:
    number = bd_seq(message.payload)
    if not session.online:
        return session, (Ignored(message, "the node is not up"),)
    if number is None and session.bd_seq is not None:
        session, asked = _want(session, "a death of no session", now, rules)
        return session, (Refused(message, "NDEATH without bdSeq: whose death it is can't be told"), *asked)
    if session.bd_seq is not None and number != session.bd_seq:
        return session, (Ignored(message, f"the death of session {number}; {session.bd_seq} is up"),)
    session, effects = _flush(session, now, rules)
    return _offline(session, now), (*effects, *_deaths(session, message, "NDEATH"))


def _flush(session: Session, now: float, rules: Rules) -> Step:
    """Give up at the session's end: there is nothing left to ask the node for."""
    ended, effects = give_up(session, now, rules)
    kept = tuple(each for each in effects if not isinstance(each, AskRebirth))
    return replace(ended, wanted=session.wanted, asked_at=session.asked_at), kept


def _in_order(session: Session, message: Message, now: float, rules: Rules) -> Step:
    """A message that takes its place in the node's sequence."""
    seq = message.payload.seq
    if message.retained:
        return _aside(session, message, "a retained message says nothing about now", now, rules)
    if seq is None or not 0 <= seq < SEQ:
        return session, (Refused(message, f"{message.topic.kind} with the sequence number {seq}"),)
    if not session.online:
        why = "no birth of the node was heard" if session.birth is None else "the node is not up"
        return _refuse(session, message, why, now, rules)
    return _placed(session, message, now, rules)


def _placed(session: Session, message: Message, now: float, rules: Rules) -> Step:
    """Take the message if its turn has come, let it wait if it is ahead; copies are passed over."""
    seq, ahead = message.payload.seq or 0, _ahead(session, message)
    if ahead == 0:
        session, effects = _apply(session, message, now, rules)
        session, drained = _drain(session, now, rules)
        return session, (*effects, *drained)
    waiting = session.waiting.get(seq)
    if message.key in session.recent or (waiting is not None and waiting.key == message.key):
        return session, (Ignored(message, "a copy of a message that was taken"),)
    if ahead > _AHEAD or waiting is not None:
        return _refuse(session, message, f"number {seq} where {session.expected} is next", now, rules)
    since = session.gap_since if session.waiting else now
    session = replace(session, waiting={**session.waiting, seq: message}, gap_since=since)
    return give_up(session, now, rules) if _too_many(session, rules) else (session, ())


def _drain(session: Session, now: float, rules: Rules) -> Step:
    """Take what waited for its turn. If another gap is behind it, that one's time begins now."""
    effects: list[Effect] = []
    while (message := session.waiting.get(session.expected)) is not None:
        left = {seq: each for seq, each in session.waiting.items() if seq != session.expected}
        session, applied = _apply(replace(session, waiting=left, gap_since=now), message, now, rules)
        effects += applied
    return session, tuple(effects)


def _apply(session: Session, message: Message, now: float, rules: Rules) -> Step:
    """Take a message whose turn it is."""
    session = replace(
        session,
        expected=((message.payload.seq or 0) + 1) % SEQ,
        recent=(*session.recent[1 - _RECENT :], message.key),
    )
    device = message.topic.device
    match message.topic.kind:
        case MessageType.DBIRTH:
            return _device_birth(session, message, rules)
        case MessageType.DDEATH:
            if device not in session.tables:
                return session, (Ignored(message, "the device is not up"),)
            left = {name: table for name, table in session.tables.items() if name != device}
            return replace(session, tables=left), (Died(device, message, session.bd_seq, "DDEATH"),)
    table = session.tables.get(device)
    if table is None:
        return _refuse(session, message, f"no birth of device {device!r} was heard", now, rules)
    contents = read_data(table, message.payload, suspect=session.suspect)
    effects: tuple[Effect, ...] = (Data(device, message, contents),)
    if contents.unknown:
        session, asked = _want(session, "a metric is in no birth", now, rules)
        effects += asked
    elif session.suspect:
        session, asked = _want(session, "messages are missing", now, rules)
        effects += asked
    return session, effects


def _device_birth(session: Session, message: Message, rules: Rules) -> Step:
    device = message.topic.device
    table, contents = read_birth(message.payload, suspect=session.suspect)
    others = {name: each for name, each in session.tables.items() if name != device}
    if len(others) > rules.devices:
        return session, (Refused(message, f"no room for device {device!r}: {rules.devices} fit a node"),)
    if sum(map(len, others.values())) + len(table) > rules.metrics:
        return session, (Refused(message, f"no room for {len(table)} metrics: {rules.metrics} fit a node"),)
    session = replace(session, tables={**others, device: table})
    return session, (Born(device, message, session.bd_seq, table, contents),)


def _ahead(session: Session, message: Message) -> int:
    return ((message.payload.seq or 0) - session.expected) % SEQ


def _too_many(session: Session, rules: Rules) -> bool:
    waiting = session.waiting.values()
    return len(waiting) > rules.reorder_messages or sum(len(m.raw) for m in waiting) > rules.reorder_bytes


def _refuse(session: Session, message: Message, reason: str, now: float, rules: Rules) -> Step:
    session, asked = _want(session, reason, now, rules)
    return session, (Refused(message, reason), *asked)


def _aside(session: Session, message: Message, reason: str, now: float, rules: Rules) -> Step:
    """Pass a retained message over; a node that is up says so itself when asked."""
    asked: tuple[Effect, ...] = ()
    if not session.online:
        session, asked = _want(session, reason, now, rules)
    return session, (Ignored(message, reason), *asked)


def _want(session: Session, reason: str, now: float, rules: Rules) -> Step:
    """Ask for a rebirth, or remember to: at most once in `rebirth_seconds`, or a flood would answer each message."""
    if session.asked_at is not None and now - session.asked_at < rules.rebirth_seconds:
        return replace(session, wanted=reason), ()
    return replace(session, wanted="", asked_at=now), (AskRebirth(reason),)


def _offline(session: Session, now: float) -> Session:
    return replace(session, online=False, tables={}, waiting={}, recent=(), wanted="", changed_at=now)


def _deaths(session: Session, message: Message | None, reason: str) -> tuple[Died, ...]:
    """The node's death is that of its devices too; they go first, so that the message is answered for once."""
    devices = sorted(name for name in session.tables if name)
    return (
        *(Died(name, None, session.bd_seq, reason) for name in devices),
        Died("", message, session.bd_seq, reason),
    )
