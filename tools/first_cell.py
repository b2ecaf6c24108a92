# Installs the book's helper package where it is missing: in Colab, or beside a notebook
# on its own. An installed torch stays. LABELNOISE_UTILS_SOURCE may name another source.
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("labelnoise_utils") is None:
    source = "git+https://github.com/OWNER/label-noise-book"
    source = os.environ.get("LABELNOISE_UTILS_SOURCE", source)
    if "/OWNER/" in source:
        where = "git+https://..., or a folder"
        raise RuntimeError(f"no address yet: set LABELNOISE_UTILS_SOURCE to {where}")
    install = [sys.executable, "-m", "pip", "install", "--quiet", source]
    subprocess.run(install, check=True)
    importlib.invalidate_caches()
