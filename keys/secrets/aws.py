"""`aws-sm:NAME#FIELD`: one field of a JSON secret in AWS Secrets Manager.

Credentials come the usual ways of AWS (environment, role of the machine), and belong to workers.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from django.conf import settings

from config import redaction

ALLOWED = re.compile(r"([A-Za-z0-9/_+=.@-]{1,140})#([A-Za-z0-9_.-]{1,60})")
DENIED = {"AccessDeniedException", "AccessDenied"}
UNKNOWN = {
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "MissingAuthenticationToken",
}
ENDED = {"ExpiredTokenException", "ExpiredToken"}
ILL_SIGNED = {"InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired", "RequestTimeTooSkewed"}
BUSY = {"ThrottlingException", "Throttling", "InternalServiceError", "ServiceUnavailable"}


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


def read(place: str) -> tuple[str, list[str]]:
    """The raw secret, without warnings. Raises `LookupError` with a sentence."""
    try:
        # Here, because the extra is optional: who has no AWS does not install its library.
        import boto3
        from botocore import exceptions as errors
        from botocore.config import Config
        from botocore.parsers import ResponseParserError
    except ImportError:
        raise LookupError(
            "This worker cannot read AWS: install the extra aws (boto3), then restart it."
        ) from None
    for variable in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        redaction.remember(os.environ.get(variable, ""))
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
    except (errors.NoCredentialsError, errors.PartialCredentialsError, errors.CredentialRetrievalError):
        raise LookupError(
            "The worker has no credentials for AWS. Give it a role, or put them into .env.worker."
        ) from None
    except errors.ClientError as error:
        raise LookupError(_refusal(error.response, name)) from None
    except errors.SSLError:
        raise LookupError(
            "The certificate of AWS Secrets Manager is not trusted, or TLS with it fails. Look at AWS_SM_ENDPOINT_URL, and at what "
            "stands between that breaks TLS open."
        ) from None
    except errors.ConnectTimeoutError:
        raise LookupError(
            f"AWS Secrets Manager did not take the connection within {settings.SECRET_TIMEOUT_S:g} s. "
            "Look at AWS_SM_REGION, AWS_SM_ENDPOINT_URL and the firewall."
        ) from None
    except errors.ReadTimeoutError:
        raise LookupError(
            f"AWS Secrets Manager took the connection and said nothing for {settings.SECRET_TIMEOUT_S:g} s. "
            "SECRET_TIMEOUT_S says how long workers wait."
        ) from None
    except (errors.HTTPClientError, errors.ConnectionError):
        raise LookupError(
            "AWS Secrets Manager cannot be reached: no connection. Look at AWS_SM_REGION, AWS_SM_ENDPOINT_URL, DNS and the firewall."
        ) from None
    except (ResponseParserError, ValueError):
        raise LookupError(
            "What answers does not speak as AWS does. Look at AWS_SM_ENDPOINT_URL and at what stands between."
        ) from None
    except errors.BotoCoreError as error:
        raise LookupError(f"AWS Secrets Manager could not be asked ({type(error).__name__}).") from None
    if "ARN" not in answer:
        # The library reads what is no JSON as an empty answer.
        raise LookupError(
            "What answers does not speak as AWS does. Look at AWS_SM_ENDPOINT_URL and at what stands between."
        )
    return _field(answer.get("SecretString"), name, field), []


def _refusal(response: dict[str, Any], name: str) -> str:
    """A sentence for an answer that is an error; its code decides, and its text is quoted nowhere."""
    said = response.get("Error") or {}
    code, text = str(said.get("Code", "")), str(said.get("Message", ""))
    if not code.isalpha():  # an answer in XML, as some of its services and gateways give
        found = re.search(r"<Code>([A-Za-z]{1,60})</Code>", text)
        code = found[1] if found else code
    status = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode", 0)
    if code == "ResourceNotFoundException":
        if "staging label" in text:
            return f"The secret {name} at AWS has no value yet. Write one."
        return f"AWS Secrets Manager has no secret {name} in {settings.AWS_SM_REGION}. Look at the name and the region."
    if code == "DecryptionFailure" or (code in DENIED and "KMS" in text):
        return f"AWS holds {name}, and this worker may not decrypt it. Its role needs kms:Decrypt on the secret's key."
    if code in DENIED:
        return f"AWS denied {name} to this worker. Its role needs secretsmanager:GetSecretValue on it."
    if code in UNKNOWN:
        return "AWS does not know the worker's credentials: they were deleted or are cut off. Give it others, and restart it."
    if code in ENDED:
        return "The worker's session with AWS has ended. Renew AWS_SESSION_TOKEN with its keys, or give the machine a role."
    if code in ILL_SIGNED:
        return "AWS does not take the worker's signature: the secret access key is wrong, or the clock of the host is."
    if code == "InvalidRequestException":
        return f"The secret {name} at AWS is marked for deletion, so it is not handed out. Restore it, or name another."
    if code in BUSY or status == 429 or status >= 500:
        return "AWS Secrets Manager is busy or failing. Workers ask again with the next batch."
    if 300 <= status < 400:
        return "What answers redirects to another address, and that is not followed. Look at AWS_SM_REGION and AWS_SM_ENDPOINT_URL."
    shown = code if re.fullmatch(r"[A-Za-z]{1,60}", code) else f"HTTP {status}"
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
        raise LookupError(
            f"The secret {name} at AWS has no field {field}. Correct the reference, or add the field."
        )
    if not isinstance(fields[field], str):
        raise LookupError(f"The field {field} of the secret {name} at AWS is not text.")
    return str(fields[field])
