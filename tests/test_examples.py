"""The scripts and the notebook of examples/, shortened; benchmarks/docs.py has them as they stand."""

import json
import pathlib
import sys

import keras
import numpy as np
import pytest
from absl import flags

if keras.backend.backend() != "tensorflow":
    pytest.skip("the examples load and export with TensorFlow", allow_module_level=True)

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def carry_out(code, name, **shorter):
    """Run a script with some of its numbers replaced, each of which must be there once."""
    for old, new in shorter.items():
        found = [line for line in code.splitlines() if f"{old}=" in line]
        assert len(found) == 1, f"{old}: {found}"
        start = code.index(f"{old}=")
        end = min(i for i in (code.find(c, start) for c in ",)\n") if i > 0)
        code = f"{code[:start]}{old}={new}{code[end:]}"
    exec(compile(code, name, "exec"), {"__name__": "__main__"})


@pytest.mark.slow
def test_digits(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    carry_out((EXAMPLES / "digits.py").read_text(), "digits.py", schedule="[1]", epochs="3")
    printed = capsys.readouterr().out
    assert "OPS reduction (paper count)" in printed and "OPS reduction (deployed count)" in printed
    assert (tmp_path / "digits" / "model.tflite").exists()


@pytest.mark.slow
def test_the_notebook(tmp_path, monkeypatch, capsys):
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    with plt.rc_context({"backend": "agg"}):
        path = EXAMPLES / "digits.ipynb"
        cells = json.loads(path.read_text())["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        carry_out(code, "digits.ipynb", schedule="[1]", epochs="3")
    plt.close("all")
    assert "of the test images" in capsys.readouterr().out
    assert path.stat().st_size < 300_000
    outputs = [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]
    assert all(outputs[1:]), "a cell without its output: python benchmarks/docs.py --write"


@pytest.mark.slow
def test_fine_tune(tmp_path, monkeypatch, capsys):
    """On two folders of images, with new weights; the network that comes out is narrower and loads."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for i in range(20):
        place = tmp_path / "photos" / ("dark" if i % 2 else "light")
        place.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 128, (32, 32, 1)) + (0 if i % 2 else 127)
        keras.utils.save_img(place / f"{i}.png", image, scale=False)
    values = flags.FlagValues()
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(flags, "FLAGS", values)
    for define in [d for d in dir(flags) if d.startswith("DEFINE_")]:
        original = getattr(flags, define)
        monkeypatch.setattr(flags, define, lambda *a, o=original, **k: o(*a, **k, flag_values=values))
    monkeypatch.delitem(sys.modules, "fine_tune", raising=False)
    import fine_tune

    few = ["--dataset=photos", "--image_size=32", "--weights=none", "--network=VGG16"]
    values(["fine_tune", *few, "--batch_size=8", "--top_epochs=1", "--epochs=2", "--prune_at=1"])
    fine_tune.main(["fine_tune"])
    assert "Reductions: paper count / deployed count." in capsys.readouterr().out
    small = keras.models.load_model(tmp_path / "small.keras")
    dense = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    assert small.get_layer("vgg16").count_params() < dense.count_params()
