"""Where the time goes: by stage, operator and resource. Callable too: `saccade.profile(...)`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saccade.profile.records import Profile
    from saccade.spec import Spec


class _Callable(ModuleType):
    """A package that is a function too: the design gives both the same name."""

    def __call__(
        self, spec: Spec | None = None, *, out: str | Path = "runs/latest", **settings: Any
    ) -> Profile:
        """Profile the baseline of a `Spec`, or of its settings as keywords.

        Raises:
            SpecError: there are both a spec and settings.
            SaccadeError: see `saccade.errors`.
        """
        from saccade.playbook.partial import profile_baseline
        from saccade.spec import given_spec

        return profile_baseline(given_spec(spec, settings), Path(out))


sys.modules[__name__].__class__ = _Callable
