import pytest
from typer.testing import CliRunner

from effxfer.cli.app import app

runner = CliRunner()


@pytest.fixture
def call(monkeypatch):
    """Run a command; give its standard output. Library errors come through as they are."""

    def run(*words):
        words = [str(word) for word in words]
        monkeypatch.setattr("sys.argv", ["effxfer", *words])
        done = runner.invoke(app, words)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return run
