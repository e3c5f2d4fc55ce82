"""Finding, probing and reading image files."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from saccade.data.image_folder import ImageFolderFormat
from saccade.data.images import probe_image, read_image
from saccade.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


def write(path: Path, pixels: np.ndarray = PIXELS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix, pixels)
    assert ok
    path.write_bytes(data.tobytes())
    return path


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm"])
def test_pixels_are_those_of_imread_in_rgb(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, cv2.imread(str(path), flags)[..., ::-1])
    assert probe_image(path) == (64, 48, None)


def test_grey_and_transparent_images_become_three_channels(tmp_path: Path) -> None:
    grey = write(tmp_path / "grey.png", PIXELS[..., 0])
    alpha = write(tmp_path / "alpha.png", np.dstack([PIXELS, PIXELS[..., 0]]))
    assert read_image(grey).shape == read_image(alpha).shape == (48, 64, 3)


def test_orientation_is_ignored_by_size_and_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg")
    plain = path.read_bytes()
    # One IFD entry: orientation (0x0112), SHORT, one value, 6 (rotate by 90°).
    tiff = b"MM\x00\x2a" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    path.write_bytes(plain[:2] + jpeg_segment(0xE1, b"Exif\x00\x00" + tiff) + plain[2:])
    assert probe_image(path) == (64, 48, None)
    assert read_image(path).shape == (48, 64, 3)


@pytest.mark.parametrize("name", ["Straße.jpg", "写真 1.jpg", "ünï/çødé.png", "emoji 🚦.webp"])
def test_non_ascii_names(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    assert read_image(path).shape == (48, 64, 3)
    assert probe_image(path) == (64, 48, None)


@pytest.mark.skipif(os.name == "nt", reason="file names are text on Windows")
def test_a_name_that_is_no_text_is_shown_and_survived(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    write(path)
    assert probe_image(path)[2] is None
    path.write_bytes(path.read_bytes()[:-20])
    problem = probe_image(path)[2]
    assert problem is not None
    problem.path.encode("utf-8")
    with pytest.raises(DataError) as caught:
        read_image(path)
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize("kept", [0.99, 0.7, 0.2, 0.01])
def test_truncated_jpeg_is_found_wherever_it_is_cut(tmp_path: Path, kept: float) -> None:
    path = write(tmp_path / "cut.jpg")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    width, height, problem = probe_image(path)
    assert (width, height) == (0, 0)
    assert problem is not None
    assert (problem.kind, problem.action) == ("truncated_image", "skipped")
    with pytest.raises(DataError, match="cut off"):
        read_image(path)


def test_the_end_of_a_preview_inside_the_header_does_not_count(tmp_path: Path) -> None:
    path = write(tmp_path / "preview.jpg")
    data = path.read_bytes()
    with_preview = data[:2] + jpeg_segment(0xE1, b"Exif\x00\x00" + data) + data[2:]
    path.write_bytes(with_preview)
    assert probe_image(path) == (64, 48, None)
    path.write_bytes(with_preview[:-50])
    problem = probe_image(path)[2]
    assert problem is not None
    assert problem.kind == "truncated_image"


def test_padding_and_appended_data_are_no_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg")
    data = path.read_bytes()
    for appended in (b"\x00" * 3, b"\x00" * 5000, b"motion photo " * 1000):
        path.write_bytes(data + appended)
        assert probe_image(path) == (64, 48, None)
        assert read_image(path).shape == (48, 64, 3)


def test_a_header_longer_than_the_first_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg")
    data = path.read_bytes()
    profile = jpeg_segment(0xE2, bytes(65000)) * 3
    path.write_bytes(data[:2] + profile + data[2:])
    assert probe_image(path) == (64, 48, None)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".ppm"])
def test_other_truncated_formats(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"cut{suffix}")
    path.write_bytes(path.read_bytes()[:-100])
    problem = probe_image(path)[2]
    assert problem is not None
    assert problem.kind == "truncated_image"


@pytest.mark.parametrize("content", [b"", b"<html>404 Not Found</html>", b"\xff" * 40])
def test_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    problem = probe_image(path)[2]
    assert problem is not None
    assert problem.kind == "unreadable_image"
    with pytest.raises(DataError, match=r"a\.jpg"):
        read_image(path)


def test_missing_image_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(DataError, match=r"directory|denied"):
        read_image(tmp_path)
    problem = probe_image(tmp_path / "none.jpg")[2]
    assert problem is not None
    assert problem.kind == "unreadable_image"


def test_folder_is_searched_in_depth_and_counts_what_is_broken(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/c.PNG", "ü/d.jpeg", ".hidden.jpg", ".cache/e.jpg"):
        write(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert ImageFolderFormat.recognizes(tmp_path)
    splits = ImageFolderFormat.read(tmp_path, ["person"])
    assert splits.train is None
    assert splits.val is not None
    assert [image.path.name for image in splits.val.images] == ["c.PNG", "b.jpg", "d.jpeg"]
    assert not splits.val.labelled
    assert splits.val.class_names == ("person",)
    assert [problem.kind for problem in splits.val.problems] == ["unreadable_image"]


def test_single_image(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg")
    assert ImageFolderFormat.recognizes(path)
    splits = ImageFolderFormat.read(path)
    assert splits.val is not None
    assert (splits.val.images[0].width, splits.val.images[0].height) == (64, 48)


def test_too_few_usable_images_are_refused(tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"{index}.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="None of the 3 images"):
        ImageFolderFormat.read(tmp_path)
    write(tmp_path / "good.jpg")
    with pytest.raises(DataError, match=r"3 of the 4 images .* more than half"):
        ImageFolderFormat.read(tmp_path)
    write(tmp_path / "good2.jpg")
    write(tmp_path / "good3.jpg")
    assert len(ImageFolderFormat.read(tmp_path).val or ()) == 3
