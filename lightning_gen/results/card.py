"""README.md of an export: what the model is, its numbers with their protocols, how it is used, under which licence."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lightning_gen.results.result import name_of, protocol_hash
from lightning_gen.results.store import write_atomically
from lightning_gen.results.tables import Block, Cell, Row, Table, markdown
from lightning_gen.runs.weights_file import keeps_average

if TYPE_CHECKING:
    from torch import Tensor

CARD = "README.md"
LICENCE = "unknown"  # until the person who shares the model writes one
COLUMNS = ["value", "unit", "kind", "N", "step", "protocol"]
USE = """## Use

```python
import lightning_gen

model = lightning_gen.load("{folder}"{allow})
samples = model.sample(16, seed=0)
```

```
lightning-gen stage=sample run={folder} n=16{flag}
lightning-gen stage=evaluate run={folder}{flag}
```

config.yaml holds every setting of the training, model.safetensors the weights.
"""


def write_card(
    folder: Path,
    config: Mapping[str, Any],
    weights: "Mapping[str, Tensor]",
    origin: str,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
    use: str = USE,
    library: str = "lightning_gen",
) -> Path:
    """Write <folder>/README.md; the licence of a card that is there already is kept.

    Args:
        folder: of the export.
        config: of the run.
        weights: names -> tensors of the export.
        origin: words that say where the weights are from, as "step 2,000 of outputs/a".
        metrics: those of the run, as `read_metrics` gives them.
        use: how it is used; {folder} is its name, {allow} and {flag} allow the packages that its config needs.
        library: that loads the folder, as the hub names it.
    """
    count = sum(value.numel() for value in weights.values())
    lines = [
        *head(config, licence(folder / CARD), library),
        f"# {folder.resolve().parent.name}/{folder.resolve().name}",
        "",
    ]
    needed = config.get("extensions") or []
    allow = f", allow=({', '.join(map(json.dumps, needed))},)" if needed else ""
    flag = f" --allow {','.join(needed)}" if needed else ""
    lines += [*about(config, count, origin), "", use.format(folder=folder.resolve().name, allow=allow, flag=flag)]
    lines += numbers(metrics) if metrics else ["## Numbers", "", "Nothing was measured before the export.", ""]
    return write_atomically(folder / CARD, "\n".join(lines).encode())


def licence(card: Path) -> str:
    """What the card that is there says; LICENCE where there is none."""
    found = re.search(r"^license: *(\S+) *$", card.read_text(encoding="utf-8"), re.M) if card.is_file() else None
    return LICENCE if found is None else found[1]


def head(config: Mapping[str, Any], licence: str, library: str) -> list[str]:
    """The YAML that Hugging Face's hub reads."""
    images = config["module"].get("value_range") is not None
    values = {"license": licence, "library_name": library, "tags": ["lightning_gen", _class(config["module"])]}
    values |= {"pipeline_tag": "unconditional-image-generation"} if images else {}
    return ["---", yaml.safe_dump(values, sort_keys=False).rstrip(), "---", ""]


def about(config: Mapping[str, Any], count: int, origin: str) -> list[str]:
    """Family, network, data and weights, a line each; the place of the data is the author's own, and left out."""
    module, net, data = (config.get(key) or {} for key in ("module", "net", "data"))
    shape = module.get("shape")
    named = f", {Path(data['path']).name}" if data.get("path") else ""
    return [
        f"- family: {_class(module)} (`{module['_target_']}`), "
        + (f"{module['classes']} classes" if module.get("classes") else "unconditional"),
        f"- network: {_class(net) if net else 'none'}, {count:,} values in all",
        f"- data: {_class(data)}{named}" + (f", samples of shape {tuple(shape)}" if shape else ""),
        f"- weights: {'averaged' if keeps_average(module) else 'raw'}, {origin}",
        *([f"- needs: {', '.join(needed)}, to be installed"] if (needed := config.get("extensions")) else []),
    ]


def _class(node: Mapping[str, Any]) -> str:
    """The name of a node's class."""
    return str(node.get("_target_", "unknown")).rpartition(".")[2]


def numbers(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A table of the numbers, and the protocols that they were measured by, under their hashes."""
    rows, protocols = [], {}
    for key, entry in metrics.items():
        protocol = entry.get("protocol") or {}
        digest = entry.get("protocol_hash") or protocol_hash(protocol)
        protocols[digest] = protocol
        cells: list[Cell | str | None] = [Cell(entry["value"], entry["error"]), entry.get("unit"), entry["kind"]]
        cells += [str(protocol.get("n", "")), str(entry.get("step", "")), digest]
        rows.append(Row(None, str(name_of(key, entry)), cells))
    told = "Two numbers with one protocol may be ranked; of another protocol they say nothing about each other."
    table = Table("Numbers", told, COLUMNS, [Block("", rows)], head="number")
    listed = json.dumps(protocols, indent=1, sort_keys=True, default=str, ensure_ascii=False)
    folded = ["<details><summary>Protocols</summary>", "", "```json", listed, "```", "", "</details>", ""]
    return [*markdown(table).splitlines(), *folded]
