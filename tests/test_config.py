"""The configuration: presets, files, overrides, and that anything wrong is one clear ConfigError."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from twin_dcal import config_text
from twin_dcal.config import (
    TwinVerificationConfig,
    dotted_keys,
    resolve_config,
)
from twin_dcal.config_text import parse_dotted, read_config_json
from twin_dcal.errors import ConfigError
from twin_dcal.presets import PRESETS

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.json"))
from_dict = TwinVerificationConfig.from_dict


def refusal(values, source="file.json"):
    with pytest.raises(ConfigError) as error:
        from_dict(values, source)
    message = str(error.value)
    assert message.startswith(f"{source}: ")
    assert "\n" not in message
    return message.removeprefix(f"{source}: ")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_what_they_name(name):
    config = TwinVerificationConfig.preset(name)
    for section, values in PRESETS[name].items():
        for key, value in values.items():
            assert getattr(getattr(config, section), key) == value
    untouched = TwinVerificationConfig().model_dump()
    for section, values in config.model_dump().items():
        for key, value in values.items():
            if key not in PRESETS[name].get(section, {}):
                assert value == untouched[section][key]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_files_of_the_project_load(path):
    config = TwinVerificationConfig.from_file(path)
    for section, values in json.loads(path.read_text()).items():
        for key, value in values.items():
            loaded = getattr(getattr(config, section), key)
            assert (list(loaded) if isinstance(loaded, tuple) else loaded) == value


def test_there_are_files_of_the_project():
    assert {"dcal_resnet50.json", "lookalikes_efficientnet_lite0.json"} <= {path.name for path in CONFIGS}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trainig": {}}, "unknown key 'trainig'; did you mean 'training'?"),
        ({"model": {"bacbone": "x"}}, "unknown key 'model.bacbone'; did you mean 'model.backbone'?"),
        (
            {"loss": {"tripletmargin": 1}},
            "unknown key 'loss.tripletmargin'; did you mean 'loss.triplet_margin'?",
        ),
        ({"data": {"xyzzy": 1}}, "unknown key 'data.xyzzy'"),
        ({"training": {"lr": 1}}, "unknown key 'training.lr'; did you mean 'training.learning_rate'?"),
        ({"training": {"epochs": 1}}, "unknown key 'training.epochs'; did you mean 'training.num_epochs'?"),
        (
            {"training": {"warmup": 1}},
            "unknown key 'training.warmup'; did you mean 'training.warmup_epochs'?",
        ),
        ({"model": {"image_size": 64}}, "unknown key 'model.image_size'; did you mean 'data.image_size'?"),
        ({"model": {"weights": "x"}}, "unknown key 'model.weights'; did you mean 'model.pretrained'?"),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest(values, message):
    assert refusal(values) == message


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("training", "batch_size", "many"),
        ("training", "batch_size", 32.5),
        ("training", "batch_size", True),
        ("training", "batch_size", None),
        ("training", "learning_rate", 0),
        ("training", "learning_rate", -1e-3),
        ("training", "learning_rate", float("nan")),
        ("training", "optimizer", "adam"),
        ("training", "num_epochs", -1),
        ("training", "images_per_person", 1),
        ("training", "accumulation_steps", 0),
        ("model", "pretrained", None),
        ("model", "backbone", 3),
        ("model", "local_ratio", 0),
        ("model", "local_ratio", 1.01),
        ("model", "dropout", 1),
        ("model", "drop_path", -0.1),
        ("model", "branches", "sa"),
        ("model", "branches", ["glca", "pwca"]),
        ("model", "branches", []),
        ("model", "branches", ["sa", "sa"]),
        ("model", "glca_pool", "mean"),
        ("model", "feature_dim", 0),
        ("loss", "head", "sphereface"),
        ("loss", "scale", 0),
        ("loss", "margin", -0.1),
        ("loss", "label_smoothing", 1),
        ("data", "image_size", 16),
        ("data", "val_fraction", 1),
        ("data", "data_dir", 3),
        ("runtime", "seed", -1),
        ("runtime", "amp", "fp8"),
        ("tracking", "backend", "tensorboard"),
    ],
)
def test_wrong_values_are_refused_with_their_key_and_value(section, key, value):
    message = refusal({section: {key: value}})
    assert message.startswith(f"{section}.{key}")
    assert f"(given: {json.dumps(value)})" in message


@pytest.mark.parametrize("value", [True, False, [True, 2]], ids=repr)
def test_no_number_and_no_name_may_be_a_truth_value(value):
    sections = {name: field.annotation for name, field in TwinVerificationConfig.model_fields.items()}
    keys = {
        (section, name): field.annotation
        for section, annotation in sections.items()
        for name, field in annotation.model_fields.items()
        if bool not in (field.annotation, *get_args(field.annotation))
    }
    assert len(keys) > 40
    for section, name in keys:
        told = "give pixels" if name == "image_size" else "takes neither true nor false"
        with pytest.raises(ConfigError, match=rf"^configuration: {section}\.{name}: {told}"):
            TwinVerificationConfig.from_dict({section: {name: value}})


def test_a_wrong_branch_is_named_with_its_place():
    message = refusal({"model": {"branches": ["sa", "x"]}})
    assert message == "model.branches.1: Input should be 'sa', 'glca' or 'pwca' (given: \"x\")"


def test_all_mistakes_are_named_at_once():
    message = refusal(
        {"modl": {}, "training": {"num_epochs": -1, "epochs": 3}, "data": {"image_size": "big"}}
    )
    for part in ("'modl'", "training.num_epochs", "'training.epochs'", "data.image_size"):
        assert part in message
    assert message.count("; ") >= 3


@pytest.mark.parametrize("section", [None, 3, [], "model"])
def test_a_section_is_an_object(section):
    assert refusal({"model": section}).startswith("model: ")


@pytest.mark.parametrize(("batch", "images"), [(6, 4), (4, 4), (9, 2)])
def test_a_batch_is_whole_people_and_two_at_least(batch, images):
    message = refusal({"training": {"batch_size": batch, "images_per_person": images}})
    assert message == (
        f"training: batch_size {batch} must be a multiple of images_per_person {images} and hold at least 2 people"
    )
    from_dict({"training": {"batch_size": 2 * images, "images_per_person": images}})


def test_heads_divide_the_width():
    assert refusal({"model": {"attention_dim": 100, "num_heads": 3}}) == (
        "model: attention_dim 100 is not a multiple of num_heads 3"
    )
    from_dict({"model": {"attention_dim": 99, "num_heads": 3}})


def test_flat_files_of_older_versions_are_told_where_their_keys_went():
    message = refusal({"BATCH_SIZE": 8, "LOCAL_QUERY_RATIO": 0.3, "SYNC_BN": True})
    assert "BATCH_SIZE -> training.batch_size" in message
    assert "LOCAL_QUERY_RATIO -> model.local_ratio" in message
    assert "SYNC_BN -> no longer used" in message


def test_every_place_a_flat_key_moved_to_exists():
    assert set(config_text._FLAT_KEYS.values()) <= set(dotted_keys())


# Files


def test_round_trip_through_a_file(tmp_path):
    config = TwinVerificationConfig.preset("quickstart").override(
        {"model.branches": ["sa", "glca"], "training.clip_norm": None, "training.learning_rate": 1 / 3}
    )
    config.save(tmp_path / "config.json")
    again = TwinVerificationConfig.from_file(tmp_path / "config.json")
    assert again == config
    assert again.model.branches == ("sa", "glca")


def test_what_a_file_does_not_name_keeps_its_default(tmp_path):
    (tmp_path / "c.json").write_text('{"model": {"num_blocks": 7}}')
    changed = TwinVerificationConfig.from_file(tmp_path / "c.json").model_dump()
    default = TwinVerificationConfig().model_dump()
    assert changed["model"].pop("num_blocks") == 7
    default["model"].pop("num_blocks")
    assert changed == default


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n"model": {\n"backbone": }}', "c.json, line 3, column 13: not JSON (Expecting value)"),
        ("", "c.json, line 1, column 1: not JSON (the file is empty)"),
        (
            "{'model': {}}",
            "c.json, line 1, column 2: not JSON (text in single quotes: JSON takes double quotes)",
        ),
        (
            '{"model": {"pretrained": True}}',
            "c.json, line 1, column 26: not JSON (a literal True is not JSON: write true)",
        ),
        (
            '{"training": {"clip_norm": None}}',
            "c.json, line 1, column 28: not JSON (a literal None is not JSON: write null)",
        ),
        (
            '{"model": {"backbone": resnet50}}',
            'c.json, line 1, column 24: not JSON (a literal resnet50 is not JSON: write "resnet50", in quotes',
        ),
        ("{model: {}}", 'c.json, line 1, column 2: not JSON (a name without quotes: write "model")'),
        ('{"model": {}} # mine', "c.json, line 1, column 15: not JSON (a comment: JSON has none)"),
        ("{// mine\n}", "c.json, line 1, column 2: not JSON (a comment: JSON has none)"),
        (
            r'{"data": {"data_dir": "D:\faces"}}'.replace(r"\\", "\\"),
            "c.json: data.data_dir: holds '\\x0c', as no name does; in JSON a backslash in text is written twice",
        ),
        (
            r'{"data": {"data_dir": "D:\my faces"}}'.replace(r"\\", "\\"),
            "c.json, line 1, column 26: not JSON (Invalid \\escape: a backslash in text is written twice, \\\\)",
        ),
        (
            r'{"data": {"data_dir": "C:\users"}}'.replace(r"\\", "\\"),
            "c.json, line 1, column 27: not JSON (Invalid \\uXXXX escape: a backslash in text is written twice, \\\\)",
        ),
        ('{"model": {}, "model": {}}', "c.json: the key 'model' is written twice in one object"),
        ('\ufeff{"model": {"num_blocks": -1}}', "c.json: model.num_blocks: "),
        ("[1]", "c.json: a configuration is a JSON object, this is a list"),
        ("3", "c.json: a configuration is a JSON object, this is a int"),
        (
            '{"model": {"bakbone": "x"}}',
            "c.json: unknown key 'model.bakbone'; did you mean 'model.backbone'?",
        ),
    ],
)
def test_files_that_are_not_configurations(tmp_path, text, message):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ConfigError) as error:
        TwinVerificationConfig.from_file(tmp_path / "c.json")
    assert str(error.value).removeprefix(f"{tmp_path}/").startswith(message)


@pytest.mark.parametrize(
    ("text", "closing"), [('{"model": {} , }', "}"), ('{"model": {"branches": ["sa",]}}', "]")]
)
def test_a_trailing_comma_is_called_that(tmp_path, text, closing):
    (tmp_path / "c.json").write_text(text)
    told = rf"c\.json, line 1, column \d+: not JSON \(a trailing comma before '\{closing}': leave it out\)"
    with pytest.raises(ConfigError, match=told):
        TwinVerificationConfig.from_file(tmp_path / "c.json")


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.json: no such file; presets are default,"):
        TwinVerificationConfig.from_file(tmp_path / "nowhere.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config_json(tmp_path)
    (tmp_path / "c.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config_json(tmp_path / "c.json")


@pytest.mark.parametrize("text", ['{"model": ' + "1" * 5000 + "}", "[" * 100_000], ids=["number", "nested"])
def test_json_that_python_cannot_hold(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    try:
        TwinVerificationConfig.from_file(tmp_path / "c.json")
    except ConfigError:
        return
    pytest.fail("accepted")


# Overrides and the command line


def test_overrides_give_a_copy():
    config = TwinVerificationConfig.preset("debug")
    before = config.model_dump()
    changed = config.override({"training.learning_rate": 1e-4, "model.branches": ["sa"]})
    assert config.model_dump() == before
    assert (changed.training.learning_rate, changed.model.branches) == (1e-4, ("sa",))
    assert changed.data == config.data


def test_configurations_are_frozen():
    config = TwinVerificationConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.training.batch_size = 64
    with pytest.raises(ValidationError, match="frozen"):
        config.training = config.training
    assert config.training.batch_size == 32


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("learning_rate", "command line: no key 'learning_rate'; did you mean 'training.learning_rate'?"),
        (
            "trainig.batch_size",
            "command line: no key 'trainig.batch_size'; did you mean 'training.batch_size'?",
        ),
        (
            "training.bach_size",
            "command line: unknown key 'training.bach_size'; did you mean 'training.batch_size'?",
        ),
        ("training", "command line: no key 'training'"),
        ("training.", "command line: no key 'training.'"),
    ],
)
def test_wrong_overrides_name_the_nearest_key(key, message):
    with pytest.raises(ConfigError) as error:
        TwinVerificationConfig().override({key: 8})
    assert str(error.value).startswith(message)


def test_overrides_are_validated_together():
    config = TwinVerificationConfig()
    with pytest.raises(ConfigError, match="command line: training: batch_size 6 must be a multiple"):
        config.override({"training.batch_size": 6})
    both = config.override({"training.batch_size": 6, "training.images_per_person": 3})
    assert both.training.batch_size == 6


@pytest.mark.parametrize(
    "arguments",
    [
        ["--training.learning_rate", "1e-4"],
        ["--training.learning-rate", "1e-4"],
        ["--training.learning_rate=1e-4"],
        ["--training.learning-rate=1e-4"],
    ],
)
def test_both_spellings_of_an_option(arguments):
    assert parse_dotted(arguments) == {"training.learning_rate": 1e-4}


def test_option_values_are_json_where_they_can_be_and_text_otherwise():
    parsed = parse_dotted([
        '--model.branches=["sa", "glca"]', "--model.pretrained", "false", "--data.data_dir", "a=b/c-d",
        "--training.clip_norm=null", "--model.backbone=resnet50", "--data.data_root=", "--data.normalize", "False",
        "--data.split_file=None",
    ])  # fmt: skip
    assert parsed == {
        "model.branches": ["sa", "glca"], "model.pretrained": False, "data.data_dir": "a=b/c-d",
        "training.clip_norm": None, "model.backbone": "resnet50", "data.data_root": "",
        "data.normalize": False, "data.split_file": None,
    }  # fmt: skip
    assert parse_dotted([]) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--training.learning_rate"], "--training.learning_rate needs a value"),
        (["faces"], "unknown argument 'faces'"),
        (["--batch-size", "8"], "unknown argument '--batch-size'; did you mean 'training.batch_size'?"),
        (["training.batch_size=8"], "unknown argument 'training.batch_size=8'"),
        (["--lr", "1e-4"], "unknown argument '--lr'; did you mean 'training.learning_rate'?"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ConfigError) as error:
        parse_dotted(arguments, keys=dotted_keys())
    assert str(error.value).startswith(message)


def test_the_command_line_takes_a_preset_a_file_or_nothing(tmp_path):
    assert resolve_config(None, {}) == TwinVerificationConfig.preset("default")
    assert resolve_config("debug", {}) == TwinVerificationConfig.preset("debug")
    (tmp_path / "mine").write_text('{"runtime": {"seed": 5}}')
    assert resolve_config(str(tmp_path / "mine"), {"runtime.num_workers": 0}) == from_dict(
        {"runtime": {"seed": 5, "num_workers": 0}}
    )
    with pytest.raises(
        ConfigError, match="--config debgu: neither a file nor a preset; did you mean 'debug'"
    ):
        resolve_config("debgu", {})
    with pytest.raises(ConfigError, match="mine.json: no such file"):
        resolve_config(str(tmp_path / "mine.json"), {})
    with pytest.raises(ConfigError, match="no preset 'kagle'; did you mean 'kaggle'"):
        TwinVerificationConfig.preset("kagle")


# Anything at all

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
keys = list(dotted_keys())


def survives(make):
    """The configuration, or None after a ConfigError; any other error fails the test."""
    try:
        config = make()
    except ConfigError:
        return None
    assert isinstance(config, TwinVerificationConfig)
    return config


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(list(TwinVerificationConfig.model_fields)) | st.text(), json_values, max_size=3
    )
)
def test_garbage_is_a_configuration_error(values):
    survives(lambda: from_dict(values))


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(keys), json_values, min_size=1, max_size=4))
def test_garbage_in_known_keys_is_a_configuration_error_or_survives_a_round_trip(values):
    config = survives(lambda: TwinVerificationConfig().override(values))
    if config is not None:
        assert from_dict(json.loads(json.dumps(config.model_dump()))) == config


@settings(deadline=None)
@given(st.lists(st.sampled_from([f"--{key}" for key in keys]) | st.text(max_size=12), max_size=5))
def test_garbage_arguments_are_a_configuration_error(arguments):
    survives(lambda: TwinVerificationConfig().override(parse_dotted(arguments)))


@pytest.mark.parametrize("values", [{1: 2}, None, [1], {"model": {"backbone": {(1, 2): 3}}}], ids=repr)
def test_python_values_that_json_cannot_hold(values):
    assert survives(lambda: from_dict(values)) is None


@pytest.mark.parametrize(
    "key", ["training.learning_rate", "loss.scale", "loss.margin", "training.weight_decay"]
)
def test_infinity_is_refused(key):
    with pytest.raises(ConfigError):
        TwinVerificationConfig().override({key: float("inf")})


def test_importing_the_configuration_imports_no_torch():
    code = "import sys, twin_dcal.config; print([m for m in ('torch', 'timm', 'numpy', 'PIL') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout.strip(), run.stderr) == ("[]", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--a.b=" + "1" * 5000], "--a.b: .*digits"),
        (["--a.b=" + "[" * 100_000], "--a.b: .*(recursion|overflow)"),
        (["--model.literal_x", "1"], r"unknown key 'model\.literal_x'"),
        (["--data.val_fraction", "0.6", "--data.test_fraction", "0.5"], "leave no training set"),
    ],
    ids=["number", "nested", "literal", "fractions"],
)
def test_odd_overrides_are_refused_by_name(arguments, message):
    with pytest.raises(ConfigError, match=message):
        TwinVerificationConfig().override(parse_dotted(arguments))


def test_a_preset_name_too_long_for_a_file_is_refused():
    with pytest.raises(ConfigError, match="neither a file nor a preset"):
        resolve_config("x" * 5000, {})
