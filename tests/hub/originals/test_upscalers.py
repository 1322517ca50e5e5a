import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from difface_diffusers.hub.originals.upscalers import convert_upscaler, load_upscaler_file
from difface_diffusers.models.rrdbnet import RRDBNet
from difface_diffusers.models.srvgg import SRVGGNetCompact


NETWORKS = {
    "rrdbnet x4": (RRDBNet, {"scale": 4, "num_channels": 8, "num_blocks": 2, "growth_channels": 4}),
    "rrdbnet x2": (RRDBNet, {"scale": 2, "num_channels": 6, "num_blocks": 1, "growth_channels": 3}),
    "rrdbnet x1": (RRDBNet, {"scale": 1, "num_channels": 6, "num_blocks": 12, "growth_channels": 3}),
    "compact x4": (SRVGGNetCompact, {"scale": 4, "num_channels": 8, "num_convs": 6}),
    "compact x2": (SRVGGNetCompact, {"scale": 2, "num_channels": 6, "num_convs": 1}),
    "compact x1": (SRVGGNetCompact, {"scale": 1, "num_channels": 5, "num_convs": 2}),
}


def network(name):
    torch.manual_seed(0)
    kind, config = NETWORKS[name]
    return kind(**config).eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("wrapper", [None, "params", "params_ema", "state_dict"])
def test_what_it_is_is_read_off_the_keys(name, wrapper):
    model = network(name)
    tensors = {key: value.half() for key, value in model.state_dict().items()}
    converted = convert_upscaler(tensors if wrapper is None else {wrapper: tensors})
    assert type(converted) is type(model) and not converted.training
    assert {key: converted.config[key] for key in NETWORKS[name][1]} == NETWORKS[name][1]
    for key, value in converted.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, tensors[key].float(), atol=0, rtol=0)


def test_averaged_weights_are_preferred():
    plain, averaged = network("compact x2").state_dict(), network("compact x4").state_dict()
    assert convert_upscaler({"params": plain, "params_ema": averaged}).config.scale == 4


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files(tmp_path, suffix):
    model, path = network("rrdbnet x2"), tmp_path / f"net{suffix}"
    if suffix == ".pth":
        torch.save({"params_ema": model.state_dict()}, path)
    else:
        save_file(model.state_dict(), path)
    image = torch.rand(1, 3, 6, 8)
    with torch.no_grad():
        torch.testing.assert_close(load_upscaler_file(path)(image), model(image))


def test_a_network_that_does_not_fit_is_refused_with_all_that_differs():
    tensors = network("compact x4").state_dict()
    del tensors["body.2.bias"]
    tensors["body.4.weight"] = torch.zeros(3, 3)
    tensors["more"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"missing: body\.2\.bias\nunexpected: more\nmis-shaped: body\.4\.weight"):
        convert_upscaler(tensors)


@pytest.mark.parametrize(
    "tensors",
    [{}, {"layer.weight": torch.zeros(3)}, {"body.0.weight": torch.zeros(8, 3, 3, 3), "body.9.weight": torch.zeros(8)},
     {"body.x.weight": torch.zeros(2)}, {"body.99999.weight": torch.zeros(2, 3, 3, 3)}],
)  # fmt: skip
def test_foreign_tensors_are_refused(tensors, tmp_path):
    torch.save(tensors, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth is no RRDBNet or SRVGGNetCompact of Real-ESRGAN: its \d keys"):
        load_upscaler_file(tmp_path / "other.pth")


def test_an_unknown_folding_is_refused():
    tensors = network("rrdbnet x4").state_dict()
    tensors["conv_first.weight"] = torch.zeros(8, 7, 3, 3)
    with pytest.raises(ValueError, match=r"takes 7 channels; known are 3, 12 and 48"):
        convert_upscaler(tensors)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("opened",)


def test_code_in_a_file_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"params": Malicious()}))
    torch.save({"params": Malicious()}, tmp_path / "zipped.pth")
    for name in ("evil.pth", "zipped.pth"):
        with pytest.raises(ValueError, match=rf"{name} was refused"):
            load_upscaler_file(name)
    assert not (tmp_path / "opened").exists()


def test_damaged_and_missing_files_are_named(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(ValueError, match=r"cut\.safetensors is no file of safetensors, or is damaged"):
        load_upscaler_file(tmp_path / "cut.safetensors")
    for name in ("none.pth", "none.safetensors"):
        with pytest.raises(OSError, match="none"):
            load_upscaler_file(tmp_path / name)
