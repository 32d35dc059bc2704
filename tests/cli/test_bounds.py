"""Every number of the configuration on both sides of its bounds, which are read from deploy/cairn.yaml: the
example says what the program does."""
import json
import re

from .program import TOP, refuses, run


def number(text: str) -> int:
    return int(text.rstrip("KMGT")) * 1024 ** " KMGT".find(text[-1] if text[-1] in "KMGT" else " ")


def documented() -> dict[str, tuple[int, int]]:
    """Keys with a number, and the bounds that end the comment above each."""
    found, section, prose = {}, "", ""
    for line in (TOP / "deploy/cairn.yaml").read_text().splitlines():
        if line.lstrip().startswith("#"):
            prose += line
            continue
        if named := re.fullmatch(r"(\w+):", line):
            section = named[1] + "."
        elif key := re.match(r"( *)(\w+): \d", line):
            low, high = re.search(r"\((\d+[KMGT]?) to (\d+[KMGT]?)\)$", prose).groups()
            found[(section if key[1] else "") + key[2]] = (number(low), number(high))
        prose = ""
    return found


def test_bounds_hold_on_both_sides() -> None:
    settings = json.loads(run("config", "print", "--json").stdout)
    bounds = documented()
    assert sorted(bounds) == sorted(k for k, v in settings.items() if isinstance(v.get("value"), int))
    for key, (low, high) in bounds.items():
        right = f"must be a whole number from {low} to {high}"
        for value in [high + 1] + ([low - 1] if low else []):
            assert refuses("config", "check", f"--{key}", str(value)).startswith(f"--{key}: {key}: {value}; {right}")
        for value in (low, high):        # allowed by itself, if perhaps not beside the other defaults
            assert right not in run("config", "check", f"--{key}", str(value)).stderr
