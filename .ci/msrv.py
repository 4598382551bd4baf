"""Reads `cargo metadata` and fails if a dependency of the published crates needs a newer compiler than the argument."""

import json
import sys

limit = [int(part) for part in sys.argv[1].split(".")]
metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
waiting = [id for id in metadata["workspace_members"] if packages[id]["publish"] != []]
seen = set()
while waiting:
    id = waiting.pop()
    if id not in seen:
        seen.add(id)
        for dependency in nodes[id]["deps"]:
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
newer = []
for package in (packages[id] for id in seen):
    needed = [int(part) for part in (package["rust_version"] or "1.0").split(".")]
    if needed[:2] > limit[:2]:
        newer.append(f"{package['name']} {package['version']} needs Rust {package['rust_version']}")
print(f"{len(seen)} crates, {len(newer)} of them need a compiler newer than {sys.argv[1]}")
print("\n".join(newer))
sys.exit(bool(newer))
