"""The report: a page that needs no other file, a picture, numbers; and its command."""

import json
import os
import re

import pytest
from test_cli import run

from fastinit import pictures, report, training
from fastinit.diagnostics import probe


@pytest.fixture(scope="module")
def found():
    return probe([16] * 9, "tanh", ["xavier", "normal:0.01", "zeros"], seeds=[1, 2])


@pytest.fixture(scope="module")
def runs(found):
    return [training.descend(found.setting, s.name, steps=3, rates=[0.1]) for s in found]


def test_the_page_needs_no_other_file(found, runs):
    page = report.html(found, runs)
    assert page.count('src="data:image/svg+xml;base64,') == len(pictures.PANELS)
    assert not re.search(r'(src|href)="(?!data:)', page)
    for kind in ("healthy", "vanishing", "symmetric"):
        assert f'<tr class="{kind}">' in page
    assert page.count("<details>") == 3


def test_the_page_without_training(found):
    page = report.html(found)
    assert "steps (nats)" not in page
    assert page.count('src="data:') == len(pictures.PANELS) - 1


def test_a_network_with_nothing_to_show():
    page = report.html(probe([8] * 4, "relu", "zeros", seeds=[1]))
    assert "symmetric" in page


def test_the_files(found, runs, tmp_path):
    for name in ("a.html", "a.png", "a.json"):
        report.write(tmp_path / name, found, runs)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((tmp_path / "a.json").read_text())
    assert numbers["signals"][1]["verdict"]["kind"] == "vanishing"
    assert len(numbers["training"]) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "a.json", "a.png"]


def test_legends_and_units(found, runs):
    figure = pictures.picture(found, runs)
    panels = dict(zip(pictures.PANELS, figure.subfigs, strict=True))
    for axes in (*panels["depth"].axes, *panels["spectrum"].axes, *panels["loss"].axes):
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        assert axes.get_title()
    for panel in ("depth", "spectrum", "loss"):
        legend = panels[panel].axes[0].get_legend()
        assert any(text.get_text().startswith("xavier") for text in legend.get_texts())
    assert {axes.get_yscale() for axes in panels["depth"].axes} == {"log"}


def test_the_command(tmp_path):
    files = [tmp_path / name for name in ("r.html", "r.png", "r.json")]
    done = run(
        "probe", "--depth", 8, "--width", 16, "--activation", "relu", "--compare", "xavier", "he",
        "normal:0.01", "--steps", 2, "--seeds", 1, "-o", files[0], "-o", files[1], "-o", files[2],
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "8 dense layers, 16 wide, relu"
    assert "normal:0.01  vanishing: per layer the signal x" in done.stdout
    assert f"files: {' '.join(map(str, files))}" in done.stdout
    assert all(file.stat().st_size > 1000 for file in files)


def test_the_command_without_files_prints_verdicts():
    done = run("probe", "--depth", 4, "--width", 16, "--image", 4, "--residual", "--layer-norm")
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 convolutions, 16 wide, relu, skip connections, LayerNorm" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--compare", "hee"], "initializer='hee' is unknown; allowed: zeros"),
        (["--activation", "rely"], "activation='rely' is unknown; allowed: linear"),
        (["-o", "report.pdf"], "output='report.pdf' must end in .html, .png, .json"),
        (["-o", "absent/report.html"], "absent: No such directory"),
    ],
)
def test_errors_are_one_line(arguments, reason):
    done = run("probe", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fastinit: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("package", ["matplotlib", "jinja2", "sklearn"])
def test_without_the_extra_one_line_says_how_to_get_it(tmp_path, package):
    (tmp_path / f"{package}.py").write_text(
        f"raise ModuleNotFoundError('No module named it', name={package!r})"
    )
    arguments = ["--depth", 2, "--width", 8, "-o", tmp_path / "r.html"]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = run("probe", *arguments, PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"fastinit: a report needs the package {package}: "
        "in a checkout of fastinit, pip install '.[probe]'\n"
    )
    assert not (tmp_path / "r.html").exists()
