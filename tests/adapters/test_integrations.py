"""docs/integrations.md: the lines for each framework run, where the framework is there."""

import importlib.util
import re
import warnings
from pathlib import Path

import pytest
from adapters import adapter

torch = adapter("torch")
from without_operators import define_torchvision  # noqa: E402

TEXT = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text("utf-8")
HEAD, *SECTIONS = TEXT.split("\n## ")
NEEDS = {"stable_baselines3": ["gymnasium"], "timm": ["torchvision"]}


@pytest.fixture(scope="module", autouse=True)
def operators():
    define_torchvision()


def code(text):
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.split("\n")[0])
def test_the_lines_run(section):
    lines = code(section)
    for package in re.findall(r"^(?:import|from) (\w+)", lines, re.MULTILINE):
        for needed in [package, *NEEDS.get(package, [])]:
            if importlib.util.find_spec(needed) is None:
                pytest.skip(f"{needed} is not there")
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        exec(code(HEAD) + "\n" + lines, names)
    model = names.get("model")
    if model is not None and "accelerate" not in lines:
        assert not any(t.is_meta for t in [*model.parameters(), *model.buffers()])
