"""The library installed by pip: importable anywhere, alone, beside another ``datasets``."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from helpers import draw_image

import padim

ROOT = Path(__file__).parents[2]
USE = """
import sys
from pathlib import Path
from padim import Backbone, PaDiM, PaDiMConfig, __version__
import padim, datasets  # the other one

assert str(Path(padim.__file__)).startswith(sys.prefix), padim.__file__
assert datasets.IS_ANOTHER
model = PaDiM(Backbone("resnet18", "random"), PaDiMConfig(resize=64, crop=64)).fit("photos")
model.save("part.safetensors")
for result in PaDiM.load("part.safetensors").predict("photos"):
    print(result.path.name, result.score > 0, result.is_defective, tuple(result.anomaly_map.shape))
print(__version__)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An environment in which only ``padim`` is new; its requirements are those of the tests."""
    folder, checkout = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "pyproject.toml", checkout)
    for name in ("padim", "datasets", "utils"):  # a build writes into the checkout
        shutil.copytree(ROOT / name, checkout / name)
    venv.create(folder, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "--target", str(site), str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode and "setuptools" in done.stderr:
        pytest.skip("setuptools, which builds the package, is not installed here")
    assert done.returncode == 0, done.stderr
    installed = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert installed == {"padim"}
    (site / "requirements.pth").write_text(str(Path(pytest.__file__).parents[1]))
    (site / "datasets.py").write_text("IS_ANOTHER = True\n")
    return str(folder / "bin" / "python")


def test_an_installed_library_fits_and_predicts(python: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(4):
        draw_image(i).save(tmp_path / "photos" / f"{i}.png")
    done = subprocess.run(
        [python, "-c", USE], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:4] == [f"{i}.png True False (64, 64)" for i in range(4)]
    assert lines[4] == padim.__version__
