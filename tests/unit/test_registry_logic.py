from datetime import UTC, datetime

from cloud.registry.logic import Model, Registry, decide_promotion, evolve, fold
from shared.events import EdgeStarted, ModelRegistered

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def registered(version: int, version_hash: str, machine: str = "pump-01") -> ModelRegistered:
    return ModelRegistered(
        source="cloud/registry",
        subject=machine,
        occurred_at=NOW,
        model=f"{machine}/window-pca",
        model_version=version,
        version_hash=version_hash,
        object_name=version_hash,
        provisional=True,
        manifest={},
    )


def test_a_repeated_registration_changes_nothing() -> None:
    once = fold([registered(1, "a")])
    assert evolve(once, registered(1, "a")) == once
    assert [m.version for m in once.of("pump-01")] == [1]
    assert once.by_hash("b") is None


def test_an_edge_is_wanted_to_run_one_version_of_a_machine() -> None:
    registry = fold([registered(1, "a"), registered(2, "b"), registered(1, "c", "fan-01")])
    for version_hash in ("a", "b", "c"):
        model = registry.by_hash(version_hash)
        assert isinstance(model, Model)
        registry = evolve(registry, decide_promotion(model, "edge-1", NOW))
    wanted = registry.wanted("edge-1", "pump-01")
    assert wanted is not None
    assert wanted.version_hash == "b"
    first = registry.by_hash("a")
    assert first is not None
    assert first.promoted_to == ()
    other = registry.wanted("edge-1", "fan-01")
    assert other is not None
    assert other.version_hash == "c"
    assert registry.wanted("edge-2", "pump-01") is None


def test_other_events_are_none_of_its_business() -> None:
    event = EdgeStarted(source="edge/e", subject="e", occurred_at=NOW, epoch="00", software="1")
    assert evolve(Registry(), event) == Registry()


def test_champion_is_what_is_promoted_challenger_the_newest_other() -> None:
    registry = fold([registered(1, "a"), registered(2, "b"), registered(3, "c")])
    assert registry.champion("pump-01") is None
    assert [registry.aliases(model) for model in registry.models] == [(), (), ("challenger",)]
    for version, named in (
        (3, [(), ("challenger",), ("champion",)]),
        (1, [("champion",), (), ("challenger",)]),
    ):
        model = registry.version("pump-01", version)
        assert model is not None
        registry = evolve(registry, decide_promotion(model, "edge-1", NOW, request=f"key-{version}"))
        assert [registry.aliases(model) for model in registry.models] == named
    assert registry.requests == {"key-3": "c", "key-1": "a"}
    assert registry.version("pump-01", 4) is None
    assert [model.method for model in registry.models] == ["window-pca"] * 3
