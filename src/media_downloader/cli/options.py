"""What the command line and the environment say together."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from media_downloader.settings import Settings


def settings_with(given: dict[str, Any]) -> "Settings":
    """Return the settings with what was given on the command line over them. Raises ``ConfigurationError``."""
    from pydantic import ValidationError

    from media_downloader.errors import ConfigurationError
    from media_downloader.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        told = "; ".join(f"{_setting_name(str(one['loc'][0]), given)}: {one['msg']}" for one in error.errors())
        raise ConfigurationError(f"The settings cannot be used: {told}.") from None


def _setting_name(name: str, given: dict[str, Any]) -> str:
    """Return a setting's name as its user wrote it: an option, or a variable of the environment."""
    from media_downloader.settings import PREFIX

    if given.get(name) is not None:
        return f"--{name.removesuffix('_dir').replace('_', '-')}"
    return name if name.isupper() else PREFIX + name.upper()
