"""One backbone for two PyTorch networks, taught by both of them what they said before."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

from saccade.errors import SaccadeError
from saccade.models.conversions.contract import program_of
from saccade.models.files import model_file
from saccade.optimize.change import Effect, PlanContext, Prediction
from saccade.optimize.converting import converted
from saccade.optimize.distill import Distillation
from saccade.optimize.real_inputs import conversion_request
from saccade.optimize.sharing.contract import SharingContext
from saccade.optimize.sharing.cost import SystemCost
from saccade.optimize.sharing.geometry import why_other_geometry
from saccade.optimize.sharing.joint_trainer import Common
from saccade.optimize.sharing.one_pass import one_model
from saccade.optimize.sharing.preprocess import scaled_first
from saccade.optimize.training_frames import FrameSource
from saccade.optimize.worker import Worker
from saccade.pipeline.config import PipelineConfig, digest
from saccade.pipeline.system import SystemConfig

TRAINER = "saccade.optimize.sharing.joint_trainer:JointTrainer"
METHOD = "shared backbone 1"
TIMEOUT_S = 300.0
TRAINING_FRAMES = 256
# Heads meet a backbone that they were not trained on, so they have further to go than after
# pruning; see `saccade.optimize.distill.Distillation`.
LEARNING_RATE = 3e-4
# Below this, what could be shared is a stem and no backbone.
LEAST_WORK = 0.1
COST_S = 90.0
# A prior: features of one task rarely serve another as well as its own.
ODDS = 0.3
# How much a float network takes where the one in use is int8.
FLOAT_AGAIN = 1.6
# Formats that the joint network can be given in, by preference.
FORMATS = ("onnx", "torch_export")


@dataclass(frozen=True)
class SharedBackbone:
    """One backbone, two heads.

    Attributes:
        budget_s: seconds of training at most.
        equal: the backbones are equal already, so that nothing has to be taught.
    """

    name: ClassVar[str] = "shared_backbone"

    budget_s: float = 60.0
    equal: bool = False

    @property
    def effect(self) -> Effect:
        """Nothing where the backbones are equal."""
        return "near_lossless" if self.equal else "lossy"

    @classmethod
    def variants(cls, context: SharingContext) -> Iterable[Self]:
        """One; taught where it has to be."""
        common = _common(context) if _why_no_programs(context) is None else None
        return [cls(equal=common is not None and _is_lossless(context, common))]

    @property
    def label(self) -> str:
        """Name and how it is come by."""
        return f"{self.name}: {'equal already' if self.equal else 'by distillation'}"

    def applies(self, context: SharingContext) -> str | None:
        """Both models come from PyTorch and begin with the same layers."""
        reason = _why_no_programs(context)
        if reason is not None:
            return reason
        if context.config.sharing.one_pass and self.equal:
            return "one pass computes what is equal once already"
        reason = why_other_geometry(context.naive, context.plans[0].frame_hw)
        if reason is not None:
            return reason
        common = _common(context)
        if common is None:
            return "the networks cannot be taken apart into layers"
        if common.work < LEAST_WORK:
            return (
                f"the networks have other backbones: {common.work:.0%} of {context.tasks[1]}'s "
                f"operations are in layers that {context.tasks[0]} has too"
            )
        return None

    def cost(self, context: SharingContext) -> SystemCost:
        """The second's head is what is left of it."""
        common = _common(context)
        left = 1.0 - (common.work if common is not None else 0.0)
        cost = SystemCost((context.plans[0].cost, context.plans[1].cost), joined=True).scaled(
            1, "decode", 0.0
        )
        for part, plan in enumerate(context.plans):
            if plan.config.model.quantized:
                cost = cost.scaled(part, "infer", FLOAT_AGAIN)
        return cost.scaled(1, "preprocess", 0.0).scaled(1, "infer", left)

    def predict(self, context: SharingContext) -> Prediction:
        """By the operations of the common layers."""
        common = _common(context)
        work = common.work if common is not None else 0.0
        again = " (float again)" if any(p.config.model.quantized for p in context.plans) else ""
        cost = self.cost(context)
        return Prediction(
            context.gain(cost),
            context.gain(cost.scaled(1, "infer", 0.5)),
            f"{work:.0%} of {context.tasks[1]}'s operations are in the backbone{again}",
            cost_s=0.0 if self.equal else COST_S,
            odds=1.0 if self.equal else ODDS,
        )

    def apply(self, context: SharingContext) -> SystemConfig:
        """Write the joint network, taught where the backbones differ.

        Raises:
            ModelError: it cannot be exported, or then answers differently.
        """
        plan = context.plans[0]
        common = _common(context)
        assert common is not None
        program = self._program(context)
        model = model_file(program)
        if model.format not in plan.runtimes[plan.config.runtime].formats:
            request = conversion_request(_plain(context), plan.config.runtime)
            model = converted(model, ("onnx",), request)
        first, second = (
            scaled_first(_with_own_outputs(part, naive))
            for part, naive in zip(_originals(context), context.naive, strict=True)
        )
        # What the joint network was made from is not one of the two, so no change starts from it.
        model = replace(model, program=None)
        return one_model((first, second), model, common.first_outputs, 0, context)

    def _program(self, context: SharingContext) -> Path:
        programs = _programs(context)
        settings = Distillation(
            budget_s=self.budget_s, learning_rate=LEARNING_RATE, seed=context.plans[0].seed
        )
        identity = [model_file(path).sha256 for path in programs]
        images = [p.calibration.digest if p.calibration is not None else "" for p in context.plans]
        key = digest([*identity, *images, METHOD, self.equal, asdict(settings)])
        target = context.plans[0].folder / f"joint-{key}.pt2"
        record = target.with_suffix(".lesson.json")
        if record.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name("partial-" + target.name)
        lesson: dict[str, Any] = {}
        with Worker(TRAINER, (programs, _hw(context)), timeout_s=TIMEOUT_S) as worker:
            if self.equal:
                worker.call("write_untrained", str(partial), timeout_s=TIMEOUT_S)
            else:
                taught = worker.call(
                    "train",
                    _sources(context),
                    TRAINING_FRAMES,
                    _adapter(context),
                    settings,
                    str(partial),
                    timeout_s=self.budget_s + TIMEOUT_S,
                )
                lesson = asdict(taught)
        partial.replace(target)
        record.write_text(json.dumps(lesson, indent=1), encoding="utf-8")
        return target


def _programs(context: SharingContext) -> tuple[str, str]:
    first, second = (program_of(plan.config.model) for plan in context.plans)
    return first or "", second or ""


def _why_no_programs(context: SharingContext) -> str | None:
    from importlib.util import find_spec

    for task, program in zip(context.tasks, _programs(context), strict=True):
        if not program:
            return f"the model of {task} does not come from PyTorch"
        if not Path(program).is_file():
            return f"the program that {task}'s model was made from is gone ({Path(program).name})"
    missing = [name for name in ("torch", "onnxscript") if find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed (pip install 'saccade[torch]')"
    formats = context.plans[0].runtimes[context.plans[0].config.runtime].formats
    if not set(FORMATS) & set(formats):
        return f"{context.plans[0].config.runtime} takes neither ONNX nor PyTorch programs"
    return None


def _common(context: SharingContext) -> Common | None:
    programs = _programs(context)
    content = tuple(model_file(path).sha256 for path in programs)
    return _compared(programs, content, _hw(context))


@lru_cache(maxsize=4)
def _compared(
    programs: tuple[str, str], content: tuple[str, ...], hw: tuple[int, int]
) -> Common | None:
    """Compare once, in a worker; None where a network cannot be taken apart."""
    try:
        with Worker(TRAINER, (programs, hw), timeout_s=TIMEOUT_S) as worker:
            found: Common = worker.call("common", timeout_s=TIMEOUT_S)
    except SaccadeError:
        return None
    return found


def _is_lossless(context: SharingContext, common: Common) -> bool:
    """Equal weights on equal inputs give equal features."""
    first, second = (config.description.preprocessing for config in context.naive)
    return common.equal and first == second


def _originals(context: SharingContext) -> tuple[PipelineConfig, PipelineConfig]:
    """Both pipelines before a model was merged, reading as they do now."""
    from saccade.optimize.sharing.decode import reading

    chosen = reading(context.config.parts[0]) if context.config.sharing.decode else {}
    if not chosen:
        chosen = reading(context.plans[0].config)
    first, second = (replace(plan.config, **chosen) for plan in context.plans)  # type: ignore[arg-type]
    return first, second


def _with_own_outputs(config: PipelineConfig, naive: PipelineConfig) -> PipelineConfig:
    """The pipeline for outputs as the network gives them: cut or fused ends are another file's."""
    return replace(
        config,
        description=naive.description,
        input_size=naive.input_size,
        shape=naive.shape,
        squeeze=naive.squeeze,
        margin=naive.margin,
        dynamic_resolution=None,
        nms="top_k" if config.nms == "graph" else config.nms,
    )


def _plain(context: SharingContext) -> PlanContext:
    """The first plan with its own model's description, which the joint network is fed by."""
    return replace(context.plans[0], config=context.naive[0])


def _sources(context: SharingContext) -> tuple[FrameSource, FrameSource]:
    """Calibration frames of both tasks, all fed as the first network is."""
    first, second = (
        FrameSource.of(replace(plan, config=context.naive[0])) for plan in context.plans
    )
    return first, second


def _adapter(context: SharingContext) -> tuple[list[float], list[float], bool]:
    from saccade.models.merged_graph import affine_between

    first, second = (config.description.preprocessing for config in context.naive)
    factor, offset = affine_between(first, second)
    return factor.tolist(), offset.tolist(), first.channel_order != second.channel_order


def _hw(context: SharingContext) -> tuple[int, int]:
    return context.naive[0].description.own_hw
