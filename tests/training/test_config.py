import dataclasses
import re
import sys

import pytest
import yaml

from difface_diffusers.training import (
    EstimatorConfig,
    PriorConfig,
    StudentConfig,
    build_config,
    load_config,
    shipped_config,
)
from difface_diffusers.training.config import DataConfig, LoopConfig, save_config

from .tiny import ESTIMATOR, PRIOR, write_yaml


# Building


def test_nothing_said_means_the_defaults():
    assert build_config(PriorConfig, {}) == PriorConfig()


def test_only_what_is_said_changes():
    config = build_config(EstimatorConfig, {"loop": {"max_steps": 777}, "degradation": {"downscale": [1, 4.5]}})
    assert config.loop == dataclasses.replace(LoopConfig(), max_steps=777)
    assert config.degradation.downscale == (1.0, 4.5)
    assert config.degradation.blur_sigma == (0.1, 15.0)
    assert config.data == DataConfig()


def test_integers_pass_for_floats():
    config = build_config(PriorConfig, {"focus_probability": 1, "loop": {"learning_rate": 1}})
    assert config.loop.learning_rate == 1
    assert type(config.loop.learning_rate) is float
    assert type(config.focus_probability) is float


def test_whole_floats_pass_for_integers():
    config = build_config(PriorConfig, {"loop": {"max_steps": 1e6, "seed": 10.0}})
    assert config.loop.max_steps == 1_000_000
    assert type(config.loop.max_steps) is type(config.loop.seed) is int


def test_optional_values_may_be_null():
    values = {"focus_probability": None, "data": {"group_pattern": None}, "loop": {"max_grad_norm": None}}
    config = build_config(PriorConfig, values)
    assert config.focus_probability is None
    assert config.data.group_pattern is None
    assert config.loop.max_grad_norm is None


def test_lists_among_model_arguments_become_tuples():
    config = build_config(PriorConfig, {"model": {"block_out_channels": [8, 16], "sample_size": 16}})
    assert config.model == {"block_out_channels": (8, 16), "sample_size": 16}


# Errors


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lop": {}}, r"unknown setting `lop`; known are .*data, loop"),
        ({"loop": {"max_step": 3}}, r"unknown setting `loop\.max_step`; known are max_steps, batch_size"),
        ({"data": {"size": 3, "flip": True}}, r"unknown setting `data\.size`, `data\.flip`; known are image_size"),
        ({"degradation": {"noise": [0, 1]}}, r"unknown setting `degradation\.noise`"),
        ({3: 4, "architecture": "srcnn", "x": 1}, r"unknown setting `3`, `x`"),
    ],
)
def test_unknown_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        build_config(EstimatorConfig, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loop": {"max_steps": 1.5}}, r"`loop\.max_steps` is 1\.5; it must be int"),
        ({"loop": {"max_steps": True}}, r"`loop\.max_steps` is True; it must be int"),
        ({"loop": {"learning_rate": "1e-4"}}, r"`loop\.learning_rate` is '1e-4'; it must be float"),
        ({"loop": {"learning_rate": None}}, r"`loop\.learning_rate` is None; it must be float"),
        ({"data": {"horizontal_flip": 1}}, r"`data\.horizontal_flip` is 1; it must be bool"),
        ({"data": {"group_pattern": 3}}, r"`data\.group_pattern` is 3; it must be str \| None"),
        ({"loop": None}, r"`loop` is None; it must be LoopConfig"),
        ({"data": [1]}, r"`data` is \[1\]; it must be DataConfig"),
        ({"model": [1]}, r"`model` is \[1\]; it must be dict\[str"),
        ({"architecture": ["srcnn"]}, r"`architecture` is \['srcnn'\]; it must be str"),
        ({"degradation": {"downscale": [1]}}, r"`degradation\.downscale` is \[1\]; it must be tuple\[float, float\]"),
        ({"degradation": {"downscale": 2}}, r"`degradation\.downscale` is 2; it must be tuple"),
        ({"degradation": {"downscale": [1, "x"]}}, r"`degradation\.downscale` is 'x'"),
    ],
)
def test_wrong_types_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        build_config(EstimatorConfig, values)


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        *[("loop", name, 0, "at least 1") for name in ("max_steps", "batch_size", "gradient_accumulation_steps")],
        *[("loop", name, 0, "at least 1") for name in ("log_every", "sheet_every", "checkpoint_every")],
        ("loop", "checkpoints_kept", 0, "at least 1"),
        *[("loop", name, -1, "at least 0") for name in ("warmup_steps", "seed", "num_workers", "learning_rate")],
        *[("loop", name, -0.5, "at least 0") for name in ("final_learning_rate", "weight_decay")],
        *[("loop", "max_grad_norm", value, "above 0, or null for no clipping") for value in (-0.5, 0, float("nan"))],
        *[("loop", name, float("nan"), "at least 0") for name in ("learning_rate", "final_learning_rate")],
        *[("loop", name, float("inf"), "must be finite") for name in ("learning_rate", "weight_decay")],
        ("loop", "final_learning_rate", 2e-4, "at most `learning_rate`, 0.0001"),
        ("loop", "final_learning_rate", float("inf"), "at most `learning_rate`, 0.0001"),
        ("loop", "warmup_steps", 10_001, "at most `max_steps`, 10000"),
        ("loop", "max_steps", 300, "`warmup_steps` is 500; it must be at most `max_steps`, 300"),
        *[
            ("loop", "max_seconds", value, "above 0 and finite, or null")
            for value in (0, -1.0, float("inf"), float("nan"))
        ],
        ("loop", "ema_decay", 1.0, r"within \[0, 1\)"),
        ("loop", "ema_decay", -0.1, r"within \[0, 1\)"),
        ("loop", "mixed_precision", "fp16", 'must be "auto", "no" or "bf16"'),
        ("loop", "compile", "yes", "it must be auto, true or false"),
        ("data", "on_device", "cuda", "it must be auto, true or false"),
        ("data", "image_size", 0, "at least 1"),
        ("data", "max_per_group", 0, "at least 1"),
        ("data", "group_pattern", "(", "no regular expression"),
    ],
)
def test_values_out_of_range_are_named(section, name, value, message):
    expected = message if message.startswith("`") else f"`{name}` is .*{message}"
    with pytest.raises(ValueError, match=expected):
        build_config(PriorConfig, {section: {name: value}})


def test_limits_themselves_are_in_range():
    same = {"learning_rate": 1e-6, "final_learning_rate": 1e-6, "warmup_steps": 3, "max_steps": 3}
    assert build_config(PriorConfig, {"loop": same | {"max_grad_norm": float("inf")}}).loop.warmup_steps == 3


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_focus_probability_is_a_probability(probability):
    with pytest.raises(ValueError, match=rf"`focus_probability` is {probability}; it must be within 0 .. 1 or null"):
        build_config(PriorConfig, {"focus_probability": probability})


# Files


@pytest.mark.parametrize(("config_class", "values"), [(PriorConfig, PRIOR), (EstimatorConfig, ESTIMATOR)])
def test_a_saved_config_loads_alike(tmp_path, config_class, values):
    config = load_config(config_class, write_yaml(tmp_path / "differences.yaml", values))
    save_config(config, tmp_path / "whole.yaml")
    assert load_config(config_class, tmp_path / "whole.yaml") == config
    written = yaml.safe_load((tmp_path / "whole.yaml").read_text())
    assert written["loop"]["ema_decay"] == 0.999
    assert set(written["loop"]) == {field.name for field in dataclasses.fields(LoopConfig)}


@pytest.mark.parametrize("number", ["5e-5", "5E-5", "+5e-05", ".5e-4", "0.5e-4", "5.e-5", "5.0e-5", "0.00005"])
def test_numbers_with_exponents_are_numbers(tmp_path, number):
    text = f"loop: {{learning_rate: {number}, final_learning_rate: 0, max_steps: 2e3}}\nscheduler: {{beta_start: {number}}}"
    (tmp_path / "numbers.yaml").write_text(text)
    config = load_config(PriorConfig, tmp_path / "numbers.yaml")
    assert config.loop.learning_rate == config.scheduler["beta_start"] == 5e-5
    assert config.loop.max_steps == 2000


def test_text_that_looks_like_a_number_stays_text(tmp_path):
    (tmp_path / "text.yaml").write_text("data: {group_pattern: '5e5'}")
    config = load_config(PriorConfig, tmp_path / "text.yaml")
    assert config.data.group_pattern == "5e5"
    save_config(config, tmp_path / "whole.yaml")
    assert load_config(PriorConfig, tmp_path / "whole.yaml") == config
    (tmp_path / "text.yaml").write_text("loop: {learning_rate: '5e-5'}")
    with pytest.raises(ValueError, match=r"`loop\.learning_rate` is '5e-5'; it must be float"):
        load_config(PriorConfig, tmp_path / "text.yaml")


def test_an_empty_file_means_the_defaults(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_config(EstimatorConfig, tmp_path / "empty.yaml") == EstimatorConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n- 2\n", r"odd\.yaml holds a list; it must be a mapping"),
        ("just words", r"odd\.yaml holds a str; it must be a mapping"),
        ("loop: {max_steps: 3", r"odd\.yaml is not valid YAML"),
        ("loop:\n  max_stepss: 3\n", r"odd\.yaml: unknown setting `loop\.max_stepss`"),
        ("data: {image_size: 0}", r"odd\.yaml: `image_size` is 0"),
        (b"loop: {seed: 1}  # gr\xfc\xdfe", r"odd\.yaml is not valid YAML"),
    ],
)
def test_errors_name_the_file(tmp_path, text, message):
    (tmp_path / "odd.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        load_config(EstimatorConfig, tmp_path / "odd.yaml")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        load_config(PriorConfig, tmp_path / "none.yaml")


def test_without_yaml_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match=r'pip install "difface-diffusers\[train\]"'):
        load_config(PriorConfig, tmp_path / "any.yaml")


CLASSES = {"estimator": EstimatorConfig, "prior": PriorConfig, "student": StudentConfig}


@pytest.mark.parametrize("name", sorted(path.stem for path in shipped_config("mini_prior_64").parent.glob("*.yaml")))
def test_shipped_configs_load(name):
    (config_class,) = (config_class for word, config_class in CLASSES.items() if word in name)
    config = load_config(config_class, shipped_config(name))
    assert config.data.image_size == int((re.findall(r"256|512|64", name) or ["128"])[0])


def test_other_names_are_not_shipped():
    assert shipped_config("mini_nothing") is None


@pytest.mark.parametrize("probability", [-0.1, 1.5])
def test_scratch_probability_is_a_probability(probability):
    with pytest.raises(ValueError, match=rf"`scratch_probability` is {probability}; it must be within 0 .. 1"):
        build_config(EstimatorConfig, {"scratch_probability": probability})
