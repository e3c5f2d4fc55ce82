"""The README's commands, run as they stand (but for the time they may take)."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from small_data import some_of, some_pictures

from saccade.models.onnx_file import read_onnx
from saccade.models.reshape import reshape

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
# Not run here: what installs or builds (the Makefile's targets are run by CI and by hand).
SKIPPED = ("git ", "pip ", "make ", "cd ")
BUDGETS = {"5m": "9s", "10m": "20s"}
# What makes commands short whose length no budget decides.
SHORTER = {
    "saccade train profile": "--seconds 3",
    "saccade train optimize": "--seeds 2 --steps 4",
    "saccade train run": "--epochs 1",
}
# Of a kit's script.
BRIEFLY = ("--rounds", "2", "--seconds", "0.2")
# Street images are scaled down to these sizes: the commands are what is tested, not the figures.
SMALL, TRAINED, JUDGED = (96, 72), 16, 8
# Side of the detector's input, and labelled images of each split.
PIXELS, LABELLED = 320, 12

pytestmark = [pytest.mark.realdata, pytest.mark.demo_model]


def shell_commands(section: str) -> list[str]:
    """Indented command lines of one section of the README, continuation lines joined."""
    (text,) = (part for part in README.split("\n## ") if part.startswith(section))
    found = re.findall(r"^    (saccade .+?)(?:  #.*)?$", text.replace("\\\n", " "), re.MULTILINE)
    return [line for line in found if not line.startswith(SKIPPED)]


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, data_root: Path, yolo11n: Path) -> Path:
    """A folder in which the README's file names exist."""
    folder = tmp_path_factory.mktemp("readme")
    small = reshape(read_onnx(yolo11n), (PIXELS, PIXELS), batch=1)
    (folder / "yolo11n.onnx").write_bytes(small.SerializeToString())
    (folder / "street.mp4").symlink_to(data_root / "video" / "street-1080p.mp4")
    (folder / "yolox_nano.onnx").symlink_to(data_root.parent / "models" / "yolox_nano_coco.onnx")
    some_pictures(data_root / "imagenet", folder / "imagenet")
    (folder / "MOT").mkdir()
    # The smaller of the two sequences: the command is what is tested, not the figure.
    (folder / "MOT" / "PETS09-S2L1").symlink_to(data_root / "video" / "TUD-Campus")
    small_camvid(data_root / "camvid", folder / "camvid")
    untrained = pytest.importorskip("torchvision").models.mobilenet_v2(weights=None)
    pytest.importorskip("torch").save(untrained.state_dict(), folder / "mobilenet_v2.pth")
    images = data_root / "coco" / "images" / "validation"
    (folder / "image.jpg").symlink_to(sorted(images.iterdir())[0])
    yaml = some_of(data_root / "coco", folder / "coco", LABELLED)
    text = yaml.read_text(encoding="utf-8")
    (folder / "data.yaml").write_text(
        re.sub(r"^path:.*$", f"path: {yaml.parent}", text, flags=re.MULTILINE), encoding="utf-8"
    )
    return folder


def small_camvid(source: Path, target: Path) -> None:
    """A few street images with their masks, in the same layout."""
    for split, count in (("train", TRAINED), ("val", JUDGED)):
        for part in (split, f"{split}annot"):
            (target / part).mkdir(parents=True)
            for path in sorted((source / part).glob("*.png"))[:count]:
                with Image.open(path) as image:
                    image.resize(SMALL, Image.Resampling.NEAREST).save(target / part / path.name)
    shutil.copyfile(source / "classes.txt", target / "classes.txt")


def make_crops_small(job: Path) -> None:
    """A sixteenth of the pixels for every step of a training."""
    text = job.read_text(encoding="utf-8")
    assert "SIDE = 256" in text
    job.write_text(text.replace("SIDE = 256", "SIDE = 64"), encoding="utf-8")


def in_little_time(text: str) -> str:
    """The same with other budgets."""
    return re.sub(r"\b(5m|10m)\b", lambda found: BUDGETS[found[1]], text)


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SACCADE_QUIET": "1"}
    return subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, timeout=300, env=environment
    )


def saccade(line: str) -> list[str]:
    more = next((flags for start, flags in SHORTER.items() if line.startswith(start)), "")
    words = shlex.split(f"{in_little_time(line)} {more}")
    return [sys.executable, "-c", "from saccade.cli import main; main()", *words[1:]]


@pytest.mark.parametrize(
    ("section", "left"),
    [
        ("Start", "runs/street/report.html"),
        pytest.param("Tasks and models", "runs/swap/report.html", marks=pytest.mark.slow),
        pytest.param("Another machine", "kit/measurements.json", marks=pytest.mark.slow),
        ("Trainings", "runs/smaller/model.pt2"),
    ],
)
def test_commands_of_the_readme_run(workplace: Path, section: str, left: str) -> None:
    commands = shell_commands(section)
    assert len(commands) >= 2
    for line in commands:
        if line.startswith("saccade optimize saccade.yaml"):
            spec = workplace / "saccade.yaml"
            spec.write_text(in_little_time(spec.read_text()), encoding="utf-8")
        done = run(saccade(line), workplace)
        if line.startswith("saccade train init"):
            make_crops_small(workplace / "job.py")
        if line.startswith("saccade export"):
            run([sys.executable, "measure.py", *BRIEFLY], workplace / "kit")
        assert done.returncode in (0, 3, 4), f"{line}\n{done.stdout}\n{done.stderr}"
    assert (workplace / left).is_file()


def test_every_command_is_in_a_section_that_is_run() -> None:
    titles = [part.splitlines()[0] for part in README.split("\n## ")[1:]]
    with_commands = [title for title in titles if shell_commands(title)]
    assert with_commands == [
        "Start", "Tasks and models", "Another machine than this one", "Trainings"
    ]  # fmt: skip


def test_python_of_the_readme_runs(workplace: Path) -> None:
    (block,) = python_blocks()
    done = run([sys.executable, "-c", in_little_time(block)], workplace)
    assert done.returncode == 0, done.stderr


def test_verbs_of_the_readme_exist() -> None:
    from saccade.cli.app import VERBS

    table = README.split("## Verbs")[1].split("## ")[0]
    for verb in VERBS:
        assert f"`{verb}`" in table or f"saccade {verb}" in table, verb
