"""Decode a video frame by frame, whatever state the file is in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from saccade.data.contract import DataProblem
from saccade.data.video_source import READ_TIMEOUT_S, container_name, video_stream
from saccade.errors import DataError

_WAIT_S = 0.002
_MICROSECONDS = 1_000_000
# Containers round times; less than this many frames short is no loss.
_TOLERATED_FRAMES = 2


def decode_frames(
    container: InputContainer,
    on_problem: Callable[[DataProblem], None],
    *,
    threads: int | None = None,
    skip_loop_filter: bool = False,
) -> Iterator[av.VideoFrame]:
    """Decode the video, frame by frame, whatever state the file is in.

    A damaged packet is left out and reported as ``"corrupt_frame"``; a frame that the decoder
    could repair only in part is yielded and reported likewise, as ``"kept"``. A video that stops
    before its declared end, within a frame, or by a lost connection gives the frames it has and
    then ``"video_ends_early"``. Formats that declare no duration (MPEG-TS) can be cut between
    frames without a trace. Every problem is reported when it is met, one call each.

    Args:
        container: from `open_container`, nothing decoded yet.
        on_problem: called in the thread that iterates.
        threads: decoder threads, over frames and slices; 0 as many as there are cores; None
            leaves FFmpeg's default.
        skip_loop_filter: leave out H.264's in-loop deblocking (changes pixels).

    Raises:
        DataError: no frame could be decoded at all.
    """
    stream = video_stream(container)
    _configure(stream, threads, skip_loop_filter)
    name = container_name(container)
    packets = _Packets(container, stream, name, on_problem)
    decoded = False
    for packet in packets:
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            packets.report_corrupt(packet, error.strerror)
            continue
        for frame in frames:
            if frame.is_corrupt:
                at = f"{frame.time:.2f} s" if frame.time is not None else "an unknown time"
                detail = f"the frame at {at} was repaired in part"
                on_problem(DataProblem("corrupt_frame", name, detail, "kept"))
            decoded = True
            yield frame
    if not decoded:
        raise DataError(
            f"{name} has no frame that can be decoded. The file may be cut off or damaged: "
            "download or record it again."
        )
    packets.report_early_end()


class _Packets:
    """The packets of one stream, without the damaged ones; knows how far the video came."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        name: str,
        on_problem: Callable[[DataProblem], None],
    ) -> None:
        self._container, self._stream, self._name = container, stream, name
        self._on_problem = on_problem
        self._start = stream.start_time or 0
        self._reached = self._start
        self._failure = ""

    def __iter__(self) -> Iterator[Packet[Any]]:
        damaged: Packet[Any] | None = None
        for packet in self._demuxed():
            if not packet.size:
                # The one without a time stamp makes the decoder give out what it still holds.
                # An empty packet within the video (AVI has them for repeated frames) must not.
                if packet.dts is None and packet.pts is None:
                    yield packet
                continue
            if damaged is not None:
                self.report_corrupt(damaged, "the packet is incomplete")
                damaged = None
            if packet.is_corrupt:
                damaged = packet  # the last one of a cut file, unless another follows
                continue
            shown_at = _shown_at(packet)
            if shown_at is not None:
                self._reached = max(self._reached, shown_at + (packet.duration or 0))
            yield packet
        if damaged is not None and not self._failure:
            self._failure = "its last frame is incomplete"

    def _demuxed(self) -> Iterator[Packet[Any]]:
        """All packets, also the last, empty one where reading fails."""
        demuxed, waits = self._container.demux(self._stream), 0
        while waits * _WAIT_S <= READ_TIMEOUT_S:
            try:
                for packet in demuxed:
                    waits = 0
                    yield packet
                return
            except BlockingIOError:
                # Some cameras have no frame ready yet and say so instead of waiting.
                waits += 1
                time.sleep(_WAIT_S)
                demuxed = self._container.demux(self._stream)
            except (av.error.FFmpegError, OSError) as error:
                self._failure = f"reading failed: {error.strerror or type(error).__name__}"
                break
        self._failure = self._failure or f"no frame for {READ_TIMEOUT_S:.0f} s"
        last: Packet[Any] = Packet(0)
        last.stream = self._stream
        yield last

    def report_corrupt(self, packet: Packet[Any], reason: str | None) -> None:
        """Report a packet that is left out."""
        at = _seconds(_shown_at(packet), self._stream)
        detail = f"the frame at {at} was left out: {reason or 'it cannot be decoded'}"
        self._on_problem(DataProblem("corrupt_frame", self._name, detail, "skipped"))

    def report_early_end(self) -> None:
        """Report, after the last packet, if there should have been more."""
        clauses = [clause for clause in (self._missing_time(), self._failure) if clause]
        if clauses:
            detail = ", ".join(clauses)
            self._on_problem(DataProblem("video_ends_early", self._name, detail, "kept"))

    def _missing_time(self) -> str:
        declared = declared_duration_s(self._container, self._stream)
        rate = self._stream.average_rate or self._stream.guessed_rate
        base = self._stream.time_base
        if declared is None or not rate or base is None:
            return ""
        reached = float((self._reached - self._start) * base)
        if declared - reached <= float(_TOLERATED_FRAMES / rate):
            return ""
        return f"it ends after {reached:.2f} s of {declared:.2f} s"


def declared_duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    """How long the container says the video is, seconds; None where it does not say."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if "DURATION" in stream.metadata:  # Matroska's per-stream tag, HH:MM:SS.fraction
        return _clock_s(stream.metadata["DURATION"])
    # The container's duration is that of its longest stream, so it says nothing with sound.
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / _MICROSECONDS
    return None


def _clock_s(text: str) -> float | None:
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _configure(stream: VideoStream, threads: int | None, skip_loop_filter: bool) -> None:
    context = stream.codec_context
    if threads is not None:
        context.thread_type = "AUTO"
        context.thread_count = threads
    if skip_loop_filter:
        context.options = {**context.options, "skip_loop_filter": "all"}


def _shown_at(packet: Packet[Any]) -> int | None:
    # AVI has no presentation times.
    return packet.pts if packet.pts is not None else packet.dts


def _seconds(timestamp: int | None, stream: VideoStream) -> str:
    if timestamp is None or stream.time_base is None:
        return "an unknown time"
    return f"{float(timestamp * stream.time_base):.2f} s"
