"""Uploading what a training has reached to the Hub, in the background."""

import shutil
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any

from huggingface_hub import HfApi

from ..utils.warning import warn_user
from .task import Task
from .tracking import VALIDATION, Record


CARD = """\
---
library_name: diffusers
tags:
  - difface
  - face-restoration
---

# {title}

The {component} of a DifFace face restorer, in training: averaged weights after step {step:,} of {max_steps:,}.

```python
from difface_diffusers import {model_class}

{component} = {model_class}.from_pretrained("{repo_id}")
```

`config.yaml` has the settings of the training, `log.jsonl` its course.
"""
FIGURES = "\n| validation | |\n| --- | ---: |\n{rows}\n"
SHEET = "\n![Sample sheet](sheet.png)\n"


class Publisher:
    """Keeps a repository on the Hub at the newest averaged weights.

    Args:
        task: what is trained.
        averaged: gives the model its averaged weights for as long as the context lasts.
        record: what has been written of the training.
        repo_id: ORG/NAME, or NAME of one's own; made when it is missing.
        private: make it a private one; an existing repository stays as it is.

    Raises:
        ValueError: the Hub refuses the repository or cannot be reached.
    """

    def __init__(
        self,
        task: Task,
        averaged: Callable[[], AbstractContextManager[None]],
        record: Record,
        repo_id: str,
        private: bool,
    ) -> None:
        self.task, self.averaged, self.record = task, averaged, record
        self.folder = record.output / "hub"
        self.api = HfApi()
        made = self.api.run_as_future(self.api.create_repo, repo_id, private=private, exist_ok=True)
        if error := made.exception():
            raise ValueError(f"`monitoring.push_to_hub` is {repo_id!r}: {error}") from error
        self.repo_id = made.result().repo_id
        self.upload: Future[Any] | None = None

    def publish(self, step: int) -> None:
        """Begin to upload, unless an upload is still under way; one that has failed is made up for."""
        if self.upload is not None and not self.upload.done():
            return
        if error := self._error():
            warn_user(f"an upload to {self.repo_id} failed, and is tried anew: {error}")
        self._write(step)
        self.upload = self.api.upload_folder(
            repo_id=self.repo_id, folder_path=self.folder, commit_message=f"Step {step}", run_as_future=True
        )

    def finish(self, step: int) -> str | None:
        """Upload the last weights and wait; return what went wrong and what is to be done, or `None`."""
        self._error()  # waits for the upload before, which this one makes up for
        self.publish(step)
        error = self._error()
        if error is None:
            return None
        return f"the upload to {self.repo_id} failed ({error}); run: hf upload {self.repo_id} {self.folder} ."

    def _error(self) -> BaseException | None:
        """Wait for the last upload; return why it failed."""
        return None if self.upload is None else self.upload.exception()

    def _write(self, step: int) -> None:
        """Write to `folder` what the repository is to hold."""
        with self.averaged():
            self.task.model.save_pretrained(self.folder)
        output = self.record.output
        for file in (output / "config.yaml", output / "log.jsonl"):
            if file.is_file():
                shutil.copy(file, self.folder)
        sheets = sorted((output / "sheets").glob("*.png"))
        if sheets:
            shutil.copy(sheets[-1], self.folder / "sheet.png")
        (self.folder / "README.md").write_text(self._card(step, bool(sheets)), encoding="utf-8")

    def _card(self, step: int, with_sheet: bool) -> str:
        card = CARD.format(
            title=self.repo_id.split("/")[-1],
            component=self.task.name,
            step=step,
            max_steps=self.task.config.loop.max_steps,
            model_class=type(self.task.model).__name__,
            repo_id=self.repo_id,
        )
        figures = self.record.last(VALIDATION)
        rows = [f"| {name.removeprefix(VALIDATION)} | {value:g} |" for name, value in figures.items()]
        return card + (FIGURES.format(rows="\n".join(rows)) if rows else "") + (SHEET if with_sheet else "")
