"""Image headers, and OpenCV in the place of Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from train_images import mask, picture

from saccade.errors import DataError
from saccade.train.decoding import Decoder, decode_with_opencv, decode_with_pillow, decoded
from saccade.train.image_header import image_header


@pytest.mark.parametrize("rgb", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1", "LA", "I;16"])
def test_opencv_gives_the_pixels_of_pillow_of_every_png(
    tmp_path: Path, mode: str, rgb: bool
) -> None:
    path = tmp_path / "a.png"
    image = picture(0, (37, 53))
    if mode == "I;16":
        Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 256).save(path)
    else:
        image.convert(mode).save(path)
    assert np.array_equal(decode_with_opencv(path, rgb), decode_with_pillow(path, rgb))


@pytest.mark.parametrize("decode", [decode_with_pillow, decode_with_opencv])
@pytest.mark.parametrize(("mode", "suffix"), [("L", "jpg"), ("L", "png"), ("P", "png")])
def test_the_picture_is_rgb_and_a_mask_beside_it_keeps_its_ids(
    tmp_path: Path, mode: str, suffix: str, decode: Decoder
) -> None:
    path, ids = tmp_path / f"a.{suffix}", tmp_path / "mask.png"
    image = picture(0, (37, 53)).convert(mode)
    image.save(path)
    mask(0, (37, 53)).convert("P").save(ids)
    pixels, classes, number = decoded((path, ids, 3), decode)
    with Image.open(path) as saved:
        assert np.abs(pixels.astype(int) - np.asarray(saved.convert("RGB"))).max() <= 2
    with Image.open(ids) as saved:
        assert np.array_equal(classes, np.asarray(saved))
    assert number == 3
    named = decoded({"image": path, "mask": ids}, decode)
    assert named["image"].shape == (37, 53, 3) and named["mask"].shape == (37, 53)


@pytest.mark.parametrize(("mode", "subsampling"), [("RGB", 0), ("RGB", 2), ("L", 0), ("CMYK", 0)])
def test_opencv_gives_the_pixels_of_pillow_of_every_jpeg(
    tmp_path: Path, mode: str, subsampling: int
) -> None:
    path = tmp_path / "a.jpg"
    picture(0, (37, 53)).convert(mode).save(path, subsampling=subsampling)
    apart = decode_with_opencv(path).astype(int) - decode_with_pillow(path)
    assert np.abs(apart).max() <= 2  # rounding, where they are built on other libraries


def test_orientation_is_left_to_the_job(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(0, (37, 53)).save(path, exif=exif)
    assert decode_with_opencv(path).shape == decode_with_pillow(path).shape == (37, 53, 3)


@pytest.mark.parametrize("fraction", [0.5, 0.25, 0.125])
def test_reduced_decoding_is_that_of_libjpeg(tmp_path: Path, fraction: float) -> None:
    path = tmp_path / "a.jpg"
    picture(1, (133, 201)).save(path)
    with Image.open(path) as image:
        image.draft("RGB", (int(201 * fraction), int(133 * fraction)))
        wanted = np.asarray(image.convert("RGB")).astype(int)
    got = decode_with_opencv(path, fraction=fraction)
    assert got.shape == (-(-133 * fraction // 1), -(-201 * fraction // 1), 3)
    assert np.abs(got - wanted).max() <= 2


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.95])
def test_a_file_that_is_cut_off_is_refused_and_not_filled_with_grey(
    tmp_path: Path, keep: float
) -> None:
    path = tmp_path / "a.jpg"
    picture(2, (300, 400)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(DataError, match=r"a\.jpg"):
        decode_with_opencv(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b\.jpg.*No such file"):
        decode_with_opencv(tmp_path / "b.jpg")


def test_the_header_says_the_size(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        picture(0, (37, 53)).save(tmp_path / name)
        header = image_header((tmp_path / name).read_bytes())
        assert header is not None
        assert (header.height, header.width, header.channels, header.bits) == (37, 53, 3, 8)
        assert header.complete
    picture(0, (37, 53)).save(tmp_path / "p.jpg", progressive=True, dpi=(72, 72), comment=b"x")
    header = image_header((tmp_path / "p.jpg").read_bytes())
    assert header is not None and (header.height, header.width) == (37, 53)
    assert image_header(b"GIF89a") is None and image_header(b"\xff\xd8\xff\xe0") is None
