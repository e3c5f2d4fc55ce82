"""Measure a saccade kit on this device: `python3 measure.py`. Writes measurements.json.

Needs Python 3.8 and NumPy, and whichever of these runtimes is there: onnxruntime, openvino,
tflite_runtime or ai_edge_litert (also with an Edge TPU), ncnn, executorch, torch, tensorrt or
trtexec. A candidate whose runtime is missing is skipped and said so. Every candidate runs in a
process of its own; blocks of all candidates take turns, so that drift of clock and temperature hits
them alike.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from saccade.deploy.kit.script.device import environment, sensors
from saccade.deploy.kit.script.runtimes import HERE
from saccade.deploy.kit.script.subject import serve
from saccade.deploy.kit.script.trtexec import trtexec_path
from saccade.deploy.kit.script.workers import TrtExec, Worker

SCHEMA_VERSION = 1
# The reference once more: what two equal processes differ by is noise.
TWIN = "twin"


def read_kit() -> dict[str, Any]:
    """The kit's description, after its files were checked."""
    kit: dict[str, Any] = json.loads((HERE / "kit.json").read_text())
    for name, expected in kit["sha256"].items():
        path = HERE / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            sys.exit(f"{name} is missing or was changed. Copy the whole kit again.")
    return kit


def digest(document: dict[str, Any]) -> str:
    """SHA-256 over everything but the digest itself, in canonical form."""
    content = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Session:
    """The whole measurement; what is known can be written at any time."""

    def __init__(self, kit: dict[str, Any], options: argparse.Namespace) -> None:
        self.kit, self.options = kit, options
        self.document: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "kit_id": kit["kit_id"],
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "complete": False,
            "reference": kit["reference"],
            "environment": environment(),
            "sensors": [sensors()],
            "threads": options.threads,
            "candidates": {},
            "blocks": [],
        }

    def run(self) -> None:
        """All groups; each holds the reference, so that groups compare through it."""
        names = [candidate["id"] for candidate in self.kit["candidates"]]
        names = [name for name in names if not self.options.only or name in self.options.only]
        reference = self._reference()
        self.document["reference"] = reference
        others = [TWIN, *(name for name in names if name != reference)]
        size = max(1, self.options.at_once - 1)
        for start in range(0, len(others), size):
            self._group(start // size, [reference, *others[start : start + size]])
        self.document["complete"] = True

    def _reference(self) -> str:
        """The kit's reference, or the first in its precision that this device can run."""
        wanted: str = self.kit["reference"]
        precisions = {c["id"]: c["precision"] for c in self.kit["candidates"]}
        alike = [name for name, found in precisions.items() if found == precisions[wanted]]
        order: list[str] = [wanted, *(name for name in alike if name != wanted)]
        for name in order:
            worker = self._open(name)
            if worker is not None:
                worker.close()
                return name
        what = {"fp32": "float"}.get(precisions[wanted], precisions[wanted])
        sys.exit(f"This device runs none of the {what} candidates. " + self._why_not())

    def _why_not(self) -> str:
        entries = self.document["candidates"].items()
        return "; ".join(f"{name}: {entry['reason']}" for name, entry in entries)

    def _group(self, number: int, names: list[str]) -> None:
        open_now: dict[str, Any] = {}
        try:
            for name in names:
                worker = self._open(name)
                if worker is not None:
                    open_now[name] = worker
            # The reference alone has nothing to be compared with.
            for index in range(self.options.rounds if len(open_now) > 1 else 0):
                self._round(number, index, open_now)
        finally:
            for worker in open_now.values():
                worker.close()
            self.document["sensors"].append(sensors())

    def _open(self, name: str) -> Any:
        """The candidate, running and warm; None where it is skipped or has failed."""
        wanted = self.document["reference"] if name == TWIN else name
        candidate = next(c for c in self.kit["candidates"] if c["id"] == wanted)
        print(f"{name}: loading", file=sys.stderr)
        worker: Any = None
        tool = self.options.trtexec or trtexec_path()
        if candidate["runtime"] == "tensorrt" and tool:
            worker = TrtExec(self.kit, candidate, tool)
        else:
            worker = Worker(wanted, self.options.threads)
        opened = worker.opened
        for status in ("skipped", "failed"):
            if status in opened:
                print(f"{name}: {status}, {opened[status]}", file=sys.stderr)
                worker.close()
                entry = {"status": status, "reason": opened[status]}
                self.document["candidates"].setdefault(name, entry)
                return None
        self.document["candidates"].setdefault(name, {"status": "measured", **opened})
        return worker

    def _round(self, group: int, index: int, workers: dict[str, Any]) -> None:
        names = list(workers)
        shift = index % max(1, len(names))
        # Another first one each time, so that no candidate always follows the same one.
        for name in names[shift:] + names[:shift]:
            answer = workers[name].block(self.options.seconds)
            if "latency_ms" not in answer:
                reason = answer.get("failed", "no answer")
                self.document["candidates"][name].update(status="failed", reason=reason)
                workers.pop(name).close()
                continue
            entry = {"group": group, "round": index, "candidate": name, **answer}
            self.document["blocks"].append(entry)
            middle = float(np.median(answer["latency_ms"]))
            print(f"{name}: round {index + 1}, median {middle:.2f} ms", file=sys.stderr)

    def write(self, target: Path) -> None:
        """Write the file whole or not at all."""
        self.document["digest"] = digest(self.document)
        partial = target.with_name(f".{target.name}.partial")
        partial.write_text(json.dumps(self.document, indent=1))
        partial.replace(target)


def main() -> None:
    """Measure and write, also what there is after Ctrl-C."""
    parser = argparse.ArgumentParser(description="Measure a saccade kit on this device.")
    parser.add_argument("--out", default="measurements.json", help="where to write")
    parser.add_argument("--rounds", type=int, default=8, help="blocks of each candidate")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a block")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0: their own choice")
    parser.add_argument("--at-once", type=int, default=4, help="candidates in memory together")
    parser.add_argument("--only", nargs="*", help="ids of candidates in kit.json")
    parser.add_argument("--trtexec", help="path of trtexec, used instead of the tensorrt package")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(json.loads((HERE / "kit.json").read_text()), options.worker, options.threads)
        return
    session = Session(read_kit(), options)
    try:
        session.run()
    except KeyboardInterrupt:
        print("Interrupted; writing what was measured.", file=sys.stderr)
    session.write(Path(options.out).resolve())
    print(f"Wrote {options.out}. Take it back to saccade.", file=sys.stderr)


if __name__ == "__main__":
    main()
