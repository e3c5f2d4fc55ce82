"""Sessions of one configuration: a fixed-shape one for a stream, and one for any image."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

from saccade import plugins
from saccade.errors import ModelError
from saccade.models.description import ModelDescription
from saccade.pipeline.config import ModelFile, PipelineConfig, RuntimeOptions
from saccade.runtimes.contract import Session, SessionRequest
from saccade.scratch import scratch_folder

# What a session is for, the height and width it takes, and the score threshold in its graph.
_Key = tuple[str, tuple[int, int] | None, float | None]

# Sessions of models with a fixed shape that are kept for images of other aspects.
KEPT_SESSIONS = 4


class SessionPool:
    """Opens sessions when they are first needed and closes them all at the end.

    A stream gets a session of exactly its shape, which is what runtimes plan best for. Single
    images, whose shapes vary, share one session of dynamic shape where the model allows it; a
    model of fixed shape is rewritten for each shape.
    """

    def __init__(self, config: PipelineConfig, in_graph: bool, profile: bool = False) -> None:
        self._config = config
        self._in_graph = in_graph
        self._profile = profile
        self._open: OrderedDict[_Key, Session] = OrderedDict()
        self._rewritten = scratch_folder()

    def stream(self, input_hw: tuple[int, int], score_threshold: float | None = None) -> Session:
        """The session for many frames of one shape.

        ``score_threshold`` is the configuration's where it is not given; it matters only where
        it is part of the graph.
        """
        return self._get("stream", input_hw, self._config.options, score_threshold)

    def image(self, input_hw: tuple[int, int], score_threshold: float | None = None) -> Session:
        """The session for one image of some shape."""
        fixed = not self._config.dynamic
        options = replace(self._config.options, streams=1, in_flight=1)
        hw = input_hw if fixed or self._config.shape == "square" else None
        return self._get("image", hw, options, score_threshold)

    def _get(
        self,
        use: str,
        input_hw: tuple[int, int] | None,
        options: RuntimeOptions,
        score_threshold: float | None,
    ) -> Session:
        threshold = self._config.score_threshold if score_threshold is None else score_threshold
        key = (use, input_hw, threshold if self._config.nms == "graph" else None)
        if key not in self._open:
            # By use, so that images cannot take the session away from a stream in progress.
            same_use = [kept for kept in self._open if kept[0] == use]
            for oldest in same_use[: max(0, len(same_use) - KEPT_SESSIONS + 1)]:
                self._open.pop(oldest).close()
            self._open[key] = self._create(input_hw, options, threshold)
        self._open.move_to_end(key)
        return self._open[key]

    def _create(
        self, input_hw: tuple[int, int] | None, options: RuntimeOptions, threshold: float
    ) -> Session:
        runtime = plugins.load("runtimes", self._config.runtime)
        described = self._config.description
        model = self._model_for(input_hw)
        if self._config.nms == "graph":
            model = self._with_nms(model, threshold)
        request = SessionRequest(
            model=model,
            input_hw=input_hw,
            options=options,
            input_name=described.input.name,
            graph_preprocessing=described.preprocessing if self._in_graph else None,
            profile=self._profile,
        )
        session: Session = runtime.open(request)
        return session

    def _model_for(self, input_hw: tuple[int, int] | None) -> ModelFile:
        """The model file, rewritten where its fixed shape is not the one asked for."""
        model, shape = self._config.model, self._config.description.input
        fixed = (shape.height, shape.width)
        if input_hw is None or shape.dynamic or input_hw == fixed or model.format != "onnx":
            return model
        from saccade.models.files import rewritten_file
        from saccade.models.onnx_model import read_onnx
        from saccade.models.onnx_save import save_onnx
        from saccade.models.reshape import reshape

        path = Path(self._rewritten.name) / f"{input_hw[0]}x{input_hw[1]}.onnx"
        if not path.exists():
            save_onnx(reshape(read_onnx(Path(model.path)), input_hw), path)
        return rewritten_file(path, model)

    def _with_nms(self, model: ModelFile, threshold: float) -> ModelFile:
        """The model file with NMS at its end.

        Raises:
            ModelError: the model was converted, or NMS cannot be put behind its outputs.
        """
        if model.format not in _WRITE_WITH_NMS:
            raise ModelError(
                "NMS in the graph needs the ONNX model or the exported PyTorch program, and this "
                f"one is in {model.format} format. Use nms='vectorized'."
            )
        from saccade.models.files import rewritten_file

        name = f"nms-{threshold:g}-{model.sha256[:16]}{Path(model.path).suffix}"
        path = Path(self._rewritten.name) / name
        if not path.exists():
            _WRITE_WITH_NMS[model.format](
                Path(model.path),
                path,
                self._config.description,
                score_threshold=threshold,
                iou_threshold=self._config.iou_threshold,
                max_detections=self._config.max_detections,
            )
        return rewritten_file(path, model)

    def close(self) -> None:
        """Close every session. Calling it twice is allowed."""
        while self._open:
            self._open.popitem()[1].close()
        self._rewritten.cleanup()


def _write_onnx_with_nms(
    model: Path, target: Path, description: ModelDescription, **limits: Any
) -> None:
    from saccade.models.nms_graph import with_nms
    from saccade.models.onnx_model import read_onnx
    from saccade.models.onnx_save import save_onnx

    save_onnx(with_nms(read_onnx(model), description, **limits), target)


def _write_program_with_nms(
    model: Path, target: Path, description: ModelDescription, **limits: Any
) -> None:
    from saccade.models.torch_nms import with_nms

    with_nms(model, target, description, **limits)


# Writes a model with NMS at its end, by the model's format.
_WRITE_WITH_NMS = {"onnx": _write_onnx_with_nms, "torch_export": _write_program_with_nms}
