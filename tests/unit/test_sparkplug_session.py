"""One node's session, told message by message: births, order, gaps, deaths, what is refused and what is passed over."""

from dataclasses import replace

import pytest

from shared.sparkplug import session as sessions
from shared.sparkplug.births import Sample
from shared.sparkplug.datatypes import DataType
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
)
from shared.sparkplug.payload import Metric, metric
from shared.sparkplug.topics import MessageType
from tests.sparkplug_messages import (
    NODE,
    T,
    dbirth,
    ddata,
    ddeath,
    definition,
    made,
    nbirth,
    ndata,
    ndeath,
    temp,
)


class Told:
    """A session to which messages are told, one a second unless said otherwise."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.session = Session(NODE)
        self.rules = rules or Rules()
        self.now = 0.0

    def tell(self, *messages: Message) -> list[Effect]:
        effects: list[Effect] = []
        for message in messages:
            self.now += 0.001
            self.session, came = sessions.receive(self.session, message, self.now, self.rules)
            effects += came
        return effects

    def after(self, seconds: float) -> list[Effect]:
        self.now += seconds
        self.session, effects = sessions.tick(self.session, self.now, self.rules)
        return list(effects)


def kinds(effects: list[Effect]) -> list[str]:
    return [type(each).__name__ for each in effects]


def samples(effects: list[Effect]) -> list[Sample]:
    return [s for each in effects if isinstance(each, Data | Born) for s in each.contents.samples]


def values(effects: list[Effect]) -> list[object]:
    return [s.value for each in effects if isinstance(each, Data) for s in each.contents.samples]


def reason(effects: list[Effect]) -> str:
    """Why the only message that was refused or ignored was."""
    [found] = [each.reason for each in effects if isinstance(each, Refused | Ignored)]
    return found


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_birth_defines_and_data_comes_by_alias_or_by_name(told: Told) -> None:
    [born] = told.tell(nbirth())
    assert isinstance(born, Born)
    assert (born.device, born.bd_seq, len(born.table)) == ("", 0, 3)
    assert [s.value for s in born.contents.samples] == [0, False, 20.0]
    by_name = metric("Temp", DataType.DOUBLE, 2.5, timestamp=T)
    assert values(told.tell(ndata(1), ndata(2, by_name))) == [1.0, 2.5]
    assert told.session.online


def test_numbers_go_on_from_255_with_0(told: Told) -> None:
    told.tell(nbirth())
    effects = told.tell(*(ndata(n % 256, sent=T + n) for n in range(1, 600)))
    assert kinds(effects) == ["Data"] * 599


def test_a_birth_may_begin_at_another_number(told: Told) -> None:
    assert kinds(told.tell(nbirth(seq=200), ndata(201))) == ["Born", "Data"]


@pytest.mark.parametrize("seq", [None, 256])
def test_a_birth_without_a_proper_number_is_refused(told: Told, seq: int | None) -> None:
    assert "sequence number" in reason(told.tell(made(MessageType.NBIRTH, definition(), seq=seq)))
    assert not told.session.online


@pytest.mark.parametrize("seq", [None, 256])
def test_data_without_a_proper_number_is_refused(told: Told, seq: int | None) -> None:
    told.tell(nbirth())
    assert "sequence number" in reason(told.tell(made(MessageType.NDATA, temp(1.0), seq=seq)))


def test_data_before_a_birth_is_refused_and_a_birth_asked_for(told: Told) -> None:
    effects = told.tell(ndata(7))
    assert kinds(effects) == ["Refused", "AskRebirth"]
    assert reason(effects) == "no birth of the node was heard"


def test_data_of_a_device_without_a_birth_is_refused_and_a_birth_asked_for(told: Told) -> None:
    told.tell(nbirth())
    effects = told.tell(ddata(1), ndata(2))
    assert kinds(effects) == ["Refused", "AskRebirth", "Data"]
    assert reason(effects) == "no birth of device 'Pump' was heard"


def test_a_metric_in_no_birth_is_a_fault_and_a_birth_asked_for(told: Told) -> None:
    told.tell(nbirth())
    stranger = metric(None, DataType.DOUBLE, 1.0, alias=9, typeless=True)
    data, asked = told.tell(ndata(1, temp(3.0), stranger))
    assert isinstance(data, Data)
    assert values([data]) == [3.0]
    assert [(f.name, f.reason) for f in data.contents.faults] == [("alias 9", "is in no birth")]
    assert asked == AskRebirth("a metric is in no birth")


def test_rebirths_are_asked_for_no_faster_than_the_rule(told: Told) -> None:
    assert kinds(told.tell(*(ndata(n) for n in range(50)))).count("AskRebirth") == 1
    assert kinds(told.after(9.9)) == []
    assert kinds(told.after(0.2)) == ["AskRebirth"]  # still wanted, and allowed again
    assert kinds(told.after(60)) == []  # nothing more was heard: the node may be gone


def test_a_birth_settles_what_was_asked(told: Told) -> None:
    told.tell(ndata(1), ndata(2))
    told.tell(nbirth())
    assert told.after(60) == []


def test_messages_in_the_wrong_order_are_put_right(told: Told) -> None:
    told.tell(nbirth())
    assert told.tell(ndata(3), ndata(2)) == []
    effects = told.tell(ndata(1))
    assert values(effects) == [1.0, 2.0, 3.0]
    assert not any(s.suspect for s in samples(effects))
    assert told.after(60) == []


def test_order_holds_across_node_and_devices(told: Told) -> None:
    told.tell(nbirth())
    effects = told.tell(ddata(2), dbirth(1), ndata(3))
    assert kinds(effects) == ["Born", "Data", "Data"]


def test_a_gap_is_given_up_after_its_time_and_a_birth_asked_for(told: Told) -> None:
    told.tell(nbirth(), ndata(1))
    assert told.tell(ndata(4), ndata(5)) == []
    assert told.after(4.9) == []
    effects = told.after(0.2)
    assert kinds(effects) == ["Gap", "Data", "AskRebirth", "Data"]
    assert effects[0] == Gap(expected=2, found=4, missed=2)
    assert [s.suspect for s in samples(effects)] == [True, True]
    assert kinds(told.tell(ndata(6))) == ["Data"]


def test_the_wait_is_the_oldest_gap_s_and_begins_anew_for_the_next(told: Told) -> None:
    told.tell(nbirth(), ndata(2))
    told.after(3)
    told.tell(ndata(4))
    told.after(1.9)
    assert values(told.tell(ndata(1))) == [1.0, 2.0]
    assert told.after(4.9) == []
    assert kinds(told.after(0.2))[0] == "Gap"


def test_after_a_gap_values_are_suspect_until_the_node_s_next_birth(told: Told) -> None:
    told.tell(nbirth(), ndata(2))
    told.after(6)
    assert [s.suspect for s in samples(told.tell(ndata(3)))] == [True]
    told.tell(nbirth(sent=T + 9000))
    assert [s.suspect for s in samples(told.tell(ndata(1)))] == [False]


@pytest.mark.parametrize("rules", [Rules(reorder_messages=3), Rules(reorder_bytes=80)])
def test_what_waits_is_bounded_and_given_up_early(rules: Rules) -> None:
    told = Told(rules)
    told.tell(nbirth())
    effects = told.tell(*(ndata(n) for n in range(2, 6)))
    assert kinds(effects)[0] == "Gap"
    assert len(told.session.waiting) <= 3


def test_copies_are_passed_over(told: Told) -> None:
    birth = nbirth()
    told.tell(birth)
    assert reason(told.tell(birth)) == "a copy of the birth in force"
    told.tell(ndata(1))
    assert reason(told.tell(ndata(1))) == "a copy of a message that was taken"
    told.tell(ndata(3))
    assert reason(told.tell(ndata(3))) == "a copy of a message that was taken"


def test_a_number_out_of_nowhere_is_refused(told: Told) -> None:
    told.tell(nbirth(), *(ndata(n) for n in range(1, 100)))
    effects = told.tell(ndata(50, sent=T + 99_999))
    assert kinds(effects) == ["Refused", "AskRebirth"]
    assert reason(effects) == "number 50 where 100 is next"
    told.tell(ndata(102))
    assert kinds(told.tell(ndata(102, sent=T + 99_999))) == ["Refused"]


def test_retained_messages_say_nothing_about_now(told: Told) -> None:
    effects = told.tell(replace(nbirth(), retained=True))
    assert kinds(effects) == ["Ignored", "AskRebirth"]
    told.tell(nbirth())
    assert kinds(told.tell(replace(ndata(9), retained=True))) == ["Ignored"]
    assert kinds(told.tell(ndata(1))) == ["Data"]


def test_a_death_takes_its_devices_along(told: Told) -> None:
    told.tell(nbirth(bd_seq=4), dbirth(1), dbirth(2, device="Fan"))
    effects = told.tell(ndeath(4))
    assert [(e.device, e.bd_seq) for e in effects if isinstance(e, Died)] == [
        ("Fan", 4),
        ("Pump", 4),
        ("", 4),
    ]
    assert reason(told.tell(ndata(3))) == "the node is not up"
    assert reason(told.tell(ndeath(4))) == "the node is not up"


def test_the_death_of_an_earlier_session_is_passed_over(told: Told) -> None:
    told.tell(nbirth(bd_seq=4), nbirth(bd_seq=5, sent=T + 1))
    assert reason(told.tell(ndeath(4))) == "the death of session 4; 5 is up"
    assert kinds(told.tell(ndata(1))) == ["Data"]


def test_a_death_without_number_ends_only_a_birth_without(told: Told) -> None:
    told.tell(nbirth(bd_seq=1))
    assert "bdSeq" in reason(told.tell(ndeath(None)))
    told.tell(nbirth(bd_seq=None, sent=T + 1))
    assert kinds(told.tell(ndeath(None))) == ["Died"]


def test_a_device_s_death_is_its_own(told: Told) -> None:
    told.tell(nbirth(), dbirth(1))
    [died] = told.tell(ddeath(2))
    assert isinstance(died, Died)
    assert died.device == "Pump"
    assert reason(told.tell(ddeath(3))) == "the device is not up"
    assert kinds(told.tell(ddata(4), ndata(5))) == ["Refused", "AskRebirth", "Data"]


def test_a_rebirth_of_the_same_session_is_no_death(told: Told) -> None:
    told.tell(nbirth(), dbirth(1))
    assert kinds(told.tell(nbirth(sent=T + 1))) == ["Born"]
    assert reason(told.tell(ddata(1))) == "no birth of device 'Pump' was heard"
    assert kinds(told.tell(dbirth(2))) == ["Born"]


def test_a_new_session_without_a_death_says_what_ended(told: Told) -> None:
    told.tell(nbirth(bd_seq=1), dbirth(1))
    effects = told.tell(nbirth(bd_seq=2, sent=T + 1))
    assert kinds(effects) == ["Died", "Died", "Born"]
    assert {e.reason for e in effects if isinstance(e, Died)} == {"the node started anew"}


def test_what_waited_in_the_old_session_is_kept_before_the_new_one(told: Told) -> None:
    told.tell(nbirth())
    told.tell(ndata(2, sent=T + 1))
    effects = told.tell(nbirth(sent=T + 100))
    assert kinds(effects) == ["Gap", "Data", "Born"]
    told.tell(ndata(2, sent=T + 300))
    assert kinds(told.tell(ndeath(0)))[:2] == ["Gap", "Data"]


def test_what_overtook_its_birth_belongs_to_it(told: Told) -> None:
    told.tell(nbirth(bd_seq=1), *(ndata(n) for n in range(1, 200)))
    assert told.tell(ndata(1, sent=T + 9001)) == []  # looks like what comes 57 later
    effects = told.tell(nbirth(bd_seq=2, sent=T + 9000))
    assert kinds(effects) == ["Died", "Born", "Data"]
    assert not any(s.suspect for s in samples(effects))


def test_history_keeps_its_own_time_and_name(told: Told) -> None:
    told.tell(nbirth())
    [past] = samples(told.tell(ndata(1, temp(7.0, at=T - 60_000, historical=True))))
    assert (past.value, past.time_ms, past.historical) == (7.0, T - 60_000, True)


def test_a_value_without_a_time_has_its_message_s(told: Told) -> None:
    told.tell(nbirth())
    bare = metric(None, DataType.DOUBLE, 1.0, alias=1, typeless=True)
    assert samples(told.tell(ndata(1, bare, sent=T + 5)))[0].time_ms == T + 5


def test_null_is_no_value_and_no_fault(told: Told) -> None:
    told.tell(nbirth())
    [data] = told.tell(ndata(1, metric(None, DataType.DOUBLE, None, alias=1, typeless=True)))
    assert isinstance(data, Data)
    assert (data.contents.samples[0].value, data.contents.faults) == (None, ())


def test_a_value_that_is_neither_there_nor_null_is_a_fault(told: Told) -> None:
    told.tell(nbirth())
    [data] = told.tell(ndata(1, Metric(alias=1)))
    assert isinstance(data, Data)
    assert data.contents.faults[0].reason == "has no value and is not null"


def test_a_type_other_than_the_birth_s_is_a_fault(told: Told) -> None:
    told.tell(nbirth())
    [data] = told.tell(ndata(1, metric(None, DataType.INT8, 1, alias=1)))
    assert isinstance(data, Data)
    assert data.contents.faults[0].reason == "is of type 1, and its birth said DOUBLE"


def test_a_metric_that_its_birth_has_wrong_is_told_once(told: Told) -> None:
    broken = (
        Metric("typeless"),
        Metric("strange", datatype=99),
        Metric("set", datatype=20),
        Metric(None, alias=7, datatype=3),
        definition(),
        definition("Temp", 2),
        definition("Other", 1),
        Metric("spoilt", alias=8, datatype=3, fault="is spoilt"),
        Metric("empty", alias=3, datatype=3),
    )
    [born] = told.tell(nbirth(*broken))
    assert isinstance(born, Born)
    reasons = [fault.reason for fault in born.contents.faults]
    assert reasons == [
        "a birth's metric has no data type",
        "unknown data type 99",
        "a metric can't be PROPERTY_SET",
        "a birth's metric has no name",
        "is in this birth twice",
        "has the alias 1 of 'Temp'",
        "is spoilt",
        "has no value and is not null",
    ]
    [data] = told.tell(ndata(1, metric(None, DataType.INT8, 1, alias=8, typeless=True)))
    assert isinstance(data, Data)
    assert (data.contents.refused, data.contents.unknown, data.contents.faults) == (1, False, ())


@pytest.mark.parametrize("rules", [Rules(metrics=3), Rules(devices=1)])
def test_a_device_beyond_the_bounds_is_refused_whole(rules: Rules) -> None:
    told = Told(rules)
    told.tell(nbirth())
    effects = told.tell(dbirth(1), dbirth(2, device="Fan"))
    assert "no room" in reason([effects[-1]])
    assert kinds(told.tell(ndata(3))) == ["Data"]


def test_a_node_beyond_the_bounds_is_refused_whole() -> None:
    told = Told(Rules(metrics=2))
    assert "no room for 3 metrics" in reason(told.tell(nbirth()))
    assert not told.session.online


def test_commands_are_for_the_node(told: Told) -> None:
    assert kinds(told.tell(made(MessageType.NCMD), made(MessageType.DCMD, device="Pump"))) == ["Ignored"] * 2


def test_a_lost_broker_makes_all_stale_and_asks_those_that_were_up(told: Told) -> None:
    told.tell(nbirth(), dbirth(1), ndata(3))
    session, effects = sessions.lose(told.session, 10.0, told.rules)
    assert kinds(list(effects)) == ["Gap", "Data", "Died", "Died"]
    session, effects = sessions.tick(session, 10.0, told.rules)
    assert effects == (AskRebirth("the host was away"),)
    _, effects = sessions.lose(Session(NODE), 10.0, told.rules)
    assert effects == ()
