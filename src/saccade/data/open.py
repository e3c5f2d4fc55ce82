"""From a data path to its splits and roles: the first format that recognizes it reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saccade import plugins
from saccade.data.contract import DataSplits
from saccade.data.images import VIDEO_SUFFIXES, display_path
from saccade.data.roles import Roles, check_disjoint, split_roles
from saccade.errors import DataError

__all__ = ["Roles", "check_disjoint", "open_labelled", "split_roles"]


def open_labelled(
    path: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
    task: str = "detection",
    settings: Mapping[str, Any] | None = None,
    usual: Mapping[str, Any] | None = None,
) -> DataSplits:
    """Read the data at ``path``, in whichever format it is.

    Formats are tried in the order of the plug-in table ``datasets``.

    Args:
        path: a file or folder; ``~`` is the home folder.
        class_names: classes of the model; ids of the labels become ids of these, by name.
        task: whose labels are wanted; formats with labels of other tasks are not tried.
        settings: how the labels are meant, as in `saccade.label_settings.LabelSettings`.
        usual: the same of other labels, such as a bundle's; left out where the format has no such
            thing.

    Raises:
        DataError: nothing is there, no format recognizes it, or the one that does refuses it or
            has no such setting.
    """
    where = Path(path).expanduser()
    if not where.exists():
        raise DataError(f"The data path {display_path(where)} does not exist. Check the spelling.")
    known = [plugins.load("datasets", name) for name in plugins.names("datasets")]
    formats = [candidate for candidate in known if candidate.task in (None, task)]
    for candidate in formats:
        if candidate.recognizes(where):
            taken = getattr(candidate, "settings", ())
            given = {k: v for k, v in (usual or {}).items() if k in taken}
            given.update(_settings(candidate, settings or {}, where))
            splits = candidate.read(where, class_names, **given)
            assert isinstance(splits, DataSplits)
            return splits
    looked_for = "; ".join(_looks_for(candidate) for candidate in formats)
    hint = (
        " A video is not labelled data: pass it as the video."
        if where.suffix.lower() in VIDEO_SUFFIXES
        else ""
    )
    raise DataError(
        f"{display_path(where)} is in no data format for {task} that saccade knows. "
        f"Looked for: {looked_for}.{hint}"
    )


def _settings(data_format: Any, given: Mapping[str, Any], where: Path) -> Mapping[str, Any]:
    """The settings, refused where the format has no such thing."""
    taken = getattr(data_format, "settings", ())
    for name in given:
        if name not in taken:
            has = f"only has {', '.join(taken)}" if taken else "has no settings"
            raise DataError(
                f"The setting labels.{name} means nothing for {display_path(where)}, whose format "
                f"({_looks_for(data_format)}) {has}. Leave it out."
            )
    return given


def _looks_for(data_format: object) -> str:
    """What a format says it looks for, else the first line of its docstring."""
    said = getattr(data_format, "looks_for", None) or (data_format.__doc__ or "").partition("\n")[0]
    return str(said or data_format).rstrip(".")
