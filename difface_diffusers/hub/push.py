"""Uploading a pipeline folder to the Hub."""

from pathlib import Path

from huggingface_hub import HfApi, get_token


def push_folder(folder: str | Path, repo_id: str, private: bool = False) -> str:
    """Upload a pipeline folder in a single commit, so that the repository never shows half of it.

    Large files are stored one by one before the commit. After an interruption call it again: those that had arrived are
    not sent twice.

    Args:
        folder: of a saved pipeline.
        repo_id: ORG/NAME; made when it is missing.
        private: make it a private one; an existing repository stays as it is.

    Returns:
        URL of the commit.

    Raises:
        ValueError: `folder` holds no pipeline, `repo_id` is malformed, or there is no token.
        OSError: the Hub refused or could not be reached.
    """
    if not (Path(folder) / "model_index.json").is_file():
        raise ValueError(f"`folder` is {folder}; it must hold the model_index.json of a saved pipeline.")
    if repo_id.count("/") != 1 or not all(repo_id.split("/")):
        raise ValueError(f"`repo_id` is {repo_id!r}; it must be ORG/NAME.")
    if get_token() is None:
        raise ValueError("No token was found, and none may write without; run `hf auth login`, or set HF_TOKEN.")
    api = HfApi()
    api.create_repo(repo_id, private=private, exist_ok=True)
    return api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload the pipeline").commit_url
