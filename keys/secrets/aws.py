"""`aws-sm:NAME#FIELD`: one field of a JSON secret in AWS Secrets Manager.

Credentials come the usual ways of AWS (environment, role of the machine), and belong to workers.
"""

from __future__ import annotations

import json
import re

from django.conf import settings

ALLOWED = re.compile(r"([A-Za-z0-9/_+=.@-]{1,140})#([A-Za-z0-9_.-]{1,60})")
DENIED = {
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "ExpiredTokenException",
}


def complaint(place: str) -> str | None:
    """Why this secret may not be read, or None. The place is not repeated: it may be a pasted secret."""
    if not settings.AWS_SM_PREFIXES or not settings.AWS_SM_REGION:
        return "aws-sm: references are not set up here. AWS_SM_REGION and AWS_SM_PREFIXES say where, and what may be read."
    if not ALLOWED.fullmatch(place) or not place.startswith(tuple(settings.AWS_SM_PREFIXES)):
        return (
            "This reference is refused: write aws-sm:NAME#FIELD, where NAME begins with "
            f"{' or '.join(settings.AWS_SM_PREFIXES)}."
        )
    return None


def read(place: str) -> str:
    """The raw secret. Raises `LookupError` with a sentence."""
    try:
        # Here, because the extra is optional: who has no AWS does not install its library.
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
        from botocore.exceptions import ConnectionError as AwsConnectionError
    except ImportError:
        raise LookupError(
            "This worker cannot read AWS: install the extra aws (boto3), then restart it."
        ) from None
    name, _, field = place.partition("#")
    config = Config(
        connect_timeout=settings.SECRET_TIMEOUT_S,
        read_timeout=settings.SECRET_TIMEOUT_S,
        retries={"total_max_attempts": 1},
        proxies={},  # none of the environment's
        ignore_configured_endpoint_urls=True,
    )
    try:
        client = boto3.session.Session().client(
            "secretsmanager",
            region_name=settings.AWS_SM_REGION,
            endpoint_url=settings.AWS_SM_ENDPOINT_URL or None,
            config=config,
        )
        answer = client.get_secret_value(SecretId=name)
    except NoCredentialsError:
        raise LookupError(
            "The worker has no credentials for AWS. Give it a role, or put them into .env.worker."
        ) from None
    except ClientError as error:
        raise LookupError(_refusal(str(error.response.get("Error", {}).get("Code", "")), name)) from None
    except (HTTPClientError, AwsConnectionError) as error:
        raise LookupError(
            f"AWS Secrets Manager cannot be reached ({type(error).__name__}). "
            "Look at AWS_SM_REGION, AWS_SM_ENDPOINT_URL and the firewall."
        ) from None
    except BotoCoreError as error:
        raise LookupError(f"AWS Secrets Manager could not be asked ({type(error).__name__}).") from None
    return _field(answer.get("SecretString"), name, field)


def _refusal(code: str, name: str) -> str:
    if code == "ResourceNotFoundException":
        return f"AWS Secrets Manager has no secret {name} in {settings.AWS_SM_REGION}."
    if code in DENIED:
        return (
            f"AWS denied {name} to this worker ({code}). Its role needs secretsmanager:GetSecretValue on it."
        )
    if code == "InvalidRequestException":
        return f"The secret {name} at AWS is marked for deletion, so it is not handed out."
    shown = code if re.fullmatch(r"[A-Za-z0-9]{1,60}", code) else "unknown error"
    return f"AWS Secrets Manager did not hand out {name} ({shown})."


def _field(text: object, name: str, field: str) -> str:
    if not isinstance(text, str):
        raise LookupError(f"The secret {name} at AWS is not text.")
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None  # the parser's own error quotes the text
    if not isinstance(fields, dict):
        raise LookupError(f"The secret {name} at AWS is not a JSON object, so it has no field {field}.")
    if field not in fields:
        raise LookupError(f"The secret {name} at AWS has no field {field}.")
    if not isinstance(fields[field], str):
        raise LookupError(f"The field {field} of the secret {name} at AWS is not text.")
    return str(fields[field])
