"""enter(): goes on in a virtual environment with the packages of tests/e2e/requirements.txt, which the first run makes:
.venv-e2e of the checkout. The packages are pinned and complete, so nothing is resolved."""
import os
import subprocess
import sys
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(ROOT, ".venv-e2e")
LIST = os.path.join(ROOT, "tests", "e2e", "requirements.txt")


def enter():
    python = os.path.join(VENV, "bin", "python")
    if os.path.realpath(sys.prefix) == os.path.realpath(VENV):
        return
    with open(LIST, "rb") as f:
        want = str(zlib.crc32(f.read()))
    mark = os.path.join(VENV, "installed")
    if not os.path.exists(mark) or open(mark, encoding="ascii").read() != want:
        print("installing the packages of tests/e2e/requirements.txt into .venv-e2e", flush=True)
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--clear", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "-r", LIST],
                       check=True, stdout=sys.stderr)
        with open(mark, "w", encoding="ascii") as f:
            f.write(want)
    os.execv(python, [python, "-B", *sys.argv])
