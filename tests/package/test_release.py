"""What a release shows: one version, pages whose links lead somewhere, a chart, a notebook."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest

import fastinit as fi

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def program(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_version_is_the_citation_s():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == fi.__version__


def anchors(page):
    """The names that GitHub and the site give to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    links += re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for link in links:
        if link.startswith(("http:", "https:")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_with_the_repository_s_address_readme_s_links_lead_there_from_anywhere(monkeypatch):
    (readme,) = (
        node
        for node in ast.parse((ROOT / "setup.py").read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == "readme"
    )
    names = {"Path": Path, "re": re}
    exec(compile(ast.Module([readme], []), "setup.py", "exec"), names)
    monkeypatch.chdir(ROOT)
    text = names["readme"]("https://example.org/fi")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    assert len(links) > 10
    assert all(link.startswith(("https:", "#")) for link in links)
    assert "(https://example.org/fi/blob/main/docs/guide.md)" in text
    assert '"https://example.org/fi/raw/main/docs/pictures/speed-dark.svg"' in text
    assert names["readme"]("") == (ROOT / "README.md").read_text("utf-8")


def test_the_chart_is_of_what_was_measured():
    pytest.importorskip("matplotlib")
    chart = program(ROOT / "bench" / "chart.py")
    tables = program(ROOT / "bench" / "tables.py")
    speeds = chart.speeds(chart.latest(tables.measured()))
    assert speeds["fastinit"] > 3 * max(speeds["NumPy"], speeds["PyTorch"])
    for mode in ("light", "dark"):
        drawn = (ROOT / "docs" / "pictures" / f"speed-{mode}.svg").read_text("utf-8")
        for library in chart.LIBRARIES:
            assert f"{speeds[library]:.2g} GB/s" in drawn


def test_the_notebook_is_the_guide(tmp_path):
    maker = program(ROOT / "docs" / "make_notebook.py")
    maker.write(tmp_path / "guide.ipynb")
    cells = json.loads((tmp_path / "guide.ipynb").read_text("utf-8"))["cells"]
    guide = program(ROOT / "docs" / "make_guide.py")
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code[1:] == [piece.strip("\n") for piece in guide.code(maker.GUIDE.read_text("utf-8"))]
    ast.parse(code[0])  # makes the folder that the others save pictures in
    assert cells[0]["source"][0].startswith("# ")
