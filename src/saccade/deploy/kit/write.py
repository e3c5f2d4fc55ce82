"""Write a kit: model files, frames, what is expected of them, and the script that measures."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade import plugins
from saccade.deploy.exports.contract import ExportRequest
from saccade.deploy.exports.onnx_fixed import CALIBRATION_CACHE
from saccade.deploy.kit.assemble import script
from saccade.deploy.kit.edgetpu import COMPILE_SCRIPT, compile_script, edgetpu_notes
from saccade.deploy.kit.edgetpu import RUNTIME as EDGETPU
from saccade.deploy.kit.read import read_kit_document
from saccade.deploy.kit.readme import readme
from saccade.deploy.kit.record import (
    KIT_FILE,
    SCHEMA_VERSION,
    KitCandidate,
    KitFile,
    candidates_of,
    kit_id,
    reference_of,
    slug,
)
from saccade.deploy.kit.tensorrt_commands import build_script
from saccade.deploy.places import swap_in
from saccade.errors import InputError
from saccade.pipeline.config import PipelineConfig
from saccade.runtimes.contract import SessionRequest
from saccade.study import finite, storage_errors, to_json
from saccade.targets.read import read_target

# Frames that are measured on, and how many of them are compared with what is expected.
FRAMES, CHECK_FRAMES = 8, 3
SCRIPT, BUILD_SCRIPT, README = "measure.py", "build_tensorrt.sh", "README.md"


@dataclass(frozen=True, eq=False)
class KitContents:
    """Everything that goes into a kit.

    Attributes:
        request: the model and the frames.
        files: model files that were made.
        left_out: what is not in it, with the reason.
        target: name of the machine it is for.
        estimates: what was estimated about that machine, empty for this one.
    """

    request: ExportRequest
    files: tuple[KitFile, ...]
    left_out: tuple[tuple[str, str], ...]
    target: str
    estimates: Mapping[str, Any]


def write_kit(contents: KitContents, out: Path) -> dict[str, Any]:
    """Write a kit whole or not at all; an older one at ``out`` is replaced. Returns its document.

    Raises:
        InputError: see `check_place`.
        StorageError: the disk is full or read-only.
    """
    check_place(out)
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        try:
            document = _fill(folder, contents)
            folder.chmod(0o755)
            swap_in(folder, out)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return document


def check_place(out: Path) -> None:
    """Refuse to replace anything but a kit as it was written; what a device measured stays.

    Raises:
        InputError: something else is at ``out``, or that is the current folder.
    """
    if out.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise InputError(f"'{out}' is the current folder. Choose a folder within it as --out.")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        known = read_kit_document(out)["sha256"].keys() | {KIT_FILE, README, CALIBRATION_CACHE}
    except InputError:
        raise InputError(
            f"'{out}' exists and is no kit. Nothing was changed; choose another --out."
        ) from None
    files = (path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    more = sorted(name for name in files if name not in known)
    if more:
        raise InputError(
            f"The kit '{out}' holds what did not come with it: {', '.join(more[:3])}. A new kit "
            "would delete that. Move it away, or choose another --out; measurements are read with "
            "--measurements."
        )


def _fill(folder: Path, contents: KitContents) -> dict[str, Any]:
    request = contents.request
    for name in ("models", "frames", "expected"):
        (folder / name).mkdir()
    feeds = _feeds(folder, contents)
    check = min(len(file.outputs) for file in contents.files)
    files = {
        file.name: {**_add_file(folder, file), **(feeds[file.model] if file.model else {})}
        for file in contents.files
    }
    candidates = candidates_of(contents.files)
    if any(c.runtime == "tensorrt" for c in candidates):
        _add_tensorrt(folder, request, candidates, files)
    notes = _add_edgetpu(folder, contents.target, candidates, files)
    (folder / SCRIPT).write_text(script(), encoding="utf-8")
    document = {
        "schema_version": SCHEMA_VERSION,
        "target": contents.target,
        "model_sha256": request.config.model.sha256,
        **feeds[""],
        "models": _models(contents),
        "check_frames": check,
        "files": files,
        "candidates": [asdict(candidate) for candidate in candidates],
        "reference": reference_of(candidates).id,
        "notes": notes,
        "left_out": [{"what": what, "reason": reason} for what, reason in contents.left_out],
        "estimates": dict(contents.estimates),
        "sha256": _hashes(folder),
    }
    document = dict(finite(document))
    document["kit_id"] = kit_id(document)
    (folder / KIT_FILE).write_text(to_json(document, indent=1), encoding="utf-8")
    (folder / README).write_text(readme(document), encoding="utf-8")
    return document


def _feeds(folder: Path, contents: KitContents) -> dict[str, dict[str, Any]]:
    """What each model is fed and answers by name; the frames are written. The kit's own is ``""``.

    Another model, or another size, wants frames that were preprocessed for it.
    """
    requests = {"": contents.request}
    requests.update({file.model: file.request for file in contents.files if file.request})
    return {
        model: {
            "input": {"name": request.config.description.input.name, "hw": list(request.input_hw)},
            "outputs": _output_names(request),
            "frames": [
                _save(folder, slug(model), index, tensor)
                for index, tensor in enumerate(request.tensors[:FRAMES])
            ],
        }
        for model, request in requests.items()
    }


def _models(contents: KitContents) -> dict[str, Any]:
    """What may take the model's place: name → which model it is, at which size."""
    return {
        file.model: {
            "sha256": file.request.config.model.sha256,
            "input_hw": list(file.request.input_hw),
        }
        for file in contents.files
        if file.request is not None
    }


def _save(folder: Path, model: str, index: int, tensor: NDArray[Any]) -> str:
    name = (Path("frames") / model / f"{index:03d}.npy").as_posix()
    (folder / name).parent.mkdir(exist_ok=True)
    np.save(folder / name, np.ascontiguousarray(tensor, np.float32))
    return name


def _add_file(folder: Path, file: KitFile) -> dict[str, Any]:
    """Copy a model's files and keep its outputs."""
    model = file.config.model
    paths = []
    for path in filter(None, (model.path, model.weights)):
        name = f"models/{file.name}{Path(path).suffix}"
        beside = _copy_model(Path(path), folder / name)
        paths += [name, *([f"models/{beside.name}"] if beside is not None else [])]
    expected = f"expected/{file.name}.npz"
    kept = {
        f"{frame}_{index}": output
        for frame, found in enumerate(file.outputs)
        for index, output in enumerate(found)
    }
    np.savez(folder / expected, **kept)  # type: ignore[arg-type]
    weights = paths[1] if len(paths) > 1 else None
    moved = replace(model, path=paths[0], weights=weights, program=None, external_bytes=0)
    return {
        "paths": paths,
        "label": file.label,
        "precision": file.precision,
        "model": file.model,
        "size_mb": model.size_mb,
        "expected": expected,
        "config": replace(file.config, model=moved).to_dict(),
    }


def _copy_model(source: Path, target: Path) -> Path | None:
    """Copy a file; of ONNX, the weights come along, and their file is given where it is another."""
    if source.suffix == ".onnx":
        from saccade.models.onnx_save import copy_onnx

        return copy_onnx(source, target)
    shutil.copyfile(source, target)
    return None


def outputs_here(config: PipelineConfig, request: ExportRequest) -> tuple[list[NDArray[Any]], ...]:
    """What a file answers on this machine to the frames that devices are checked with.

    Raises:
        RuntimeFailure: the runtime here refuses the file, so nothing could be expected of it.
    """
    asked = SessionRequest(
        model=config.model,
        input_hw=request.input_hw,
        options=config.options,
        input_name=config.description.input.name,
    )
    session = plugins.load("runtimes", config.runtime).open(asked)
    try:
        frames = request.tensors[:CHECK_FRAMES]
        return tuple([np.array(output) for output in session.infer(frame)] for frame in frames)
    finally:
        session.close()


def _output_names(request: ExportRequest) -> list[str]:
    from saccade.models.onnx_file import read_onnx

    model = read_onnx(request.config.model.path, weights=False)
    return [value.name for value in model.graph.output]


def _add_tensorrt(
    folder: Path,
    request: ExportRequest,
    candidates: Sequence[KitCandidate],
    files: Mapping[str, Any],
) -> None:
    """The build script, and the calibration cache where a candidate wants one."""
    from saccade.deploy.exports.trt_calibration import write_cache

    if any(CALIBRATION_CACHE in flag for c in candidates for flag in c.flags):
        write_cache(request, folder / CALIBRATION_CACHE)
    # Where the model itself does not fit the target, the kit may hold others only.
    given = "onnx" in files and not request.fixed
    dynamic = request.config.description.input.name if given else None
    target = folder / BUILD_SCRIPT
    target.write_text(build_script(candidates, files, dynamic, request.input_hw), encoding="utf-8")
    target.chmod(0o755)


def _add_edgetpu(
    folder: Path, target: str, candidates: Sequence[KitCandidate], files: Mapping[str, Any]
) -> list[str]:
    """The script that compiles, and what to expect of it; nothing where no candidate needs it."""
    names = sorted({c.file for c in candidates if c.runtime == EDGETPU})
    if not names:
        return []
    script_file = folder / COMPILE_SCRIPT
    script_file.write_text(compile_script(candidates, files), encoding="utf-8")
    script_file.chmod(0o755)
    processor = read_target(target).processor_of(EDGETPU)
    paths = [folder / files[name]["paths"][0] for name in names]
    return [f"{p.name}: {note}" for p in paths for note in edgetpu_notes(p, processor)]


def _hashes(folder: Path) -> dict[str, str]:
    # The calibration cache gets the device's TensorRT version in its first line.
    return {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != CALIBRATION_CACHE
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
