"""Models named by a single word: ``yolo11n`` for ``ultralytics:yolo11n``, which knows that name."""

from __future__ import annotations

from saccade import plugins
from saccade.errors import ModelError
from saccade.models.sources.contract import LibrarySource
from saccade.suggest import did_you_mean


def full_name(word: str) -> str:
    """The reference of the one library that has a model of this name.

    Raises:
        ModelError: no library that is installed has it, or more than one.
    """
    sources = [plugins.load("sources", name) for name in plugins.names("sources")]
    libraries = [source for source in sources if isinstance(source, LibrarySource)]
    known = {source.prefix: source.names() for source in libraries}
    having = [f"{prefix}{word}" for prefix, names in known.items() if word in names]
    if len(having) == 1:
        return having[0]
    if having:
        raise ModelError(
            f"More than one library has a model '{word}'. Say which: {' or '.join(having)}."
        )
    raise ModelError(_unknown(word, known))


def _unknown(word: str, known: dict[str, tuple[str, ...]]) -> str:
    here = [prefix.rstrip(":") for prefix, names in known.items() if names]
    absent = [prefix.rstrip(":") for prefix, names in known.items() if not names]
    said = f"There is no model file '{word}' here"
    said += f", and {' and '.join(here)} have no model of that name." if here else "."
    if absent:
        said += f" Not installed, so not asked: {' and '.join(absent)}."
    hint = did_you_mean(word, sorted({name for names in known.values() for name in names}), most=3)
    return f"{said} {hint or 'Give a path, or a name such as ultralytics:yolo11n.'}"
