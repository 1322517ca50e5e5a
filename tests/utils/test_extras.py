import json

import pytest

from difface_diffusers.utils.extras import import_extra


def test_imports():
    assert import_extra("json", "train", "Training needs") is json


def test_says_how_to_install_what_is_missing():
    with pytest.raises(ImportError, match=r"^Training needs `no_such_module`, which cannot be imported \(No module .*\): "
                       r'pip install "difface-diffusers\[train\]"$'):  # fmt: skip
        import_extra("no_such_module", "train", "Training needs")
