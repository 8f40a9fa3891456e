"""Every network that the commands know."""

from models import classifier, eacnet, fsb, liteeval, recurrent, resnet3d, slowfast, vtn, xwisenet
from models.errors import ModelsError
from models.network import Entry

FAMILIES = (fsb, slowfast, vtn, eacnet, xwisenet, resnet3d, liteeval, recurrent, classifier)
ENTRIES: dict[str, Entry] = {entry.name: entry for each in FAMILIES for entry in each.ENTRIES}


def entry(name: str) -> Entry:
    """Look a network up by its name.

    Raises
    ------
    ModelsError
        There is none; names those that there are.
    """
    if name not in ENTRIES:
        raise ModelsError(f"no network {name!r}; known: {', '.join(ENTRIES)}")
    return ENTRIES[name]
