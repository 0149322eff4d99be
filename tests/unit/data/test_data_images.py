from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nvgbench.data.images import save_grid, to_float, to_uint8, write_png
from nvgbench.errors import InputError


def test_every_uint8_value_survives_the_round_trip():
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(values)), values)


def test_to_uint8_clamps_and_rounds_to_the_nearest():
    step = 2 / 255
    given = torch.tensor([-7.0, -1.0, -1 + 0.49 * step, -1 + 0.51 * step, 1 - 0.49 * step, 1.0, 3.0])
    assert to_uint8(given).tolist() == [0, 0, 0, 1, 255, 255, 255]


def test_to_uint8_takes_bfloat16():
    assert to_uint8(torch.tensor([-1.0, 1.0], dtype=torch.bfloat16)).tolist() == [0, 255]


def test_conversions_refuse_what_is_converted_already():
    with pytest.raises(InputError, match="uint8"):
        to_uint8(torch.zeros(2, dtype=torch.uint8))
    with pytest.raises(InputError, match="float32"):
        to_float(torch.zeros(2))


def test_write_png_reads_back_equal(tmp_path: Path):
    image = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    path = write_png(image, tmp_path / "deep" / "ein Bild ü.png")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), image.permute(1, 2, 0).numpy())


def test_grid_places_images_row_after_row(tmp_path: Path):
    images = torch.arange(1, 6, dtype=torch.uint8).reshape(5, 1, 1, 1).expand(5, 3, 4, 6) * 10
    sheet = np.asarray(Image.open(save_grid(images, tmp_path / "g.png", columns=3, padding=2, scale=2)))
    assert sheet.shape == (2 * (8 + 2) + 2, 3 * (12 + 2) + 2, 3)
    assert [sheet[top, left, 0] for top in (2, 12) for left in (2, 16, 30)] == [10, 20, 30, 40, 50, 255]
    assert (sheet[2:10, 16:28] == 20).all()
    assert (sheet[:2] == 255).all()


def test_grid_writes_captions_above_their_images(tmp_path: Path):
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    sheet = np.asarray(Image.open(save_grid(images, tmp_path / "g.png", columns=2, captions=["", "much too long for this"])))
    band = sheet.shape[0] - 32 - 4
    assert band > 8
    assert (sheet[: 2 + band, :34] == 255).all(), "no caption, nothing written"
    assert (sheet[: 2 + band, 36:68] < 128).any(), "a caption was written"
    assert (sheet[: 2 + band, 68:] == 255).all(), "and cut to the width of its image"


def test_bad_pictures_are_refused_and_leave_no_file(tmp_path: Path):
    path = tmp_path / "g.png"
    good = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    for images in (good.float(), good[0], good[:, :1], good[:0]):
        with pytest.raises(InputError, match="grid"):
            save_grid(images, path)
    with pytest.raises(InputError, match="1 captions for 2 images"):
        save_grid(good, path, captions=["x"])
    with pytest.raises(InputError, match="one uint8 image"):
        write_png(good, path)
    assert not list(tmp_path.iterdir())
