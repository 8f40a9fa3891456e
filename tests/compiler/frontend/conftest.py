import pytest

from models.export import export


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """A tiny exported network by name; its recorded arrays lie beside it."""
    folder = tmp_path_factory.mktemp("networks")
    made = {}

    def get(name):
        if name not in made:
            made[name] = export(name, folder / f"{name}.onnx", "tiny").onnx
        return made[name]

    return get
