import importlib.metadata
import importlib.util
import sys
import textwrap

import pytest
import torch
from diffusers import DiffusionPipeline, ModelMixin, UNet2DModel
from diffusers.utils.dynamic_modules_utils import check_imports, find_pipeline_class, get_relative_imports

import difface_diffusers
from difface_diffusers.hub import remote_code
from difface_diffusers.hub.remote_code import self_contained


PUBLIC = [getattr(difface_diffusers, name) for name in difface_diffusers.__all__ if name != "ModelMixin"]
CLASSES = [value for value in PUBLIC if isinstance(value, type) and issubclass(value, ModelMixin | DiffusionPipeline)]
MODEL = """
    from diffusers.configuration_utils import ConfigMixin
    from diffusers.models.modeling_utils import ModelMixin


    class Network(ModelMixin, ConfigMixin):
        pass
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Import source code as a module of its own, as diffusers does."""

    def load_source(code, name="loaded_remote_code"):
        path = tmp_path / f"{name}.py"
        path.write_text(code)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load_source


@pytest.fixture
def export(tmp_path, monkeypatch):
    """Write a package, and return the code of `Thing` in its module `main`."""
    package = f"package_{tmp_path.name}"
    folder = tmp_path / package
    folder.mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    def export_thing(**modules):
        for name, code in {"__init__": "# nothing", **modules}.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(code))
        return self_contained(importlib.import_module(f"{package}.main").Thing)

    yield export_thing
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


class TestThePackage:
    @pytest.mark.parametrize("cls", CLASSES)
    def test_every_public_pipeline_and_model_has_a_file_of_its_own(self, cls, load):
        code = self_contained(cls)
        module = load(code)
        copy = getattr(module, cls.__name__)
        assert copy is not cls and copy.__doc__ == cls.__doc__
        assert get_relative_imports(module.__file__) == [] and check_imports(module.__file__) == []
        assert code.startswith(
            f"# Generated from difface_diffusers {importlib.metadata.version('difface-diffusers')};"
        )
        assert "SPDX-License-Identifier: Apache-2.0" in code.splitlines()[1]
        if issubclass(cls, DiffusionPipeline):
            assert find_pipeline_class(module) is copy
        else:
            assert module.ModelMixin is ModelMixin

    def test_it_is_the_same_each_time(self):
        first = [self_contained(cls) for cls in CLASSES]
        remote_code.read_module.cache_clear()
        assert [self_contained(cls) for cls in reversed(CLASSES)] == first[::-1]

    def test_only_what_is_needed_goes_in(self):
        code = self_contained(difface_diffusers.DifFacePipeline)
        for unneeded in ("photo_files", "load_image", "split_channels", "class SwinBlock", "DifFaceUNet2DModel("):
            assert unneeded not in code
        assert "SwinBlock" not in self_contained(difface_diffusers.SRCNNEstimator)

    def test_the_pipeline_restores_as_the_original_does(self, load, pipe, faces):
        copy = load(self_contained(difface_diffusers.DifFacePipeline)).DifFacePipeline(**pipe.components)
        copy.set_progress_bar_config(disable=True)
        settings = {"num_inference_steps": 3, "output_type": "pt"}
        restored = copy(faces, generator=torch.Generator().manual_seed(0), **settings)
        expected = pipe(faces, generator=torch.Generator().manual_seed(0), **settings)
        assert torch.equal(restored.images, expected.images) and torch.equal(restored.estimates, expected.estimates)

    def test_type_hints_of_networks_accept_any_model(self, load):
        types = load(self_contained(difface_diffusers.DifFacePipeline)).DifFacePipeline._get_signature_types()
        assert types["estimator"] == (ModelMixin,) and types["unet"] == (UNet2DModel, ModelMixin)


class TestFollowing:
    def test_names_are_followed_through_modules_and_their_imports(self, export, load):
        code = export(
            main="""
                import math

                from .tools import LIMITS, double, unneeded


                class Thing:
                    def answer(self, number):
                        return [double(number), LIMITS["low"], math.floor(2.5)]


                def alone():
                    return unneeded()
            """,
            tools="""
                import json
                from .parts import TWO

                LIMITS = {"high": 9}

                # As low as it gets.
                LIMITS |= {"low": TWO}
                LIMITS.update(low=LIMITS["low"] + 3)


                def double(number):
                    return TWO * number


                def unneeded():
                    return json.dumps(LIMITS)
            """,
            parts="from .numbers import TWO",
            numbers="TWO, THREE = 2, 3",
        )
        assert load(code).Thing().answer(4) == [8, 5, 2]
        assert "# As low as it gets.\nLIMITS |= " in code
        assert "json" not in code and "alone" not in code and "package_" not in code

    def test_what_runs_at_once_stands_behind_what_it_needs(self, export, load):
        code = export(
            main="""
                from .aaa import Base
                from .zzz import decorate, DEFAULT


                @decorate
                class Thing(Base):
                    def answer(self, number=DEFAULT):
                        return number + self.more
            """,
            aaa="""
                from .zzz import DEFAULT


                class Base:
                    more = DEFAULT
            """,
            zzz="""
                DEFAULT = 20


                def decorate(cls):
                    cls.more += 1
                    return cls
            """,
        )
        assert load(code).Thing().answer() == 41

    def test_a_local_name_is_not_followed(self, export):
        code = export(
            main="""
                from .other import steps


                class Thing:
                    def answer(self):
                        steps = 3
                        return [steps for _ in range(steps)]
            """,
            other="steps = 'secret'",
        )
        assert "secret" not in code

    def test_a_derived_pipeline_is_the_only_one_of_its_file(self, export, load):
        code = export(
            base="""
                from diffusers import DiffusionPipeline

                from .network import Network


                class Base(DiffusionPipeline):
                    def __init__(self, network: Network):
                        super().__init__()
                        self.register_modules(network=network)

                    def answer(self):
                        return 1
            """,
            main="""
                from .base import Base
                from .network import Network


                class Thing(Base):
                    def __init__(self, network: Network | None):
                        super().__init__(network)

                    def answer(self):
                        return super().answer() + 1
            """,
            network=MODEL,
        )
        module = load(code)
        assert find_pipeline_class(module) is module.Thing
        assert module.Thing(None).answer() == 2


class TestRefusal:
    """Whatever would only fail where the package is missing."""

    @pytest.mark.parametrize(
        "modules, message",
        [
            pytest.param(
                {"main": "from .a import f\nfrom .b import g\nclass Thing: x = f(), g()", "a": "N = 1\ndef f(): return N",
                 "b": "N = 2\ndef g(): return N"},
                "`N` has two meanings, .*rename one",
                id="one name for two things",
            ),
            pytest.param(
                {"main": "from .a import f\nfrom .b import g\nclass Thing: x = f(), g()", "a": "def f(): return max(1, 2)",
                 "b": "def max(*v): return 0\ndef g(): return max()"},
                "`max` has two meanings, ",
                id="a name that is Python's elsewhere",
            ),
            pytest.param(
                {"main": "from .a import f\nfrom .b import g\nclass Thing: x = f(), g()", "a": "A, N = 1, 2\ndef f(): return A",
                 "b": "B, N = 1, 3\ndef g(): return B"},
                "`N` has two meanings, ",
                id="a name that comes along",
            ),
            pytest.param({"main": "class Thing:\n    x = lambda self: missing"}, "uses `missing`", id="undefined"),
            pytest.param(
                {"main": "from .a import f as g\nclass Thing: x = g", "a": "def f(): pass"},
                "imports `f` as `g`",
                id="renamed import",
            ),
            pytest.param({"main": "import yaml\nclass Thing: x = yaml"}, "Thing imports `yaml`", id="other package"),
            pytest.param(
                {"main": "class Thing:\n    def f(self):\n        from .a import b"}, "Thing imports `.a`", id="late import"
            ),
            pytest.param(
                {"main": "class Thing:\n    def f(self):\n        import cv2"}, "Thing imports `cv2`", id="late package"
            ),
            pytest.param(
                {"main": "from diffusers import DiffusionPipeline\nfrom .a import Network\n"
                         "class Thing(DiffusionPipeline):\n    def f(self, x): return isinstance(x, Network)", "a": MODEL},
                "Thing uses `Network` outside of type hints",
                id="a network that is tested for",
            ),
            pytest.param(
                {"main": "from .a import Base\nclass Thing(Base):\n    def f(self): return Base.f(self)",
                 "a": "from diffusers import DiffusionPipeline\nclass Base(DiffusionPipeline):\n    def f(self): pass"},
                "Thing uses `Base` outside of type hints",
                id="a base that is called",
            ),
        ],
    )  # fmt: skip
    def test_code_that_cannot_stand_alone(self, export, modules, message):
        with pytest.raises(ValueError, match=message):
            export(**modules)
