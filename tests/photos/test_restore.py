import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from difface_diffusers import (
    BUNDLED_INPAINT_MODEL,
    BUNDLED_MODEL,
    DifFaceInpaintPipeline,
    DifFacePipeline,
    Face,
    LaMaEstimator,
    PhotoRestoration,
    restore_photo,
    restore_photos,
)
from difface_diffusers.faces.alignment import align, template, transform, warp
from difface_diffusers.photos.damage import fill_damage
from tests.conftest import SIZE, ddim, tiny_unet, warned_at
from tests.faces.test_alignment import similarity


class KnownFaces:
    """A detector that knows where the faces are."""

    def __init__(self, *landmarks):
        self.faces = [
            Face((*points.min(0), *(points.max(0) + np.array([10, 40]))), points, 0.9) for points in landmarks
        ]

    def detect(self, photo):
        assert photo.dtype == np.uint8 and photo.shape[2] == 3
        return self.faces


def landmarks_at(x, y, width, degrees=0):
    """The landmarks of a face whose aligned square is `width` wide and centered on (x, y)."""
    face_to_photo = similarity(width / 512, degrees, (0, 0))
    face_to_photo[:, 2] = (x, y) - transform(np.array([(256.0, 256.0)]), face_to_photo)[0]
    return transform(template(512), face_to_photo)


def picture(height=120, width=150, dtype=np.uint8):
    """A colorful, smooth photograph."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 19 + y / 31), np.cos(y / 15 - x / 40), np.sin((x + y) / 27)]
    return np.rint((0.5 + 0.3 * np.stack(waves, axis=-1)) * np.iinfo(dtype).max).astype(dtype)


@pytest.fixture
def detector():
    return KnownFaces(landmarks_at(100, 50, 50, degrees=15), landmarks_at(40, 60, 60))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


class TestImage:
    def test_the_faces_change_and_the_rest_is_the_enlarged_photograph(self, pipe, detector, generator):
        photo = picture()
        result = restore_photo(pipe, Image.fromarray(photo), detector, generator=generator)
        assert isinstance(result, PhotoRestoration)
        assert result.image.mode == "RGB" and result.image.size == (300, 240)
        plain = np.asarray(restore_photo(pipe, Image.fromarray(photo), faces=[]).image)
        changed = (np.asarray(result.image) != plain).any(-1)
        y, x = np.nonzero(changed)
        assert x.min() >= 2 * 10 and x.max() < 2 * 136 and y.min() >= 2 * 15 and y.max() < 2 * 100
        for center_x, center_y in ((100, 50), (40, 60)):
            assert changed[2 * center_y - 20 : 2 * center_y + 20, 2 * center_x - 20 : 2 * center_x + 20].mean() > 0.9

    def test_the_restored_face_is_what_is_seen_in_the_photograph(self, pipe, detector, generator):
        result = restore_photo(pipe, picture(), detector, upscale=3, generator=generator)
        for face, crop, restored in zip(result.faces, result.crops, result.restored, strict=True):
            seen = warp(result.image, align(3 * face.landmarks, SIZE), (SIZE, SIZE))
            seen_change, change = (
                (np.asarray(after, float) - np.asarray(crop))[8:-8, 8:-8].ravel() for after in (seen, restored)
            )
            assert np.corrcoef(seen_change, change)[0, 1] > 0.7

    @pytest.mark.parametrize("upscale", [1, 1.5, 2, 3.3])
    def test_size(self, pipe, detector, upscale):
        result = restore_photo(pipe, picture(71, 93), detector, upscale=upscale)
        assert result.image.shape == (round(71 * upscale), round(93 * upscale), 3)

    @pytest.mark.parametrize(
        "photo",
        [picture(), picture(dtype=np.uint16), (picture() / 255).astype(np.float32), picture()[..., 0],
         picture(dtype=np.uint16)[..., 0], picture()[..., :2], np.dstack([picture(), picture()[..., 0]])],
        ids=["rgb", "rgb16", "float", "gray", "gray16", "gray+alpha", "rgba"],
    )  # fmt: skip
    def test_an_array_stays_of_its_kind(self, pipe, detector, photo):
        image = restore_photo(pipe, photo, detector, upscale=2).image
        assert image.dtype == photo.dtype and image.shape == (240, 300, *photo.shape[2:])

    @pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "CMYK", "I;16", "1"])
    def test_a_pil_image_stays_of_its_kind(self, pipe, detector, mode):
        photo = (
            Image.fromarray(picture(dtype=np.uint16)[..., 0])
            if mode == "I;16"
            else Image.fromarray(picture()).convert(mode)
        )
        image = restore_photo(pipe, photo, detector).image
        assert image.mode == {"P": "RGB", "CMYK": "RGB", "1": "L"}.get(mode, mode)

    def test_16_bits_are_more_than_8(self, pipe, detector):
        image = restore_photo(pipe, picture(dtype=np.uint16), detector).image
        assert len(np.unique(image)) > 5000

    def test_alpha_is_only_enlarged(self, pipe, detector):
        alpha = np.zeros((120, 150), np.uint8)
        alpha[:, 75:] = 255
        image = restore_photo(pipe, np.dstack([picture(), alpha]), detector).image
        assert (image[:, :140, 3] == 0).all() and (image[:, 160:, 3] == 255).all()

    def test_icc_profile_and_exif_are_handed_on_upright(self, pipe, detector):
        photo = Image.fromarray(picture())
        exif = photo.getexif()
        exif[0x0112], exif[0x0110] = 6, "camera"
        photo.info["icc_profile"] = profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        image = restore_photo(pipe, photo, detector).image
        assert image.size == (240, 300)
        assert image.info["icc_profile"] == profile
        handed_on = Image.Exif()
        handed_on.load(image.info["exif"])
        assert handed_on[0x0110] == "camera" and 0x0112 not in handed_on

    def test_the_input_is_not_changed(self, pipe, detector):
        photo = picture()
        before = photo.copy()
        restore_photo(pipe, photo, detector, upscale=1, background=lambda rgb, size: rgb)
        np.testing.assert_array_equal(photo, before)


def spread_of_changes(image, plain):
    """By how much the changes of the three channels differ at most, where none of them was clipped."""
    clipped = (image == 0) | (image == 255)
    return np.ptp(image.astype(int) - plain, axis=-1)[~clipped.any(-1)].max()


class TestColor:
    @pytest.mark.parametrize("tint", [(1, 1, 1), (1, 0.9, 0.75)])
    def test_gray_and_sepia_stay(self, pipe, detector, tint):
        photo = np.rint(picture()[..., :1] * np.array(tint)).astype(np.uint8)
        image = restore_photo(pipe, photo, detector).image
        if tint == (1, 1, 1):
            assert (image == image[..., :1]).all()
        plain = restore_photo(pipe, photo, detector, faces=[]).image
        assert (image != plain).any()
        assert spread_of_changes(image, plain) <= 2

    def test_off_takes_the_colors_of_the_model(self, pipe, detector):
        image = restore_photo(pipe, picture()[..., 0], detector, keep_gray="off").image
        assert image.shape[2] == 3 and np.ptp(image, axis=-1).max() > 2

    def test_on_keeps_the_colors_of_a_color_photograph(self, pipe, detector):
        plain = restore_photo(pipe, picture(), detector, faces=[]).image
        image = restore_photo(pipe, picture(), detector, keep_gray="on").image
        assert spread_of_changes(image, plain) <= 2
        assert spread_of_changes(restore_photo(pipe, picture(), detector).image, plain) > 20

    def test_the_colors_of_a_face_stay(self, pipe, detector):
        result = restore_photo(pipe, picture(), detector)
        for crop, restored in zip(result.crops, result.restored, strict=True):
            coarse_crop, coarse = (
                np.asarray(face.resize((3, 3), Image.Resampling.BOX), float) for face in (crop, restored)
            )
            assert np.abs(coarse - coarse_crop).mean() < 12


class TestFaces:
    def test_records(self, pipe, detector):
        result = restore_photo(pipe, picture(), detector)
        assert result.faces == [detector.faces[1], detector.faces[0]]  # from left to right
        for pictures in (result.crops, result.estimates, result.restored):
            assert [face.size for face in pictures] == [(SIZE, SIZE)] * 2
        assert [np.asarray(face).tobytes() for face in result.restored] != [
            np.asarray(face).tobytes() for face in result.crops
        ]

    def test_crops_are_upright(self, pipe):
        """A face drawn at an angle comes out as the template says."""
        photo = np.zeros((200, 200, 3), np.uint8)
        points = landmarks_at(100, 100, 120, degrees=-40)
        x, y = np.floor(points[2]).astype(int)
        photo[y - 2 : y + 3, x - 2 : x + 3] = 255
        (crop,) = restore_photo(pipe, photo, KnownFaces(points)).crops
        brightest = np.unravel_index(np.asarray(crop)[..., 0].argmax(), (SIZE, SIZE))
        np.testing.assert_allclose(np.array(brightest)[::-1] + 0.5, template(SIZE)[2], atol=1)

    @pytest.mark.parametrize(("faces", "kept"), [("largest", [1]), ("center", [0]), ([1, 0], [0, 1]), ([], [])])
    def test_selection(self, pipe, detector, faces, kept):
        assert restore_photo(pipe, picture(), detector, faces=faces).faces == [detector.faces[index] for index in kept]

    def test_small_faces_are_left(self, pipe):
        small, large = landmarks_at(40, 60, 20), landmarks_at(90, 60, 80)
        result = restore_photo(pipe, picture(), KnownFaces(small, large), min_face_size=25)
        np.testing.assert_array_equal(result.faces[0].landmarks, large)

    def test_landmarks_by_hand_need_no_detector(self, pipe):
        class Blind:
            def detect(self, photo):
                raise AssertionError

        result = restore_photo(pipe, picture(), Blind(), faces=[landmarks_at(60, 60, 70)])
        assert len(result.restored) == 1

    def test_no_face_is_a_warning_and_the_enlarged_photograph(self, pipe):
        with warned_at(__file__, "no face in photograph 1 of 1"):
            result = restore_photo(pipe, picture(), KnownFaces())
        with warned_at(__file__, "no face in photograph [12] of 2"):
            restore_photos(pipe, [picture(), picture()], KnownFaces())
        assert result.image.shape == (240, 300, 3)
        assert result.faces == result.crops == result.estimates == result.restored == []


class TestBatches:
    def test_faces_of_all_photographs_go_together(self, pipe, detector, monkeypatch):
        seen = []
        call = type(pipe).__call__
        monkeypatch.setattr(
            type(pipe), "__call__", lambda self, image, **rest: seen.append(len(image)) or call(self, image, **rest)
        )
        results = restore_photos(pipe, [picture(), picture(90, 160)[::-1]], detector, batch_size=3)
        assert seen == [3, 1] and [len(result.faces) for result in results] == [2, 2]

    def test_a_photograph_does_not_depend_on_its_company(self, pipe, detector):
        photos = [picture(), picture()[::-1].copy()]
        generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        together = restore_photos(pipe, photos, detector, generator=generators, batch_size=3)
        alone = restore_photo(pipe, photos[1], detector, generator=torch.Generator().manual_seed(2), batch_size=1)
        assert np.abs(together[1].image.astype(int) - alone.image).max() <= 1

    def test_one_generator_draws_other_noise_for_every_face(self, pipe, generator):
        same = landmarks_at(60, 60, 70)
        result = restore_photos(pipe, [picture(), picture()], KnownFaces(same, same), generator=generator)
        faces = [np.asarray(face).tobytes() for each in result for face in each.restored]
        assert len(set(faces)) == 4

    def test_samples(self, pipe, detector, generator):
        result = restore_photo(pipe, picture(), detector, generator=generator, num_samples=2)
        assert len(result.images) == 2 and len(result.restored) == 4 and result.image is result.images[0]
        assert (result.images[0] != result.images[1]).any()
        assert len(result.crops) == len(result.faces) == 2
        for row, restored in enumerate(result.restored):
            coarse_crop, coarse = (
                np.asarray(face.resize((3, 3), Image.Resampling.BOX), float)
                for face in (result.crops[row // 2], restored)
            )
            assert np.abs(coarse - coarse_crop).mean() < 12

    def test_samples_of_a_photograph_without_faces(self, pipe):
        result = restore_photo(pipe, picture(), faces=[], num_samples=2)
        assert len(result.images) == 2 and result.restored == []

    def test_samples_do_not_depend_on_the_batches(self, pipe, detector):
        one, two = (
            restore_photo(
                pipe, picture(), detector, generator=torch.Generator().manual_seed(5), num_samples=2, batch_size=size
            )
            for size in (1, 8)
        )
        for first, second in zip(one.restored, two.restored, strict=True):
            assert np.abs(np.asarray(first, int) - np.asarray(second, int)).max() <= 1

    def test_an_interruption_leaves_the_other_faces(self, pipe, detector):
        def stop(pipe, step, timestep, tensors):
            pipe._interrupt = True

        result = restore_photo(pipe, picture(), detector, callback_on_step_end=stop)
        plain = restore_photo(pipe, picture(), detector, faces=[]).image
        np.testing.assert_array_equal(result.image, plain)
        assert len(result.restored) == 2

    def test_selections_for_several(self, pipe, detector):
        results = restore_photos(pipe, [picture(), picture()], detector, faces=[[0], "largest"])
        assert [len(result.faces) for result in results] == [1, 1]


class TestDamage:
    @pytest.fixture
    def inpainter(self):
        torch.manual_seed(4)
        estimator = LaMaEstimator(base_channels=4, num_downsamples=2, num_blocks=1).eval()
        inpainter = DifFaceInpaintPipeline(tiny_unet(), estimator, ddim(), default_num_inference_steps=2)
        inpainter.set_progress_bar_config(disable=True)
        return inpainter

    @pytest.fixture
    def damage(self):
        """A hole in the left face and one beside the faces, `[120,150]`."""
        mask = np.zeros((120, 150), np.uint8)
        mask[50:60, 30:45] = mask[100:110, 120:140] = 255
        return mask

    def restore(self, pipe, photo, detector, seeds=0, **arguments):
        generator = (
            [torch.Generator().manual_seed(seed) for seed in seeds]
            if isinstance(seeds, list)
            else torch.Generator().manual_seed(seeds)
        )
        call = restore_photos if isinstance(photo, list) else restore_photo
        return call(pipe, photo, detector, generator=generator, **arguments)

    def test_is_filled_before_the_faces_are_restored(self, pipe, inpainter, detector, damage):
        damaged = picture()
        damaged[damage > 0] = 255
        filled = fill_damage(
            inpainter, damaged, damage, detector, generator=(generator := torch.Generator().manual_seed(0))
        )
        expected = restore_photo(pipe, filled.image, detector, generator=generator)
        result = self.restore(pipe, damaged, detector, damage_mask=damage, inpainter=inpainter)
        np.testing.assert_array_equal(result.image, expected.image)
        np.testing.assert_array_equal(result.crops[1], expected.crops[1])
        assert (result.image != self.restore(pipe, damaged, detector).image)[200:220, 240:280].all(-1).mean() > 0.9

    def test_what_it_hides_does_not_matter(self, pipe, inpainter, detector, damage):
        images = []
        for color in (0, 255):
            damaged = picture()
            damaged[damage > 0] = color
            images.append(self.restore(pipe, damaged, detector, damage_mask=damage, inpainter=inpainter).image)
        np.testing.assert_array_equal(*images)

    def test_of_several_photographs(self, pipe, inpainter, detector, damage):
        arguments = {"inpainter": inpainter}
        masks = [None, damage, Image.fromarray(damage)]
        together = self.restore(pipe, [picture()] * 3, detector, [1, 2, 3], damage_mask=masks, **arguments)
        for seed, mask, result in zip((1, 2, 3), masks, together, strict=True):
            alone = self.restore(pipe, picture(), detector, seed, damage_mask=mask, **arguments)
            assert np.abs(result.image.astype(int) - alone.image).max() <= 1

    def test_the_first_of_several_is_what_it_is_alone(self, pipe, inpainter, detector, damage):
        arguments = {"damage_mask": damage, "inpainter": inpainter}
        first, second = self.restore(pipe, [picture(), picture()], detector, 5, **arguments)
        alone = self.restore(pipe, picture(), detector, 5, **arguments)
        assert np.abs(first.image.astype(int) - alone.image).max() <= 1
        assert (first.image != second.image).any()

    def test_alpha_and_form_stay(self, pipe, inpainter, detector, damage):
        photo = np.dstack([picture(dtype=np.uint16), np.full((120, 150), 7, np.uint16)])
        image = self.restore(pipe, photo, detector, damage_mask=damage, inpainter=inpainter).image
        assert image.dtype == np.uint16 and (image[..., 3] == 7).all()

    def test_the_bundled_inpainter_fills_unless_another_is_given(self, pipe, detector, damage, monkeypatch):
        loaded = []

        def load(folder):
            loaded.append(folder)
            return DifFaceInpaintPipeline(tiny_unet(), LaMaEstimator(4, 2, 1).eval(), ddim(), 2)

        monkeypatch.setattr(DifFaceInpaintPipeline, "from_pretrained", load)
        restore_photo(pipe, picture(), detector)
        restore_photos(pipe, [picture()], detector, damage_mask=[None])
        assert loaded == []
        restore_photo(pipe, picture(), detector, damage_mask=damage)
        assert loaded == [BUNDLED_INPAINT_MODEL]


class TestBackground:
    def test_none_repeats_pixels(self, pipe, detector):
        image = restore_photo(pipe, picture(), detector, background="none", faces=[]).image
        np.testing.assert_array_equal(image, picture().repeat(2, 0).repeat(2, 1))

    def test_an_upscaler_object(self, pipe, detector):
        image = restore_photo(
            pipe, picture(), detector, faces=[], background=lambda photo, size: np.full((*size, 3), 9, photo.dtype)
        ).image
        assert (image == 9).all() and image.shape == (240, 300, 3)

    def test_an_upscaler_of_another_mind(self, pipe, detector):
        with pytest.raises(
            ValueError, match=r"`background` answered uint8 \[2, 2, 3\]; it must be uint8 \[240, 300, 3\]"
        ):
            restore_photo(pipe, picture(), detector, background=lambda photo, size: photo[:2, :2])

    def test_draw_box(self, pipe, detector):
        boxes = restore_photo(pipe, picture()[..., 0], detector, draw_box=True).image
        green = (boxes == (0, 255, 0)).all(-1)
        y, x = np.nonzero(green)
        assert 200 < green.sum() < 2000
        assert abs(x.min() - 2 * 10) <= 3 and abs(y.max() - 2 * 90) <= 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"photo": "face.png"}, TypeError, "`photo` is a str"),
        ({"photo": np.zeros((4, 4, 5), np.uint8)}, ValueError, r"`photo` is an array of shape \[4, 4, 5\]"),
        ({"photo": np.zeros((0, 4, 3), np.uint8)}, ValueError, "shape"),
        ({"photo": np.zeros((4, 4, 3), np.int32)}, ValueError, "array of int32"),
        ({"photo": np.full((4, 4, 3), np.nan)}, ValueError, r"nan; floats must lie in \[0,1\]"),
        ({"upscale": 0.5}, ValueError, "`upscale` is 0.5; it must be a number within 1 .. 8"),
        ({"upscale": float("nan")}, ValueError, "`upscale` is nan"),
        (
            {"background": "no/such"},
            OSError,
            "(?s)'no/such' cannot be loaded.* Accepted is 'bundled', 'lanczos', 'none', ",
        ),
        (
            {"background": 3},
            ValueError,
            "`background` is 3; it must be 'bundled', 'lanczos', 'none', 'realesr-.*, or an upscaler",
        ),
        ({"background_blend": 1.1}, ValueError, "`background_blend` is 1.1; it must be a number within 0 .. 1"),
        ({"faces": "smallest"}, ValueError, "`faces` is 'smallest'"),
        ({"faces": [7]}, ValueError, "index 7, but 2 faces were found"),
        ({"faces": [np.ones((5, 2))]}, ValueError, "lie on one spot"),
        ({"batch_size": 0}, ValueError, "`batch_size` is 0"),
        (
            {"damage_mask": [np.zeros((120, 150))]},
            ValueError,
            "`damage_mask` is a list of 1; one photograph has one mask",
        ),
        ({"damage_mask": "mask.png"}, TypeError, "`damage_mask` is a str"),
        ({"keep_gray": "maybe"}, ValueError, "`keep_gray` is 'maybe'; it must be one of auto, on, off"),
        (
            {"generator": [torch.Generator()] * 2},
            ValueError,
            "`generator` is a list of 2; 1 photographs need one each",
        ),
        ({"latents": torch.zeros(1)}, TypeError, "unexpected keyword argument 'latents'"),
        ({"num_samples": 0}, ValueError, "`num_samples` is 0"),
        ({"num_inference_steps": 0}, ValueError, "`num_inference_steps` is 0"),
        ({"eta": 2}, ValueError, "`eta` is 2"),
        ({"generator": "a"}, TypeError, "`generator` is 'a'; it must be a torch.Generator or a list of them"),
        ({"min_face_size": "16"}, ValueError, "`min_face_size` is '16'; it must be a number at least 0"),
        ({"min_face_size": float("nan")}, ValueError, "`min_face_size` is nan"),
        ({"min_face_size": -1}, ValueError, "`min_face_size` is -1"),
        ({"preset": 3}, ValueError, "`preset` is 3"),
        ({"preset": ["fast"]}, ValueError, r"`preset` is \['fast'\]"),
    ],
)
def test_bad_input(pipe, detector, arguments, error, message):
    with pytest.raises(error, match=message):
        restore_photo(pipe, **{"photo": picture(), "detector": detector} | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"photos": []}, "`photo` is an empty list"),
        ({"photos": [picture()], "faces": [[0], [1]]}, "`faces` has 2 selections"),
        (
            {"photos": [picture()] * 2, "damage_mask": [None]},
            "`damage_mask` holds 1 masks; 2 photographs need one, or None, each",
        ),
        (
            {"photos": [picture()], "generator": [torch.Generator()] * 2},
            "`generator` is a list of 2; 1 photographs need one each",
        ),
    ],
)
def test_bad_input_for_several(pipe, detector, arguments, message):
    with pytest.raises(ValueError, match=message):
        restore_photos(pipe, **{"detector": detector} | arguments)


def test_a_list_is_still_taken_for_a_release(pipe, detector):
    def generators():
        return [torch.Generator().manual_seed(seed) for seed in range(2)]

    photos = [picture(), picture(90, 160)]
    expected = restore_photos(pipe, photos, detector, generator=generators())
    with warned_at(__file__, "`restore_photos` is for several photographs", DeprecationWarning):
        restorations = restore_photo(pipe, photos, detector, generator=generators())
    for one, other in zip(restorations, expected, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_numpy_numbers_are_numbers(pipe, detector):
    arguments = {"upscale": np.float32(1.5), "min_face_size": np.float64(4), "eta": np.float32(0.5)}
    image = restore_photo(pipe, picture(), detector, **arguments).image
    assert image.shape == (180, 225, 3)


def test_one_pixel(pipe):
    with warned_at(__file__, "no face"):
        assert restore_photo(pipe, np.zeros((1, 1, 3), np.uint8)).image.shape == (2, 2, 3)


def test_the_bundled_parts_restore_a_whole_photograph():
    """YuNet finds the astronaut, planted aslant into a wall, and the bundled model changes her alone."""
    from tests.faces.test_detection import ASTRONAUT, scene

    pipe = DifFacePipeline.from_pretrained(BUNDLED_MODEL)
    pipe.set_progress_bar_config(disable=True)
    photo, _ = scene(np.asarray(Image.open(ASTRONAUT).convert("RGB")), 50, 20, (240, 320), (160, 120))
    result = restore_photo(pipe, photo, generator=torch.Generator().manual_seed(0), preset="fast")
    assert len(result.faces) == 1 and result.image.shape == (480, 640, 3)
    plain = restore_photo(pipe, photo, faces=[]).image
    y, x = np.nonzero((result.image != plain).any(-1))
    assert 200 < x.min() < x.max() < 440 and 120 < y.min() < y.max() < 360


class TestHarm:
    """Faces change as far as they are damaged and as is wished."""

    def restore(self, pipe, detector, photo=None, **options):
        generator = torch.Generator().manual_seed(0)
        photo = picture() if photo is None else photo
        return restore_photo(pipe, photo, detector, upscale=1, generator=generator, **options)

    def test_blend(self, pipe, detector):
        photo = picture().astype(float)
        changes = [self.restore(pipe, detector, blend=blend).image - photo for blend in (0, 0.25, 1)]
        assert not changes[0].any()
        free = np.abs(changes[2]) < 60  # others are clipped in black or white, or their masks differ
        assert np.corrcoef(changes[1][free], changes[2][free])[0, 1] > 0.8
        assert np.abs(changes[1]).sum() == pytest.approx(np.abs(changes[2]).sum() / 4, rel=0.25)

    def test_clean_faces_stay_to_the_last_bit(self, pipe, detector):
        pipe.register_to_config(clean_damage=1e6)
        result = self.restore(pipe, detector)
        np.testing.assert_array_equal(result.image, picture())
        assert [treatment.reason for treatment in result.treatments] == ["left as it is: it is clean"] * 2
        assert (np.asarray(result.restored[0]) != np.asarray(result.crops[0])).any()  # it can still be had
        assert (self.restore(pipe, detector, keep_clean=False).image != picture()).any()

    def test_each_face_is_judged_alone(self, pipe, detector):
        damages = [treatment.damage for treatment in self.restore(pipe, detector).treatments]
        assert damages[0] != damages[1]
        pipe.register_to_config(clean_damage=max(damages))
        repaired = [treatment.repaired for treatment in self.restore(pipe, detector).treatments]
        assert min(repaired) == 0

    def test_samples_share_a_treatment(self, pipe, detector):
        assert len(self.restore(pipe, detector, num_samples=3).treatments) == 2

    def test_grain_only_where_it_is_wanted(self, pipe, detector):
        rng = np.random.default_rng(0)
        grainy = np.clip(picture() + rng.normal(0, 12, picture().shape), 0, 255).astype(np.uint8)
        face = np.s_[45:75, 30:50]

        def fineness(**options):
            part = self.restore(pipe, detector, grainy, start_timestep=1, num_inference_steps=1, **options).image[face]
            return np.abs(np.diff(part.astype(float), axis=1)).mean()

        assert fineness() >= fineness(match_grain="off")

    @pytest.mark.parametrize(
        ("option", "value"), [("blend", 1.1), ("blend", "half"), ("keep_clean", "yes"), ("match_grain", "on")]
    )
    def test_bad_values(self, pipe, detector, option, value):
        with pytest.raises(ValueError, match=f"`{option}` is {value!r}; it must be"):
            self.restore(pipe, detector, **{option: value})
