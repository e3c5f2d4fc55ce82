"""The runtimes of a device behind one call each; whichever is installed is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

# The kit's folder: the script lies in it.
HERE = Path(__file__).resolve().parent


class Skipped(Exception):  # noqa: N818 - no error: this candidate cannot run here
    """The candidate cannot run on this device; the reason is for a person."""


class OnnxRuntime:
    """ONNX Runtime on the CPU, in CUDA or in TensorRT."""

    PROVIDERS = {  # noqa: RUF012
        "onnxruntime": "CPUExecutionProvider",
        "onnxruntime-cuda": "CUDAExecutionProvider",
        "onnxruntime-tensorrt": "TensorrtExecutionProvider",
    }

    def __init__(self, candidate: dict[str, Any], files: list[Path], threads: int) -> None:
        import onnxruntime as ort

        provider = self.PROVIDERS[candidate["runtime"]]
        if provider not in ort.get_available_providers():
            raise Skipped(f"this onnxruntime has no {provider}")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        settings: dict[str, Any] = {}
        if provider.startswith("Tensorrt"):
            settings = {
                "trt_fp16_enable": candidate["precision"] in ("fp16", "int8"),
                "trt_int8_enable": candidate["precision"] == "int8",
                "trt_engine_cache_enable": True,
                "trt_engine_cache_path": str(HERE / "engines"),
            }
        providers = [(provider, settings)] if settings else [provider]
        # It would round layers that int8 files leave float, as soon as the file is loaded.
        harmful = ["WeightBiasQuantization"] if candidate["precision"] == "int8" else None
        self.session = ort.InferenceSession(
            str(files[0]), options, providers, disabled_optimizers=harmful
        )
        self.input = self.session.get_inputs()[0].name
        self.version = f"onnxruntime {ort.__version__}"
        if provider not in self.session.get_providers():
            raise Skipped(f"onnxruntime could not start {provider}")

    def run(self, frame: Any) -> list[Any]:
        """Outputs for one ``(1, 3, H, W)`` float32 frame."""
        found: list[Any] = self.session.run(None, {self.input: frame})
        return found


class OpenVino:
    """OpenVINO on the CPU."""

    HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}  # noqa: RUF012

    def __init__(self, candidate: dict[str, Any], files: list[Path], threads: int) -> None:
        import openvino as ov

        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self.HINTS[candidate["precision"]],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        core = ov.Core()
        self.request = core.compile_model(str(files[0]), "CPU", settings).create_infer_request()
        self.version = f"openvino {ov.__version__}"

    def run(self, frame: Any) -> list[Any]:
        """Outputs for one ``(1, 3, H, W)`` float32 frame."""
        results = self.request.infer([frame])
        return [results[output] for output in results]


class TfLite:
    """LiteRT or TensorFlow Lite, on the CPU or an Edge TPU. Quantizes and dequantizes itself."""

    def __init__(self, candidate: dict[str, Any], files: list[Path], threads: int) -> None:
        try:
            from ai_edge_litert import interpreter as lite
        except ImportError:
            from tflite_runtime import interpreter as lite
        model, delegates = files[0], []
        if candidate["runtime"] == "edgetpu":
            model, delegates = compiled_for_edgetpu(model), [self._edgetpu(lite)]
        self.lite = lite.Interpreter(
            str(model), num_threads=threads or None, experimental_delegates=delegates
        )
        self.lite.allocate_tensors()
        self.input = self.lite.get_input_details()[0]
        self.outputs = self.lite.get_output_details()
        self.version = f"{lite.__name__.split('.')[0]} {getattr(lite, '__version__', '')}".strip()

    @staticmethod
    def _edgetpu(lite: Any) -> Any:
        try:
            return lite.load_delegate("libedgetpu.so.1")
        except (OSError, ValueError) as error:
            raise Skipped(f"libedgetpu.so.1 does not load ({error})") from None

    def run(self, frame: Any) -> list[Any]:
        """Outputs for one ``(1, 3, H, W)`` float32 frame."""
        if self.input["shape"][-1] == frame.shape[1]:
            frame = np.ascontiguousarray(np.transpose(frame, (0, 2, 3, 1)))
        scale, zero = self.input["quantization"]
        if scale:
            limits = np.iinfo(self.input["dtype"])
            frame = np.clip(np.round(frame / scale) + zero, limits.min, limits.max)
        self.lite.set_tensor(self.input["index"], frame.astype(self.input["dtype"]))
        self.lite.invoke()
        return [self._float(output) for output in self.outputs]

    def _float(self, output: dict[str, Any]) -> Any:
        value = self.lite.get_tensor(output["index"])
        scale, zero = output["quantization"]
        return (value.astype(np.float32) - zero) * scale if scale else value


def compiled_for_edgetpu(model: Path) -> Path:
    """What the Edge TPU's compiler made of a model."""
    compiled = model.with_name(f"{model.stem}_edgetpu{model.suffix}")
    if not compiled.is_file():
        raise Skipped(f"{compiled.name} is not there; run compile_edgetpu.sh on x86-64 Linux first")
    return compiled


class Ncnn:
    """Ncnn on the CPU, with the names that pnnx gives to inputs and outputs."""

    def __init__(self, candidate: dict[str, Any], files: list[Path], threads: int) -> None:
        import ncnn

        self.ncnn, self.net = ncnn, ncnn.Net()
        half = candidate["precision"] == "fp16"
        self.net.opt.use_fp16_packed = self.net.opt.use_fp16_storage = half
        self.net.opt.use_fp16_arithmetic = half
        self.net.opt.use_bf16_storage = candidate["precision"] == "bf16"
        if threads:
            self.net.opt.num_threads = threads
        by_suffix = {file.suffix: str(file) for file in files}
        self.net.load_param(by_suffix[".param"])
        self.net.load_model(by_suffix[".bin"])
        self.names = self.net.output_names()
        self.version = f"ncnn {ncnn.__version__}"

    def run(self, frame: Any) -> list[Any]:
        """Outputs for one ``(1, 3, H, W)`` float32 frame."""
        with self.net.create_extractor() as extractor:
            extractor.input(self.net.input_names()[0], self.ncnn.Mat(frame[0]))
            return [np.array(extractor.extract(name)[1])[None] for name in self.names]


class ExecuTorch:
    """ExecuTorch through its Python bindings."""

    def __init__(self, candidate: dict[str, Any], files: list[Path], threads: int) -> None:
        import torch
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        if threads:
            portable_lib._unsafe_reset_threadpool(threads)
        self.torch = torch
        # The method reads the program's memory and does not keep it.
        self.data = files[0].read_bytes()
        self.program = Runtime.get().load_program(self.data)
        self.method = self.program.load_method("forward")
        self.version = f"executorch, torch {torch.__version__}"

    def run(self, frame: Any) -> list[Any]:
        """Outputs for one ``(1, 3, H, W)`` float32 frame."""
        return [output.numpy() for output in self.method.execute([self.torch.from_numpy(frame)])]


class Torch:
    """TorchScript on the GPU where there is one, else on the CPU."""

    def __init__(self, candidate: dict[str, Any], files: list[Path], threads: int) -> None:
        import torch

        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if threads:
            torch.set_num_threads(threads)
        self.half = candidate["precision"] == "fp16"
        self.cast = candidate["precision"] == "bf16"
        model = torch.jit.load(str(files[0]), map_location=self.device).eval()
        self.model = model.half() if self.half else model
        self.version = f"torch {torch.__version__} on {self.device}"

    def run(self, frame: Any) -> list[Any]:
        """Outputs for one ``(1, 3, H, W)`` float32 frame."""
        cast = self.torch.autocast(self.device, self.torch.bfloat16, enabled=self.cast)
        with self.torch.inference_mode(), cast:
            tensor = self.torch.from_numpy(frame).to(self.device)
            found = self.model(tensor.half() if self.half else tensor)
            found = found if isinstance(found, (list, tuple)) else [found]
            return [output.float().cpu().numpy() for output in found]
