"""Plan, try, keep what pays. Also callable: `saccade.optimize(...)` carries out the playbook."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saccade.spec import Spec
    from saccade.study import Study


class _Callable(ModuleType):
    """A package that is a function too: the design gives both the same name."""

    def __call__(
        self, spec: Spec | None = None, *, out: str | Path = "runs/latest", **settings: Any
    ) -> Study:
        """Carry out the playbook for a `Spec` or for its settings as keywords.

        Args:
            spec: what to do; leave it out to give its fields as keywords.
            out: the run folder; a run of the same spec in it is resumed.
            settings: fields of `Spec`; or, with ``job``, of `saccade.train.spec.TrainingSpec`: then
                it is a training that is optimized.

        Raises:
            SpecError: there are both a spec and settings.
            SaccadeError: see `saccade.errors`.
        """
        if spec is None and "job" in settings:
            from saccade.playbook.training.optimize import optimize_training
            from saccade.train.spec import make_training_spec

            return optimize_training(make_training_spec(settings), Path(out))
        from saccade.playbook.optimize import optimize
        from saccade.spec import given_spec

        return optimize(given_spec(spec, settings), Path(out))


sys.modules[__name__].__class__ = _Callable
