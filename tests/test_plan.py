import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from adprune_keras.export.formats import FORMATS
from toys import compiled, images, plain_cnn

from adprune_keras import (
    ADPrune,
    WidthRule,
    activation_density,
    cost,
    layer_widths,
    models,
    plan,
    resize,
    show,
    sizes,
)

TENSORFLOW = keras.backend.backend() == "tensorflow"


def half(model, **settings):
    prune = ADPrune(rule=WidthRule(min_width=1), **settings)
    return plan.plan(model, prune, plan.assumed_densities(model, prune.shortcuts, 0.5))


def test_a_plan_on_paper():
    """plain_cnn(8): 8x8 maps, pooled to 4x4, 3x3 valid to 2x2."""
    found = half(plain_cnn(8))
    rows = [(x.layer, x.widths, x.macs, x.params, x.owner, x.relus, x.density) for x in found.lines]
    assert rows == [
        ("conv1", (8, 4), (64 * 9 * 8, 64 * 9 * 4), (72 + 8, 36 + 4), "conv1", ("relu1",), 0.5),
        ("conv2", (8, 4), (4 * 9 * 64, 4 * 9 * 16), (576 + 8, 144 + 4), "conv2", ("conv2",), 0.5),
        ("hidden", (16, 8), (8 * 16, 4 * 8), (144, 40), "hidden", ("hidden",), 0.5),
        ("out", (4, 4), (16 * 4, 8 * 4), (68, 36), "out", (), None),
    ]
    assert [x.stays for x in found.lines] == [None] * 3 + ["it is an output of the model"]
    assert found.widths == {"conv1": 4, "conv2": 4, "hidden": 8}


def test_what_stays_and_why():
    prune = ADPrune(rule=WidthRule(exclude="conv1"))
    densities = {"conv1": 0.5, "conv2": np.ones(8), "hidden": 0.5}
    found = plan.plan(plain_cnn(8), prune, densities)
    stays = {x.layer: x.stays for x in found.lines}
    assert stays["conv1"] == "--include and --exclude leave it out"
    assert stays["conv2"].startswith("AE x width, rounded")
    assert stays["hidden"] is None


def test_layers_that_share_channels():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 1, name="expand")(inputs)
    x = keras.layers.DepthwiseConv2D(3, name="each")(x)
    x = keras.layers.ReLU(name="relu")(x)
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1, name="last")(x))
    found = half(model)
    assert [(x.layer, x.owner, x.widths) for x in found.lines] == [
        *(("expand", "expand", (6, 3)), ("each", "expand", (6, 3)), ("last", "last", (2, 2))),
    ]
    text = show.plan(found, "x", "y", "inherit")
    assert "each    = expand" in text and "a: stays: it is an output" in text


@pytest.mark.parametrize(
    "settings",
    [{}, {"weights": "random"}, {"shortcuts": "couple"}, {"target_ops_reduction": 1.5}],
)
def test_a_plan_is_what_resize_builds(settings):
    """Rows, projections that a cut makes necessary, and totals: layer by layer, from real densities."""
    model = models.ResNet18(input_shape=(8, 8, 1), classes=4, widths=[9] * 17)
    compiled(model).fit(*images(40), verbose=0)
    prune = ADPrune(**settings)
    densities = activation_density(model, images(20)[0], shortcuts=prune.shortcuts)
    found = plan.plan(model, prune, densities)
    options = {k: v for k, v in settings.items() if k != "target_ops_reduction"}
    if prune.weights == "inherit":
        options |= {"weights": "inherit", "densities": densities}
    built = cost(resize(model, found.widths, **options))

    def rows(counted):
        return sorted((r.layer, r.width, r.macs, r.params, r.bias) for r in counted.rows)

    assert rows(found.after) == rows(built)
    assert found.after.paper == built.paper and found.after.deployed == built.deployed
    assert [x.layer for x in found.lines if x.widths[0] is not None] == [
        r.layer for r in found.before.rows
    ]


def test_made_up_densities_have_their_mean_to_the_bit_and_no_order():
    model = models.ResNet18(input_shape=(8, 8, 1), widths=[27] * 17)
    found = plan.assumed_densities(model, "project", 0.5)
    assert list(found) == list(layer_widths(model))
    assert {float(np.mean(d)) for d in found.values()} == {0.5}
    assert {d.shape for d in found.values()} == {(27,)}
    # as with data: no two layers keep the same channels, so an identity shortcut needs a projection
    assert "stage1_block1_shortcut_conv" in [x.layer for x in half(model).lines if x.widths[0] is None]
    assert plan.assumed_densities(model, "project", 0.0)["stem_conv"].mean() == 0


def test_it_reads_on_a_hundred_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    model = models.ResNet50(input_shape=(224, 224, 3), classes=1000, widths=None)
    text = show.plan(half(model), "resnet50 (new weights)", "assumed", "inherit")
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) < 95  # 66 layers, one line each
    assert "MACs, paper count                           3,496,263,680" in text or "paper count" in text
    for count in ("paper", "deployed"):
        assert f"MACs, {count} count" in text and f"parameters, {count} count" in text
    assert all(f"file, {name} " in text for name in FORMATS)


def test_names_from_a_file_do_not_reach_the_terminal_as_they_are():
    line = plan.Line("a\x1b[2J[bold]b", (8, 4), (9, 4), (9, 4), "a\x1b[2J[bold]b", ("r\n",), 0.5, None)
    found = plan.Plan([line], {line.layer: 4}, cost(plain_cnn()), cost(plain_cnn()), {})
    text = show.plan(found, "n\x07", "s", "inherit")
    assert "\x1b" not in text and "\x07" not in text and "a [2J[bold]b" in text


def test_short_numbers():
    numbers = [0, 999, 1000, 9472, 23_456, 117_964_800, 3_857_973_248]
    assert list(map(show.short, numbers)) == [
        *("0", "999", "1.00k", "9.47k", "23.5k", "118M", "3.86G"),
    ]


@pytest.mark.skipif(not TENSORFLOW, reason="needs the converters")
def test_predicted_sizes_beside_real_files(tmp_path):
    from adprune_keras.export import export_model

    names = ["onnx", "tflite", "tflite_float16", "tflite_dynamic"]
    model = models.ResNet34(input_shape=(16, 16, 3), widths=[24] * 33)
    export_model(model, tmp_path, names)
    predicted = sizes.file_sizes(cost(model))
    assert set(predicted) == set(sizes.DTYPES) == set(FORMATS)
    assert {name: form.weights for name, form in FORMATS.items()} == sizes.DTYPES
    for name in names:
        size = (tmp_path / FORMATS[name].file).stat().st_size
        assert predicted[name] == pytest.approx(size, rel=0.05), name


def run(*flags, cwd):
    return subprocess.Popen(
        [sys.executable, "-c", "import adprune_commands; adprune_commands.plan()", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=os.environ | {"KERAS_BACKEND": keras.backend.backend(), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def test_the_command(tmp_path):
    pytest.importorskip("tensorflow")
    models.VGG11(input_shape=(8, 8, 1), widths=[8] * 8).save(tmp_path / "net.keras")
    (tmp_path / "there.keras").write_text("mine")
    made, assumed, *refused = [
        run(
            "--model=net.keras",
            "--dataset=digits",
            "--examples=99",
            "--output=small.keras",
            cwd=tmp_path,
        ),
        run("--network=VGG11", "--width_scale=0.0625", "--density=0.25", cwd=tmp_path),
        run("--model=net.keras", "--output=there.keras", cwd=tmp_path),
        run("--model=net.keras", "--network=VGG11", cwd=tmp_path),
        run("--model=net.keras", "--dataset=digits", "--image_size=16", cwd=tmp_path),
    ]
    out, err = made.communicate()
    assert made.returncode == 0, err
    assert "Densities (AE): measured on 99 training images of digits\n" in out
    small = keras.models.load_model(tmp_path / "small.keras")
    assert max(layer_widths(small).values()) < 8
    assert f"{cost(small).deployed.macs:,}" in out and f"{cost(small).deployed.params:,}" in out
    assert out.endswith("Wrote small.keras: the channels that stay keep their weights. Train it on.\n")
    out, err = assumed.communicate()
    assert "Densities (AE): ASSUMED, 0.25 for every layer: no data was seen" in out
    messages = ("There is such a file already", "Give either --model or --network", "do not fit")
    for process, message in zip(refused, messages, strict=True):
        out, err = process.communicate()
        assert process.returncode == 1 and out == ""
        assert message in err and "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.keras", "small.keras", "there.keras"]
    assert (tmp_path / "there.keras").read_text() == "mine"
