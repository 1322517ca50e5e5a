import argparse
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import faces
from difface_diffusers import DifFacePipeline
from difface_diffusers.degradation.blind import DegradationRanges, degrade
from tests.conftest import SIZE


# Shape and numbers


def test_load_faces_is_sorted_resized_rgb(data):
    loaded = faces.load_faces(data, SIZE)
    assert loaded.shape == (3, 3, SIZE, SIZE) and loaded.dtype == torch.float32
    band = (loaded[:, :, 1, 5] * 255).round().tolist()
    assert band == [[200, 100, 0], [200, 100, 10], [200, 100, 20]]
    torch.testing.assert_close(faces.load_faces(data, SIZE, limit=2), loaded[:2])


def test_halves_share_no_face_and_leave_none_out(data):
    loaded = faces.load_faces(data, SIZE)
    torch.testing.assert_close(faces.load_faces(data, SIZE, half="tuning"), loaded[::2])
    torch.testing.assert_close(faces.load_faces(data, SIZE, half="reporting"), loaded[1::2])
    torch.testing.assert_close(faces.load_faces(data, SIZE, limit=1, half="tuning"), loaded[:1])


def test_names_choose_faces_before_they_are_halved(data):
    for path in list(data.iterdir()):
        path.rename(path.with_name(f"plain_{path.name}"))
        shutil.copy(data / f"plain_{path.name}", data / f"other_{path.name}")
    chosen = faces.load_faces(data, SIZE, names="plain_*")
    assert len(chosen) == 3 and len(faces.load_faces(data, SIZE)) == 6
    torch.testing.assert_close(faces.load_faces(data, SIZE, half="reporting", names="plain_*"), chosen[1::2])


def test_options_choose_faces(data):
    parser = argparse.ArgumentParser()
    faces.add_face_options(parser)
    args = parser.parse_args(["--data", str(data), "--output", "out", "--half", "tuning", "--limit", "1"])
    torch.testing.assert_close(faces.load_chosen_faces(args, SIZE), faces.load_faces(data, SIZE)[:1])


def test_degradation_of_a_face_depends_on_seed_and_index_alone(clean):
    degraded = faces.degrade_faces(clean, seed=5)
    expected = degrade(clean[1].permute(1, 2, 0).numpy(), DegradationRanges(), np.random.default_rng([5, 1]))
    torch.testing.assert_close(degraded[1].permute(1, 2, 0), torch.from_numpy(expected), rtol=0, atol=0)
    torch.testing.assert_close(faces.degrade_faces(clean[:2], seed=5), degraded[:2], rtol=0, atol=0)
    assert not torch.equal(faces.degrade_faces(clean, seed=6), degraded)


def test_other_ranges_degrade_otherwise(clean):
    harmless = DegradationRanges((0.001, 0.001), (0.8, 1.0), (0, 0), (100, 100))
    error = (faces.degrade_faces(clean, 5, harmless) - clean).abs().mean()
    worse = (faces.degrade_faces(clean, 5, replace(harmless, noise_sigma=(60, 60))) - clean).abs().mean()
    assert worse > error + 0.01


def test_restorations_do_not_depend_on_the_batch_size(model, clean):
    pipe = DifFacePipeline.from_pretrained(model)
    restored, estimates = faces.restore(pipe, clean, batch_size=2)
    alone, alone_estimates = faces.restore(pipe, clean, batch_size=1)
    torch.testing.assert_close(restored, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(estimates, alone_estimates, rtol=0, atol=1e-5)
    direct = pipe(clean[2:], generator=torch.Generator().manual_seed(2), output_type="pt")
    torch.testing.assert_close(restored[2:], direct.images, rtol=0, atol=1e-5)
    torch.testing.assert_close(estimates[2:], direct.estimates, rtol=0, atol=1e-5)


def test_settings_reach_the_pipeline(model, clean):
    pipe = DifFacePipeline.from_pretrained(model)
    restored, _ = faces.restore(pipe, clean, 3, start_timestep=7, num_inference_steps=1, eta=0.0)
    generators = [torch.Generator().manual_seed(index) for index in range(3)]
    direct = pipe(clean, 1, 7, eta=0.0, generator=generators, output_type="pt").images
    torch.testing.assert_close(restored, direct, rtol=0, atol=0)


# Errors


def test_refuses_a_folder_without_images(tmp_path):
    with pytest.raises(
        ValueError, match=r"`data` must be a folder of images \(.*\), found 0 in .*, 0 of them named '\*'"
    ):
        faces.load_faces(tmp_path, SIZE)


def test_says_why_no_image_is_left(data):
    with pytest.raises(ValueError, match=r"found 3 in .*, 0 of them named 'ffhq_\*', and none is left"):
        faces.load_faces(data, SIZE, names="ffhq_*")


@pytest.mark.parametrize(("option", "value", "lowest"), [("--limit", 1, 2), ("--seed", -1, 0), ("--batch-size", 0, 1)])
def test_refuses_impossible_options(capsys, option, value, lowest):
    parser = argparse.ArgumentParser()
    faces.add_face_options(parser)
    args = parser.parse_args(["--data", "in", "--output", "out", option, str(value)])
    with pytest.raises(SystemExit):
        faces.check_face_options(parser, args, lowest_limit=2)
    assert f"{option} must be at least {lowest}, got {value}" in capsys.readouterr().err
