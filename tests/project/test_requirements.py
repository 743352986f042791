"""requirements.txt is enough for the product: nothing of it imports what only its development installs."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions

from tests.rig import ROOT

# Imports every module of ours and what Celery and Flower start, in a process in which some packages are not to be had.
PROGRAM = """
import importlib, pkgutil, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"{name} is for development", name=name)

REFUSED = set(sys.argv[1:])
sys.meta_path.insert(0, Refuse())
import django
django.setup()
found = 0
for package in ("apps", "fintech"):
    for module in pkgutil.walk_packages([package], f"{package}."):
        importlib.import_module(module.name)
        found += 1
for name in ("celery.bin.worker", "celery.bin.beat", "flower.command", "gunicorn.app.wsgiapp"):
    importlib.import_module(name)
print(found, *sorted(REFUSED & {name.partition(".")[0] for name in sys.modules}))
"""


def names_in(path):
    """Return the packages that a lock file names."""
    return set(re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==", (ROOT / path).read_text(), re.MULTILINE))


def test_no_module_of_the_product_imports_what_only_development_installs():
    only_dev = {name.lower().replace("_", "-") for name in names_in("requirements-dev.txt")}
    only_dev -= {name.lower().replace("_", "-") for name in names_in("requirements.txt")}
    refused = [
        module
        for module, distributions in packages_distributions().items()
        if {name.lower().replace("_", "-") for name in distributions} <= only_dev
    ]
    environment = {"DJANGO_SETTINGS_MODULE": "fintech.settings", "PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "ignore"}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *refused], cwd=ROOT, env=environment, capture_output=True, text=True
    )

    assert {"pytest", "hypothesis"} <= set(refused)
    assert ran.returncode == 0, ran.stderr
    found, *imported = ran.stdout.split()
    assert int(found) > 300
    assert imported == []
