import os

import numpy as np

from fashion_infer.machine import cpu_name, package_version, usable_cores


def test_what_this_machine_is() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert isinstance(cpu_name(), str)


def test_versions_of_packages() -> None:
    assert package_version("numpy") == np.__version__
    assert package_version("no-such-package-anywhere") is None
