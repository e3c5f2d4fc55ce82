"""Samples that cannot be prepared are left out and counted, up to the share that users allow."""

from __future__ import annotations

from collections.abc import Sequence

from saccade.errors import DataError
from saccade.train.samples import Corrupt

SHOWN = 3
# 0.07 of 100 samples are 7, though the product is a little less.
ROUNDING = 1e-6


class CorruptionLimit:
    """Refuses data of which too much is broken.

    Args:
        share: of the samples that may be, 0-1.
        samples: in the data set.
    """

    def __init__(self, share: float, samples: int) -> None:
        self._share, self._samples = share, samples
        self.found: dict[int, str] = {}

    @property
    def allowed(self) -> int:
        """Different samples that may be broken."""
        return int(self._share * self._samples + ROUNDING)

    def check(self, corrupt: Sequence[Corrupt]) -> None:
        """Note broken samples.

        Raises:
            DataError: with them there are too many.
        """
        self.found |= {item.index: item.reason for item in corrupt}
        if len(self.found) <= self.allowed:
            return
        examples = "; ".join(f"{i}: {r}" for i, r in list(self.found.items())[:SHOWN])
        raise DataError(
            f"{len(self.found)} of {self._samples} samples cannot be prepared, more than the "
            f"{self._share:.2%} that are allowed ({examples}). Repair them, or allow more with "
            "--max-corrupt or max_corrupt in the job."
        )
