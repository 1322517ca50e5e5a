import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from difface_diffusers import restore_photo
from difface_diffusers.hub.originals.released_upscalers import RELEASED
from difface_diffusers.models.srvgg import SRVGGNetCompact
from difface_diffusers.photos.aligned import restore_aligned
from difface_diffusers.photos.damage import fill_damage
from difface_diffusers.photos.samples import photo_uncertainty, uncertainty_picture
from difface_diffusers.photos.upscale import BACKGROUNDS, BUNDLED
from tests.conftest import SIZE
from tests.demo.conftest import PHOTOGRAPH

from .conftest import InterruptedByUserError, execute
from .test_images import load_image, save_image


PIXELS = np.asarray(Image.open(PHOTOGRAPH))  # 320 x 320, one face
SMALL = {"background": "lanczos", "upscale": 1.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def two_faces():
    """The photograph twice, half as large, above gray."""
    half = cv2.resize(PIXELS, (160, 160), interpolation=cv2.INTER_AREA)
    pixels = np.full_like(PIXELS, 128)
    pixels[:160] = np.hstack([half, half])
    return pixels


def scratched():
    """A scratch across the face, and where it is."""
    hole = np.zeros((320, 320), np.float32)
    cv2.line(hole, (60, 60), (260, 220), 1, 5)
    pixels = PIXELS.copy()
    pixels[hole > 0] = 255
    return pixels, hole


class TestRestorePhoto:
    @pytest.mark.parametrize("background", ["bundled", "none"])
    def test_gives_the_pixels_of_the_pipeline(self, nodes, pipe, load, background):
        settings = {"upscale": 1.5, "background": background, "blend": 0.9}
        expected = restore_photo(pipe, PIXELS, generator=generator(7), **settings)
        image, _ = execute(
            nodes["DifFaceRestorePhoto"], model=load(pipe), image=load_image(PIXELS), seed=7, **settings
        )
        assert len(expected.faces) == 1
        assert np.array_equal(save_image(image)[0], expected.image)

    def test_a_batch_of_images_with_no_one_and_two_faces(self, nodes, pipe, load):
        photos = [np.full_like(PIXELS, 128), PIXELS, two_faces()]
        batch = torch.cat([load_image(photo) for photo in photos])
        images, areas = execute(nodes["DifFaceRestorePhoto"], model=load(pipe), image=batch, **SMALL)
        assert images.shape == (3, 320, 320, 3) and areas.shape == (3, 320, 320)
        for photo, image, area, count in zip(photos, save_image(images), areas.numpy(), (0, 1, 2), strict=True):
            alone = restore_photo(pipe, photo, generator=generator(), **SMALL)
            assert len(alone.faces) == count
            assert np.abs(image.astype(int) - alone.image).max() <= 1  # convolutions of a batch round otherwise
            assert cv2.connectedComponents((area > 0.9).astype(np.uint8))[0] - 1 == count
            assert not (image != photo)[area == 0].any() and (image != photo).any() == bool(count)

    def test_sizes_and_alpha(self, nodes, pipe, load):
        image = torch.cat([load_image(PIXELS[:200]), torch.full((1, 200, 320, 1), 0.25)], dim=-1)
        restored, area = execute(nodes["DifFaceRestorePhoto"], model=load(pipe), image=image, background="none")
        assert restored.shape == (1, 400, 640, 4) and area.shape == (1, 400, 640)
        torch.testing.assert_close(restored[..., 3], torch.full((1, 400, 640), 0.25), atol=1e-5, rtol=0)

    def test_another_seed_gives_another_face_and_the_largest_there_is_works(self, nodes, pipe, load, part):
        seeds = 0, part("inputs").LARGEST_SEED
        first, second = (
            execute(nodes["DifFaceRestorePhoto"], model=load(pipe), image=load_image(PIXELS), seed=seed, **SMALL)[0]
            for seed in seeds
        )
        assert not torch.equal(first, second)

    def test_calls_the_model_with_its_preset(self, nodes, pipe, load, comfyui):
        pipe.register_to_config(presets={"fast": {"num_inference_steps": 2}})
        execute(nodes["DifFaceRestorePhoto"], model=load(pipe, "fast"), image=load_image(PIXELS), **SMALL)
        assert [(done, total) for done, total, _ in comfyui.shown] == [(1, 2), (2, 2)]

    def test_offers_every_background_that_has_a_name(self, part):
        assert part("inputs").BACKGROUNDS == [BUNDLED, *BACKGROUNDS, *RELEASED]


class TestSeveralVersions:
    def test_are_those_of_the_pipeline_with_the_map_of_where_they_differ(self, nodes, pipe, load):
        photos = [PIXELS, np.full_like(PIXELS, 128)]
        images = torch.cat([load_image(photo) for photo in photos])
        node = nodes["DifFaceSeveralVersions"]
        versions, maps = execute(node, model=load(pipe), image=images, versions=3, seed=5, **SMALL)
        assert versions.shape == (6, 320, 320, 3) and maps.shape == (2, 320, 320, 3)
        expected = restore_photo(pipe, PIXELS, generator=generator(5), num_samples=3, **SMALL)
        assert np.array_equal(save_image(versions)[:3], expected.images)
        assert not np.array_equal(expected.images[0], expected.images[1])
        assert np.array_equal(save_image(maps)[0], uncertainty_picture(photo_uncertainty(expected)))
        assert np.array_equal(save_image(versions)[3:], [photos[1]] * 3) and maps[1].max() < 0.1


class TestRestoreAligned:
    def test_gives_the_pixels_of_the_pipeline(self, nodes, pipe, load):
        faces = [np.asarray(Image.fromarray(PIXELS).resize((40, 40)).rotate(angle)) for angle in range(9)]
        batch = torch.cat([load_image(face) for face in faces])
        (images,) = execute(nodes["DifFaceRestoreAligned"], model=load(pipe), image=batch, seed=3)
        assert images.shape == (9, 40, 40, 3)
        for face, image in zip(faces, save_image(images), strict=True):
            (expected,) = restore_aligned(pipe, [face], [generator(3)])
            assert np.abs(image.astype(int) - expected.image).max() <= 1  # as above
            assert not np.array_equal(image, face)


class TestInpaint:
    def test_fills_the_pixels_of_the_package_and_no_others(self, nodes, inpainter, load):
        pixels, hole = scratched()
        mask = torch.from_numpy(hole)[None]
        node = nodes["DifFaceInpaint"]
        (image,) = execute(node, model=load(inpainter), image=load_image(pixels), mask=mask, seed=2)
        expected = fill_damage(inpainter, pixels, hole, generator=generator(2))
        assert len(expected.faces) == 1 and np.array_equal(save_image(image)[0], expected.image)
        assert np.array_equal(save_image(image)[0][hole == 0], pixels[hole == 0])

    def test_a_mask_of_another_size_is_fitted_and_an_image_without_damage_stays(self, nodes, inpainter, load):
        pixels, hole = scratched()
        masks = torch.stack([torch.from_numpy(cv2.resize(hole, (640, 640))), torch.zeros(640, 640)])
        images = torch.cat([load_image(pixels), load_image(pixels)])
        (filled,) = execute(nodes["DifFaceInpaint"], model=load(inpainter), image=images, mask=masks)
        assert (save_image(filled)[0] != pixels).any() and np.array_equal(save_image(filled)[1], pixels)

    def test_aligned_faces(self, nodes, inpainter, load):
        face = np.asarray(Image.fromarray(PIXELS).resize((SIZE, SIZE)))
        mask = torch.zeros(1, SIZE, SIZE)
        mask[:, 10:20, 5:25] = 1
        node = nodes["DifFaceInpaint"]
        (image,) = execute(node, model=load(inpainter), image=load_image(face), mask=mask, aligned=True)
        changed = (save_image(image)[0] != face).any(axis=-1)
        assert changed.any() and not changed[mask[0].numpy() == 0].any()


class TestHost:
    def test_shows_every_step_with_a_preview_and_every_tile(self, nodes, pipe, load, comfyui):
        execute(nodes["DifFaceRestorePhoto"], model=load(pipe), image=load_image(two_faces()), upscale=1.5)
        *steps, _, _, _, _ = comfyui.shown
        assert [(done, total) for done, total, _ in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert [preview[1].size for *_, preview in steps] == [(2 * SIZE, SIZE)] * 4
        assert comfyui.shown[4:] == [(number, 4, None) for number in range(1, 5)]
        assert comfyui.emptied == 1

    @pytest.mark.parametrize("call", range(1, 10))
    def test_a_cancelled_run_calls_no_network_again(self, nodes, pipe, load, comfyui, monkeypatch, call):
        """A face: the estimator, 4 steps of the prior, 4 tiles of the background."""
        calls = []

        def count(*_):
            calls.append(1)
            if len(calls) == call:
                comfyui.cancel()

        hooks = [network.register_forward_hook(count) for network in (pipe.estimator, pipe.unet)]
        forward = SRVGGNetCompact.forward
        monkeypatch.setattr(SRVGGNetCompact, "forward", lambda *arguments: (count(), forward(*arguments))[1])
        with pytest.raises(InterruptedByUserError):
            execute(nodes["DifFaceRestorePhoto"], model=load(pipe), image=load_image(PIXELS), upscale=1.5)
        assert len(calls) == call
        assert comfyui.emptied == 1
        for hook in hooks:
            hook.remove()

    def test_the_next_run_is_whole(self, nodes, pipe, load, comfyui):
        def restore():
            return execute(nodes["DifFaceRestorePhoto"], model=load(pipe), image=load_image(PIXELS), **SMALL)[0]

        before = restore()
        comfyui.cancel()
        with pytest.raises(InterruptedByUserError):
            restore()
        assert torch.equal(restore(), before)

    @pytest.mark.parametrize("node", ["DifFaceRestoreAligned", "DifFaceSeveralVersions", "DifFaceInpaint"])
    def test_every_node_can_be_cancelled(self, nodes, pipe, inpainter, load, comfyui, node):
        pixels, hole = scratched()
        inputs = {"image": load_image(pixels)}
        if node == "DifFaceInpaint":
            pipe, inputs["mask"] = inpainter, torch.from_numpy(hole)[None]
        calls = []

        def cancel(*_):
            calls.append(1)
            comfyui.cancel()

        pipe.unet.register_forward_hook(cancel)
        with pytest.raises(InterruptedByUserError):
            execute(nodes[node], model=load(pipe), **inputs)
        assert len(calls) == 1
