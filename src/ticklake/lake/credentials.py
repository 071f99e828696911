"""Which credential a store was asked with, and how to give another. Names only, never values."""

from __future__ import annotations

import os
import re

from pydantic import SecretStr

from ticklake.config import StorageConfig
from ticklake.errors import ConfigError
from ticklake.lake.url import Scheme

__all__ = ["CREDENTIAL_HINTS", "check_environment", "credential_used", "secrets"]

CREDENTIAL_HINTS: dict[Scheme, str] = {
    "gs": (
        "Run `gcloud auth application-default login`, point GOOGLE_APPLICATION_CREDENTIALS or "
        "lake.storage.service_account at a key file, or set lake.storage.anonymous: true for a public bucket."
    ),
    "s3": (
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (for a profile: "
        '`eval "$(aws configure export-credentials --format env)"`) and AWS_REGION, or lake.storage, or set '
        "lake.storage.anonymous: true for a public bucket."
    ),
    "az": (
        "Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or those of a service principal), or "
        "lake.storage.account_name with account_key or sas_token, or lake.storage.anonymous: true."
    ),
    "file": "Check the file's mode and owner.",
    "http": "ticklake sends no credentials to plain web servers.",
    "https": "ticklake sends no credentials to plain web servers.",
    "memory": "",
}
"""How to give a store (other) credentials."""

_OF_CONFIG: dict[Scheme, tuple[str, ...]] = {
    "gs": ("bearer_token",),
    "s3": ("access_key_id",),
    "az": ("account_key", "sas_token", "bearer_token"),
}

# As obstore looks for them, the first that is set is used.
_OF_ENVIRONMENT: dict[Scheme, tuple[str, ...]] = {
    "gs": ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_APPLICATION_CREDENTIALS"),
    "s3": (
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ),
    "az": (
        "AZURE_STORAGE_TOKEN",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_CLIENT_SECRET",
        "AZURE_STORAGE_SAS_TOKEN",
    ),
}

_OF_MACHINE: dict[Scheme, str] = {
    "gs": "what gcloud or this machine's metadata server gives",
    "s3": "what this machine's metadata server gives",
    "az": "this machine's managed identity",
}


def credential_used(scheme: Scheme, storage: StorageConfig) -> str:
    """Return which credential a store was asked with, in words that give nothing away."""
    if scheme not in _OF_MACHINE:
        return "no credentials"
    if storage.anonymous:
        return "no credentials (lake.storage.anonymous)"
    if scheme == "gs" and storage.service_account is not None:
        return f"the service account in {storage.service_account}"
    for name in _OF_CONFIG[scheme]:
        if getattr(storage, name) is not None:
            return f"lake.storage.{name}"
    for variable in _OF_ENVIRONMENT[scheme]:
        if variable in os.environ:
            return f"{variable} of the environment"
    return _OF_MACHINE[scheme]


# AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_SAS_TOKEN, ...: whatever the clients know; not the places of secrets.
_SECRET_VARIABLE = re.compile(
    r"(?P<cloud>AWS|AZURE|GOOGLE)_\w*(KEY|SECRET|TOKEN|SAS|PASSWORD)\w*(?<!_FILE|_PATH)(?<!_URI|_URL)"
)
_CLOUDS: dict[Scheme, str] = {"gs": "GOOGLE", "s3": "AWS", "az": "AZURE"}
_SHORTEST = 6  # what is shorter is no secret, and would be taken out of words that merely contain it


def secrets(storage: StorageConfig) -> list[str]:
    """Return the texts that must never be shown, of the options and of the environment, longest first."""
    options = (getattr(storage, name) for name in type(storage).model_fields)
    found = {value.get_secret_value() for value in options if isinstance(value, SecretStr)}
    found |= {value for name, value in os.environ.items() if _SECRET_VARIABLE.fullmatch(name)}
    return sorted((text for text in found if len(text) >= _SHORTEST), key=len, reverse=True)


def check_environment(scheme: Scheme) -> None:
    """Check that what the environment gives can be sent at all.

    Raises:
        ConfigError: A secret holds a line break or the like, on which the client would die.
    """
    for name, value in os.environ.items():
        match = _SECRET_VARIABLE.fullmatch(name)
        if match is None or match["cloud"] != _CLOUDS.get(scheme) or name.endswith("SERVICE_ACCOUNT_KEY"):
            continue  # the last is JSON, and none of it is sent
        if not (value.isascii() and value.isprintable()):
            raise ConfigError(
                f"{name} of the environment holds a line break or another character that cannot be sent",
                hint="Set it again, without what stands around the secret.",
            )
