"""How plants publish: messages in the styles of the wild, for discovery and mappings. Times are near `NOW_US`."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from edge.discover.seen import Seen
from shared.paho import MqttMessage
from shared.sparkplug.datatypes import DataType
from shared.sparkplug.payload import Property, metric
from shared.sparkplug.topics import MessageType, NodeId
from tests.mapping_messages import NOW_US, message
from tests.sparkplug_messages import definition, made, nbirth

Said = tuple[str, Any]
_START: Final = datetime.fromtimestamp(NOW_US / 1e6, UTC)


def _s(n: int) -> float:
    return NOW_US / 1e6 + n


def flat(n: int) -> Iterator[Said]:
    """A number on a topic of its own, with no word on its unit."""
    for line, machine in (("line1", "press3"), ("line1", "press4"), ("line2", "press5")):
        yield f"factory/{line}/{machine}/temperature", 40.0 + n / 10
        yield f"factory/{line}/{machine}/speed_rpm", 1480 + n
        yield f"factory/{line}/{machine}/pressure", 5.0 + n / 8


def flat_objects(n: int) -> Iterator[Said]:
    """{"v", "t"} a tag."""
    for machine in ("m1", "m2"):
        yield f"hall/{machine}/motor_temp_c", {"v": 50.0 + n, "t": _s(n)}
        yield f"hall/{machine}/flow_lpm", {"v": 12.5 + n, "t": _s(n)}


def nested(n: int) -> Iterator[Said]:
    """Several sensors in a message, each with its unit."""
    for machine in ("mixer-7", "mixer-8"):
        yield (
            f"plant2/{machine}/telemetry",
            {
                "timestamp": (_START + timedelta(seconds=n)).isoformat(),
                "serial": 12345,
                "data": {
                    "temp": {"value": 61.5 + n, "unit": "°C"},
                    "pressure": {"value": 250.0 + n, "unit": "kPa"},
                    "shaft_rpm": 900 + n,
                },
            },
        )


def kepware(n: int) -> Iterator[Said]:
    yield (
        "iotgateway",
        {
            "timestamp": round(_s(n) * 1000),
            "values": [
                {"id": "Line.Press.OilTemp_C", "v": 40.5 + n, "q": True, "t": round(_s(n) * 1000)},
                {"id": "Line.Press.Force_kN", "v": 80 + n, "q": True, "t": round(_s(n) * 1000)},
            ],
        },
    )


def zigbee(n: int) -> Iterator[Said]:
    yield (
        "zigbee2mqtt/boiler",
        {"temperature": 70.5 + n, "humidity": 40 + n, "linkquality": 90, "battery": None},
    )
    yield "zigbee2mqtt/fan", {"current": 1.5 + n, "voltage": 230, "state": "ON", "linkquality": 80}


def tasmota(n: int) -> Iterator[Said]:
    local = (_START + timedelta(hours=1, seconds=n)).replace(tzinfo=None).isoformat()
    yield (
        "tele/compressor/SENSOR",
        {
            "Time": local,
            "ENERGY": {"Power": 1200 + n, "Voltage": 229, "Current": 5.5 + n},
            "DS18B20": {"Temperature": 51.5 + n},
            "TempUnit": "C",
        },
    )
    yield "tele/compressor/STATE", {"Time": local, "Uptime": "0T01:00:00", "UptimeSec": 3600 + n, "Heap": 25}


def shelly(n: int) -> Iterator[Said]:
    yield "shellies/pm1/relay/0/power", b"%d.5" % (100 + n)
    yield "shellies/pm1/relay/0", b"on"
    yield "shellies/pm1/temperature", b"%d.25" % (30 + n)
    yield "shellies/pm2/relay/0/power", b"%d.5" % (200 + n)
    yield "shellies/pm2/relay/0", b"off"
    yield "shellies/pm2/temperature", b"%d.25" % (31 + n)


def shelly2(n: int) -> Iterator[Said]:
    yield (
        "shellypro3em/events/rpc",
        {
            "src": "shellypro3em",
            "method": "NotifyStatus",
            "params": {
                "ts": _s(n),
                "em:0": {"a_current": 4.5 + n, "a_voltage": 229.5, "total_act_power_kw": 2.5 + n},
            },
        },
    )


def opc_ua(n: int) -> Iterator[Said]:
    stamp = (_START + timedelta(seconds=n)).isoformat().replace("+00:00", "Z")
    yield (
        "opcua/cell4/press",
        {
            "NodeId": "ns=2;s=Press.Temp_degC",
            "Value": 41.5 + n,
            "SourceTimestamp": stamp,
            "StatusCode": 0 if n % 2 else 0x4000_0000,
        },
    )


def german(n: int) -> Iterator[Said]:
    yield "werk/ofen/temp", f"8{n},5 °C".encode()
    yield "werk/ofen/leistung", f"1.25{n},75 kW".encode()


def csv(n: int) -> Iterator[Said]:
    yield "csv/pump9/data", f"{_s(n):.3f};{20 + n}.5;{3 + n}.25".encode()


def pairs(n: int) -> Iterator[Said]:
    yield "tags/m4", {"tag": "vibration_mms", "value": 2.5 + n, "time": round(_s(n) * 1e6)}


def sparkplug(n: int) -> Iterator[Said]:
    node = NodeId("Hall A", "Press 7")
    t = NOW_US // 1000 + n * 1000
    if n == 0:
        birth = nbirth(definition("Supply/Temp", unit="°C"), node=node, sent=t)
        flow = metric(
            "Flow",
            DataType.DOUBLE,
            1.5,
            alias=7,
            timestamp=t,
            properties={"engUnit": Property(DataType.STRING, "m³/h")},
        )
        pump = made(MessageType.DBIRTH, flow, seq=1, device="Pump", node=node, sent=t)
        for each in (birth, pump):
            yield str(each.topic), each.raw
    value = metric(None, DataType.DOUBLE, 21.0 + n, alias=1, timestamp=t + 5, typeless=True)
    moved = metric(None, DataType.DOUBLE, 2.0 + n, alias=7, timestamp=t + 6, typeless=True)
    for each in (
        made(MessageType.NDATA, value, seq=2 + 2 * n, node=node, sent=t + 5),
        made(MessageType.DDATA, moved, seq=3 + 2 * n, device="Pump", node=node, sent=t + 6),
    ):
        yield str(each.topic), each.raw


def rubbish(n: int) -> Iterator[Said]:
    yield "junk/binary", bytes([255, 254, n])
    yield "junk/words", b"all is well"
    yield "junk/empty", {}
    yield "junk/text", {"message": "started"}


STYLES: Final = {
    each.__name__: each
    for each in (
        flat, flat_objects, nested, kepware, zigbee, tasmota, shelly, shelly2, opc_ua, german, csv, pairs, sparkplug, rubbish,
    )
}  # fmt: skip


def messages(style: str, count: int = 6) -> list[tuple[MqttMessage, int]]:
    """Messages of a style, one round a second, with their arrivals."""
    return [
        (message(topic, payload), NOW_US + n * 1_000_000 + 50_000)
        for n in range(count)
        for topic, payload in STYLES[style](n)
    ]


def heard(*styles: str, count: int = 6) -> Seen:
    seen = Seen()
    rounds = [messages(style, count) for style in styles]
    for each in sorted((pair for pairs_ in rounds for pair in pairs_), key=lambda pair: pair[1]):
        seen.take(*each)
    return seen
