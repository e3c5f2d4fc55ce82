"""NNCF's post-training quantization, for OpenVINO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import onnx

from saccade.errors import RuntimeFailure
from saccade.models.onnx_save import loadable
from saccade.optimize.quantization.contract import Samples, Scheme
from saccade.optimize.quantization.nncf_call import ESTIMATORS, post_training
from saccade.optimize.quantization.recipe import Estimator, Recipe
from saccade.runtimes.openvino_core import openvino_core

# OpenVINO's names of what `saccade.optimize.quantization.layers.KINDS` are in ONNX.
KINDS = (
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
    "MatMul",
)
# Activations whose values below zero are small, fused or in parts.
NEGATIVE_TAILS = frozenset(("Swish", "HSwish", "Gelu", "PRelu", "Elu", "Selu", "Mish", "SoftPlus"))


class NncfOpenVino:
    """Per-channel symmetric weights, asymmetric activations, fast bias correction from the start.

    NNCF's fast correction costs nothing at run time, so it is not a rung here; the rung is its
    slow one, which goes through the graph layer by layer.
    """

    runtime: ClassVar[str] = "openvino"
    suffix: ClassVar[str] = ".xml"
    extra: ClassVar[str] = "openvino"
    estimators: ClassVar[tuple[Estimator, ...]] = ESTIMATORS
    scheme: ClassVar[Scheme] = Scheme(
        rounds_outputs=False,
        depthwise_per_channel=True,
        mean_ranges=True,
        halves_depthwise=False,
    )

    @staticmethod
    def missing() -> str | None:
        """NNCF or OpenVINO."""
        return next((p for p in ("openvino", "nncf") if find_spec(p) is None), None)

    @staticmethod
    def quantize(
        model: onnx.ModelProto,
        samples: Samples,
        recipe: Recipe,
        kept_float: Sequence[str],
        target: Path,
    ) -> None:
        """Write an IR and its weights."""
        with loadable(model) as source:
            graph = fused(openvino_core().read_model(source))
        ignored = head_nodes(graph, recipe.float_depth) + list(
            ir_names(graph, _aliases(model, kept_float))
        )
        write_int8(graph, samples, recipe, ignored, target)


def write_int8(
    model: Any, samples: Samples, recipe: Recipe, ignored: Sequence[str], target: Path
) -> None:
    """Quantize an ``openvino.Model`` and write it as an IR, whole or not at all.

    Raises:
        RuntimeFailure: NNCF refused the model.
    """
    import openvino as ov

    symmetric = not _has_negative_tails(model)
    quantized = post_training(model, list(samples), recipe, ignored, symmetric=symmetric)
    partial = target.with_name("partial-" + target.name)
    ov.save_model(quantized, str(partial), compress_to_fp16=False)
    partial.with_suffix(".bin").replace(target.with_suffix(".bin"))
    partial.replace(target)


def fused(model: Any) -> Any:
    """The OpenVINO model with its common patterns as single operators, in place.

    ONNX spells SiLU as a sigmoid and a product. NNCF would quantize both inputs of that product,
    which costs accuracy, and the plug-in could no longer fuse it with the convolution before,
    which makes int8 as slow as bf16.
    """
    from openvino._offline_transformations import apply_moc_transformations

    apply_moc_transformations(model, cf=False)
    return model


def _has_negative_tails(model: Any) -> bool:
    """Whether activations go a little below zero, where a range around zero wastes half its steps.

    After ReLU and sigmoid ranges begin at zero, and between layers they lie around it; zero points
    would only cost arithmetic there.
    """
    return any(node.get_type_name() in NEGATIVE_TAILS for node in model.get_ops())


def head_nodes(model: Any, limit: int) -> list[str]:
    """Nodes of the head: fewer than ``limit`` layers with weights away from an output."""
    weighted = weighted_layers(model)
    names: list[str] = []
    seen: dict[str, int] = {}
    queue = [(result.input_value(0).get_node(), 0) for result in model.get_results()]
    while queue:
        node, depth = queue.pop()
        name = node.get_friendly_name()
        if depth >= limit or seen.get(name, limit) <= depth:
            continue
        if name not in seen and node.get_type_name() not in ("Constant", "Parameter"):
            names.append(name)
        seen[name] = depth
        step = 1 if name in weighted else 0
        queue += [(value.get_node(), depth + step) for value in node.input_values()]
    return names


def weighted_layers(model: Any) -> set[str]:
    """Names of the layers with weights: their second operand follows from constants alone."""
    constant: set[str] = set()
    found: set[str] = set()
    for node in model.get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        fixed = [value.get_node().get_friendly_name() in constant for value in node.input_values()]
        if all(fixed) and kind != "Parameter":
            constant.add(name)
        elif kind in KINDS and fixed[1]:
            found.add(name)
    return found


def _aliases(model: onnx.ModelProto, nodes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each ONNX node what it may be called: its name, or the output that it gives."""
    made = {node.name: node.output[0] for node in model.graph.node}
    return {name: (name, made[name]) for name in nodes}


def ir_names(model: Any, aliases: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Names in the OpenVINO model of ONNX nodes with weights; a bias is a node of its own there.

    Args:
        model: converted from ONNX.
        aliases: for each ONNX node what it may be called.

    Raises:
        RuntimeFailure: one of them cannot be found.
    """
    weighted = weighted_layers(model)
    for node, called in aliases.items():
        found = [
            name for name in weighted if any(name == c or name.startswith(f"{c}/") for c in called)
        ]
        if not found:
            raise RuntimeFailure(
                f"The layer '{node}' is not found in the converted model, so it cannot be left "
                "float. This recipe is not possible for this model."
            )
        yield from found
