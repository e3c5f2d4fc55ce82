"""`saccade run`: run a bundle on images, video or camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saccade.cli.common import AsJson, print_json
from saccade.cli.validate import Bundle

Source = Annotated[
    str, typer.Option(help="A video, an image, a folder of images, a stream URL or a camera.")
]
Save = Annotated[
    Path | None, typer.Option(help="Draw the results into this new video (or folder, for images).")
]
Mot = Annotated[
    Path | None, typer.Option(help="Write the tracks into this new file, as MOTChallenge does.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")]
Score = Annotated[float | None, typer.Option(min=0, max=1, help="Drop boxes below this score.")]


def run(
    bundle: Bundle,
    source: Source,
    save: Save = None,
    mot: Mot = None,
    limit: Limit = None,
    score: Score = None,
    as_json: AsJson = False,
) -> None:
    """Run a bundle; with --save, draw what it finds; with --mot, write its tracks.

    Ctrl-C ends a camera or stream.

    Example: saccade run runs/street/bundle --source street.mp4 --save out.mp4
    """
    from saccade.deploy.bundle import load
    from saccade.deploy.running import run_source
    from saccade.looks import in_words

    overrides = {} if score is None else {"score_threshold": score}
    with load(bundle, **overrides) as pipeline:
        document = run_source(pipeline, source, save, limit, mot)
    if as_json:
        print_json(document)
        return
    print(
        f"{document['frames']} frames in {document['wall_s']:.2f} s, {document['fps']:.1f} FPS"
        f"{' (drawing and encoding included)' if save else ''}; {document['objects']} objects"
    )
    for name, count in list(document["classes"].items())[:10]:
        print(f"  {name}: {count}")
    if document["looks"]:
        print(f"  {in_words(document['looks'])}")
    for problem in document["problems"]:
        print(f"  problem: {problem['kind']} x{problem['count']} ({problem['action']})")
    if save is not None:
        print(f"saved  {save}")
    if mot is not None:
        print(f"tracks {mot}")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(run)
