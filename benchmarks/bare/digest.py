"""BUNDLE: the SHA-256 over a folder's files."""

import hashlib
import sys
from pathlib import Path

total = hashlib.sha256()
for path in sorted(Path(sys.argv[1]).rglob("*")):
    if path.is_file():
        total.update(path.read_bytes())
print(total.hexdigest())
