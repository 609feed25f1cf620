"""Holds the dependencies in Cargo.lock against deny.toml: licences, sources, duplicates.

cargo-deny does the same and more, but building it takes longer than all our tests. This reads the
parts of its format that deny.toml uses, and is stricter in one way: a permission that nothing needs
any more is an error, so that the list stays true.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def main():
    policy = tomllib.loads((ROOT / "deny.toml").read_text())
    packages = [package for package in metadata() if package["source"]]
    problems = [
        *sources(packages),
        *licences(packages, policy["licenses"]),
        *duplicates(packages, policy["bans"]["skip"]),
    ]
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{len(packages)} dependencies, nothing to say against them")
    return 1 if problems else 0


def metadata():
    """Every package of the lock file, on all platforms and with all features."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--all-features"]
    return json.loads(subprocess.check_output(command, cwd=ROOT))["packages"]


def sources(packages):
    for package in packages:
        if package["source"] != CRATES_IO:
            yield f"{title(package)}: comes from {package['source']}, not from crates.io"


def licences(packages, policy):
    exceptions = {rule["crate"]: set(rule["allow"]) for rule in policy["exceptions"]}
    named, excepted = set(), set()
    for package in packages:
        text = package["license"] or "none that is named"
        allowed = set(policy["allow"])
        if package["name"] in exceptions and not satisfied(text, allowed):
            excepted.add(package["name"])
            allowed |= exceptions[package["name"]]
        if not satisfied(text, allowed):
            yield f"{title(package)}: its licence is {text}, which deny.toml doesn't allow"
        named.update(licence_names(text))
    for licence in set(policy["allow"]) - named:
        yield f"{licence}: allowed by deny.toml, but no dependency names it"
    for crate in exceptions.keys() - excepted:
        yield f"{crate}: an exception in deny.toml that it doesn't need"


def licence_names(text):
    return re.findall(r"[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.+-]+)?", text)


def satisfied(text, allowed):
    """Whether an SPDX expression holds when these licences are allowed; `/` is an old `OR`."""
    text = re.sub(r"\s*/\s*", " OR ", text)
    rest = re.findall(r"[()]|[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.+-]+)?", text)

    def either():
        holds = both()
        while rest and rest[0] == "OR":
            rest.pop(0)
            holds = both() or holds
        return holds

    def both():
        holds = single()
        while rest and rest[0] == "AND":
            rest.pop(0)
            holds = single() and holds
        return holds

    def single():
        word = rest.pop(0)
        if word != "(":
            return word in allowed
        holds = either()
        rest.pop(0)
        return holds

    return either() and not rest


def duplicates(packages, skip):
    versions = defaultdict(set)
    for package in packages:
        versions[package["name"]].add(package["version"])
    permitted = {tuple(rule["crate"].split("@")) for rule in skip}
    for name, found in sorted(versions.items()):
        borne = {version for version in found if (name, version) in permitted}
        if len(found - borne) > 1:
            yield f"{name}: in several versions, {', '.join(sorted(found))}, not all in deny.toml"
    for name, version in sorted(permitted):
        if version not in versions[name] or len(versions[name]) == 1:
            yield f"{name}@{version}: permitted in deny.toml as a duplicate, but it is none"


def title(package):
    return f"{package['name']} {package['version']}"


if __name__ == "__main__":
    sys.exit(main())
