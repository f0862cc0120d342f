"""Sparkplug 3.0's normative statements, by their identifiers, and the tests that hold the host to them.

Listed are those about hosts, payloads as a host reads and writes them, and topics. Statements for edge nodes alone,
for brokers, and about documents are named below with the reason why no test of a host can hold them. Several
statements say one thing in different chapters; they share their tests.
"""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODEC = "unit/test_sparkplug_codec.py"
TOPICS = "unit/test_sparkplug_topics.py"
SESSION = "unit/test_sparkplug_session.py"
HOST = "unit/test_sparkplug_host.py"
REAL = "real/test_sparkplug_host.py"
NATS = "unit/test_sparkplug_nats.py"

PROPERTY = "property/test_sparkplug.py"

GRAMMAR = f"{TOPICS}::test_topics_of_every_type_are_written_and_read"
CONNECT = f"{NATS}::test_the_host_s_connect_is_a_clean_session_with_its_will"
OTHER_TOPICS = f"{TOPICS}::test_any_other_topic_is_refused"
DEVICE_TOPICS = f"{TOPICS}::test_a_device_is_named_where_the_type_is_a_device_s_and_nowhere_else"
FILTERS = f"{TOPICS}::test_a_host_listens_to_its_own_state_first_and_then_to_births_deaths_and_data"
STATE_JSON = f"{TOPICS}::test_state_is_json_with_online_and_timestamp"
STATE_LIFE = f"{REAL}::test_a_host_that_comes_late_asks_and_one_that_goes_says_so"
STATE_WILL = f"{REAL}::test_a_host_that_vanishes_is_said_to_be_offline_at_its_birth_s_time"
STATE_DENIED = f"{REAL}::test_another_s_word_that_the_host_is_offline_is_answered"
BROKER_LOST = f"{REAL}::test_a_lost_broker_makes_nodes_stale_until_they_are_born_again"
BIRTH_AND_DATA = f"{SESSION}::test_a_birth_defines_and_data_comes_by_alias_or_by_name"
BROKEN_BIRTH = f"{SESSION}::test_a_metric_that_its_birth_has_wrong_is_told_once"
DEATH = f"{SESSION}::test_a_death_takes_its_devices_along"
DEATH_TOLD = f"{HOST}::test_a_death_is_told_for_the_node_and_its_devices"
OLD_DEATH = f"{SESSION}::test_the_death_of_an_earlier_session_is_passed_over"
DEVICE_DEATH = f"{SESSION}::test_a_device_s_death_is_its_own"
NUMBERLESS_DEATH = f"{SESSION}::test_a_death_without_number_ends_only_a_birth_without"
BIRTH_SEQ = f"{SESSION}::test_a_birth_without_a_proper_number_is_refused"
DATA_SEQ = f"{SESSION}::test_data_without_a_proper_number_is_refused"
WRAP = f"{SESSION}::test_numbers_go_on_from_255_with_0"
DEVICE_ORDER = f"{SESSION}::test_order_holds_across_node_and_devices"
UNBORN = f"{SESSION}::test_data_before_a_birth_is_refused_and_a_birth_asked_for"
UNBORN_DEVICE = f"{SESSION}::test_data_of_a_device_without_a_birth_is_refused_and_a_birth_asked_for"
REBIRTH = f"{HOST}::test_a_rebirth_is_asked_for_as_the_specification_says"
REBIRTH_REAL = f"{REAL}::test_a_gap_is_told_and_a_rebirth_asked_for_and_nothing_that_came_is_lost"
REBIRTH_TAKEN = f"{SESSION}::test_a_rebirth_of_the_same_session_is_no_death"
NO_TIME = f"{HOST}::test_a_value_with_no_time_at_all_is_a_dead_letter"
TIMES = f"{HOST}::test_a_birth_and_data_become_readings_and_an_event"
GOLDEN = f"{CODEC}::test_the_bytes_of_the_specification_are_read"
WRITTEN = f"{CODEC}::test_the_bytes_of_the_specification_are_written"
SPOILT = f"{CODEC}::test_a_spoilt_metric_is_named_and_the_others_stand"
NUMBERS = f"{CODEC}::test_data_types_have_the_numbers_of_the_specification"
FIELDS = f"{CODEC}::test_a_value_travels_in_its_field"
TEMPLATES = f"{HOST}::test_any_other_value_is_kept_as_an_event"
NULLS = f"{SESSION}::test_null_is_no_value_and_no_fault"
VALUELESS = f"{SESSION}::test_a_value_that_is_neither_there_nor_null_is_a_fault"
UNIQUE = f"{HOST}::test_two_nodes_of_one_id_are_never_merged"

HELD: dict[str, tuple[str, ...]] = {
    # Host applications: STATE
    "intro-sparkplug-host-state": (STATE_LIFE, STATE_WILL),
    "components-ph-state": (STATE_LIFE, STATE_WILL),
    "conformance-primary-host": (STATE_LIFE, STATE_WILL),
    "principles-birth-certificates-order": (STATE_LIFE, UNBORN),
    "host-topic-phid-birth-message": (STATE_LIFE,),
    "host-topic-phid-birth-qos": (STATE_LIFE,),
    "host-topic-phid-birth-retain": (STATE_LIFE,),
    "host-topic-phid-birth-topic": (STATE_LIFE, FILTERS),
    "host-topic-phid-birth-sub-required": (FILTERS, STATE_DENIED),
    "host-topic-phid-birth-required": (STATE_LIFE,),
    "host-topic-phid-birth-payload": (STATE_JSON, STATE_LIFE),
    "host-topic-phid-birth-payload-timestamp": (STATE_WILL,),
    "host-topic-phid-death-qos": (CONNECT, STATE_WILL),
    "host-topic-phid-death-retain": (CONNECT, STATE_LIFE),
    "host-topic-phid-death-topic": (CONNECT, STATE_WILL),
    "host-topic-phid-death-required": (CONNECT, STATE_WILL),
    "host-topic-phid-death-payload": (STATE_JSON, STATE_WILL),
    "host-topic-phid-death-payload-timestamp-connect": (STATE_WILL,),
    "host-topic-phid-death-payload-timestamp-disconnect-clean": (STATE_LIFE,),
    "message-flow-phid-sparkplug-clean-session-311": (CONNECT,),
    "message-flow-phid-sparkplug-clean-session-50": (CONNECT,),
    "message-flow-phid-sparkplug-subscription": (FILTERS, STATE_LIFE),
    "message-flow-phid-sparkplug-state-publish": (STATE_LIFE, BROKER_LOST),
    "message-flow-phid-sparkplug-state-publish-payload": (STATE_JSON,),
    "message-flow-phid-sparkplug-state-publish-payload-timestamp": (STATE_WILL,),
    "message-flow-hid-sparkplug-state-message-delivered": (
        STATE_DENIED,
        f"{HOST}::test_a_host_that_is_said_to_be_offline_says_otherwise",
    ),
    "operational-behavior-host-application-connect-will": (CONNECT, STATE_WILL),
    "operational-behavior-host-application-connect-will-topic": (CONNECT, STATE_WILL),
    "operational-behavior-host-application-connect-will-payload": (STATE_WILL, STATE_JSON),
    "operational-behavior-host-application-connect-will-qos": (CONNECT, STATE_WILL),
    "operational-behavior-host-application-connect-will-retained": (CONNECT, STATE_WILL),
    "operational-behavior-host-application-connect-birth": (STATE_LIFE,),
    "operational-behavior-host-application-connect-birth-topic": (STATE_LIFE,),
    "operational-behavior-host-application-connect-birth-payload": (STATE_JSON, STATE_LIFE),
    "operational-behavior-host-application-connect-birth-qos": (STATE_LIFE,),
    "operational-behavior-host-application-connect-birth-retained": (STATE_LIFE,),
    "operational-behavior-host-application-termination": (STATE_LIFE,),
    "operational-behavior-host-application-death-topic": (STATE_LIFE,),
    "operational-behavior-host-application-death-payload": (STATE_LIFE, STATE_JSON),
    "operational-behavior-host-application-death-qos": (STATE_LIFE,),
    "operational-behavior-host-application-death-retained": (STATE_LIFE,),
    "operational-behavior-host-application-disconnect-intentional": (STATE_LIFE,),
    "payloads-state-will-message": (CONNECT, STATE_WILL),
    "payloads-state-will-message-qos": (CONNECT, STATE_WILL),
    "payloads-state-will-message-retain": (CONNECT, STATE_WILL),
    "payloads-state-will-message-payload": (STATE_WILL, STATE_JSON),
    "payloads-state-subscribe": (FILTERS,),
    "payloads-state-birth": (STATE_LIFE,),
    "payloads-state-birth-payload": (STATE_JSON,),
    # Host applications: what they make of births, deaths and order
    "operational-behavior-edge-node-termination-host-action-ndeath-node-offline": (DEATH, DEATH_TOLD),
    "operational-behavior-edge-node-termination-host-action-ndeath-node-tags-stale": (DEATH, DEATH_TOLD),
    "operational-behavior-edge-node-termination-host-action-ndeath-devices-offline": (DEATH, DEATH_TOLD),
    "operational-behavior-edge-node-termination-host-action-ndeath-devices-tags-stale": (DEATH, DEATH_TOLD),
    "operational-behavior-edge-node-termination-host-action-ddeath-devices-offline": (DEVICE_DEATH,),
    "operational-behavior-edge-node-termination-host-action-ddeath-devices-tags-stale": (DEVICE_DEATH,),
    "operational-behavior-host-reordering-param": (
        f"{SESSION}::test_a_gap_is_given_up_after_its_time_and_a_birth_asked_for",
        REBIRTH_REAL,
    ),
    "operational-behavior-host-reordering-start": (
        f"{SESSION}::test_the_wait_is_the_oldest_gap_s_and_begins_anew_for_the_next",
    ),
    "operational-behavior-host-reordering-rebirth": (
        f"{SESSION}::test_a_gap_is_given_up_after_its_time_and_a_birth_asked_for",
        REBIRTH_REAL,
    ),
    "operational-behavior-host-reordering-success": (
        f"{SESSION}::test_messages_in_the_wrong_order_are_put_right",
        f"{PROPERTY}::test_what_only_came_twice_or_in_disorder_is_taken_once_in_order",
    ),
    "operational-behavior-data-commands-ncmd-rebirth-verb": (REBIRTH, REBIRTH_REAL),
    "operational-behavior-data-commands-ncmd-rebirth-name": (REBIRTH, REBIRTH_REAL),
    "operational-behavior-data-commands-ncmd-rebirth-value": (REBIRTH, REBIRTH_REAL),
    "operational-behavior-data-commands-ncmd-verb": (REBIRTH,),
    "operational-behavior-data-commands-ncmd-metric-name": (REBIRTH,),
    "operational-behavior-data-commands-ncmd-metric-value": (REBIRTH,),
    "operational-behavior-data-commands-rebirth-action-3": (REBIRTH_TAKEN,),
    "topics-ncmd-topic": (REBIRTH,),
    "topics-ncmd-mqtt": (REBIRTH_REAL,),
    "topics-ncmd-timestamp": (REBIRTH,),
    "topics-ncmd-payload": (REBIRTH,),
    "payloads-ncmd-timestamp": (REBIRTH,),
    "payloads-ncmd-seq": (REBIRTH,),
    "payloads-ncmd-qos": (REBIRTH_REAL,),
    "payloads-ncmd-retain": (REBIRTH_REAL,),
    # Topics
    "topic-structure": (GRAMMAR, OTHER_TOPICS),
    "topic-structure-namespace-a": (GRAMMAR, OTHER_TOPICS),
    "topic-structure-namespace-valid-group-id": (OTHER_TOPICS,),
    "topic-structure-namespace-valid-edge-node-id": (OTHER_TOPICS,),
    "topic-structure-namespace-valid-device-id": (OTHER_TOPICS,),
    "topic-structure-namespace-unique-edge-node-descriptor": (UNIQUE,),
    "topic-structure-namespace-unique-device-id": (UNIQUE,),
    "topic-structure-namespace-duplicate-device-id-across-edge-node": (
        f"{TOPICS}::test_a_device_id_may_be_that_of_another_node_s_device",
    ),
    "topic-structure-namespace-device-id-associated-message-types": (DEVICE_TOPICS,),
    "topic-structure-namespace-device-id-non-associated-message-types": (DEVICE_TOPICS,),
    "intro-group-id-string": (GRAMMAR, OTHER_TOPICS),
    "intro-group-id-chars": (OTHER_TOPICS,),
    "intro-edge-node-id-string": (GRAMMAR, OTHER_TOPICS),
    "intro-edge-node-id-chars": (OTHER_TOPICS,),
    "intro-device-id-string": (GRAMMAR, OTHER_TOPICS),
    "intro-device-id-chars": (OTHER_TOPICS,),
    "case-sensitivity-sparkplug-ids": (f"{TOPICS}::test_ids_are_case_sensitive", UNIQUE),
    "case-sensitivity-metric-names": (f"{HOST}::test_two_metrics_of_one_id_are_never_merged",),
    "topics-nbirth-topic": (GRAMMAR, DEVICE_TOPICS),
    "topics-ndata-topic": (GRAMMAR, DEVICE_TOPICS),
    "topics-ndeath-topic": (GRAMMAR, DEVICE_TOPICS),
    "topics-dbirth-topic": (GRAMMAR, DEVICE_TOPICS),
    "topics-ddata-topic": (GRAMMAR, DEVICE_TOPICS),
    "topics-ddeath-topic": (GRAMMAR, DEVICE_TOPICS),
    "topics-dcmd-topic": (GRAMMAR, DEVICE_TOPICS),
    # Messages as a host takes them
    "topics-nbirth-seq-num": (BIRTH_AND_DATA, BIRTH_SEQ),
    "topics-nbirth-metrics": (BIRTH_AND_DATA, BROKEN_BIRTH),
    "topics-nbirth-metric-reqs": (f"{SESSION}::test_a_metric_in_no_birth_is_a_fault_and_a_birth_asked_for",),
    "topics-nbirth-bdseq-included": (NUMBERLESS_DEATH,),
    "topics-nbirth-bdseq-matching": (DEATH, OLD_DEATH),
    "topics-nbirth-timestamp": (TIMES,),
    "topics-nbirth-mqtt": (f"{SESSION}::test_retained_messages_say_nothing_about_now",),
    "topics-ndata-seq-num": (WRAP, DATA_SEQ),
    "topics-ndata-timestamp": (NO_TIME,),
    "topics-ndata-payload": (BIRTH_AND_DATA,),
    "topics-ndeath-payload": (DEATH, GOLDEN),
    "topics-ndeath-seq": (GOLDEN, DEATH),
    "topics-dbirth-seq": (DEVICE_ORDER,),
    "topics-dbirth-metrics": (BROKEN_BIRTH,),
    "topics-dbirth-metric-reqs": (UNBORN_DEVICE,),
    "topics-ddata-seq-num": (DEVICE_ORDER, WRAP),
    "topics-ddata-payload": (DEVICE_ORDER,),
    "topics-ddeath-seq-num": (DEVICE_DEATH,),
    "message-flow-device-birth-publish-nbirth-wait": (UNBORN,),
    "message-flow-device-birth-publish-dbirth-payload-seq": (DEVICE_ORDER,),
    "operational-behavior-data-publish-nbirth-values": (NULLS, VALUELESS),
    "operational-behavior-data-publish-dbirth-values": (NULLS, VALUELESS),
    "operational-behavior-data-publish-nbirth-order": (
        f"{PROPERTY}::test_what_only_came_twice_or_in_disorder_is_taken_once_in_order",
        f"{SESSION}::test_history_keeps_its_own_time_and_name",
    ),
    "operational-behavior-data-publish-dbirth-order": (DEVICE_ORDER,),
    "payloads-nbirth-seq": (BIRTH_SEQ,),
    "payloads-nbirth-bdseq": (NUMBERLESS_DEATH, GOLDEN),
    "payloads-nbirth-bdseq-repeat": (DEATH, REBIRTH_TAKEN),
    "payloads-nbirth-timestamp": (TIMES,),
    "payloads-dbirth-seq": (DEVICE_ORDER,),
    "payloads-dbirth-seq-inc": (DEVICE_ORDER,),
    "payloads-dbirth-order": (UNBORN_DEVICE,),
    "payloads-ndata-seq": (DATA_SEQ,),
    "payloads-ndata-seq-inc": (WRAP,),
    "payloads-ndata-order": (UNBORN,),
    "payloads-ddata-seq": (DATA_SEQ,),
    "payloads-ddata-seq-inc": (DEVICE_ORDER,),
    "payloads-ddata-order": (UNBORN_DEVICE,),
    "payloads-ndeath-seq": (GOLDEN, DEATH),
    "payloads-ndeath-bdseq": (DEATH, OLD_DEATH),
    "payloads-ddeath-seq": (DEVICE_DEATH,),
    "payloads-ddeath-seq-inc": (DEVICE_DEATH,),
    "payloads-ddeath-seq-number": (DEVICE_DEATH,),
    # Payloads
    "payloads-timestamp-in-UTC": (TIMES, GOLDEN),
    "payloads-sequence-num-always-included": (BIRTH_SEQ, DATA_SEQ),
    "payloads-sequence-num-zero-nbirth": (
        BIRTH_AND_DATA,
        f"{SESSION}::test_a_birth_may_begin_at_another_number",
    ),
    "payloads-sequence-num-incrementing": (WRAP, f"{PROPERTY}::test_what_is_missing_is_counted"),
    "payloads-name-requirement": (BROKEN_BIRTH,),
    "payloads-alias-uniqueness": (BROKEN_BIRTH,),
    "payloads-alias-birth-requirement": (BIRTH_AND_DATA, GOLDEN),
    "payloads-alias-data-cmd-requirement": (BIRTH_AND_DATA, GOLDEN),
    "payloads-name-birth-data-requirement": (
        f"{SESSION}::test_a_value_without_a_time_has_its_message_s",
        NO_TIME,
    ),
    "payloads-metric-timestamp-in-UTC": (TIMES, f"{HOST}::test_a_time_far_off_is_a_dead_letter"),
    "payloads-metric-datatype-value-type": (GOLDEN, NUMBERS),
    "payloads-metric-datatype-value": (NUMBERS, BROKEN_BIRTH),
    "payloads-metric-datatype-req": (BROKEN_BIRTH,),
    "payloads-metric-datatype-not-req": (BIRTH_AND_DATA,),
    "payloads-propertyset-keys-array-size": (SPOILT,),
    "payloads-propertyset-values-array-size": (SPOILT,),
    "payloads-metric-propertyvalue-type-type": (GOLDEN,),
    "payloads-metric-propertyvalue-type-value": (SPOILT,),
    "payloads-metric-propertyvalue-type-req": (
        f"{CODEC}::test_a_property_without_a_type_travels_by_its_kind",
    ),
    "payloads-propertyset-quality-value-type": (f"{HOST}::test_quality_codes",),
    "payloads-propertyset-quality-value-value": (f"{HOST}::test_quality_codes",),
    "payloads-dataset-column-size": (SPOILT, GOLDEN),
    "payloads-dataset-column-num-headers": (SPOILT,),
    "payloads-dataset-types-def": (GOLDEN,),
    "payloads-dataset-types-num": (SPOILT,),
    "payloads-dataset-types-type": (GOLDEN,),
    "payloads-dataset-types-value": (SPOILT,),
    "payloads-dataset-parameter-type-req": (SPOILT,),
    "payloads-template-dataset-value": (SPOILT, f"{CODEC}::test_a_data_set_keeps_its_empty_cells"),
    "payloads-template-definition-is-definition": (f"{PROPERTY}::test_a_payload_comes_back_as_it_went",),
    "payloads-template-instance-is-definition": (GOLDEN, TEMPLATES),
    "payloads-template-instance-ref": (GOLDEN, TEMPLATES),
    "payloads-template-version": (GOLDEN, f"{PROPERTY}::test_a_payload_comes_back_as_it_went"),
    "payloads-template-ref-instance": (GOLDEN,),
    "payloads-template-is-definition": (f"{PROPERTY}::test_a_payload_comes_back_as_it_went",),
    "payloads-template-parameter-name-required": (SPOILT,),
    "payloads-template-parameter-name-type": (GOLDEN,),
    "payloads-template-parameter-value-type": (GOLDEN,),
    "payloads-template-parameter-type-value": (GOLDEN, TEMPLATES),
    "payloads-template-parameter-value": (GOLDEN, FIELDS),
    "message-flow-edge-node-birth-publish-nbirth-payload": (GOLDEN, WRITTEN),
    "message-flow-device-birth-publish-dbirth-payload": (GOLDEN, WRITTEN),
}

NODE_S = "what an edge node sends or does; a host only takes the consequence"
BROKER_S = "what a broker does"
TEMPLATE_S = "templates are kept as they come, not held against their definitions"
WRITING = "this host writes nothing to nodes but the request for a rebirth"
ONE_BROKER = "this host has one broker"

NOT_APPLICABLE: dict[str, str] = {
    "intro-edge-node-id-uniqueness": "a statement on the plant: two senders with one id can't be told apart",
    "payloads-nbirth-edge-node-descriptor": "the same",
    "operational-behavior-host-application-host-id": "a statement on the plant: hosts don't see each other",
    "host-topic-phid-death-payload-timestamp-disconnect-with-no-disconnect-packet": (
        "this host ends with a DISCONNECT, after its death"
    ),
    "operational-behavior-host-application-multi-server-timestamp": ONE_BROKER,
    "operational-behavior-primary-application-state-with-multiple-servers-state": ONE_BROKER,
    "operational-behavior-primary-application-state-with-multiple-servers-state-subs": ONE_BROKER,
    "operational-behavior-primary-application-state-with-multiple-servers-single-server": NODE_S,
    "operational-behavior-primary-application-state-with-multiple-servers-walk": NODE_S,
    "operational-behavior-edge-node-birth-sequence-wait": NODE_S,
    "operational-behavior-data-commands-dcmd-verb": WRITING,
    "operational-behavior-data-commands-dcmd-metric-name": WRITING,
    "operational-behavior-data-commands-dcmd-metric-value": WRITING,
    "topics-dcmd-mqtt": WRITING,
    "topics-dcmd-timestamp": WRITING,
    "topics-dcmd-payload": WRITING,
    "payloads-dcmd-timestamp": WRITING,
    "payloads-dcmd-seq": WRITING,
    "payloads-dcmd-qos": WRITING,
    "payloads-dcmd-retain": WRITING,
    "payloads-name-cmd-requirement": "it allows a metric's time in commands, and demands none",
    "principles-rbe-recommended": NODE_S,
    "principles-persistence-clean-session-311": NODE_S,
    "principles-persistence-clean-session-50": NODE_S,
    "topics-nbirth-templates": TEMPLATE_S,
    "payloads-template-definition-nbirth-only": TEMPLATE_S,
    "payloads-template-definition-nbirth": TEMPLATE_S,
    "payloads-template-definition-ref": TEMPLATE_S,
    "payloads-template-definition-members": TEMPLATE_S,
    "payloads-template-definition-parameters": TEMPLATE_S,
    "payloads-template-definition-parameters-default": TEMPLATE_S,
    "payloads-template-instance-members": TEMPLATE_S,
    "payloads-template-instance-members-birth": TEMPLATE_S,
    "payloads-template-instance-members-data": TEMPLATE_S,
    "payloads-template-instance-parameters": TEMPLATE_S,
    "payloads-template-is-definition-definition": TEMPLATE_S,
    "payloads-template-is-definition-instance": TEMPLATE_S,
    "payloads-template-parameter-type-req": TEMPLATE_S,
    "payloads-template-ref-definition": TEMPLATE_S,
    "topics-nbirth-bdseq-increment": "the host compares session numbers and draws nothing from their order",
    "topics-nbirth-rebirth-metric": "the host asks for a rebirth whether the birth names the control or not",
    "payloads-nbirth-rebirth-req": "the same",
    "operational-behavior-data-commands-rebirth-name": "the same",
    "operational-behavior-data-commands-rebirth-name-aliases": "the same",
    "operational-behavior-data-commands-rebirth-datatype": "the same",
    "operational-behavior-data-commands-rebirth-value": "the same",
    "conformance-mqtt-qos0": BROKER_S,
    "conformance-mqtt-qos1": BROKER_S,
    "conformance-mqtt-will-messages": BROKER_S,
    "conformance-mqtt-retained": BROKER_S,
    "conformance-mqtt-aware-basic": BROKER_S,
    "conformance-mqtt-aware-store": BROKER_S,
    "conformance-mqtt-aware-nbirth-mqtt-topic": BROKER_S,
    "conformance-mqtt-aware-nbirth-mqtt-retain": BROKER_S,
    "conformance-mqtt-aware-dbirth-mqtt-topic": BROKER_S,
    "conformance-mqtt-aware-dbirth-mqtt-retain": BROKER_S,
    "conformance-mqtt-aware-ndeath-timestamp": BROKER_S,
    **dict.fromkeys(
        (
            "topics-dbirth-mqtt",
            "topics-dbirth-timestamp",
            "topics-ndata-mqtt",
            "topics-ddata-mqtt",
            "topics-ddata-timestamp",
            "topics-ddeath-mqtt",
            "payloads-nbirth-qos",
            "payloads-nbirth-retain",
            "payloads-dbirth-timestamp",
            "payloads-dbirth-qos",
            "payloads-dbirth-retain",
            "payloads-ndata-timestamp",
            "payloads-ndata-qos",
            "payloads-ndata-retain",
            "payloads-ddata-timestamp",
            "payloads-ddata-qos",
            "payloads-ddata-retain",
            "payloads-ddeath-timestamp",
            "payloads-ndeath-will-message",
            "payloads-ndeath-will-message-qos",
            "payloads-ndeath-will-message-retain",
            "payloads-ndeath-will-message-publisher",
            "payloads-ndeath-will-message-publisher-disconnect-mqtt311",
            "payloads-ndeath-will-message-publisher-disconnect-mqtt50",
            "message-flow-edge-node-ncmd-subscribe",
            "message-flow-edge-node-birth-publish-connect",
            "message-flow-edge-node-birth-publish-will-message",
            "message-flow-edge-node-birth-publish-will-message-topic",
            "message-flow-edge-node-birth-publish-will-message-payload",
            "message-flow-edge-node-birth-publish-will-message-payload-bdSeq",
            "message-flow-edge-node-birth-publish-will-message-qos",
            "message-flow-edge-node-birth-publish-will-message-will-retained",
            "message-flow-edge-node-birth-publish-phid-wait",
            "message-flow-edge-node-birth-publish-phid-wait-id",
            "message-flow-edge-node-birth-publish-phid-wait-online",
            "message-flow-edge-node-birth-publish-phid-wait-timestamp",
            "message-flow-edge-node-birth-publish-phid-offline",
            "message-flow-edge-node-birth-publish-nbirth-topic",
            "message-flow-edge-node-birth-publish-nbirth-payload-bdSeq",
            "message-flow-edge-node-birth-publish-nbirth-payload-seq",
            "message-flow-edge-node-birth-publish-nbirth-qos",
            "message-flow-edge-node-birth-publish-nbirth-retained",
            "message-flow-device-dcmd-subscribe",
            "message-flow-device-birth-publish-dbirth-topic",
            "message-flow-device-birth-publish-dbirth-match-edge-node-topic",
            "message-flow-device-birth-publish-dbirth-qos",
            "message-flow-device-birth-publish-dbirth-retained",
            "operational-behavior-edge-node-intentional-disconnect-ndeath",
            "operational-behavior-edge-node-intentional-disconnect-packet",
            "operational-behavior-edge-node-termination-host-offline",
            "operational-behavior-edge-node-termination-host-offline-reconnect",
            "operational-behavior-edge-node-termination-host-offline-timestamp",
            "operational-behavior-device-ddeath",
            "operational-behavior-data-publish-nbirth",
            "operational-behavior-data-publish-nbirth-change",
            "operational-behavior-data-publish-dbirth",
            "operational-behavior-data-publish-dbirth-change",
            "operational-behavior-data-commands-rebirth-action-1",
            "operational-behavior-data-commands-rebirth-action-2",
        ),
        NODE_S,
    ),
}


@functools.cache
def found_in(name: str) -> frozenset[str]:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    functions = (each for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(each.name for each in functions if each.name.startswith("test_"))


@pytest.mark.parametrize("norm", HELD)
def test_the_tests_that_hold_a_norm_exist(norm: str) -> None:
    assert HELD[norm]
    for each in HELD[norm]:
        file, test = each.split("::")
        assert test in found_in(file), each


def test_a_norm_is_held_or_not_applicable_with_a_reason() -> None:
    assert not set(HELD) & set(NOT_APPLICABLE)
    assert all(NOT_APPLICABLE.values())
