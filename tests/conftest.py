"""What all tests share: the name of a test that fails is printed at once, not at the end of ten minutes."""

import pytest

pytest.register_assert_rewrite("helpers", "networks", "models")


def pytest_configure(config):
    config.pluginmanager.register(_Teller(config), "teller")


class _Teller:
    def __init__(self, config):
        self._config = config

    def pytest_runtest_logreport(self, report):
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        if report.failed and terminal is not None:  # workers have no terminal
            terminal.write_line(f"FAILED {report.nodeid} ({report.when})", red=True)
