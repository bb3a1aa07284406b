"""Agents without some of their defences, to show what these are for: loaded when this folder is on PYTHONPATH.

$WITHOUT names what is off: `difference` (what was opened before does not matter), `sum` (a named sum is believed).
"""

import os
import sys

if "run" in sys.orig_argv and "site" in sys.orig_argv:
    WITHOUT = os.environ["WITHOUT"].split()
    if "difference" in WITHOUT:
        from consilium.privacy import disclosure

        disclosure.check = lambda *_: None
    if "sum" in WITHOUT:
        from consilium.site.checking import Checking

        Checking.check = lambda *_: True
