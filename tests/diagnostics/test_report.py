"""The report: a page that needs no other file, a picture, numbers; and its command."""

import io
import json
import os
import re

import numpy as np
import pytest
from commands import run

from fastinit._extras import missing
from fastinit.diagnostics import pictures, probe, report, training

pytestmark = pytest.mark.xdist_group("report")  # one process: the page takes long to make


@pytest.fixture(scope="module")
def found():
    return probe([16] * 5, "tanh", ["xavier", "normal:0.01", "zeros"], seeds=[1, 2])


@pytest.fixture(scope="module")
def runs(found):
    return [training.descend(found.setting, s.name, steps=3, rates=[0.1]) for s in found]


@pytest.fixture(scope="module")
def written(found, runs, tmp_path_factory):
    directory = tmp_path_factory.mktemp("report")
    for name in ("a.html", "a.png", "a.json"):
        report.write(directory / name, found, runs)
    return directory


def test_the_page_needs_no_other_file(written):
    page = (written / "a.html").read_text("utf-8")
    shown = len(pictures.PANELS) - 1  # nothing is known of a model's inside
    assert page.count(' src="data:image/svg+xml;base64,') == shown
    assert page.count('srcset="data:image/svg+xml;base64,') == shown  # for phones
    assert not re.search(r'(src|href)="(?!data:)', page)
    for kind in ("healthy", "vanishing", "symmetric"):
        assert f'<tr class="{kind}">' in page
    assert page.count("<details>") == 3


def test_the_page_without_training_and_jacobian():
    page = report.html(probe([8] * 3, "tanh", "xavier", seeds=[1], spectrum=False))
    assert "steps of plain gradient descent" not in page
    assert "directions beyond" not in page
    assert page.count(' src="data:') == len(pictures.PANELS) - 3


def test_the_page_for_phones_and_for_the_dark(written):
    page = (written / "a.html").read_text("utf-8")
    assert '<meta name="color-scheme" content="light dark">' in page
    assert "prefers-color-scheme: dark" in page
    assert page.count('data-label="verdict"') == 3


def test_what_fits_is_not_told_in_layers_that_there_are_not(written):
    page = (written / "a.html").read_text("utf-8")
    assert '<td data-label="bfloat16">all</td>' in page
    assert '<td data-label="float16">x: 4, gradient: input</td>' in page


def test_histograms_show_vanishing(found):
    first, *_, last = found["normal:0.01"].histograms
    middle = len(last.density) // 2
    assert last.std < first.std * 1e-3
    assert last.density[middle] == last.density.sum() > 2 * first.density[middle]
    healthy = found["xavier"].histograms[-1]
    assert healthy.density[middle] < 0.2 * healthy.density.sum()


def test_one_style_for_an_initializer_in_all_pictures():
    styles = pictures._styles(["he", "xavier", "he:0.14", "normal:0.01"])
    assert styles[1] == pictures._styles(["orthogonal", "xavier_uniform"])[1]
    assert len({style["color"] for style in styles}) == 4


def test_what_is_zero_is_drawn():
    found = probe([16] * 5, "tanh", ["zeros", "xavier"], seeds=[1])
    (axes,) = pictures.picture(found, panels=["spectrum"]).axes
    at_the_edge = [line for line in axes.lines if not any(line.get_ydata())]
    assert len(at_the_edge) == 1
    assert len(at_the_edge[0].get_xdata()) == 16


def test_ticks_read_as_numbers(found):
    figure = pictures.picture(found, panels=["depth", "spectrum", "histograms"])
    figure.savefig(io.BytesIO())
    for axes in figure.axes:
        labels = [text.get_text() for text in axes.get_yticklabels() if text.get_text()]
        assert all(float(label.replace("\N{MINUS SIGN}", "-")) >= 0 for label in labels)


def test_a_network_with_nothing_to_show():
    page = report.html(probe([8] * 4, "relu", "zeros", seeds=[1]))
    assert "symmetric" in page


def test_the_files(written):
    assert (written / "a.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((written / "a.json").read_text())
    assert numbers["signals"][1]["verdict"]["kind"] == "vanishing"
    assert len(numbers["training"]) == 3
    assert sorted(p.name for p in written.iterdir()) == ["a.html", "a.json", "a.png"]


def test_legends_and_units(found, runs):
    figure = pictures.picture(found, runs)
    for axes in figure.axes:
        if axes.get_title().endswith(("signal", "gradient", "input", "digits")):
            assert axes.get_xlabel()
            assert axes.get_ylabel()
    depth, _, last = figure.subfigs
    for part in (*depth.subfigs, *last.subfigs):  # last: the Jacobian and the loss side by side
        (legend,) = part.legends
        assert legend.get_texts()[0].get_text().startswith("xavier")
        assert len(legend.get_texts()) == 3
    assert {axes.get_yscale() for axes in depth.subfigs[0].axes} == {"log"}


def test_every_style_draws():
    """Seven initializers: one more than there are styles; one overflows, one is all zeros."""
    names = ["he", "xavier", "lecun", "orthogonal", "normal:9", "zeros", "he_uniform"]
    found = probe([8] * 6, "relu", names, seeds=[1])
    runs = [training.Run(name, 0.1, np.array([2.3, np.nan])) for name in names]
    pictures.picture(found, runs, ["depth", "spectrum", "loss"]).savefig(io.BytesIO())


def test_a_log_axis_shows_no_more_than_16_bits_hold():
    found = probe([16] * 81, "relu", "normal:0.01", seeds=[1], spectrum=False)
    forward, backward = pictures.picture(found, panels=["depth"]).axes
    for axes in (forward, backward):
        assert 1e-50 < axes.get_ylim()[0] < 2.0**-126
        assert [text.get_text() for text in axes.texts] == ["float16 min", "bfloat16 min"]


def test_the_command(tmp_path):
    files = [tmp_path / name for name in ("r.html", "r.json")]
    done = run(
        "probe", "--depth", 3, "--width", 16, "--activation", "relu", "--compare", "he",
        "normal:0.01", "--steps", 2, "--seeds", 1, "-o", files[0], "-o", files[1],
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "3 dense layers, 16 wide, relu"
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
        (["--compare", "hee"], "initializer='hee': name='hee' is unknown; allowed: a_log, "),
        (["--activation", "rely"], "activation='rely' is unknown; allowed: linear"),
        (["-o", "absent/report.html"], "absent: No such directory"),
    ],
)
def test_errors_are_one_line(arguments, reason):
    done = run("probe", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fastinit: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_other_files_than_these_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"report\.pdf' must end in \.html, \.png, \.json"):
        report.check(tmp_path / "report.pdf")


@pytest.mark.parametrize("package", ["matplotlib", "jinja2", "sklearn"])
def test_without_the_extra_one_line_says_how_to_get_it(tmp_path, package):
    (tmp_path / f"{package}.py").write_text(
        f"raise ModuleNotFoundError('No module named it', name={package!r})"
    )
    arguments = ["--depth", 2, "--width", 8, "-o", tmp_path / "r.html"]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = run("probe", *arguments, PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"fastinit: {missing(package, 'this command')}\n"
    assert not (tmp_path / "r.html").exists()
