"""Writes docs/models.md and the table of docs/integrations.md.

They show what `tests/deep/models.py` and `tests/deep/frameworks.py` found, which both keep in
tests/deep/results.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from make_validation import MARKED, load, markdown

MODELS = Path(__file__).with_name("models.md")
INTEGRATIONS = Path(__file__).with_name("integrations.md")

MEANING = {
    "equal": "written, loaded by `from_pretrained` with nothing missing, and every tensor as "
    "transformers' own",
    "large": "every tensor has its values; too large to be compared here",
    "planned": "every tensor has its values; not compared yet",
    "slow": "takes too long here",
    "different": "different",
    "refused": "refused",
    "failed": "failed",
    "unmade": "transformers cannot make it here from its default config",
}


def models() -> str:
    """Return docs/models.md."""
    run = load("models.json")
    results = [{"type": kind, **result} for kind, result in run["models"].items()]
    count = Counter(result["state"] for result in results)
    made = len(results) - count["unmade"]
    compared = count["equal"] + count["different"]
    written = compared + count["large"] + count["planned"]
    tensors = sum(r.get("tensors", 0) for r in results if r["state"] == "equal")
    exact = sum(r.get("exact", 0) for r in results if r["state"] == "equal")
    computed = sum(r.get("computed", 0) for r in results)
    lines = [
        "# Models of transformers",
        "",
        "Written by `make deep-models` (tests/deep/models.py): every model type of transformers "
        "that has a model class, from its default config, with two layers and fewer tokens and "
        "experts where it has more. "
        f"transformers {run['transformers']}, PyTorch {run['torch']}.",
        "",
        f"- {len(results)} of {run['types']} model types were tried; transformers itself makes "
        f"{made} of them here.",
        f"- fastinit writes {written} of these {made} ({100 * written / max(1, made):.1f} %).",
        f"- {compared} are small enough to be compared. No tensor differs in {count['equal']} of "
        f"them: {tensors:,} tensors, of which {exact:,} have one value, and are equal to the last "
        "bit. For the others the values, the zeros, and the values and tensors that are there "
        "twice are those of the same distribution.",
        f"- {computed:,} tensors are computed by the model's code, such as `A_log`, position ids "
        "and the like.",
        "",
        markdown(["result", "model types"], [[MEANING[s], count[s]] for s in MEANING]),
        "",
    ]
    for state in ("different", "refused", "failed", "slow", "unmade"):
        chosen = [[r["type"], r["class"], _reason(r)] for r in results if r["state"] == state]
        if chosen:
            lines += [f"## {_title(state)}", ""]
            lines += [markdown(["type", "class", "reason"], chosen), ""]
    for state in ("equal", "large", "planned"):
        kinds = [r["type"] for r in results if r["state"] == state]
        if kinds:
            lines += [f"## {_title(state)}", "", ", ".join(kinds) + ".", ""]
    return "\n".join(lines)


def _title(state: str) -> str:
    return MEANING[state][0].upper() + MEANING[state][1:]


def _reason(result: dict[str, Any]) -> str:
    reason = result["reason"]
    text = "; ".join(reason) if isinstance(reason, list) else str(reason)
    text = " ".join(text.split()).replace("|", "\\|").replace("`", "'")
    return text if len(text) < 200 else text[:197] + "..."


TITLES = {
    "peft": "PEFT",
    "stable_baselines3": "stable-baselines3",
    "x_transformers": "x-transformers",
    "sentence_transformers": "sentence-transformers",
    "lightning": "Lightning",
    "accelerate": "Accelerate: `init_empty_weights`",
}
WAYS = ("deferred", "accelerate")


def frameworks() -> str:
    """Return a row for each package, and a line for each model that is not equal."""
    rows, unequal = [], []
    for package, run in load("frameworks.json").items():
        title, found = TITLES.get(package, package), run["models"]
        equal = [sum(not model[way] for model in found.values()) for way in WAYS]
        rows.append([title, run["version"], len(found), *equal, run["torch"], run["date"]])
        unequal += _unequal(title, found)
    header = ["package", "version", "models", *(f"`{way}`" for way in WAYS), "PyTorch", "day"]
    return "\n".join([markdown(header, rows), *(["", *unequal] if unequal else [])])


def _unequal(title: str, found: dict[str, dict[str, dict[str, str]]]) -> Iterator[str]:
    for name, model in found.items():
        for way in WAYS:
            for tensor, reason in model[way].items():
                yield f"- {title}'s {name}, `{way}`: `{tensor}`: {reason}"


def integrations(text: str) -> str:
    """Return docs/integrations.md with its table written anew."""
    return MARKED.sub(lambda mark: f"{mark[1]}{frameworks()}\n{mark[3]}", text)


def write_models() -> None:
    """Write docs/models.md."""
    MODELS.write_text(models(), "utf-8")


def write_integrations() -> None:
    """Write docs/integrations.md."""
    INTEGRATIONS.write_text(integrations(INTEGRATIONS.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    write_models()
    write_integrations()
