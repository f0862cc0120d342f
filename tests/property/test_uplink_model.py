"""The uplink's reference model holds its invariants, and each broken rule is caught."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.uplink import MAX_IN_FLIGHT
from tests.property.uplink_model import Edge, ModelEdge, Rules, World

LIMIT = 3  # stands for MAX_IN_FLIGHT, small enough to be met

gateways = st.integers(0, 1)
positions = st.integers(0, 20)


class UplinkMachine(RuleBasedStateMachine):
    """Takes any step at any time; a subclass may put another edge or other rules in its world."""

    protocol = Rules()
    limit = LIMIT
    busy = False  # start with frames of two machines under way

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.make_edge(), self.limit, self.protocol)
        if self.busy:
            for machine in ("pump", "fan"):
                self.world.device_publishes(machine, 1)
            self.world.edge_commits(ack=True)
            self.world.edge.cut()
            self.world.edge_sends(resend=False)

    def make_edge(self) -> Edge:
        return ModelEdge(self.limit, self.protocol)

    @rule(machine=st.sampled_from(["pump", "fan"]), count=st.integers(1, 3))
    def device_publishes(self, machine: str, count: int) -> None:
        self.world.device_publishes(machine, count)

    @precondition(lambda self: self.world.unacked)
    @rule(ack=st.sampled_from([True, True, True, False]))
    def edge_commits(self, *, ack: bool) -> None:
        self.world.edge_commits(ack=ack)

    @precondition(lambda self: self.world.edge.waiting())
    @rule()
    def edge_cuts(self) -> None:
        self.world.edge.cut()

    @precondition(lambda self: self.world.edge.frames())
    @rule(resend=st.booleans())
    def edge_sends(self, *, resend: bool) -> None:
        self.world.edge_sends(resend=resend)

    @precondition(lambda self: self.world.edge.produced())
    @rule()
    def edge_crashes(self) -> None:
        self.world.edge.crash()

    @precondition(lambda self: self.world.up)
    @rule(at=positions)
    def broker_loses_frame(self, at: int) -> None:
        self.world.up.pop(at % len(self.world.up))

    @precondition(lambda self: self.world.up)
    @rule(at=positions)
    def broker_doubles_frame(self, at: int) -> None:
        self.world.up.append(self.world.up[at % len(self.world.up)])

    @precondition(lambda self: self.world.down)
    @rule(at=positions)
    def broker_loses_ack(self, at: int) -> None:
        self.world.down.pop(at % len(self.world.down))

    @precondition(lambda self: self.world.down)
    @rule(at=positions)
    def broker_doubles_ack(self, at: int) -> None:
        self.world.down.append(self.world.down[at % len(self.world.down)])

    @precondition(lambda self: self.world.up)
    @rule(gateway=gateways, at=positions)
    def gateway_receives(self, gateway: int, at: int) -> None:
        self.world.gateway_receives(gateway, at)

    @precondition(lambda self: any(self.world.gateways))
    @rule(gateway=gateways, at=positions)
    def gateway_writes(self, gateway: int, at: int) -> None:
        if self.world.gateways[gateway]:
            self.world.gateway_writes(gateway, at)

    @precondition(lambda self: any(p.written for pending in self.world.gateways for p in pending))
    @rule(gateway=gateways)
    def gateway_acks(self, gateway: int) -> None:
        self.world.gateway_acks(gateway)

    @precondition(lambda self: any(self.world.gateways))
    @rule(gateway=gateways)
    def gateway_crashes(self, gateway: int) -> None:
        self.world.gateways[gateway].clear()

    @precondition(lambda self: self.world.down)
    @rule(at=positions)
    def edge_hears(self, at: int) -> None:
        self.world.edge_hears(at)

    @invariant()
    def nothing_is_lost(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.settle()
        self.world.check()
        self.world.check_settled()


class TestUplink(UplinkMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(stateful_step_count=40)


MUTANTS: dict[str, tuple[Rules, str]] = {
    "acks before the log confirmed": (Rules(ack_after_confirm=False), "freed before the log"),
    "acks a high-water mark": (Rules(ack_ranges=False), "freed before the log"),
    "cuts in two transactions": (Rules(cut_is_atomic=False), "freed before the log"),
    "cuts a resend anew": (Rules(keep_frames=False), "a resend differs"),
    "sends without a bound": (Rules(bound_flight=False), "too many frames in flight"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_caught(name: str) -> None:
    rules, complaint = MUTANTS[name]
    mutated = type("Mutant", (UplinkMachine,), {"protocol": rules, "busy": True})
    quick = settings(
        max_examples=3000,
        stateful_step_count=50,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises(AssertionError, match=complaint):
        run_state_machine_as_test(mutated, settings=quick)


def test_the_bound_is_the_wire_contracts() -> None:
    assert MAX_IN_FLIGHT == 64
