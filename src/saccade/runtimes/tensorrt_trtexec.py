"""Build TensorRT engines by the ``trtexec`` program.

Not verified on hardware: no GPU was at hand in this project. Written for TensorRT 10, after the
options in NVIDIA's sampleOptions.cpp.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from saccade.errors import RuntimeFailure
from saccade.models.onnx_file import read_onnx
from saccade.runtimes.tensorrt_settings import WORKSPACE_MIB, EngineSettings

# Where NVIDIA's Debian packages put it, which is on no PATH.
USUAL_PLACE = Path("/usr/src/tensorrt/bin/trtexec")
TIMEOUT_S = 3600.0
_SAID = 300


def trtexec_program() -> str | None:
    """Path of the program: on the PATH, else where NVIDIA's Debian packages put it, else None."""
    found = shutil.which("trtexec")
    return found or (str(USUAL_PLACE) if USUAL_PLACE.is_file() else None)


def trtexec_command(
    model: Path,
    target: Path,
    input_name: str,
    settings: EngineSettings,
    dynamic: bool,
    program: str = "trtexec",
) -> list[str]:
    """The command that builds the same engine as the package does, as words.

    Args:
        model: an ONNX file.
        target: where the engine goes.
        input_name: the image input.
        settings: how to build.
        dynamic: whether the model's shape is; ``trtexec`` refuses shapes otherwise.
        program: its path.
    """
    words = [program, f"--onnx={model}", f"--saveEngine={target}", "--skipInference"]
    if dynamic:
        for kind, shape in zip(("min", "opt", "max"), settings.shapes, strict=True):
            words.append(f"--{kind}Shapes={input_name}:{'x'.join(map(str, shape))}")
    words += [flag for flag, on in (("--fp16", settings.fp16), ("--int8", settings.int8)) if on]
    words.append(f"--memPoolSize=workspace:{WORKSPACE_MIB}")
    if settings.timing_cache is not None:
        words.append(f"--timingCacheFile={settings.timing_cache}")
    return words


def trtexec_engine(program: str, model: Path, input_name: str, settings: EngineSettings) -> bytes:
    """A serialized engine for this GPU and the program's version of TensorRT.

    Args:
        program: path of ``trtexec``.
        model: an ONNX file; int8 only where it has QDQ nodes, since ``trtexec`` cannot calibrate
            on frames.
        input_name: the image input.
        settings: how to build.

    Raises:
        RuntimeFailure: the program failed; the message holds its own last error and the command.
        ModelError: the file is no ONNX model.
    """
    dynamic = has_free_sides(model, input_name)
    if settings.timing_cache is not None:
        with contextlib.suppress(OSError):  # it builds without timings as well
            settings.timing_cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="saccade-") as folder:
        target = Path(folder) / "built.engine"
        command = trtexec_command(model, target, input_name, settings, dynamic, program)
        said = _output(command)
        if not target.is_file():
            lines = [line for line in said.splitlines() if "[E]" in line] or said.splitlines()
            reason = (lines or ["it said nothing"])[-1].strip()[:_SAID]
            by_hand = trtexec_command(
                model, Path("model.engine"), input_name, settings, dynamic, program
            )
            raise RuntimeFailure(
                f"trtexec built no engine: {reason}. To see more, run: "
                f"{shlex.join([*by_hand, '--verbose'])}"
            )
        return target.read_bytes()


def has_free_sides(model: Path, input_name: str) -> bool:
    """Whether a side of the input is left open in an ONNX file.

    Raises:
        ModelError: the file is no ONNX model.
    """
    graph = read_onnx(model, weights=False).graph
    shapes = [v.type.tensor_type.shape for v in graph.input if v.name == input_name]
    return any(not side.HasField("dim_value") for shape in shapes for side in shape.dim)


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeFailure(
            f"trtexec did not end within {TIMEOUT_S:.0f} s and was stopped (hung)."
        ) from error
    except OSError as error:
        raise RuntimeFailure(f"trtexec could not be started: {error}.") from error
    return done.stdout
