"""Rule: frames wait for the disk."""

from __future__ import annotations

from itertools import pairwise

from saccade.diagnose.gains import MIN_GAIN, gains_of, today_gain
from saccade.diagnose.records import Finding
from saccade.profile.cost_model import StageCost
from saccade.profile.records import Profile

# Less waiting than this share of a frame is not worth a finding.
MIN_WAIT_SHARE = 0.1
# Reads below this are the odd page of a library, not the source of the frames.
MIN_READ_MB_PER_FRAME = 0.02
MIN_MAJOR_FAULTS_PER_FRAME = 0.5
# A correlation over fewer intervals says nothing.
MIN_INTERVALS = 8

HINTS = ("overlap_stages",)


def io_bound(profile: Profile) -> Finding | None:
    """Storage reads or major faults, together with a decode stage that waits without computing.

    A decoder that waits for anything else, such as a live camera, reads nothing from storage
    and is not named.
    """
    waiting_ms = storage_wait_ms(profile)
    if waiting_ms <= 0 or waiting_ms < MIN_WAIT_SHARE * profile.frame_ms:
        return None
    decode, last = profile.stage("decode"), profile.resources[-1]
    gains = gains_of(profile, {"decode": StageCost(decode.wall_ms - waiting_ms, decode.cpu_ms)})
    if today_gain(profile, gains) < MIN_GAIN:
        return None
    evidence = {
        "waiting_ms": waiting_ms,
        "io_wait_ms": 1e3 * last.io_wait_s / profile.frames,
        "decode_ms": decode.wall_ms,
        "decode_cpu_ms": decode.cpu_ms,
        "read_mb_per_frame": last.read_mb / profile.frames,
        "major_faults_per_frame": last.major_faults / profile.frames,
    }
    together = read_decode_correlation(profile)
    if together is not None:
        evidence["read_decode_correlation"] = together
    title = (
        f"Frames wait for the disk: {waiting_ms:.1f} of {profile.frame_ms:.1f} ms per frame pass "
        f"in decode without computing while "
        f"{evidence['read_mb_per_frame']:.2f} MB are read per frame."
    )
    share, sequential, pipelined = gains.share, gains.sequential, gains.pipelined
    return Finding("io_bound", title, evidence, share, sequential, pipelined, HINTS)


def storage_wait_ms(profile: Profile) -> float:
    """Milliseconds per frame that decode waits for storage; 0 where nothing was read from it."""
    if not profile.resources or profile.frames <= 0:
        return 0.0
    last = profile.resources[-1]
    read_mb = last.read_mb / profile.frames
    faults = last.major_faults / profile.frames
    if read_mb < MIN_READ_MB_PER_FRAME and faults < MIN_MAJOR_FAULTS_PER_FRAME:
        return 0.0
    decode = profile.stage("decode")
    blocked_ms = max(0.0, decode.wall_ms - decode.cpu_ms)
    accounted_ms = 1e3 * last.io_wait_s / profile.frames
    # The kernel's own account may cover other threads as well; decode cannot wait longer than
    # it lasts.
    return min(decode.wall_ms, max(blocked_ms, accounted_ms))


def read_decode_correlation(profile: Profile) -> float | None:
    """Pearson correlation, over sampling intervals, of bytes read and time spent in decode.

    None where there are too few intervals or one of the two never changes.
    """
    spans = [span for span in profile.spans if span.name == "decode"]
    reads, decodes = [], []
    for before, after in pairwise(profile.resources):
        inside = (min(s.end_s, after.t_s) - max(s.start_s, before.t_s) for s in spans)
        reads.append(after.read_mb - before.read_mb)
        decodes.append(sum(max(0.0, seconds) for seconds in inside))
    if len(reads) < MIN_INTERVALS or len(set(reads)) == 1 or len(set(decodes)) == 1:
        return None
    from statistics import correlation

    return correlation(reads, decodes)
