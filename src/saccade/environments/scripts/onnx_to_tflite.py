"""ONNX to LiteRT's format, by onnx2tf."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

# Where there is a file of this name onnx2tf reads it, instead of fetching one of its own.
SAMPLES = "calibration_image_sample_data_20x128x128x3_float32.npy"
COUNT, SIDE = 20, 128


def work(request: dict[str, Any]) -> dict[str, Any]:
    """Convert.

    Args:
        request: ``model``, path of an ``.onnx`` file; ``target``, where to write; ``input``, name
            of the image input; ``hw``, its height and width.

    Returns:
        ``tensorflow``, the version that wrote the file.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="saccade-") as folder:
        os.chdir(folder)
        pixels = np.random.default_rng(0).random((COUNT, SIDE, SIDE, 3), np.float32)
        np.save(SAMPLES, pixels)
        import onnx2tf
        import tensorflow

        height, width = request["hw"]
        try:
            # It ends the process on what it cannot convert, and says why on stdout.
            with contextlib.redirect_stdout(sys.stderr):
                onnx2tf.convert(
                    input_onnx_file_path=request["model"],
                    output_folder_path=folder,
                    overwrite_input_shape=[f"{request['input']}:1,3,{height},{width}"],
                    copy_onnx_input_output_names_to_tflite=True,
                    output_signaturedefs=True,  # else names of nodes must begin with a letter
                    verbosity="error",
                )
        except SystemExit as error:
            raise RuntimeError(f"onnx2tf gave up (exit code {error.code})") from error
        finally:
            os.chdir(Path(__file__).parent)
        (made,) = Path(folder).glob("*_float32.tflite")
        Path(request["target"]).write_bytes(made.read_bytes())
    return {"tensorflow": str(tensorflow.__version__)}
