"""Counts the outcomes in an index of the Autobahn test suite, and names the cases that have failed.

A case has passed if the suite calls its behaviour OK, NON-STRICT (allowed, but not as early as possible) or
INFORMATIONAL (the standard prescribes nothing), and its closing handshake OK or INFORMATIONAL.
"""
from __future__ import print_function

import collections
import json
import sys

status = 0
with open(sys.argv[1]) as index:
    agents = json.load(index)
for agent, cases in agents.items():
    behaviours = collections.Counter(case["behavior"] for case in cases.values())
    failed = {
        name: (case["behavior"], case["behaviorClose"])
        for name, case in cases.items()
        if case["behavior"] not in ("OK", "NON-STRICT", "INFORMATIONAL")
        or case["behaviorClose"] not in ("OK", "INFORMATIONAL")
    }
    counts = ", ".join("%d %s" % (count, name) for name, count in sorted(behaviours.items()))
    print("%s: %d of %d passed (%s)" % (agent, len(cases) - len(failed), len(cases), counts))
    for name, outcome in sorted(failed.items()):
        print("    %s: behaviour %s, close %s" % ((name,) + outcome))
        status = 1
sys.exit(status)
