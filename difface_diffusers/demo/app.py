"""The demo as a whole: its tabs, and how it is served."""

from pathlib import Path

import gradio as gr

from ..imaging.opening import register_heif
from ..pipelines.pipeline_difface import DifFacePipeline
from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from ..video.library import load_av
from .files import MAX_FILE_MEGABYTES
from .inpaint_tab import InpaintTab
from .restore_tab import RestoreTab
from .serving import app_options
from .video_tab import VideoTab


TITLE = "DifFace: restore the faces of photographs and videos"
ABOUT = Path(__file__).with_name("about.md")
STYLE = Path(__file__).with_name("style.css")
CLEAN_EVERY, KEEP_FOR = 600, 3600  # seconds, of uploads and results
MAX_WAITING = 32  # requests
MAX_SESSIONS = 100  # whose results are kept
FONTS = ["system-ui", "sans-serif"]  # of the visitor's machine, so that none is fetched


def build_demo(restorer: DifFacePipeline, inpainter: DifFaceInpaintPipeline) -> gr.Blocks:
    """Build the demo of two pipelines; see `load_models`.

    The networks are shared by all requests, which wait in one queue; everything else belongs to a visitor's session.
    """
    register_heif()  # Gradio opens what is uploaded, too
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(CLEAN_EVERY, KEEP_FOR), fill_width=False
    ) as demo:
        gr.Markdown(f"# {TITLE}")
        with gr.Tab("Restore faces"):
            RestoreTab(restorer)
        with gr.Tab("Fill holes"):
            InpaintTab(inpainter)
        with gr.Tab("Video"):
            _add_video_tab(restorer)
        with gr.Tab("About"):
            gr.Markdown(ABOUT.read_text(encoding="utf-8"), elem_classes="about")
    return demo.queue(max_size=MAX_WAITING, api_open=False)  # no call passes the others by


def _add_video_tab(restorer: DifFacePipeline) -> None:
    """Add the tab's content, or what is to be installed for it."""
    try:
        load_av()
    except ImportError as error:
        gr.Markdown(f"{error}")
    else:
        VideoTab(restorer)


def launch(
    demo: gr.Blocks,
    host: str | None = None,
    port: int | None = None,
    block: bool = True,
    *,
    api_only: bool = False,
    token: str | None = None,
    calls_per_minute: int | None = None,
) -> str:
    """Serve a demo; return its address.

    Args:
        demo: as `build_demo` answers it.
        host: address to listen on; this machine alone unless given.
        port: the first free one from 7860 unless given.
        block: return only when the server ends.
        api_only: serve programs, without the page.
        token: that requests must carry; with one only programs are served, as no browser sends it for a page.
        calls_per_minute: for each visitor's address; no limit unless given.
    """
    api_only = api_only or token is not None
    _, address, _ = demo.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=not block,
        quiet=not block,
        max_file_size=f"{MAX_FILE_MEGABYTES}mb",
        state_session_capacity=MAX_SESSIONS,
        enable_monitoring=False,
        ssr_mode=False,
        theme=theme(),
        css_paths=STYLE,
        footer_links=["api"],
        run_history=not api_only,  # a page, too
        app_kwargs=app_options(api_only, token, calls_per_minute),
    )
    return address


def theme() -> gr.themes.Base:
    """Return Gradio's own look, with fonts that need not be fetched and explanations that can be read."""
    return gr.themes.Default(font=FONTS, font_mono=["monospace"]).set(
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300"
    )
