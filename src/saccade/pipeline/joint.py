"""The stages of two pipelines as those of one, so that the engine runs both at once.

What the engine hands from stage to stage (geometry, input, outputs) is a pair here, one for each
pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import SaccadeError
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.frames import Frame
from saccade.pipeline.geometry import Letterbox
from saccade.pipeline.preprocess import Preprocessor, affine, blank
from saccade.runtimes.contract import OperatorTime, Session, Ticket
from saccade.tasks.contract import Postprocessor


@dataclass(frozen=True)
class JointBox:
    """Where a frame lies in the input of each model."""

    boxes: tuple[Letterbox, Letterbox]

    @property
    def input_hw(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of each model's input, pixels."""
        return self.boxes[0].input_hw, self.boxes[1].input_hw


class SeparateInputs:
    """Each pipeline preprocesses for itself."""

    in_graph = False

    def __init__(self, preprocessors: Sequence[Preprocessor]) -> None:
        self._preprocessors = preprocessors

    def allocate(self, box: Any) -> Any:
        """A buffer for each, see `Preprocessor.allocate`."""
        pairs = zip(self._preprocessors, box.boxes, strict=True)
        return tuple(preprocessor.allocate(one) for preprocessor, one in pairs)

    def run(self, frame: Frame, box: Any, out: Any) -> Any:
        """The tensors of both."""
        return tuple(
            preprocessor.run(frame, one, buffer)
            for preprocessor, one, buffer in zip(self._preprocessors, box.boxes, out, strict=True)
        )


class SingleInput:
    """One model answers for both, so its input is all there is to preprocess."""

    in_graph = False

    def __init__(self, preprocessor: Preprocessor) -> None:
        self._preprocessor = preprocessor

    def allocate(self, box: Any) -> Any:
        """A buffer for the one input."""
        return self._preprocessor.allocate(box.boxes[0])

    def run(self, frame: Frame, box: Any, out: Any) -> Any:
        """The one tensor."""
        return self._preprocessor.run(frame, box.boxes[0], out)


class SharedPixels:
    """Scales a frame once; each model's channel order and normalization start from there.

    Both models must see a frame in the same geometry. A model that takes uint8 pixels is given
    the scaled frame itself; where both are fed the same values, the tensor is made once too.
    """

    in_graph = False

    def __init__(self, configs: Sequence[PipelineConfig]) -> None:
        self._pre = [config.description.preprocessing for config in configs]
        self._in_graph = [config.preprocessor == "graph" for config in configs]
        self._affine = [affine(pre) for pre in self._pre]

    def allocate(self, box: Any) -> Any:
        """The scaled frame ``(1, H, W, 3)`` uint8 and a buffer for each tensor made from it."""
        first: Letterbox = box.boxes[0]
        canvas = blank(first, self._pre[0])[None]
        buffers = tuple(
            np.empty_like(canvas) if in_graph else np.empty((1, 3, *first.input_hw), np.float32)
            for in_graph in self._in_graph
        )
        return canvas, buffers

    def run(self, frame: Frame, box: Any, out: Any) -> Any:
        """Scale once; the tensors of both."""
        canvas, buffers = out
        frame.scale(box.boxes[0], self._pre[0].channel_order, canvas[0])
        tensors = [self._tensor(0, canvas, buffers[0])]
        alike = self._pre[0] == self._pre[1] and self._in_graph[0] == self._in_graph[1]
        tensors.append(tensors[0] if alike else self._tensor(1, canvas, buffers[1]))
        return tuple(tensors)

    def _tensor(self, part: int, canvas: NDArray[np.uint8], buffer: NDArray[Any]) -> NDArray[Any]:
        same_order = self._pre[part].channel_order == self._pre[0].channel_order
        pixels = canvas if same_order else canvas[..., ::-1]
        if self._in_graph[part]:
            if same_order:
                return canvas
            buffer[...] = pixels
            return buffer
        factor, offset = self._affine[part]
        for channel in range(3):
            target = buffer[0, channel]
            np.multiply(pixels[0, ..., channel], factor[channel], out=target)
            if offset[channel]:
                target += offset[channel]
        return buffer


class BothSessions(Session):
    """Two sessions, each with its own input; whoever opened them closes them.

    Inputs and outputs are pairs.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = tuple(sessions)

    def infer(self, tensor: Any) -> Any:
        """Run one after the other."""
        return [s.infer(t) for s, t in zip(self._sessions, tensor, strict=True)]

    def submit(self, tensor: Any) -> Ticket:
        """Start both; what the first has begun is taken back where the second refuses."""
        first, second = self._sessions
        begun = first.submit(tensor[0])
        try:
            return Ticket((begun, second.submit(tensor[1])))
        except SaccadeError:
            try:
                first.collect(begun)
            finally:
                first.release(begun)
            raise

    def collect(self, ticket: Ticket) -> Any:
        """Wait for both."""
        pairs = zip(self._sessions, ticket.payload, strict=True)
        return [session.collect(one) for session, one in pairs]

    def release(self, ticket: Ticket) -> None:
        """Give both tickets back."""
        for session, one in zip(self._sessions, ticket.payload, strict=True):
            session.release(one)

    def operators(self) -> list[OperatorTime]:
        """Those of both."""
        return [operator for session in self._sessions for operator in session.operators()]

    def close(self) -> None:
        """Nothing: the sessions belong to their pools."""


class SplitSession(Session):
    """One session whose first outputs are the first pipeline's, and the others the second's."""

    def __init__(self, session: Session, first_outputs: int) -> None:
        self._session, self._first = session, first_outputs

    def _split(self, outputs: list[NDArray[np.float32]]) -> Any:
        return outputs[: self._first], outputs[self._first :]

    def infer(self, tensor: Any) -> Any:
        """Run once."""
        return self._split(self._session.infer(tensor))

    def submit(self, tensor: Any) -> Ticket:
        """Start the one inference."""
        return self._session.submit(tensor)

    def collect(self, ticket: Ticket) -> Any:
        """Wait for it."""
        return self._split(self._session.collect(ticket))

    def release(self, ticket: Ticket) -> None:
        """Give the ticket back."""
        self._session.release(ticket)

    def operators(self) -> list[OperatorTime]:
        """Those of the one session."""
        return self._session.operators()

    def close(self) -> None:
        """Nothing: the session belongs to its pool."""


class BothResults:
    """Turns the outputs of both models into ``{task: result}``."""

    def __init__(self, postprocessors: dict[str, Postprocessor]) -> None:
        self._postprocessors = postprocessors

    def __call__(self, outputs: Any, box: Any) -> dict[str, Any]:
        """The results of one frame."""
        parts = zip(self._postprocessors.items(), outputs, box.boxes, strict=True)
        return {task: postprocess(mine, one) for (task, postprocess), mine, one in parts}

    @property
    def parts(self) -> dict[str, tuple[float, float]]:
        """What both say about their last call."""
        found: dict[str, tuple[float, float]] = {}
        for postprocess in self._postprocessors.values():
            found.update(getattr(postprocess, "parts", {}))
        return found
