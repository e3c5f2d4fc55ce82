"""The bundle: model, settings and provenance in one folder that is checked before it runs.

bundle/
  manifest.json    schema, hashes of every file, versions, settings, provenance, licence notes
  model.onnx       or model.xml + model.bin; with model.onnx.data where one file cannot hold it
  labels.txt       class names, one per line
  README.md        how to run it

A bundle of two tasks on the same frames has the model and the labels of each by its task's name;
one model that answers for both is called both.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from saccade.deploy.places import swap_in
from saccade.errors import BundleError
from saccade.pipeline.config import ModelFile, PipelineConfig, library_versions
from saccade.pipeline.pipeline import Pipeline
from saccade.pipeline.system import SystemConfig, is_system
from saccade.pipeline.system_pipeline import SystemPipeline
from saccade.study import finite, storage_errors, to_json

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"

LICENSE_NOTE = (
    "The model's weights keep their own licence; saccade adds none. "
    "Check that it permits your use before you distribute this bundle."
)


def write_bundle(config: PipelineConfig, provenance: Mapping[str, Any], target: Path) -> Path:
    """Write a bundle whole or not at all; an older one at ``target`` is kept as the previous one.

    Raises:
        BundleError: something that is not a bundle is at ``target``.
        StorageError: the disk is full or read-only.
    """
    return _write_whole(target, lambda folder: _fill(folder, config, provenance))


def write_system_bundle(config: SystemConfig, provenance: Mapping[str, Any], target: Path) -> Path:
    """The same for two tasks on the same frames."""
    return _write_whole(target, lambda folder: _fill_system(folder, config, provenance))


def _write_whole(target: Path, fill: Callable[[Path], None]) -> Path:
    if target.exists() and not _replaceable(target):
        raise BundleError(
            f"'{target}' exists and is not a bundle. Nothing was changed; move it away or choose "
            "another folder."
        )
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            fill(folder)
            folder.chmod(0o755)
            swap_in(folder, target, keep=_kept(target, folder))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return target


def _replaceable(target: Path) -> bool:
    return target.is_dir() and ((target / MANIFEST).is_file() or not any(target.iterdir()))


def previous_of(target: Path) -> Path:
    """Where the bundle before the one at ``target`` is kept, for `saccade.deploy.rollback`."""
    return target.with_name(f"{target.name}.previous")


def _kept(target: Path, new: Path) -> Path | None:
    """Where the bundle at ``target`` goes; None where it is nothing to go back to.

    That is one that was damaged, and one that runs as the new one does: a run that was resumed
    writes its bundle again, which must not push out the one before.
    """
    try:
        now = read_manifest(target).get("config_hash")
    except BundleError:
        return None
    return previous_of(target) if now != read_manifest(new)["config_hash"] else None


def _fill(folder: Path, config: PipelineConfig, provenance: Mapping[str, Any]) -> None:
    model = _copy_model(folder, config.model)
    described = config.description
    (folder / "labels.txt").write_text("\n".join(described.class_names) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_readme(described.license), encoding="utf-8")
    document = replace(config, model=model).to_dict()
    _write_manifest(folder, document, config.hash, described.license, provenance)


def _fill_system(folder: Path, config: SystemConfig, provenance: Mapping[str, Any]) -> None:
    first, second = config.parts
    models = {part.task: part.model for part in config.parts}
    if config.sharing.one_pass:
        models = dict.fromkeys(models, _copy_model(folder, first.model, "both"))
    else:
        models = {task: _copy_model(folder, model, task) for task, model in models.items()}
    for part in config.parts:
        names = "\n".join(part.description.class_names) + "\n"
        (folder / f"labels-{part.task}.txt").write_text(names, encoding="utf-8")
    licences = "; ".join(
        f"{part.task}: {part.description.license or 'not stated in the model file'}"
        for part in config.parts
    )
    (folder / "README.md").write_text(_system_readme(config, licences), encoding="utf-8")
    parts = replace(first, model=models[first.task]), replace(second, model=models[second.task])
    document = replace(config, parts=parts).to_dict()
    _write_manifest(folder, document, config.hash, licences, provenance)


def _write_manifest(
    folder: Path,
    config: Mapping[str, Any],
    config_hash: str,
    license_text: str,
    provenance: Mapping[str, Any],
) -> None:
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config,
        "config_hash": config_hash,
        "versions": library_versions(),
        "license": {
            "model": license_text or "not stated in the model file",
            "note": LICENSE_NOTE,
        },
        "provenance": dict(provenance),
        "files": {path.name: _sha256(path) for path in sorted(folder.iterdir())},
    }
    manifest = finite(manifest)
    manifest["digest"] = _own_digest(manifest)
    (folder / MANIFEST).write_text(to_json(manifest, indent=1), encoding="utf-8")


def _copy_model(folder: Path, model: ModelFile, stem: str = "model") -> ModelFile:
    """Copy the model's files; ONNX becomes one file, unless its weights are too large or mapped."""
    model = replace(model, program=None)  # a bundle is not optimized any further
    suffix = Path(model.path).suffix
    target = folder / f"{stem}{suffix}"
    if model.format == "onnx" and model.weights is not None:
        shutil.copyfile(model.path, target)
        beside = target.with_name(Path(model.weights).name)  # the graph knows it by its name
        shutil.copyfile(model.weights, beside)
        return replace(model, path=target.name, weights=beside.name)
    if model.format == "onnx":
        from saccade.models.onnx_save import copy_onnx

        data = copy_onnx(Path(model.path), target)
        weights = data.name if data is not None else None
        return replace(model, path=target.name, weights=weights, external_bytes=0)
    shutil.copyfile(model.path, target)
    if model.weights is None:
        return replace(model, path=target.name)
    beside = target.with_suffix(Path(model.weights).suffix)
    shutil.copyfile(model.weights, beside)
    return replace(model, path=target.name, weights=beside.name)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle, after every file has been checked against it.

    Raises:
        BundleError: it is not a bundle, a file is missing, was changed or does not belong there,
            or the bundle was written by a newer version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"'{folder}' is not a bundle: it has no {MANIFEST}. Expected the folder that "
            "`saccade optimize` writes as RUN/bundle."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files, version = dict(manifest["files"]), int(manifest["schema_version"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise BundleError(
            f"The manifest of '{folder}' is damaged ({error}). Export the bundle again."
        ) from None
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"'{folder}' was written by a newer saccade (bundle format {version}, this one reads "
            f"{SCHEMA_VERSION}). Upgrade saccade."
        )
    if manifest.get("digest") != _own_digest(manifest):
        raise BundleError(
            f"The bundle '{folder}' was changed after it was written: its {MANIFEST} does not "
            "match its own digest. Copy or export the bundle again."
        )
    for name, expected in files.items():
        if Path(name).name != name or name == "..":
            raise BundleError(
                f"The manifest of '{folder}' names a file outside the bundle: '{name}'."
            )
        if not (folder / name).is_file():
            raise BundleError(
                f"The bundle '{folder}' is incomplete: '{name}' is missing. Copy it again."
            )
        if _hash_of(folder / name) != expected:
            raise BundleError(
                f"The bundle '{folder}' was changed after it was written: '{name}' does not "
                "match its hash. Copy or export the bundle again."
            )
    return dict(manifest)


def bundle_config(folder: Path) -> PipelineConfig:
    """The configuration of a checked bundle, its model's paths made absolute.

    Raises:
        BundleError: it is no sound bundle, or one of two tasks.
    """
    manifest = read_manifest(folder)
    if _of_two(folder, manifest):
        with _settings_of(folder):
            tasks = " and ".join(part["task"] for part in manifest["config"]["parts"])
        raise BundleError(
            f"'{folder}' is for {tasks} at once. Expected a bundle of one task: those that it "
            "was made from are in the run folder, one for each task."
        )
    return _single(folder, manifest)


def system_config(folder: Path) -> SystemConfig | None:
    """The configuration of a checked bundle of two tasks; None where it is of one.

    Raises:
        BundleError: it is no sound bundle.
    """
    manifest = read_manifest(folder)
    return _system(folder, manifest) if _of_two(folder, manifest) else None


def config_of(folder: Path, manifest: Mapping[str, Any]) -> PipelineConfig | SystemConfig:
    """The configuration that a checked manifest holds, of one task or of two.

    Raises:
        BundleError: the settings are damaged.
    """
    read = _system if _of_two(folder, manifest) else _single
    return read(folder, manifest)


def _of_two(folder: Path, manifest: Mapping[str, Any]) -> bool:
    with _settings_of(folder):
        return is_system(manifest["config"])


def _single(folder: Path, manifest: Mapping[str, Any]) -> PipelineConfig:
    with _settings_of(folder):
        return _beside(folder, PipelineConfig.from_dict(manifest["config"]), manifest["files"])


def _system(folder: Path, manifest: Mapping[str, Any]) -> SystemConfig:
    with _settings_of(folder):
        config = SystemConfig.from_dict(manifest["config"])
        first, second = (_beside(folder, part, manifest["files"]) for part in config.parts)
        return replace(config, parts=(first, second))


@contextmanager
def _settings_of(folder: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"The settings in '{folder}' are damaged ({error}). Export the bundle again."
        ) from None


def _beside(folder: Path, config: PipelineConfig, files: Mapping[str, str]) -> PipelineConfig:
    """The configuration with the paths of its model's files, which the manifest must know."""
    model = config.model
    for name in filter(None, (model.path, model.weights)):
        if name not in files:
            raise BundleError(f"The bundle '{folder}' has no hash for its model file '{name}'.")
    weights = str((folder / model.weights).resolve()) if model.weights else None
    resolved = replace(model, path=str((folder / model.path).resolve()), weights=weights)
    return replace(config, model=resolved)


def bundle_at(path: str | os.PathLike[str]) -> Path:
    """The bundle's folder, where a run folder that holds one may have been given."""
    folder = Path(path)
    if not (folder / MANIFEST).exists() and (folder / "bundle" / MANIFEST).exists():
        return folder / "bundle"
    return folder


def load(path: str | os.PathLike[str], **overrides: Any) -> Pipeline | SystemPipeline:
    """Load a bundle: a pipeline for images (`pipeline(image)`) and streams (`pipeline.stream`).

    A bundle of two tasks is used in the same way; its results are ``{task: result}``, and
    overrides are for both. While a pipeline that overlaps its stages is open, OpenCV has one thread
    in the whole process; `close` gives back what it had.

    Args:
        path: the bundle's folder, or a run folder that holds one.
        overrides: settings of `PipelineConfig` to change, such as ``score_threshold=0.001``.

    Raises:
        BundleError: the bundle is incomplete, was tampered with, or has no such setting.
    """
    folder = bundle_at(path)
    manifest = read_manifest(folder)
    if not _of_two(folder, manifest):
        return Pipeline(_changed(_single(folder, manifest), overrides))
    system = _system(folder, manifest)
    first, second = (_changed(part, overrides) for part in system.parts)
    return SystemPipeline(replace(system, parts=(first, second)))


def _changed(config: PipelineConfig, overrides: Mapping[str, Any]) -> PipelineConfig:
    try:
        return replace(config, **overrides)
    except TypeError:
        raise BundleError(
            f"Unknown setting in {sorted(overrides)}. Known: {', '.join(sorted(config.to_dict()))}."
        ) from None


def _own_digest(manifest: Mapping[str, Any]) -> str:
    """Hash over everything in the manifest but the hash itself."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_of(path: Path) -> str:
    try:
        return _sha256(path)
    except OSError as error:
        raise BundleError(
            f"'{path}' cannot be read: {error.strerror}. Check its permissions or copy the bundle "
            "again."
        ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _readme(license_text: str) -> str:
    return f"""# saccade bundle

    import saccade

    pipeline = saccade.load("path/to/this/folder")
    result = pipeline(image)                    # RGB uint8 (H, W, 3), or a path
    for result in pipeline.stream("video.mp4"):
        print(result.boxes, result.scores, result.class_ids)

    saccade run path/to/this/folder --source video.mp4 --save out.mp4

Model licence: {license_text or "not stated in the model file"}. {LICENSE_NOTE}
"""


def _system_readme(config: SystemConfig, licences: str) -> str:
    first, second = config.tasks
    return f"""# saccade bundle: {first} and {second} on the same frames

    import saccade

    pipeline = saccade.load("path/to/this/folder")
    results = pipeline(image)                   # RGB uint8 (H, W, 3), or a path
    results["{first}"], results["{second}"]
    for results in pipeline.stream("video.mp4"):
        ...

    saccade run path/to/this/folder --source video.mp4 --save out.mp4

Model licences: {licences}. {LICENSE_NOTE}
"""
