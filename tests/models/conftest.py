import pytest

from models.export import NETWORKS, export


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Tiny export of every network, by name."""
    folder = tmp_path_factory.mktemp("tiny")
    return {name: export(name, folder / f"{name}.onnx", "tiny") for name in NETWORKS}
