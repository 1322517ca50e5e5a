"""The demo with the bundled models in headless Chromium, as a visitor sees it."""

import re
import shutil
import time
from io import BytesIO
from urllib.parse import urlparse

import numpy as np
import pytest
from diffusers import UNet2DModel
from PIL import Image

from difface_diffusers.demo import build_demo, launch, load_models
from difface_diffusers.video.reading import open_video
from tests.conftest import free_port
from tests.video.clips import write_clip
from tests.video.scenes import HEIGHT, WIDTH, film, place

from .conftest import PHOTOGRAPH, pixels


playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore:::gradio.queueing")]

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
FIRST_PREVIEW, FIRST_RESULT = 4, 15  # seconds after the click, on two cores


@pytest.fixture(scope="module")
def site(cache):
    demo = build_demo(*load_models(device="cpu"))
    yield launch(demo, port=free_port(), block=False)
    demo.close()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, site):
    """Opens the demo; in the end nothing may have gone wrong unseen, and nobody else been asked for anything."""
    contexts, complaints = [], []

    def complain_of(request):
        if urlparse(request.url).scheme in ("http", "https") and urlparse(request.url).hostname != "127.0.0.1":
            complaints.append(request.url)

    def open_page(width=1280, theme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}))
        page = contexts[-1].new_page()
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", complain_of)
        page.goto(f"{site}?__theme={theme}")
        page.get_by_role("button", name="Restore the faces").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(open_page):
    return open_page()


def upload(page, path):
    page.locator("input[type=file]").first.set_input_files(path)


def start(page, verb="Restore the faces"):
    page.get_by_role("button", name=verb).click()


def wait_for(page, text, part="status"):
    page.locator(f".block.run-{part}").filter(has_text=re.compile(text), visible=True).wait_for(timeout=60_000)


def status(page):
    return page.locator(".block.run-status").filter(visible=True).inner_text().strip()


def set_number(page, label, value):
    """Type a number; again where the page, still being built, puts the first one back."""
    number = page.get_by_label(f"number input for {label}").filter(visible=True)

    def type_and_look():
        number.fill(str(value))
        page.keyboard.press("Tab")
        page.wait_for_timeout(250)
        return number.input_value() == str(value)

    until(page, type_and_look)


def set_steps(page, steps):
    page.get_by_text("Finer settings").filter(visible=True).click()
    set_number(page, "Steps", steps)


def slider_pictures(page):
    """What the slider shows before and after, `[H,W,3]`."""
    images = page.get_by_test_id("imageslider-image").filter(visible=True)
    until(page, lambda: images.count() == 2)
    sources = images.evaluate_all("images => images.map(image => image.src)")
    return [np.asarray(Image.open(BytesIO(page.request.get(source).body())).convert("RGB")) for source in sources]


def test_restores_an_upload(page, tmp_path):
    upload(page, PHOTOGRAPH)
    start(page)
    page.locator(".block.run-preview img").first.wait_for()
    wait_for(page, "1 face restored in")
    before, after = slider_pictures(page)
    assert before.shape == after.shape == (640, 640, 3)
    assert np.abs(before.astype(int) - after).max() > 50
    assert page.locator(".block.face-gallery .thumbnail-item").count() == 1
    assert (
        not page.locator(".block.run-preview").is_visible()
        and not page.get_by_role("button", name="Stop").is_visible()
    )
    with page.expect_download() as download:
        page.get_by_text("Download (PNG)").click()
    assert download.value.suggested_filename == "photograph_restored.png"
    download.value.save_as(tmp_path / "download.png")
    assert pixels(tmp_path / "download.png").shape == (640, 640, 3)


def test_the_first_answers_come_soon(page):
    page.locator(".gallery-item").first.click()
    page.locator("[data-testid=image] img").filter(visible=True).first.wait_for()
    clicked = time.monotonic()
    start(page)
    page.locator(".block.run-preview img").first.wait_for()
    assert time.monotonic() - clicked < FIRST_PREVIEW
    wait_for(page, "restored in")
    assert time.monotonic() - clicked < FIRST_RESULT


def test_a_click_on_a_face_leaves_it_out_and_puts_it_back(page):
    upload(page, PHOTOGRAPH)
    start(page)
    wait_for(page, "restored in")
    _, restored = slider_pictures(page)
    for caption, same in (("Face 1: left out", False), (re.compile("Face 1: (?!left out)"), True)):
        page.locator(".block.face-gallery .thumbnail-item").click()
        page.locator(".block.face-gallery").get_by_text(caption).wait_for()
        before, after = slider_pictures(page)
        assert np.array_equal(after, restored) == same and np.array_equal(after, before) != same


def test_the_strength_moves_the_result_without_a_run(page):
    upload(page, PHOTOGRAPH)
    start(page)
    wait_for(page, "restored in")
    before, restored = slider_pictures(page)
    set_number(page, "Strength", 0)
    until(page, lambda: np.array_equal(slider_pictures(page)[1], before))
    set_number(page, "Strength", 1)
    until(page, lambda: np.array_equal(slider_pictures(page)[1], restored))


def test_samples_and_where_they_differ(page):
    upload(page, PHOTOGRAPH)
    set_number(page, "Samples", 2)
    start(page)
    wait_for(page, "restored in")
    _, first = slider_pictures(page)
    set_number(page, "Sample shown", 2)
    until(page, lambda: not np.array_equal(slider_pictures(page)[1], first))
    uncertainty = page.get_by_text("Uncertainty: where the samples differ", exact=True)
    page.get_by_label("Show the uncertainty").check()
    uncertainty.wait_for()
    page.get_by_label("Show the uncertainty").uncheck()
    uncertainty.wait_for(state="hidden")


def test_another_sample(page):
    upload(page, PHOTOGRAPH)
    start(page)
    wait_for(page, "restored in")
    before, first = slider_pictures(page)
    start(page, "Try another sample")
    page.get_by_role("button", name="Stop").wait_for()
    wait_for(page, "restored in")
    again, second = slider_pictures(page)
    assert np.array_equal(again, before) and not np.array_equal(second, first)


def test_a_preset_moves_the_sliders(page):
    page.get_by_text("Finer settings").filter(visible=True).click()
    steps = page.get_by_label("number input for Steps").filter(visible=True)
    assert steps.input_value() == "6"
    page.get_by_label("fast: 3 steps").check()
    until(page, lambda: steps.input_value() == "3")


def test_stopped_in_mid_run(page, monkeypatch):
    steps = []
    monkeypatch.setattr(UNet2DModel, "forward", counted(UNet2DModel.forward, steps))
    upload(page, PHOTOGRAPH)
    set_steps(page, 100)
    start(page)
    wait_for(page, r"step \d+ of 100", "progress")
    start(page, "Stop")
    wait_for(page, "Stopped")
    page.get_by_role("button", name="Restore the faces").wait_for()
    page.wait_for_timeout(500)  # for the step under way
    made = len(steps)
    page.wait_for_timeout(1000)
    assert len(steps) == made < 50
    for hidden in (".block.run-progress", ".block.run-preview"):
        assert not page.locator(hidden).filter(visible=True).count()
    assert not page.get_by_test_id("imageslider-image").count()
    assert status(page) == "Stopped."  # still
    set_number(page, "Steps", 2)
    start(page)
    wait_for(page, "restored in")


def test_stopped_while_another_has_the_place(open_page):
    busy, waiting = open_page(), open_page()
    for page in (busy, waiting):
        upload(page, PHOTOGRAPH)
        set_steps(page, 100)
        start(page)
        wait_for(page, r"step \d+ of 100|queue: ", "progress")
    start(waiting, "Stop")
    waiting.get_by_role("button", name="Restore the faces").wait_for()
    until(waiting, lambda: status(waiting) == "Stopped.")
    assert busy.get_by_role("button", name="Stop").is_visible()
    start(busy, "Stop")
    busy.get_by_role("button", name="Restore the faces").wait_for()


def test_fills_what_is_drawn(page):
    page.get_by_role("tab", name="Fill holes").click()
    page.locator(".gallery-item").filter(visible=True).click()
    set_steps(page, 4)
    page.wait_for_timeout(1000)  # until the editor has drawn the picture
    canvas = page.locator("canvas").filter(visible=True).first.bounding_box()
    middle = canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2
    page.mouse.move(middle[0] - 60, middle[1])
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] + 20, steps=10)
    page.mouse.up()
    start(page, "Fill what is painted over")
    page.locator(".block.run-preview img").filter(visible=True).first.wait_for()
    wait_for(page, "1 face filled in")
    before, after = slider_pictures(page)
    changed = np.abs(before.astype(int) - after).max(axis=-1) > 0
    assert before.shape == (256, 256, 3)
    assert 200 < changed.sum() < 5000  # the stroke, and no more
    rows, columns = np.nonzero(changed)
    assert abs(columns.mean() - 128) < 20 and 50 < np.ptp(columns) < 150 and np.ptp(rows) < 60


def test_a_text_file(page, tmp_path):
    (tmp_path / "note.txt").write_text("no picture")
    upload(page, tmp_path / "note.txt")
    page.get_by_text("Invalid file type").wait_for()


def test_a_text_file_under_the_name_of_a_picture(page, text_file):
    upload(page, text_file)
    page.get_by_text("This file cannot be read as a picture; accepted are JPEG, PNG, WebP, HEIC,").wait_for()


def test_an_over_large_picture(page, large_picture):
    upload(page, large_picture)
    page.get_by_text("This picture has 36 megapixels; accepted are 25.").wait_for()


def test_a_picture_without_a_face(page, tmp_path):
    Image.new("RGB", (64, 64), "gray").save(tmp_path / "wall.png")
    upload(page, tmp_path / "wall.png")
    start(page)
    page.get_by_text("No face was found in this picture.").wait_for()
    page.get_by_role("button", name="Restore the faces").wait_for()
    assert status(page) == ""


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    frames, _ = film(([place(130 + 3 * step, 90, 0.9) for step in range(6)], 0))
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 6, size=(HEIGHT, WIDTH), pictures=frames)


def open_video_tab(page, path, steps=2):
    """Go to the tab, and choose a video."""
    page.get_by_role("tab", name="Video").click()
    page.get_by_role("button", name="Restore the video").wait_for()
    page.locator("input[type=file][accept*=video]").set_input_files(path)
    set_steps(page, steps)


def test_restores_a_video(page, clip, tmp_path):
    open_video_tab(page, clip)
    start(page, "Restore the video")
    wait_for(page, "Looking for faces|Drawing|Restoring", "progress")
    page.locator(".block.run-frames img").first.wait_for()
    wait_for(page, "6 frames in .* 1 face found")
    assert not page.locator(".block.run-frames").is_visible()
    page.locator(".answer video").evaluate("video => video.play()")
    until(page, lambda: page.locator(".answer video").evaluate("video => video.ended && video.videoWidth") == WIDTH)
    with page.expect_download() as download:
        page.get_by_text("Download (MP4)").click()
    assert download.value.suggested_filename == "clip_restored.mp4"
    download.value.save_as(tmp_path / "download.mp4")
    with open_video(tmp_path / "download.mp4") as video:
        assert (video.height, video.width, video.pixel_format) == (HEIGHT, WIDTH, "yuv420p")


@pytest.mark.parametrize("leave", [False, True])
def test_a_video_that_is_stopped_or_left_leaves_nothing_behind(page, clip, cache, wait_until, leave):
    def parts():
        return list(cache.glob("*/.*.parts"))

    open_video_tab(page, clip, 100)
    start(page, "Restore the video")
    wait_for(page, "Drawing", "progress")
    assert len(parts()) == 1
    (folder,) = {path.parent for path in parts()}
    if leave:
        page.close()
    else:
        start(page, "Stop")
        wait_for(page, "Stopped")
    wait_until(lambda: not folder.exists())
    if not leave:
        assert not page.locator(".block.run-frames").filter(visible=True).count()
        set_number(page, "Steps", 2)
        start(page, "Restore the video")
        wait_for(page, "6 frames in")


def test_a_text_file_under_the_name_of_a_video(page, tmp_path):
    (tmp_path / "note.mp4").write_text("no video")
    open_video_tab(page, tmp_path / "note.mp4")
    page.get_by_text("This file cannot be read as a video, or it is damaged or cut short;").first.wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overflows(open_page, clip, width, theme):
    page = open_page(width, theme)
    upload(page, PHOTOGRAPH)
    page.get_by_text("Finer settings").filter(visible=True).click()
    start(page)
    wait_for(page, "restored in")
    open_video_tab(page, clip)
    start(page, "Restore the video")
    wait_for(page, "6 frames in")
    for tab in ("Restore faces", "Fill holes", "Video", "About"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def until(page, condition):
    """Wait until a condition holds, for at most 20 seconds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)


def counted(forward, calls):
    def call(self, *arguments, **options):
        calls.append(self)
        return forward(self, *arguments, **options)

    return call
