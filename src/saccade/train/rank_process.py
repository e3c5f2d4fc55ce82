"""One rank of a training: ``python -m saccade.train.rank_process FOLDER``, started by torchrun.

Reads what to call from the folder and writes its answer there, or why there is none.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
import traceback
from pathlib import Path

from saccade.errors import RuntimeFailure, SaccadeError
from saccade.train.distributed import rank_here
from saccade.train.launch import ANSWER, STOPPED, called_as_rank

POLL_S = 0.5
# All ranks are ended once one has failed; so long the first may take to write the result.
GRACE_S = 1.0


def main(folder: Path) -> int:
    """Do what the folder says; 0, or 1 where that failed."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    function, arguments = pickle.loads((folder / "task.pkl").read_bytes())
    rank = rank_here()
    try:
        answer = called_as_rank(function, arguments)
    except KeyboardInterrupt:
        (folder / STOPPED).touch()
        return 0
    except SaccadeError as error:
        _say(error, folder, rank)
        if rank:
            time.sleep(GRACE_S)
        return 1
    if rank == 0:
        _write(folder / ANSWER, pickle.dumps(answer))
    return 0


def _end_with_parent(parent: int) -> None:
    """A rank whose starter was killed would train on, and hold the run folder."""
    while os.getppid() == parent:
        time.sleep(POLL_S)
    os._exit(1)


def _say(error: SaccadeError, folder: Path, rank: int) -> None:
    if type(error) is RuntimeFailure:  # of the user's code, or of a library
        _write(folder / f"trace-{rank}", "".join(traceback.format_exception(error)).encode())
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # of an exception whose arguments are not those of its class
        data = pickle.dumps(RuntimeFailure(str(error)))
    _write(folder / f"error-{rank}", data)


def _write(path: Path, data: bytes) -> None:
    """Whole, for it is read when this process has ended, however it did."""
    part = path.with_name(f".{path.name}")
    part.write_bytes(data)
    part.replace(path)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of gloo and NCCL may outlive a failed exchange, and would keep the process.
    os._exit(code)
