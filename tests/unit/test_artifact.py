import io
import zipfile
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from shared.artifact import MANIFEST, MODEL, PROBE, SIZE_MAX, pack, sha256, unpack
from shared.errors import Rejected
from shared.onnxcheck import NODES_MAX, check_onnx
from tests.models import artifact, packed, recording


def rezip(change: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(io.BytesIO(packed())) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_packing_is_deterministic_and_the_version_is_the_hash() -> None:
    made = artifact()
    again = pack(made.model, made.manifest, made.probe)
    assert again == packed()
    assert made.version_hash == sha256(again)
    assert unpack(again, expected_hash=made.version_hash).manifest == made.manifest


def test_fitting_again_gives_the_same_bytes() -> None:
    packed.cache_clear()
    first = packed()
    packed.cache_clear()
    assert packed() == first


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_half_written_file_is_rejected(share: float) -> None:
    with pytest.raises(Rejected, match=r"half-written|bytes that belong"):
        unpack(packed()[: int(len(packed()) * share)])


def test_every_flipped_byte_is_rejected_when_the_hash_was_announced() -> None:
    good = packed()
    announced = sha256(good)
    for at in np.random.default_rng(0).integers(0, len(good), 20).tolist():
        bad = bytearray(good)
        bad[at] ^= 1
        with pytest.raises(Rejected, match="announced"):
            unpack(bytes(bad), expected_hash=announced)


def test_a_file_that_is_too_large_is_rejected() -> None:
    with pytest.raises(Rejected, match="at most 20000000"):
        unpack(packed() + bytes(SIZE_MAX))


def test_trailing_bytes_are_rejected() -> None:
    with pytest.raises(Rejected, match=r"belong to no member|half-written"):
        unpack(bytes(10_000) + packed())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda parts: parts.update({"run.py": b"1"}), "run.py"),
        (lambda parts: parts.pop(PROBE), "not manifest.json, model.onnx, probe.json"),
        (lambda parts: parts.update({MODEL: parts[MODEL] + b"x"}), "model.onnx is not the one"),
        (lambda parts: parts.update({PROBE: b"{}"}), "probe.json is not the one"),
        (lambda parts: parts.update({MANIFEST: b"{"}), "manifest: the whole"),
        (lambda parts: parts.update({MANIFEST: b"{}"}), "manifest: onnx_sha256"),
        (lambda parts: parts.update({MANIFEST: parts[MANIFEST].replace(b'"seed":0', b'"seed":0,"more":1')}), "manifest: more"),
        (lambda parts: parts.update({MANIFEST: parts[MANIFEST].replace(b'"preparation_version":1', b'"preparation_version":2')}), "version 2 of the grid"),
        (lambda parts: parts.update({MANIFEST: parts[MANIFEST].replace(b'"preparation_version":1', b'"preparation_version":9,"z":1')}), "version 9 of the grid"),
    ],
)  # fmt: skip
def test_foreign_or_changed_members_are_rejected(
    change: Callable[[dict[str, bytes]], None], reason: str
) -> None:
    with pytest.raises(Rejected, match=reason):
        unpack(rezip(change))


def test_compressed_members_are_rejected() -> None:
    with pytest.raises(Rejected, match="stored"):
        unpack(rezip(lambda _: None, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    ("broken", "reason"),
    [(b"{}", "Field required"), (b'{"times_us":[1]}', "Field required"), (b"no", "Invalid JSON")],
)
def test_a_probe_that_is_none_is_rejected(broken: bytes, reason: str) -> None:
    def change(parts: dict[str, bytes]) -> None:
        parts[MANIFEST] = parts[MANIFEST].replace(sha256(parts[PROBE]).encode(), sha256(broken).encode())
        parts[PROBE] = broken

    with pytest.raises(Rejected, match=reason):
        unpack(rezip(change))


def test_a_probe_that_does_not_fit_the_sensors_is_rejected() -> None:
    made = artifact()
    narrow = made.probe.model_copy(update={"scores": made.probe.scores[:-1]})
    manifest = made.manifest.model_copy(update={"probe_sha256": sha256(narrow.to_json())})
    with pytest.raises(Rejected, match="don't fit"):
        pack(made.model, manifest, narrow)


def model(nodes: list[onnx.NodeProto], **more: object) -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:])
    made = helper.make_model(graph)
    for name, given in more.items():
        getattr(made, name).extend(given)
    return made


def test_the_fitted_graph_passes_and_its_nodes_are_counted() -> None:
    assert check_onnx(artifact().model) == len(onnx.load_from_string(artifact().model).graph.node)


def test_a_graph_with_external_data_is_rejected() -> None:
    made = onnx.load_from_string(artifact().model)
    tensor = made.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(Rejected, match="other files"):
        check_onnx(made.SerializeToString())
    inside = helper.make_node("Constant", [], ["y"], value=tensor)
    with pytest.raises(Rejected, match="other files"):
        check_onnx(model([inside]).SerializeToString())
    sparse = onnx.SparseTensorProto()
    sparse.values.CopyFrom(tensor)
    made.graph.ClearField("initializer")
    made.graph.sparse_initializer.append(sparse)
    with pytest.raises(Rejected, match="other files"):
        check_onnx(made.SerializeToString())
    held = helper.make_node("Constant", [], ["y"], sparse_value=sparse)
    with pytest.raises(Rejected, match="other files"):
        check_onnx(model([held]).SerializeToString())


def test_custom_domains_functions_and_crowds_of_nodes_are_rejected() -> None:
    own = helper.make_node("Evil", ["x"], ["y"], domain="com.example")
    with pytest.raises(Rejected, match=r"custom domain .com\.example."):
        check_onnx(model([own]).SerializeToString())
    branch = helper.make_graph(
        [own], "inner", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    )
    chosen = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    with pytest.raises(Rejected, match="custom domain"):
        check_onnx(model([chosen]).SerializeToString())
    with pytest.raises(Rejected, match="custom domain"):
        check_onnx(model([], opset_import=[helper.make_opsetid("com.example", 1)]).SerializeToString())
    with pytest.raises(Rejected, match="functions"):
        check_onnx(model([], functions=[onnx.FunctionProto(name="f")]).SerializeToString())
    many = [helper.make_node("Identity", ["x"], ["y"])] * (NODES_MAX + 1)
    with pytest.raises(Rejected, match=f"at most {NODES_MAX}"):
        check_onnx(model(many).SerializeToString())


def test_graphs_nested_too_deeply_are_rejected() -> None:
    graph = helper.make_graph([], "g", [], [])
    for _ in range(20):
        node = helper.make_node("If", ["x"], ["y"], then_branch=graph)
        graph = helper.make_graph([node], "g", [], [])
    with pytest.raises(Rejected, match="too deeply"):
        check_onnx(helper.make_model(graph).SerializeToString())


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x3a\xff\x01", b"\x38\x01", b"\x07", b"\xff" * 12, b"\x3d\x00"]
)
def test_bytes_that_are_no_model_are_rejected(data: bytes) -> None:
    with pytest.raises(Rejected):
        check_onnx(data)


def test_the_manifest_says_what_was_learnt() -> None:
    manifest = artifact().manifest
    assert manifest.provisional
    assert manifest.calibration.method == "max-with-margin"
    assert manifest.sensor_names == recording().sensors
    assert manifest.training.first_us == recording().times_us[0]
    assert manifest.training.rows == len(recording().times_us)
