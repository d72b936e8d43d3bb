"""`python -m tests.handbook`: write the pages of `docs` that are made from code and CRDs."""

from __future__ import annotations

import sys

from tests.handbook import fields, reasons


def main() -> int:
    """Write both pages; 1 when a reason is not explained."""
    missing, needless = reasons.undocumented()
    for name in sorted(missing):
        print(f"{reasons.REMEDIES.name} lacks {name}", file=sys.stderr)
    for name in sorted(needless):
        print(f"{reasons.REMEDIES.name} explains {name}, which the code does not state", file=sys.stderr)
    if missing or needless:
        return 1
    fields.PAGE.write_text(fields.render())
    reasons.PAGE.write_text(reasons.render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
