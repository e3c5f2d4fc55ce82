"""ncnn's two files, for phones and small boards."""

from __future__ import annotations

from typing import ClassVar

from saccade.deploy.exports.contract import ExportRequest, Run
from saccade.deploy.exports.phones import ConvertedExport


class NcnnModel(ConvertedExport):
    """Float weights; ncnn rounds to halves itself where the CPU has them."""

    name: ClassVar[str] = "ncnn"
    label: ClassVar[str] = "ncnn"
    precision: ClassVar[str] = "fp32"
    format: ClassVar[str] = "ncnn"
    runtime: ClassVar[str] = "ncnn"

    @classmethod
    def runs(cls, request: ExportRequest) -> tuple[Run, ...]:
        """Ncnn in float, in half precision, and with bf16 storage."""
        return tuple(Run(cls.runtime, precision) for precision in ("fp32", "fp16", "bf16"))
