from __future__ import annotations

import numpy as np

from nvgbench.data.crop import centre_crop, random_crop, ten_crops


def test_the_right_size_is_left_untouched():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert centre_crop(pixels, 16) is pixels


def test_halving_is_the_mean_of_two_by_two():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    means = pixels.reshape(16, 2, 16, 2, 3).astype(float).mean(axis=(1, 3))
    # 1: two passes, each rounded to uint8.
    assert np.abs(centre_crop(pixels, 16) - means).max() <= 1


def test_the_centre_is_cut_from_the_longer_side():
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    pixels[:, 20:40] = 200
    assert (centre_crop(pixels, 20) == 200).all()
    assert (centre_crop(pixels.transpose(1, 0, 2), 20) == 200).all()


def test_enlarging_keeps_the_colour():
    crop = centre_crop(np.full((9, 13, 3), 77, dtype=np.uint8), 32)
    assert crop.shape == (32, 32, 3)
    assert (crop == 77).all()


def test_random_crops_are_windows_of_the_image_and_reach_every_corner():
    pixels = np.random.default_rng(0).integers(0, 256, (36, 36, 3), dtype=np.uint8)  # 1.125 · 32: needs no resizing
    windows = {pixels[y : y + 32, x : x + 32].tobytes(): (y, x) for y in range(5) for x in range(5)}
    rng = np.random.default_rng(1)
    seen = {windows[np.ascontiguousarray(random_crop(pixels, 32, rng)).tobytes()] for _ in range(400)}
    assert len(seen) == 25


def test_random_crops_follow_the_generator():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    first, again, other = (random_crop(pixels, 24, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.shape == (24, 24, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_ten_crops_are_corners_centre_and_their_mirror_images():
    pixels = np.random.default_rng(0).integers(0, 256, (35, 35, 3), dtype=np.uint8)  # 1.1 · 32: needs no resizing
    crops = ten_crops(pixels, 32)
    places = [(0, 0), (0, 3), (3, 0), (3, 3), (2, 2)]
    assert len(crops) == 10
    for crop, mirrored, (top, left) in zip(crops[:5], crops[5:], places, strict=True):
        assert np.array_equal(crop, pixels[top : top + 32, left : left + 32])
        assert np.array_equal(mirrored, crop[:, ::-1])
