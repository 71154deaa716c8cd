"""KEY=VALUE as Hydra reads it, sorted: values of root keys, and choices of groups."""

from dataclasses import dataclass, field, replace
from typing import Any

from lightning_gen.config.command_line.texts import as_text, is_glob, parsed, quoted, several
from lightning_gen.config.root import DEFAULTS, KEYS
from lightning_gen.options import choose


@dataclass
class Overrides:
    """Overrides, sorted: root keys with their values, groups with their choices, and the words for Hydra."""

    options: dict[str, list[str]]
    faults: list[str]
    sweeps: bool = False  # whether a comma separates the values of several jobs
    swept: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    chosen: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def add(self, word: str) -> None:
        """Sort one override in."""
        word = as_text(word, self.sweeps)
        try:
            override = parsed(word)
        except ValueError as error:
            self.faults.append(str(error))
            return
        key, root = override.key_or_group, override.key_or_group.split(".")[0]
        sweep, given = override.is_sweep_override(), word.partition("=")[2]
        if sweep and not self.sweeps and key != "runs" and not key.startswith("hydra"):
            self.faults.append(several(key, given, key in DEFAULTS or key in self.options))
            return
        pattern = is_glob(override)
        if pattern:
            values = override.value().filter(self.options.get(key, []))
            word = f"{key}={','.join(values)}"
        elif sweep and not override.is_interval_sweep():
            values = list(override.sweep_string_iterator())
        else:
            values = [None if sweep else override.value()]
        if not values:
            expected = "names of a group, as experiment=glob(ebm_*) finds them" if pattern else "at least one value"
            remedy = "write values with commas"
            if key == "runs":
                expected, remedy = "run folders", "write runs=[A,B]"
            self.faults.append(f"{key} is {given}, expected {expected}: {remedy}")
            return
        if sweep:
            self.swept.append(key)
        if key.startswith("hydra"):
            self.words.append(word)
        elif root not in KEYS and key not in self.options:
            self.faults.append(f"{key} is no key of the config: {choose(root, [*KEYS, 'experiment'])}")
        elif key == "runs" and sweep:
            listed = quoted(f"runs=[{word.partition('=')[2]}]")
            self.faults.append(f"{word} is a sweep: write {listed}")
            self.words.append(f"++{listed}")
        elif key in self.options and values == [None] and not sweep:
            known = self.options[key]
            remedy = f"write {key}=none" if "none" in known else f"choose among {', '.join(known)}"
            self.faults.append(f"{key} is null, expected a name: {remedy}")
        elif key in self.options and not isinstance(values[0], dict):
            self._choose(key, values, word.lstrip("+~"))
        else:
            if key in self.options and word.startswith("~"):
                self.faults.append(f"{word} removes nothing: write {key}=none, or {key}={{_target_: ...}}")
                return
            if key in self.options:
                self._forget(key)
            self.values[key] = values[0]
            if key in self.options and "_target_" in values[0]:  # Hydra sets no group to null: argument by argument
                each = {name: replace(override, _value=value) for name, value in values[0].items()}
                self.words += [f"++{key}.{name}={part.get_value_element_as_str()}" for name, part in each.items()]
                return
            if isinstance(values[0], dict) and "_target_" in values[0]:
                self.words.append(f"++{key}=null")  # the arguments of the class that it replaces are none of its own
            self.words.append(word if word.startswith("~") else f"++{word.lstrip('+~')}")

    def _forget(self, group: str) -> None:
        """Take back the arguments of a node that an earlier word has given a group whole."""
        node = self.values.pop(group, None)
        if isinstance(node, dict):
            given = tuple(f"++{group}.{name}=" for name in node)
            self.words = [word for word in self.words if not word.startswith(given)]

    def _choose(self, group: str, names: list[Any], word: str) -> None:
        known = self.options[group]
        if group == "callbacks" and isinstance(names[0], list):  # all of [a,b], which are merged
            names = names[0]
        several = group == "logger" and len(names) == 1 and isinstance(names[0], list)
        wrong = [str(name) for name in (names[0] if several else names) if name is not None and str(name) not in known]
        for name in wrong:
            self.faults.append(f"{word if several else f'{group}={name}'} does not exist: {choose(name, known)}")
        if not wrong:
            self._forget(group)
            words = [word]
            if several:  # each under its own name
                words = [f"{group}=none", *(f"+{group}@{group}.{name}={name}" for name in dict.fromkeys(names[0]))]
            self.groups[group] = words[0].split("=", 1)[1]
            self.chosen = [other for other in self.chosen if not other.startswith((f"{group}=", f"+{group}@"))] + words
