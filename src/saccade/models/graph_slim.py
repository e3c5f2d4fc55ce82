"""A smaller graph that says the same: onnxslim's folding, merging and dropping of nodes."""

from __future__ import annotations

from importlib.util import find_spec

import onnx

from saccade.errors import MissingExtraError, ModelError, first_line


def can_slim() -> bool:
    """Whether onnxslim is installed; does not load it."""
    return find_spec("onnxslim") is not None


def slimmed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` after onnxslim (github.com/inisis/OnnxSlim).

    Constants are folded, equal subgraphs merged, and nodes without an effect dropped; batch norms
    and padding go into convolutions. The shapes that it notes for every value are left out: they
    hold for one input size, make the file larger, and every runtime finds them again.

    Raises:
        MissingExtraError: onnxslim is not installed.
        ModelError: onnxslim could not read or rewrite the graph.
    """
    try:
        import onnxslim
    except ImportError as error:
        raise MissingExtraError("onnxslim", "slim", "Slimming an ONNX graph") from error
    given = onnx.ModelProto()
    given.CopyFrom(model)  # onnxslim changes what it is given
    try:
        result: onnx.ModelProto = onnxslim.slim(given)
    except Exception as error:  # its exceptions share no base
        raise ModelError(f"onnxslim could not rewrite the graph ({first_line(error)})") from error
    del result.graph.value_info[:]
    return result
