"""Every study in configs/ parses and builds the paper's network, or a quarter of it; three train here.

The others train among the slow tests: two epochs, with a prune between them.
"""

import functools
import pathlib

import keras
import numpy as np
import pytest
from absl.testing import flagsaver
from test_tiny_imagenet import official
from toys import eager_compile, flags_of

tfds = pytest.importorskip("tensorflow_datasets")

from adprune_keras import cost, layer_widths, models  # noqa: E402
from adprune_keras.cli import options, train  # noqa: E402
from adprune_keras.record.lines import read_run  # noqa: E402
from adprune_keras.report import paper  # noqa: E402
from adprune_keras.train.settings import Run  # noqa: E402

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.flags") if path.stem != "digits")
# Each data set, each network.
TRAINED = ("cifar10_vgg19-small", "cifar100_resnet18-small", "tinyimagenet_resnet18-small")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Data sets in the very form of the real ones, prepared by their own builders: a few images each."""
    data_dir = tmp_path_factory.mktemp("tfds")
    rng = np.random.default_rng(0)

    def split_generators(self, dl_manager):
        labels = [f for f in self.info.features if f in ("label", "coarse_label")]

        def examples(count):
            for i in range(count):
                image = rng.integers(0, 256, (32, 32, 3), "uint8")
                yield i, {"id": str(i), "image": image} | dict.fromkeys(labels, i % 10)

        return {"train": examples(20), "test": examples(10)}

    with pytest.MonkeyPatch.context() as patch:
        for name in ("cifar10", "cifar100"):
            patch.setattr(tfds.builder_cls(name), "_split_generators", split_generators)
            tfds.builder(name, data_dir=data_dir).download_and_prepare()
    official(data_dir / "downloads" / "manual")
    return data_dir


@pytest.fixture(scope="module")
def flags():
    with flags_of(train):
        yield train.FLAGS


def parse(flags, name, *more):
    flags(["adprune-train", f"--flagfile={CONFIGS / name}.flags", *more])


def study_of(name):
    return paper.STUDIES.get(name.removesuffix("-small"))


def expected_widths(name):
    """The paper's widths, or a quarter of them; net1's first eight where layers were removed."""
    study = study_of(name)
    widths = study.nets[0].widths if study else paper.STUDIES["cifar10_vgg19"].nets[1].widths[:8]
    return [(w + 2) // 4 for w in widths] if "small" in name else list(widths)


@functools.cache
def built(network, widths, size, classes):
    """Widths and cost of a network."""
    model = models.NETWORKS[network](
        input_shape=(size, size, 3), classes=classes, widths=None if widths is None else list(widths)
    )
    found = tuple(layer_widths(model).values()), cost(model)
    keras.utils.clear_session()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_config_describes_the_network_of_its_study(name, flags):
    """The paper's widths, or a quarter of them: a sixteenth of the cost, but for stem and head."""
    study = study_of(name) or paper.STUDIES["cifar10_vgg19"]
    size = 64 if "tiny" in name else 32
    with flagsaver.flagsaver():
        parse(flags, name, "--run_dir=run")
        run = Run.of(options.values(flags, *train.KINDS))
    assert run.source.dataset == study.dataset
    widths = run.network.resolved()
    widths = None if widths is None else tuple(widths)
    found, cheap = built(run.network.network, widths, size, study.classes)
    assert list(found) == expected_widths(name)
    whole = tuple(expected_widths(name.removesuffix("-small")))
    theirs, dear = built(run.network.network, whole, size, study.classes)
    assert theirs == whole
    ratio = 16 if "small" in name else 1
    for count in ("paper", "deployed"):
        ours, full = getattr(cheap, count), getattr(dear, count)
        assert 0.8 * ratio <= full.macs / ours.macs <= ratio
        assert 0.8 * ratio <= full.params / ours.params <= ratio


@pytest.mark.parametrize(
    "name", [n if n in TRAINED else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_config(name, prepared, flags, tmp_path, monkeypatch):
    if name in TRAINED:
        monkeypatch.setattr(*eager_compile())
    study = study_of(name)
    short = ["--epochs=2", "--train_examples=6", "--test_examples=4", "--batch_size=3", "--verbose=0"]
    short.append("--nobackup")  # of nets at full width, each 100 MB and more
    prune = ["--prune_at=1", "--final_epochs=1"] if study else []
    where = [f"--data_dir={prepared}", f"--run_dir={tmp_path / 'run'}"]
    with flagsaver.flagsaver():
        parse(flags, name, *short, *prune, *where)
        train.act()
    keras.utils.clear_session()
    found = read_run(tmp_path / "run")
    assert len(found.nets) == (2 if study else 1)
    assert sum(net["epochs"] for net in found.nets) == 2
    before, after = (list(found.nets[n]["widths"].values()) for n in (0, -1))
    assert before == expected_widths(name)
    if study:
        assert (found.header["flags"]["dataset"], found.header["flags"]["network"]) == (
            *(study.dataset, study.network),
        )
        assert all(new <= old for new, old in zip(after, before, strict=True)) and after != before


def test_each_study_has_its_config_with_the_papers_epochs_and_a_small_twin():
    for name, study in paper.STUDIES.items():
        text = (CONFIGS / f"{name}.flags").read_text()
        rho = [net.epochs for net in study.nets[: [n.final for n in study.nets].index(True)]]
        stops = [str(sum(rho[: i + 1])) for i in range(len(rho))]
        assert f"\n--prune_at={','.join(stops)}\n" in text
        assert f"\n--final_epochs={study.cycle}\n" in text
        assert f"\n--epochs={sum(rho) + study.cycle}\n" in text
        assert (CONFIGS / f"{name}-small.flags").exists()
