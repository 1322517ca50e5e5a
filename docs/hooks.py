"""What the site does with links that leave `docs/`: pictures come along, files of the repository are named without a link."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


PICTURE = re.compile(r"(!\[[^\]]*\])\(\.\./(examples/[^)]+)\)")
PICTURES = {".png", ".jpg", ".gif"}
OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./[^)]+\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures of `examples/`."""
    root = Path(config.config_file_path).parent
    for picture in sorted(path for path in root.glob("examples/*") if path.suffix in PICTURES):
        path = picture.relative_to(root)
        files.append(File.generated(config, path.as_posix(), abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Point to these, and take the links to other files off."""
    return OUTSIDE.sub(r"\1", PICTURE.sub(r"\1(\2)", markdown))
