import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from adprune_keras.export.formats import FORMATS
from toys import flags_of, images, plain_cnn

from adprune_keras import ADPrune, WidthRule, activation_density, cost, layer_widths, models, resize
from adprune_keras.cli import command, show
from adprune_keras.cli import plan as plan_command
from adprune_keras.counting.sizes import DTYPES, file_sizes
from adprune_keras.graph.groups import find_groups
from adprune_keras.prune.planning import Line, Plan, assumed_densities, plan

TENSORFLOW = keras.backend.backend() == "tensorflow"
DIGITS = ("--network=VGG11", "--width_scale=0.0625", "--dataset=digits", "--examples=99")


def half(model, **settings):
    prune = ADPrune(rule=WidthRule(min_width=1), **settings)
    return plan(model, prune, assumed_densities(find_groups(model, prune.pruning.shortcuts), 0.5))


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
    found = plan(plain_cnn(8), prune, densities)
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
    assert re.search(r"(?m)^expand +relu +0\.50 +6→3 ", text)
    assert re.search(r"(?m)^each +.*= expand +6→3 ", text)
    assert "\na: stays: it is an output of the model.\n" in text


@pytest.mark.parametrize(
    "settings",
    [{}, {"weights": "random"}, {"shortcuts": "couple"}, {"target": 1.5}],
)
def test_a_plan_is_what_resize_builds(settings):
    """Rows, projections that a cut makes necessary, and totals: layer by layer, from real densities."""
    model = models.ResNet18(input_shape=(8, 8, 1), classes=4, widths=[9] * 17)
    prune = ADPrune(**settings)
    densities = activation_density(model, images(20)[0], shortcuts=prune.pruning.shortcuts)
    found = plan(model, prune, densities)
    options = {k: v for k, v in settings.items() if k != "target"}
    if prune.pruning.weights == "inherit":
        options |= {"weights": "inherit", "densities": densities}
    built = cost(resize(model, found.widths, **options))

    def rows(counted):
        return sorted((r.layer, r.width, r.macs, r.params, r.bias) for r in counted.rows)

    assert rows(found.after) == rows(built)
    assert found.after.paper == built.paper and found.after.deployed == built.deployed
    assert [x.layer for x in found.lines if x.widths[0] is not None] == [
        r.layer for r in found.before.rows
    ]


def test_the_two_plans_are_one():
    model = models.VGG11(input_shape=(8, 8, 1), classes=4, widths=[9] * 8)
    densities = assumed_densities(find_groups(model), 0.5)
    for settings in ({}, {"target": 1.5}, {"shortcuts": "couple"}, {"weights": "random"}):
        prune = ADPrune(**settings)
        found, said = plan(model, prune, densities), prune.plan(model, densities)
        assert said["widths"] == found.widths
        assert said["cost"]["deployed"] == vars(found.after.deployed)
        assert said["ops_reduction"]["paper"] == found.before.paper.macs / found.after.paper.macs


def test_a_plan_refuses_what_fit_refuses():
    prune, densities = ADPrune(rule=WidthRule(include="nothing")), {"conv1": 0.5}
    for call in (prune.plan, lambda *given: plan(given[0], prune, given[1])):
        with pytest.raises(ValueError, match="`include` matches no layer that may be pruned"):
            call(plain_cnn(8), densities)
    with pytest.raises(ValueError, match="No density for layer 'conv2'"):
        ADPrune().plan(plain_cnn(8), densities)


def test_made_up_densities_have_their_mean_to_the_bit_and_no_order():
    model = models.ResNet18(input_shape=(8, 8, 1), widths=[27] * 17)
    found = assumed_densities(find_groups(model), 0.5)
    assert list(found) == list(layer_widths(model))
    assert {float(np.mean(d)) for d in found.values()} == {0.5}
    assert {d.shape for d in found.values()} == {(27,)}
    # as with data: no two layers keep the same channels, so an identity shortcut needs a projection
    assert "stage1_block1_shortcut_conv" in [x.layer for x in half(model).lines if x.widths[0] is None]
    assert assumed_densities(find_groups(model), 0.0)["stem_conv"].mean() == 0


def test_it_reads_on_a_hundred_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    model = models.ResNet50(input_shape=(224, 224, 3), classes=1000, widths=[512] * 49)
    text = show.plan(half(model), "resnet50 (new weights)", "assumed", "inherit")
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) < 95  # 66 layers, one line each
    for count in ("paper", "deployed"):
        assert f"MACs, {count} count" in text and f"parameters, {count} count" in text
    assert all(f"file, {name} " in text for name in FORMATS)


def test_names_from_a_file_do_not_reach_the_terminal_as_they_are():
    line = Line("a\x1b[2J[bold]b", (8, 4), (9, 4), (9, 4), "a\x1b[2J[bold]b", ("r\n",), 0.5, None)
    found = Plan([line], {line.layer: 4}, cost(plain_cnn()), cost(plain_cnn()), {})
    text = show.plan(found, "n\x07", "s", "inherit")
    assert "\x1b" not in text and "\x07" not in text and "a [2J[bold]b" in text


def test_short_numbers():
    numbers = [0, 999, 1000, 9472, 23_456, 117_964_800, 3_857_973_248]
    assert list(map(show.short, numbers)) == [
        *("0", "999", "1.00k", "9.47k", "23.5k", "118M", "3.86G"),
    ]


@pytest.mark.slow
@pytest.mark.skipif(not TENSORFLOW, reason="needs the converters")
def test_predicted_sizes_beside_real_files(tmp_path):
    from adprune_keras.export import export_model

    names = ["onnx", "tflite", "tflite_float16"]
    model = models.ResNet18(input_shape=(8, 8, 1), widths=[24] * 17)
    rng = np.random.default_rng(0)
    for layer in model.layers:  # as trained: files hold equal weights once
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    export_model(model, tmp_path, names)
    predicted = file_sizes(cost(model))
    assert {name: form.weights for name, form in FORMATS.items()} == DTYPES
    assert set(predicted) == set(FORMATS)
    for name in names:
        size = (tmp_path / FORMATS[name].file).stat().st_size
        assert predicted[name] == pytest.approx(size, rel=0.03), name


@pytest.fixture
def command_line(tmp_path, monkeypatch, capsys):
    """A function that runs `adprune-plan` with flags here, and returns what it prints."""
    monkeypatch.chdir(tmp_path)
    models.VGG11(input_shape=(8, 8, 1), widths=[8] * 8).save("net.keras")

    def call(*arguments):
        with flags_of(plan_command):
            rest = command.parse(["adprune-plan", *arguments])
            command.attempt("adprune-plan", plan_command.act, rest)
        return capsys.readouterr().out

    return call


def test_the_command_says_what_it_assumes_and_writes_nothing(command_line):
    text = command_line("--network=VGG11", "--width_scale=0.0625", "--density=0.25")
    assert "Network: vgg11 (new weights)\nDensities (AE): ASSUMED, 0.25 for every layer" in text
    assert re.search(r"(?m)^block5_conv2 +block5_relu2 +0\.25 +32→8 ", text)
    assert os.listdir() == ["net.keras"]


def test_the_command_writes_what_it_planned_only_where_it_is_asked(command_line):
    pathlib.Path("there.keras").write_text("mine")
    with pytest.raises(SystemExit, match="There is such a file already; --overwrite replaces it"):
        command_line("--model=net.keras", "--output=there.keras")
    assert pathlib.Path("there.keras").read_text() == "mine"
    text = command_line("--model=net.keras", "--output=there.keras", "--overwrite", "--density=0.5")
    small = keras.models.load_model("there.keras")
    assert layer_widths(small) == dict.fromkeys(layer_widths(small), 4)
    assert f"{cost(small).deployed.macs:,}" in text and f"{cost(small).deployed.params:,}" in text
    assert text.endswith("Wrote there.keras: the channels that stay keep their weights. Train it on.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give either --model or --network"),
        (("--model=net.keras", "--network=VGG11"), "Give either --model or --network"),
        (("--model=net.keras", "--classes=3"), "go with --network"),
        (("--model=absent.keras",), "must be an existing .keras file"),
        (("--model=net.keras", "--density=2"), "--density=2"),
        (("--model=net.keras", "--density=nan"), "--density must be a number from 0 to 1"),
        (("--model=net.keras", "--dataset=digits", "--density=1"), "Received: both"),
        (("--model=net.keras", "--include=nothing"), "`include` matches no layer"),
        (("--model=net.keras", "--output=x.h5"), "--output must be a .keras file"),
        (("--network=VGG11", "--input_shape=8,8"), "three positive ints"),
        (("--network=VGG11", "--input_shape=99999,8,1"), "at most 8192 pixels"),
        (("--network=VGG91",), "Did you mean 'VGG19'"),
    ],
)
def test_what_the_command_refuses(arguments, message, command_line):
    with pytest.raises(SystemExit) as ended:
        command_line(*arguments)
    assert message in ended.value.code and len(ended.value.code.splitlines()) == 1
    assert os.listdir() == ["net.keras"]


def test_a_whole_process_with_data(tmp_path):
    """Without a level of its own in the environment: TensorFlow prints nothing either."""
    pytest.importorskip("tensorflow")
    result = subprocess.run(
        [sys.executable, "-c", "from adprune_keras.cli import plan; plan.main()", *DIGITS],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
        | {"KERAS_BACKEND": keras.backend.backend()},
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "Densities (AE): measured on 99 training images of digits; the network has" in result.stdout
    assert result.stdout.count("block") > 8
