"""``.env.example`` names every setting with its default, and every variable of compose.yaml."""

import re

import pytest
from pydantic import AliasChoices, SecretStr

from media_downloader.settings import PREFIX, Settings
from tests.program import ROOT

EXAMPLE = (ROOT / ".env.example").read_text("utf-8")
COMPOSE_ONLY = "# --- Compose only"
#: A variable that is commented out, below at least one line that says what it is.
VARIABLE = re.compile(r"^# \S.*\n#([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)


def variables(text: str) -> dict[str, str]:
    """Return each documented variable and the value that is shown for it."""
    found = VARIABLE.findall(text)
    assert len(found) == len(dict(found)), "a variable stands there twice"
    return dict(found)


def names(field: str) -> set[str]:
    """Return the names under which a setting is read from the environment."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return {str(name) for name in alias.choices if str(name).isupper()}
    return {PREFIX + field.upper()}


def program_part() -> dict[str, str]:
    return variables(EXAMPLE.partition(COMPOSE_ONLY)[0])


def test_no_line_sets_anything_and_every_variable_has_a_line_above_it() -> None:
    assert [line for line in EXAMPLE.splitlines() if line and not line.startswith("#")] == []
    shown = re.findall(r"^#([A-Z][A-Z0-9_]*)=", EXAMPLE, re.MULTILINE)
    assert sorted(shown) == sorted(variables(EXAMPLE))


def test_every_setting_is_there_once_and_nothing_else() -> None:
    shown = set(program_part())
    assert {field: names(field) & shown for field in Settings.model_fields if len(names(field) & shown) != 1} == {}
    assert shown - {name for field in Settings.model_fields for name in names(field)} == set()


def plain(settings: Settings) -> dict[str, object]:
    """Return the values, with secrets as they are."""
    values = {field: getattr(settings, field) for field in Settings.model_fields}
    return {name: one.get_secret_value() if isinstance(one, SecretStr) else one for name, one in values.items()}


def test_the_values_shown_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        for name in names(field):
            monkeypatch.delenv(name, raising=False)
    defaults = plain(Settings())
    for name, value in program_part().items():
        monkeypatch.setenv(name, value)
    assert plain(Settings()) == defaults
    # Against an example that shows nothing at all: what has a default shows it.
    unset = {name for name, value in program_part().items() if value == ""}
    without = {field for field, value in defaults.items() if value in {None, ()}}
    assert {field for field in Settings.model_fields if names(field) & unset} == without


def test_what_compose_reads_is_there_with_its_default() -> None:
    text = (ROOT / "compose.yaml").read_text("utf-8")
    read = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text))
    assert len(re.findall(r"\$\{", text)) == len(re.findall(r"\$\{[A-Z_]+:-", text)), "a variable without a default"
    # Passed on as it is, when it is set.
    read |= dict.fromkeys(re.findall(r"^ +([A-Z_]+):$", text, re.MULTILINE), "")
    own = variables(EXAMPLE[EXAMPLE.index(COMPOSE_ONLY) :])
    settings = set(program_part())
    assert {name: value for name, value in read.items() if name not in settings} == own
